// SPDX-License-Identifier: Apache-2.0
/** Many monitors at once, again and again: nothing is left; and what one of them costs. */
import { readdirSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { memoryUse } from "../../bench/boot/observe.js";
import { Machine, monitorStatus } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { type Holdings, holdings } from "../support/leaks.js";
import { busy, finish, guest, PATIENCE, roundsOf, Transcript } from "../support/machines.js";
import { gone, MonitorPlace, monitorProcesses } from "../support/monitors.js";
import { currentPlace } from "../support/places.js";

const MONITORS = roundsOf(8, 16, 16);
const ROUNDS = roundsOf(2, 5, 5);
const MIB = 1 << 20;
/** Bochs stops at a triple fault. */
const CRASHING = currentPlace() === "intel" ? "hello" : "triple";

let place: MonitorPlace;
beforeAll(() => {
  place = new MonitorPlace();
});
afterAll(() => place.remove());

/** Machines of several kinds to their ends, in several ways, all at once. */
async function round(): Promise<void> {
  await Promise.all(
    Array.from({ length: MONITORS }, async (_, i) => {
      const directory = place.directory();
      const name = (["hello", CRASHING, undefined, undefined] as const)[i % 4];
      const options = { memory: 2 * MIB, cpus: i % 8 === 0 ? 2 : 1 };
      const machine = await Machine.spawn(name === undefined ? busy(0, options) : guest(name, {}, options), {
        directory,
      });
      if (name !== undefined) {
        const { info } = await finish(machine);
        expect(info.state).toBe(name === "triple" ? "crashed" : "stopped");
      } else if (i % 4 === 2) {
        machine.start();
        await machine.pause();
        await machine.stop();
      }
      // The others were never started, and go with their handles.
      await machine.dispose();
      expect((await gone(directory)).alive).toBe(false);
      expect(readdirSync(directory).sort()).toEqual(["console", "control", "status"]);
    }),
  );
}

function expectSame(after: Holdings, before: Holdings): void {
  expect(after.descriptors).toEqual(before.descriptors);
  expect(after.threads).toEqual(before.threads);
}

suite("many monitors", { needs: ["kvm"] }, () => {
  it(
    "at once, again and again: no descriptor, thread or process is left in the one that starts them",
    async () => {
      const others = new Set(monitorProcesses());
      await round();
      const before = await holdings();
      for (let i = 0; i < ROUNDS; i++) {
        await round();
        expectSame(await holdings(), before);
      }
      expect(monitorProcesses().filter((pid) => !others.has(pid))).toEqual([]);
    },
    PATIENCE,
  );

  it(
    "those that could not be made leave nothing",
    async () => {
      const others = new Set(monitorProcesses());
      const attempts = () =>
        Promise.all(
          [
            guest("hello", {}, { cpus: 0 }),
            guest("hello", {}, { cpus: 1_000_000 }),
            guest("hello", {}, { memory: 4096 }),
            guest("hello", {}, { kvmPath: "/dev/null" }),
            guest("hello", {}, { disks: [{ path: "/nowhere" }] }),
            { memory: 2 * MIB, kernel: Buffer.from("no kernel") },
            { memory: 2 * MIB, kernel: "/nowhere" },
          ].map((options) =>
            expect(Machine.spawn(options, { directory: place.directory() })).rejects.toThrow(),
          ),
        );
      await attempts();
      const before = await holdings();
      for (let i = 0; i < ROUNDS; i++) {
        await attempts();
      }
      expectSame(await holdings(), before);
      while (monitorProcesses().some((pid) => !others.has(pid))) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    PATIENCE,
  );
});

suite("a monitor's memory", { needs: ["kvm", "root"] }, () => {
  it(
    "beside guest RAM is little, and does not grow with it",
    async () => {
      for (const memory of [16 * MIB, 1024 * MIB]) {
        const directory = place.directory();
        await using machine = await Machine.spawn(busy(0, { memory }), { directory });
        const transcript = new Transcript(machine);
        machine.start();
        await transcript.until("busy: ready");
        const use = await memoryUse(monitorStatus(directory).pid, memory);
        expect(use?.anonymous).toBeGreaterThan(0);
        expect(use?.anonymous).toBeLessThanOrEqual(128 << 10);
        await machine.quit();
      }
    },
    PATIENCE,
  );
});
