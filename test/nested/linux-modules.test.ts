// SPDX-License-Identifier: Apache-2.0
/** Adaptation modules loaded into and removed from a running Linux guest whose programs use them all the time. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Tally } from "../../examples/tally.js";
import { packageRoot } from "../../src/ffi/library.js";
import type { ModuleError, ModuleHandle } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { rounds } from "../support/places.js";

const TALLY = join(packageRoot(), "native/build/release/tally.so");
const PROGRAM = join(packageRoot(), "test/programs/build/modules.glibc");

/** Until the guest has made so many hypercalls of it. */
async function called(handle: ModuleHandle, hypercalls: bigint): Promise<void> {
  while ((handle.info()?.hypercalls ?? hypercalls) < hypercalls) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

suite("modules in a running Linux guest", { needs: ["linux-guest"] }, () => {
  let guest: LinuxGuest;
  beforeAll(async () => {
    const program = {
      type: "file",
      path: "bin/modules",
      data: await readFile(PROGRAM),
      mode: 0o755,
    } as const;
    guest = await LinuxGuest.boot({ cpus: 2, initramfs: { extraFiles: [program] } });
    // Two programs that call modules, and one that does not.
    await guest.sh("for i in 1 2; do modules >/tmp/modules.$i & done");
    await guest.sh("(while :; do cat /proc/interrupts /proc/meminfo; done) >/dev/null & echo $! >/tmp/load");
  });
  afterAll(() => guest?.dispose());

  it("a shared object comes and goes", async () => {
    for (let i = 0; i < rounds(20, 100); i++) {
      const handle = await guest.machine.loadModule(TALLY);
      await called(handle, 4n);
      await handle.remove();
    }
    expect(guest.machine.modules.list()).toEqual([]);
    expect(await guest.sh("cat /tmp/modules.*; pidof modules | wc -w")).toBe("2");
  });

  it("a TypeScript module comes and goes", async () => {
    for (let i = 0; i < rounds(5, 100); i++) {
      const handle = await guest.machine.loadModule(new Tally());
      await called(handle, 4n);
      await handle.remove();
    }
    expect(await guest.sh("cat /tmp/modules.*; pidof modules | wc -w")).toBe("2");
  });

  it("one that fails is taken out, and the guest goes on", async () => {
    const failed = new Promise<ModuleError>((resolve) => guest.machine.once("moduleFailed", resolve));
    await guest.machine.loadModule({
      name: "bad",
      attach: (host) =>
        host.addHypercall(0x100, () => {
          throw new Error("out of paper");
        }),
    });
    expect((await failed).message).toBe("module bad failed: out of paper");
    expect(guest.machine.modules.list()).toMatchObject([{ name: "bad", state: "failed", parts: 0 }]);
    expect(guest.machine.state).toBe("running");
  });

  it("the guest is unharmed: every answer was right", async () => {
    const stopped =
      "kill $(cat /tmp/load); killall modules; while pidof modules; do sleep 0.1; done >/dev/null";
    const output = await guest.sh(`${stopped}; cat /tmp/modules.*`);
    const lines = output.trim().split("\n");
    expect(lines).toHaveLength(2);
    let answers = 0;
    for (const line of lines) {
      const match = /^modules: answers (\d+) unknown (\d+) failed (\d+) device (\d+)$/.exec(line);
      expect(match, line).not.toBeNull();
      answers += Number(match?.[1]);
      expect(Number(match?.[2])).toBeGreaterThan(0);
    }
    expect(answers).toBeGreaterThanOrEqual(4 * (rounds(20, 100) + rounds(5, 100)));
    expect(await suspiciousMessages(guest)).toEqual([]);
    expect(await guest.sh("dmesg | grep -ciE 'oops|segfault|general protection' || true")).toBe("0");
  });
});
