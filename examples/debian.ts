// SPDX-License-Identifier: Apache-2.0
/**
 * `make run`: boots a stock Debian kernel under V3M to user space, runs a command in it, and shows the
 * figures. On this host's own KVM where that can run Linux, else in the nested machine.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { GUEST_READY, guestInitramfs } from "../harness/initramfs.js";
import { ensureKernel } from "../harness/kernels.js";
import { packageRoot } from "../src/ffi/index.js";
import { diagnose } from "../src/v2m/doctor.js";

const COMMAND = "uname -srv; echo CPUs: $(nproc); grep -m1 'model name' /proc/cpuinfo; free -m | head -2";

const say = (text: string) => process.stderr.write(`[make run] ${text}\n`);

const { place, advice } = diagnose();
if (place === "nowhere") {
  say(`Linux guests cannot run here yet: ${advice}`);
  process.exit(4);
}
const prepared = await Promise.all([ensureKernel("cloud"), guestInitramfs()]).catch((error: unknown) => {
  const { message, hint } = error as { message: string; hint?: string };
  say(`cannot get a Debian kernel and make an initramfs: ${message}`);
  if (hint !== undefined) say(`hint: ${hint}`);
  process.exit(1);
});
const [kernel, initrd] = prepared;
const dist = join(packageRoot(), "dist");
const run = [
  process.execPath,
  join(dist, "src/v2m/main.js"),
  ...["run", "--kernel", kernel.bzImage, "--initrd", initrd, "--memory", "128M", "--timeout", "600"],
  ...["--append", `console=ttyS0 quiet v3m.run="${COMMAND}"`, "--stats", "--ready", GUEST_READY],
];
const testbed = [process.execPath, join(dist, "harness/main.js"), "--timeout", "900", "--"];
say(`Debian's kernel ${kernel.version}, as it comes, under V3M`);
say(
  place === "direct"
    ? "on this host's KVM"
    : "in the nested machine (this host's KVM cannot run Linux guests), emulated: times mean little, counts do",
);
const argv = place === "direct" ? run : [...testbed, ...run];
const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => child.kill(signal)); // the child ends first and tells how
}
child.on("exit", (code, signal) => {
  if (code === 0) say("done: the guest powered off by itself");
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
});
