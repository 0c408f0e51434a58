// SPDX-License-Identifier: Apache-2.0
/** Guest RAM: regions round the hole, their backings, and views on them. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { Machine, type MemoryBacking } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { residentBytes } from "../support/leaks.js";
import { busy, finish, guest, PATIENCE, run, withRunning } from "../support/machines.js";

const MIB = 1 << 20;
const GIB = 1n << 30n;

/** Huge pages of a size that are free on this host. */
function freeHugePages(kib: number): number {
  try {
    return Number(readFileSync(`/sys/kernel/mm/hugepages/hugepages-${kib}kB/free_hugepages`, "utf8"));
  } catch {
    return 0;
  }
}

function hostMemory(): bigint {
  return BigInt(/^MemTotal:\s*(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) << 10n;
}

suite("guest memory", { needs: ["kvm"] }, () => {
  it.each(["anon", "thp", "memfd"] as const)(
    "backed by %s: the guest sees zeros, and keeps what it writes",
    async (backing) => {
      for (const prefault of [false, true]) {
        const memory = [{ bytes: 16 * MIB, backing, prefault }];
        const { output } = await run(guest("memory", { step: MIB }, { memory }));
        expect(output).toBe("memory: pages 14\nmemory: ok\n");
      }
    },
    PATIENCE,
  );

  it.each([
    ["huge-2M", 2048, 16n * BigInt(MIB)],
    ["huge-1G", 1_048_576, GIB],
  ] as const)(
    "backed by %s pages where they are reserved; else a clear error",
    async (backing: MemoryBacking, kib, bytes) => {
      const options = guest("memory", { step: MIB }, { memory: [{ bytes, backing }] });
      if (freeHugePages(kib) * kib * 1024 >= Number(bytes)) {
        expect((await run(options)).output).toContain("memory: ok");
      } else {
        await expect(Machine.create(options)).rejects.toMatchObject({
          code: "E_NO_MEMORY",
          message: expect.stringContaining(`not enough free huge pages of ${kib / 1024} MiB`),
          hint: expect.stringContaining("Huge"),
        });
      }
    },
    PATIENCE,
  );

  it(
    "prefault touches all of it before the start, without it nothing is touched",
    async () => {
      const size = 64 * MIB;
      const grown = async (prefault: boolean) => {
        const before = residentBytes();
        await using machine = await Machine.create(
          guest("hello", {}, { memory: [{ bytes: size, backing: "anon", prefault }] }),
        );
        expect(machine.state).toBe("created");
        return residentBytes() - before;
      };
      expect(await grown(true)).toBeGreaterThan(size * 0.75);
      expect(await grown(false)).toBeLessThan(size / 2);
    },
    PATIENCE,
  );

  it(
    "bound to NUMA node 0; a node that does not exist is refused",
    async () => {
      const region = { bytes: 16 * MIB, numaNode: 0, prefault: true };
      expect((await run(guest("hello", {}, { memory: [region] }))).output).toContain("hello: ok");
      await expect(
        Machine.create(guest("hello", {}, { memory: [{ ...region, numaNode: 900 }] })),
      ).rejects.toMatchObject({ code: "E_INVALID", message: "cannot bind guest memory to NUMA node 900" });
    },
    PATIENCE,
  );

  it(
    "several regions of several kinds follow each other",
    async () => {
      const memory = [
        { bytes: 4 * MIB, backing: "memfd" },
        { bytes: 4 * MIB + 4096, backing: "anon" },
        { bytes: 8 * MIB, backing: "thp" },
      ] as const;
      await using machine = await Machine.create(
        guest("memory", { step: MIB / 4, end: 16 * MIB }, { memory }),
      );
      expect(machine.memory.regions).toEqual([
        { gpa: 0n, bytes: BigInt(4 * MIB) },
        { gpa: BigInt(4 * MIB), bytes: BigInt(4 * MIB + 4096) },
        { gpa: BigInt(8 * MIB + 4096), bytes: BigInt(8 * MIB) },
      ]);
      expect(machine.memory.size).toBe(BigInt(16 * MIB + 4096));
      for (const { from } of machine.memory.hostRanges) {
        expect(from % BigInt(2 * MIB)).toBe(0n);
      }
      expect((await finish(machine)).output).toBe("memory: pages 56\nmemory: ok\n");
      // Views do not span regions, as host memory does not.
      expect(() => machine.memory.bytes(4 * MIB - 1, 2)).toThrow(
        expect.objectContaining({ code: "E_RANGE" }),
      );
    },
    PATIENCE,
  );

  it(
    "more than 3 GiB goes on above the hole, and the guest reaches it there",
    async () => {
      const total = 4n * GIB;
      const options = guest("memory", { start: 4n * GIB, end: 5n * GIB, step: 1n << 26n }, { memory: total });
      if (hostMemory() < total) {
        await expect(Machine.create(options)).rejects.toMatchObject({ code: "E_NO_MEMORY" });
        return;
      }
      await using machine = await Machine.create(options);
      expect(machine.memory.regions).toEqual([
        { gpa: 0n, bytes: 3n * GIB },
        { gpa: 4n * GIB, bytes: GIB },
      ]);
      expect((await finish(machine)).output).toBe("memory: pages 16\nmemory: ok\n");
      expect(() => machine.memory.bytes(3n * GIB, 1)).toThrow(expect.objectContaining({ code: "E_RANGE" }));
      expect(machine.memory.bytes(5n * GIB - 1n, 1)).toHaveLength(1);
    },
    PATIENCE,
  );

  it(
    "views read and write what the guest sees, and say where RAM ends",
    async () => {
      await withRunning(guest("halt", { count: 1, external: 1 }), "halt: ready\n", async (machine) => {
        const { memory } = machine;
        expect(memory.read(0x10_0008, 8).toString("latin1")).toBe("V3MPARM1");
        expect(memory.view(0x10_0010, 8).getBigUint64(0, true)).toBe(1n);
        memory.write(15 * MIB, Buffer.from("from outside"));
        expect(memory.bytes(15 * MIB, 12).toString()).toBe(Buffer.from("from outside").join());
        const copy = memory.read(15 * MIB, 4);
        memory.bytes(15 * MIB, 4).fill(0);
        expect(copy.toString()).toBe("from");
        for (const [gpa, length] of [
          [16 * MIB, 1],
          [16 * MIB - 1, 2],
          [-1, 1],
          [0, -1],
          [0xd000_0000, 4],
          [0n, 2 ** 40],
          [1n << 63n, 1],
        ] as const) {
          expect(() => memory.bytes(gpa, length), `${gpa}+${length}`).toThrow(
            expect.objectContaining({ code: "E_RANGE", hint: "RAM is at 0x0-0xffffff" }),
          );
        }
        machine.setIrq(5, true);
        await machine.wait(PATIENCE);
      });
    },
    PATIENCE,
  );

  it(
    "is zero again after a reset, all of it",
    async () => {
      await withRunning(busy(1), "busy: ready\n", async (machine, transcript) => {
        machine.memory.bytes(8 * MIB, MIB).fill(0xa5);
        machine.reset();
        await transcript.until("busy: ready\nbusy: ready\n");
        expect(machine.memory.bytes(8 * MIB, MIB).every((byte) => byte === 0)).toBe(true);
      });
    },
    PATIENCE,
  );
});
