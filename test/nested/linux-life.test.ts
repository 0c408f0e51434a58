// SPDX-License-Identifier: Apache-2.0
/** The life of one Linux machine, told in order: reboots by the guest and by the host, a panic, a pause, the end. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { CMDLINE, LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { nextReset } from "../support/machines.js";
import { rounds } from "../support/places.js";

/** Of two clocks that run at the same speed. */
const CLOCK_ERROR_S = 0.25;

for (const cpus of [1, 2]) {
  suite(`a Linux machine with ${cpus} vCPU${cpus > 1 ? "s" : ""}, Debian's command line`, {
    needs: ["linux-guest"],
  }, () => {
    let guest: LinuxGuest;
    let resets = 0;
    beforeAll(async () => {
      guest = await LinuxGuest.boot({ cpus });
    });
    afterAll(() => guest?.dispose());

    /** Do something that resets the machine; afterwards it must be at a fresh shell. */
    async function expectReboot(cause: () => void): Promise<void> {
      await guest.sh("touch /tmp/before");
      const reset = nextReset(guest.machine);
      cause();
      expect(await reset).toBe(++resets);
      await guest.shell();
      expect(guest.machine.state).toBe("running");
      expect((await guest.run("ls /tmp/before")).code).not.toBe(0);
      expect(await guest.sh("nproc")).toBe(String(cpus));
      expect(await guest.sh("cat /proc/cmdline")).toBe(CMDLINE);
    }

    it("reboots itself, as often as it likes", async () => {
      for (let i = 0; i < rounds(1, 5); i++) {
        await expectReboot(() => guest.type("reboot -f\n"));
      }
    });

    it("is reset by the host while it runs", async () => {
      guest.type("while :; do :; done & \n");
      await expectReboot(() => guest.machine.reset());
    });

    it("panics and reboots", async () => {
      await guest.sh("echo 1 > /proc/sys/kernel/panic");
      guest.mayPanic = true;
      await expectReboot(() => guest.type("echo c > /proc/sysrq-trigger\n"));
      expect(guest.text).toContain("Kernel panic - not syncing");
    });

    it("stands still while it is paused: no output, no input, no time", async () => {
      const uptime = async () => Number((await guest.sh("cat /proc/uptime")).split(" ")[0]);
      const hostSeconds = () => Number(process.hrtime.bigint()) / 1e9;
      const begin = hostSeconds();
      const before = await uptime();
      await guest.machine.pause();
      expect(guest.machine.state).toBe("paused");
      const pausedAt = hostSeconds();
      const said = guest.text.length;
      guest.type("echo $((6 * 7)) typed in the pause\n");
      await sleep(4000);
      expect(guest.text.length).toBe(said);
      const pause = hostSeconds() - pausedAt;
      guest.machine.resume();
      await guest.waitFor("42 typed in the pause");
      const after = await uptime();
      const whole = hostSeconds() - begin;
      expect(after).toBeGreaterThanOrEqual(before);
      expect(after - before).toBeLessThanOrEqual(whole - pause + CLOCK_ERROR_S);
      expect(await suspiciousMessages(guest)).toEqual([]);
    });

    it("goes through many pauses with a job running", async () => {
      guest.type("(i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; echo counted $i) &\n");
      for (let i = 0; i < rounds(20, 200); i++) {
        await guest.machine.pause();
        guest.machine.resume();
      }
      await guest.waitFor(/counted 3000\r?\n/);
      expect(await guest.sh("wait; echo all done")).toBe("all done");
    });

    it("switches itself off", async () => {
      const states: string[] = [];
      guest.machine.on("state", (state) => states.push(state));
      guest.type("poweroff -f\n");
      expect(await guest.ended()).toMatchObject({ state: "stopped", cause: "poweroff" });
      expect(states.at(-1)).toBe("stopped");
      expect(guest.machine.stats().resets).toBe(resets);
      if (!guest.machine.console.readableEnded) await once(guest.machine.console, "end");
    });
  });
}

suite("a Linux machine that may not reboot", { needs: ["linux-guest"] }, () => {
  it("stops at the reset, and says why", async () => {
    await using guest = await LinuxGuest.boot({ onReset: "stop" });
    guest.type("reboot -f\n");
    expect(await guest.ended()).toMatchObject({ state: "stopped", cause: "reset" });
  });
});
