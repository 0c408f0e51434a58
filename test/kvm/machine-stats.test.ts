// SPDX-License-Identifier: Apache-2.0
/** Statistics: what libvmmhpc and KVM count agrees with what the guest did. */
import { expect, it } from "vitest";
import { type ExitStats, Machine, type MachineStats, type VcpuStats } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, finish, guest, nextReset, PATIENCE, run, withRunning } from "../support/machines.js";

/** Exits of a printed character (LSR, THR), and of the end (exit status, sleep control). */
const PER_CHARACTER = 2;
const AT_THE_END = 2;

function exitsOf(stats: MachineStats, reason: string, vcpu = 0): ExitStats | undefined {
  return stats.vcpus[vcpu]?.exits.find((exit) => exit.reason === reason);
}

const count = (stats: MachineStats, reason: string) => exitsOf(stats, reason)?.count ?? 0;
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

/** What must hold for every vCPU of a machine that stands still. */
function expectConsistent(vcpu: VcpuStats): void {
  for (const exit of vcpu.exits) {
    expect(sum(exit.histogram), `histogram of ${exit.reason}`).toBe(exit.count);
    expect(exit.histogram).toHaveLength(32);
    // Bucket b holds times from 2^b to 2^(b+1) ns (0 is in the first), so the total lies between these.
    const least = sum(exit.histogram.map((n, bucket) => (bucket === 0 ? 0 : n * 2 ** bucket)));
    expect(exit.totalNs).toBeGreaterThanOrEqual(least);
    if ((exit.histogram[31] ?? 0) === 0) {
      expect(exit.totalNs).toBeLessThanOrEqual(sum(exit.histogram.map((n, bucket) => n * 2 ** (bucket + 1))));
    }
  }
  expect(sum(vcpu.exits.map((exit) => exit.count))).toBe(vcpu.runs);
  expect(sum(vcpu.exits.map((exit) => exit.totalNs))).toBe(vcpu.outsideNs);
}

suite("statistics", { needs: ["kvm"] }, () => {
  it(
    "I/O exits are exactly those that the guest made",
    async () => {
      const { output, stats } = await run(guest("pio", { count: 123 }));
      expect(count(stats, "io")).toBe(123 + PER_CHARACTER * output.length + AT_THE_END);
      expect(stats.vcpus[0]).toMatchObject({ unclaimedPio: 124, unclaimedMmio: 0 });
      expect(stats.vcpus).toHaveLength(1);
      stats.vcpus.forEach(expectConsistent);
    },
    PATIENCE,
  );

  it(
    "memory-mapped exits too; what nothing claims is counted",
    async () => {
      const { output, stats } = await run(guest("mmio", { count: 10, sizes: 5, directions: 3 }));
      expect(count(stats, "mmio")).toBe(40);
      expect(count(stats, "io")).toBe(PER_CHARACTER * output.length + AT_THE_END);
      expect(stats.vcpus[0]).toMatchObject({ unclaimedMmio: 40 });
      stats.vcpus.forEach(expectConsistent);
    },
    PATIENCE,
  );

  it(
    "a string instruction is one exit or several, but each element once",
    async () => {
      await using machine = await Machine.create(guest("string", { count: 50, bytes: 2 }));
      const sizes: number[] = [];
      machine.addDevice({ space: "pio", base: 0xf0, bytes: 2, write: (_o, _v, bytes) => sizes.push(bytes) });
      const { output, stats } = await finish(machine);
      expect(sizes).toEqual(Array(50).fill(2));
      const others = PER_CHARACTER * output.length + AT_THE_END;
      expect(count(stats, "io")).toBeGreaterThan(others);
      expect(count(stats, "io")).toBeLessThanOrEqual(others + 50);
    },
    PATIENCE,
  );

  it(
    "times: start, first run, inside and outside KVM_RUN",
    async () => {
      await using machine = await Machine.create(guest("hello"));
      expect(machine.stats()).toMatchObject({ startNs: 0n, firstRunNs: 0n, resets: 0 });
      const before = process.hrtime.bigint(); // CLOCK_MONOTONIC, as theirs
      const { stats } = await finish(machine);
      const after = process.hrtime.bigint();
      expect(stats.startNs).toBeGreaterThanOrEqual(before);
      expect(stats.firstRunNs).toBeGreaterThanOrEqual(stats.startNs);
      expect(stats.firstRunNs).toBeLessThan(after);
      const { runNs = 0, outsideNs = 0 } = stats.vcpus[0] ?? {};
      expect(runNs).toBeGreaterThan(0);
      expect(outsideNs).toBeGreaterThan(0);
    },
    PATIENCE,
  );

  it(
    "each vCPU counts for itself",
    async () => {
      const { stats } = await run(guest("smp", { cpus: 3, rounds: 2 }, { cpus: 3 }));
      expect(stats.vcpus).toHaveLength(3);
      stats.vcpus.forEach(expectConsistent);
      expect(count(stats, "io")).toBeGreaterThan(50); // the first one prints
      for (const vcpu of [1, 2]) {
        expect(exitsOf(stats, "io", vcpu)).toBeUndefined();
      }
    },
    PATIENCE,
  );

  it(
    "kicks are counted; a guest without exits is kicked by a pause",
    async () => {
      await withRunning(busy(0), "busy: ready\n", async (machine) => {
        const { kicks = 0 } = machine.stats().vcpus[0] ?? {};
        for (let i = 0; i < 5; i++) {
          await machine.pause();
          machine.resume();
        }
        await machine.pause();
        const stats = machine.stats();
        expect(stats.vcpus[0]?.kicks).toBeGreaterThan(kicks); // not each time: it may be parked still
        expectConsistent(stats.vcpus[0] as VcpuStats);
      });
    },
    PATIENCE,
  );

  it(
    "counters go on over a reset, and machines do not mix theirs",
    async () => {
      await using idle = await Machine.create(guest("hello"));
      await withRunning(guest("reset"), "reset: method 0\n", async (machine) => {
        await nextReset(machine);
        const first = { stats: machine.stats(), kvm: machine.kvmStats() };
        // Events may lag behind the guest: wait for a whole life after what was read.
        do {
          await nextReset(machine);
        } while (machine.stats().console.out <= first.stats.console.out);
        await machine.pause();
        const second = { stats: machine.stats(), kvm: machine.kvmStats() };
        expect(second.stats.resets).toBeGreaterThan(first.stats.resets);
        expect(count(second.stats, "io")).toBeGreaterThan(count(first.stats, "io"));
        expect(second.stats.console.out).toBeGreaterThan(first.stats.console.out);
        for (const name of ["exits", "io_exits"]) {
          expect(second.kvm.total[name]).toBeGreaterThanOrEqual(first.kvm.total[name] ?? 0);
        }
        expect(second.kvm.total.exits).toBeGreaterThan(0);
      });
      expect(idle.stats().vcpus[0]).toMatchObject({ runs: 0, exits: [] });
    },
    PATIENCE,
  );

  it(
    "can be read at any time while the guest runs, and only grow",
    async () => {
      await withRunning(busy(3), "busy: ready\n", async (machine) => {
        let before = machine.stats();
        for (let i = 0; i < 100; i++) {
          const now = machine.stats();
          expect(count(now, "io")).toBeGreaterThanOrEqual(count(before, "io"));
          expect(now.vcpus[0]?.runNs).toBeGreaterThanOrEqual(before.vcpus[0]?.runNs ?? 0);
          before = now;
        }
      });
    },
    PATIENCE,
  );
});

