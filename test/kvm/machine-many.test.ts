// SPDX-License-Identifier: Apache-2.0
/** Many machines in one process, again and again: nothing is left behind. */
import { expect, it } from "vitest";
import { Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { type Holdings, holdings, settle } from "../support/leaks.js";
import { busy, finish, guest, PATIENCE, roundsOf, Transcript } from "../support/machines.js";
import { currentPlace } from "../support/places.js";

/** At once. */
const MACHINES = roundsOf(16, 64, 64);
const ROUNDS = roundsOf(1, 3, 20);
/** What resident memory may grow by when the process is warm: noise of the allocators, and a little a round. */
const NOISE = (4 << 20) + ROUNDS * (1 << 19);

/** Bochs stops at a triple fault. */
const CRASHING = currentPlace() === "intel" ? "hello" : "triple";

/** Run machines of several kinds to their ends, in several ways, all at once. */
async function round(count: number): Promise<void> {
  const machines = await Promise.all(
    Array.from({ length: count }, (_, i) => {
      const options = { memory: 2 << 20, cpus: i % 8 === 0 ? 2 : 1 };
      const name = (["hello", CRASHING, undefined, "reset"] as const)[i % 4];
      return Machine.create(name === undefined ? busy(0, options) : guest(name, {}, options));
    }),
  );
  await Promise.all(
    machines.map(async (machine, i) => {
      switch (i % 4) {
        case 0:
        case 1: {
          const { output, info } = await finish(machine);
          const crashes = i % 4 === 1 && CRASHING === "triple";
          expect(output).toContain(crashes ? "triple: now" : "hello: ok");
          expect(info.state).toBe(crashes ? "crashed" : "stopped");
          break;
        }
        case 2: {
          const transcript = new Transcript(machine);
          machine.start();
          await transcript.until("busy: ready");
          await machine.pause();
          machine.memory.bytes(0, 4096).fill(1);
          break;
        }
        default: {
          const reset = new Promise((resolve) => machine.once("reset", resolve));
          machine.addDevice({ space: "pio", base: 0x700, bytes: 1 });
          machine.start();
          await reset;
        }
      }
      await machine.dispose();
    }),
  );
}

function expectSame(after: Holdings, before: Holdings): void {
  expect(after.descriptors).toEqual(before.descriptors);
  expect(after.threads).toEqual(before.threads);
}

suite("many machines", { needs: ["kvm"] }, () => {
  it(
    "at once in one process: no descriptor, no thread, no memory is left",
    async () => {
      await round(MACHINES); // warms up allocators, thread pools, code
      if (ROUNDS > 1) {
        await round(MACHINES);
      }
      const before = await holdings();
      for (let i = 0; i < ROUNDS; i++) {
        await round(MACHINES);
        expectSame(await holdings(), before);
      }
      const after = await holdings();
      expect(after.resident - before.resident).toBeLessThan(NOISE);
      expect((after.mappings - before.mappings) / ROUNDS).toBeLessThan(MACHINES / 2);
    },
    PATIENCE * (ROUNDS > 3 ? 4 : 1),
  );

  it(
    "those that could not be made leave nothing",
    async () => {
      const bad = [
        guest("hello", {}, { cpus: 0 }),
        guest("hello", {}, { cpus: 1_000_000 }),
        guest("hello", {}, { memory: 4096 }),
        guest("hello", {}, { memory: [{ bytes: 1 << 20, backing: "memfd" }, { bytes: 1n << 50n }] }),
        guest("hello", {}, { memory: [{ bytes: 2 << 20, backing: "memfd", numaNode: 999 }] }),
        { ...guest("hello"), loadAddress: 1n << 40n },
        { memory: 2 << 20, kernel: Buffer.from("no kernel") },
        { memory: 2 << 20, kernel: "/nowhere" },
        guest("hello", {}, { memory: 2 << 20, kvmPath: "/dev/null" }),
      ];
      const attempts = () =>
        Promise.all(bad.map((options) => expect(Machine.create(options)).rejects.toThrow()));
      await attempts();
      const before = await holdings();
      for (let i = 0; i < 5; i++) {
        await attempts();
      }
      expectSame(await holdings(), before);
    },
    PATIENCE,
  );

  it(
    "those that were forgotten are collected; a view keeps its machine",
    async () => {
      const before = await holdings();
      let view: Uint8Array | undefined;
      const forget = async (keep: boolean) => {
        const machine = await Machine.create(guest("hello"));
        if (keep) {
          view = machine.memory.bytes(0x10_0000, 64);
        }
      };
      await forget(true);
      for (let i = 0; i < 5; i++) {
        await forget(false);
      }
      const vms = async () => (await holdings()).descriptors["anon_inode:kvm-vm"] ?? 0;
      const until = async (count: number) => {
        while ((await vms()) !== count) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      };
      await until(1);
      for (let i = 0; i < 3; i++) {
        await settle();
      }
      expect(Buffer.from(view ?? []).toString("latin1", 8, 16)).toBe("V3MPARM1");
      view = undefined;
      await until(0);
      expectSame(await holdings(), before);
    },
    PATIENCE,
  );
});
