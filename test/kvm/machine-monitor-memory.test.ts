// SPDX-License-Identifier: Apache-2.0
/** A monitor that the host has no memory for ends alone, and it can be told why. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { Machine, monitorStatus } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { MemoryCgroup } from "../support/cgroup.js";
import { busy, guest, PATIENCE, Transcript } from "../support/machines.js";
import { gone, MonitorPlace } from "../support/monitors.js";

const MIB = 1 << 20;

let place: MonitorPlace;
beforeAll(() => {
  place = new MonitorPlace();
});
afterAll(() => place.remove());

suite("a monitor that runs out of memory", { needs: ["kvm", "memory-cgroup", "root"] }, () => {
  it(
    "is killed by the kernel, says so, and its neighbour goes on",
    async () => {
      const [doomed, neighbour] = [place.directory(), place.directory()];
      const group = new MemoryCgroup(16 * MIB);
      try {
        const memory = [{ bytes: 64 * MIB, backing: "anon" }] as const;
        await using other = await Machine.spawn(guest("echo"), { directory: neighbour });
        const echoed = new Transcript(other);
        other.start();
        await using machine = await Machine.spawn(guest("memory", { end: 64 * MIB }, { memory }), {
          directory: doomed,
        });
        group.add(machine.monitorInfo().pid);
        machine.start();
        expect(await machine.wait()).toMatchObject({
          state: "crashed",
          cause: "monitor-ended",
          text: expect.stringMatching(/killed \(SIGKILL\).*want of memory/),
        });
        expect(group.killed).toBe(1);
        expect(await gone(doomed)).toMatchObject({
          state: "crashed",
          text: expect.stringContaining("want of memory"),
        });
        await expect(Machine.connect(doomed)).rejects.toMatchObject({
          code: "E_STATE",
          message: expect.stringContaining("want of memory"),
        });
        expect(monitorStatus(neighbour)).toMatchObject({ alive: true, state: "running" });
        other.console.write("still here");
        await echoed.until("still here");
        await other.ping();
        await other.stop();
      } finally {
        group.remove();
      }
    },
    PATIENCE,
  );

  it(
    "one that stays within its limit is left alone",
    async () => {
      const group = new MemoryCgroup(48 * MIB);
      try {
        const directory = place.directory();
        await using machine = await Machine.spawn(busy(0), { directory });
        group.add(machine.monitorInfo().pid);
        const transcript = new Transcript(machine);
        machine.start();
        await transcript.until("busy: ready");
        await machine.stop();
        await gone(directory);
        expect(group.killed).toBe(0);
      } finally {
        group.remove();
      }
    },
    PATIENCE,
  );
});