suite("KVM's own counters", { needs: ["kvm"] }, () => {
  it(
    "are there for each vCPU and for the VM; guest-caused exits leave the host's interrupts out",
    async () => {
      await using machine = await Machine.create(guest("pio", { count: 100 }, { cpus: 2 }));
      const before = machine.kvmStats();
      expect(before.vcpus).toHaveLength(2);
      expect(before.total.exits).toBe(0);
      expect(Object.keys(before.vm).length).toBeGreaterThan(0);
      await finish(machine);
      const { total, vcpus, guestExits } = machine.kvmStats();
      expect(total.exits).toBe(sum(vcpus.map((vcpu) => vcpu.exits ?? 0)));
      expect(guestExits).toBe((total.exits ?? 0) - (total.irq_exits ?? 0));
    },
    PATIENCE,
  );
});

suite("KVM's counters of a sleeping vCPU", { needs: ["kvm"] }, () => {
  it(
    "can be read although it does not come back from KVM_RUN",
    async () => {
      const sleep = Buffer.from("faf4ebfd", "hex"); // cli; hlt; jmp back
      await using machine = await Machine.create({
        kernel: sleep,
        kind: "flat64",
        loadAddress: 0x100000,
        memory: 16 << 20,
      });
      machine.start();
      while (machine.stats().firstRunNs === 0n) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await new Promise((resolve) => setTimeout(resolve, 100)); // to be asleep, most likely
      expect(machine.kvmStats().vcpus).toHaveLength(1);
      expect(machine.state).toBe("running");
    },
    PATIENCE,
  );
});

suite("KVM's exits under hardware virtualization", { needs: ["linux-guest"] }, () => {
  it(
    "cover those that reached user space",
    async () => {
      await using machine = await Machine.create(guest("pio", { count: 100 }));
      const { stats } = await finish(machine);
      const { guestExits, total } = machine.kvmStats();
      const io = count(stats, "io");
      expect(total.io_exits).toBe(io);
      expect(guestExits).toBeGreaterThanOrEqual(io);
      expect(guestExits).toBeLessThan(io + 5000);
    },
    PATIENCE,
  );
});
