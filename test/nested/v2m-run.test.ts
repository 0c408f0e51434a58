// SPDX-License-Identifier: Apache-2.0
/** `v2m run` with Debian's kernel: what the guide shows. */
import { beforeAll, expect, it } from "vitest";
import { GUEST_READY, guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { suite } from "../support/capabilities.js";
import { CMDLINE } from "../support/linux.js";
import { Observed, start, V2M, v2m } from "../support/v2m.js";

suite("v2m run with a Linux guest", { needs: ["linux-guest"] }, () => {
  let linux: string[];
  beforeAll(async () => {
    const { bzImage } = await ensureKernel("cloud");
    linux = ["run", "--kernel", bzImage, "--initrd", await guestInitramfs(), "--memory", "128M"];
  });

  it("runs a command in the guest, shows its output, and reports", async () => {
    const append = `${CMDLINE} v3m.run="uname -s; nproc; exit 5"`;
    const outcome = await v2m(...linux, "--cpus", "2", "--append", append, "--stats", "--ready", GUEST_READY);
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toMatch(/V3M-GUEST-READY\s+Linux\s+2\s+V3M-GUEST-EXIT 5/);
    expect(outcome.stderr).toMatch(/first KVM_RUN to ready +[\d.]+ (ms|s)/);
    expect(outcome.stderr).toMatch(/guest-caused exits +\d{3,}/);
  });

  it("is a shell to type into, through a pipe, and ends with the guest's reset", async () => {
    const run = start(...linux, "--append", CMDLINE, "--no-reboot");
    await run.saw(/\/ # /);
    run.type("echo $((6 * 7)) is the answer\n");
    await run.saw("42 is the answer");
    run.type("reboot -f\n");
    expect(await run.outcome).toMatchObject({ code: 7, signal: null });
  });

  it("reboots, and goes on until it is interrupted", async () => {
    const run = start(...linux, "--append", `${CMDLINE} v3m.run="reboot -f"`);
    await run.saw(/V3M-GUEST-READY[\s\S]*V3M-GUEST-READY/);
    run.child.kill("SIGINT");
    expect((await run.outcome).code).toBe(130);
  });

  it("ends when its reader goes away", async () => {
    const command = [...V2M, ...linux, "--append", `${CMDLINE} v3m.run="yes"`].map((word) => `'${word}'`);
    const { outcome, child } = new Observed([
      "bash",
      "-c",
      `${command.join(" ")} | grep -m 1 '^y'; echo \${PIPESTATUS[*]}`,
    ]);
    child.stdin?.end();
    expect((await outcome).stdout.replace(/\r/g, "")).toBe("y\n141 0\n");
  });
});
