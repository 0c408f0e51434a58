// SPDX-License-Identifier: Apache-2.0
/**
 * `make run`: boots a stock Debian kernel under V3M to user space and runs a command in it, then launches a static
 * Linux program on the lightweight kernel, and shows the figures of both. On this host's own KVM where that can
 * run them, else in the nested machine.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { GUEST_READY, guestInitramfs } from "../harness/initramfs.js";
import { ensureKernel } from "../harness/kernels.js";
import { packageRoot } from "../src/ffi/index.js";
import { diagnose } from "../src/v2m/doctor.js";
import { table } from "../src/v2m/report.js";
import type { RunSummary } from "../src/v2m/run-summary.js";
import { formatNs } from "../src/v2m/values.js";
import type { LaunchStatistics } from "../src/yod/statistics.js";

const MEMORY = "128M";
const COMMAND = "uname -srv; echo CPUs: $(nproc); grep -m1 'model name' /proc/cpuinfo; free -m | head -2";
const AWK =
  "/model name/ { print } FILENAME ~ /debian/ { print FILENAME, $0 } " +
  'END { for (i = 1; i <= 100000; i++) s += 1 / (i * i); printf "sum of 1/i^2 for i to 100000: %.12f\\n", s }';
/** Static, from Debian's package busybox-static: as real as programs get. */
const BUSYBOX = ["/usr/bin/busybox", "/bin/busybox"].find((path) => existsSync(path)) ?? "/bin/busybox";

const say = (text: string) => process.stderr.write(`[make run] ${text}\n`);

function fail(text: string, code: number): never {
  say(text);
  process.exit(code);
}

const { place, advice } = diagnose();
if (place === "nowhere") fail(`guests cannot run here yet: ${advice}`, 4);
const prepared = await Promise.all([ensureKernel("cloud"), guestInitramfs()]).catch((error: unknown) => {
  const { message, hint } = error as { message: string; hint?: string };
  fail(
    `cannot get a Debian kernel and make an initramfs: ${message}${hint === undefined ? "" : `\n${hint}`}`,
    1,
  );
});
const [kernel, initrd] = prepared;
const dist = join(packageRoot(), "dist");
const testbed = [process.execPath, join(dist, "harness/main.js"), "--no-stdin", "--timeout", "900", "--"];
const prefix = place === "direct" ? [] : testbed;

/** Run a v2m command to its end. @returns the line of JSON that it reports; everything else is passed on */
async function v2m<T>(args: readonly string[]): Promise<T> {
  const argv = [...prefix, process.execPath, join(dist, "src/v2m/main.js"), ...args];
  const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: ["ignore", "inherit", "pipe"] });
  const forward = (signal: NodeJS.Signals) => child.kill(signal); // the child ends first and tells how
  process.on("SIGINT", forward).on("SIGTERM", forward);
  let rest = "";
  let report: T | undefined;
  const line = (text: string) => {
    if (text.startsWith("{")) report = JSON.parse(text) as T;
    else process.stderr.write(`${text}\n`);
  };
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(line);
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status, signal) => resolve(status ?? (signal === "SIGINT" ? 130 : 143)));
  });
  if (rest !== "") line(rest);
  process.off("SIGINT", forward).off("SIGTERM", forward);
  if (code !== 0 || report === undefined)
    fail(`v2m ${args[0]} ended with exit code ${code}`, code === 0 ? 1 : code);
  return report;
}

say(
  place === "direct"
    ? "on this host's KVM"
    : "in the nested machine (this host's KVM cannot run these guests), emulated: times mean little, counts do",
);
say(`Debian's kernel ${kernel.version}, as it comes, under V3M`);
const linux = await v2m<RunSummary>([
  ...["run", "--kernel", kernel.bzImage, "--initrd", initrd, "--memory", MEMORY, "--timeout", "600"],
  ...["--append", `console=ttyS0 quiet v3m.run="${COMMAND}"`, "--json", "--ready", GUEST_READY],
]);

const program = [BUSYBOX, "awk", AWK, "/proc/cpuinfo", "/etc/debian_version"];
say(`${program.slice(0, 2).join(" ")}, a static Linux program, on the lightweight kernel`);
const lwk = await v2m<{ readonly statistics: LaunchStatistics }>([
  ...["yod", "--memory", MEMORY, "--timeout", "600", "--root", "/etc", "--json", "--", ...program],
]);

const time = (ns: number | null) => (ns === null ? "–" : formatNs(ns));
const count = (value: number | null | undefined) =>
  value === null || value === undefined ? "–" : String(value);
const s = lwk.statistics;
const exits = linux.kvm?.total ?? {};
const rows = [
  ["", "Linux guest", "lightweight kernel"],
  ["power-on to user space's first line or instruction", time(linux.times.readyNs), time(s.appNs)],
  ["power-on to end", time(linux.times.guestNs), time(s.endNs)],
  ["guest-caused exits", count(linux.kvm?.guestExits), count(s.guestExits)],
  ...["io_exits", "mmio_exits", "halt_exits", "pf_taken"].map((name) => [
    `  of KVM's counters: ${name}`,
    count(exits[name]),
    count(s.kvm?.total[name]),
  ]),
  ["memory beside guest RAM, Node.js included", memoryBeside(linux), "–"],
  ["system calls shipped to the host", "–", count(s.shipped)],
];
process.stdout.write(`${table(rows)}\n`);
say("done: the guest powered off by itself, the program ended with status 0");

function memoryBeside({ memory }: RunSummary): string {
  return memory === null ? "–" : `${Math.round(memory.pss / 2 ** 20)} MiB`;
}
