// SPDX-License-Identifier: Apache-2.0
/** Statistics of a machine: libvmmhpc's page, read without locks, and KVM's own counters. */

import { NativeMemory, STATS_EXITS, VmmhpcStatsPage, VmmhpcVcpuStats } from "../ffi/index.js";
import * as native from "../ffi/machine.js";
import { ExitReason } from "../kvm/constants.js";

/** Exits of one reason that reached user space. */
export interface ExitStats {
  /** KVM's name in lower case: `io`, `mmio`, `intr` … or `exit-N`. */
  readonly reason: string;
  readonly count: number;
  /** Time spent outside KVM_RUN for them. */
  readonly totalNs: number;
  /** Bucket b counts times in [2^b, 2^(b+1)) ns. */
  readonly histogram: readonly number[];
}

export interface VcpuStats {
  readonly runs: number;
  readonly runNs: number;
  readonly outsideNs: number;
  /** Returns from KVM_RUN forced by a kick. */
  readonly kicks: number;
  readonly unclaimedPio: number;
  readonly unclaimedMmio: number;
  readonly exits: readonly ExitStats[];
}

export interface MachineStats {
  /** CLOCK_MONOTONIC nanoseconds of the start and of the first KVM_RUN, 0 before them. */
  readonly startNs: bigint;
  readonly firstRunNs: bigint;
  readonly resets: number;
  readonly console: { readonly out: number; readonly dropped: number; readonly in: number };
  readonly vcpus: readonly VcpuStats[];
}

/** KVM's counters (`KVM_GET_STATS_FD`). */
export interface KvmStats {
  /** KVM's exits less those for host interrupts, of all vCPUs. */
  readonly guestExits: number;
  /** Sum over the vCPUs of each counter. */
  readonly total: Readonly<Record<string, number>>;
  readonly vcpus: readonly Readonly<Record<string, number>>[];
  readonly vm: Readonly<Record<string, number>>;
}

const EXIT_NAMES = new Map<number, string>(
  Object.entries(ExitReason).map(([name, number]) => [number, name.toLowerCase().replaceAll("_", "-")]),
);

export function exitName(reason: number): string {
  return EXIT_NAMES.get(reason) ?? `exit-${reason}`;
}

/** The page of a machine. Must be closed before the machine is destroyed. */
export class StatsPage {
  readonly #memory: NativeMemory;

  constructor(handle: native.MachineHandle) {
    const { address, bytes } = native.stats(handle);
    this.#memory = NativeMemory.borrow(address, bytes, "statistics page");
  }

  read(): MachineStats {
    return decodeStats(this.#memory.bytes);
  }

  close(): void {
    this.#memory.close();
  }
}

/** A page as libvmmhpc lays it out. */
export function decodeStats(bytes: Uint8Array): MachineStats {
  const page = VmmhpcStatsPage.decode(bytes);
  const vcpus = Array.from({ length: page.vcpus }, (_, i) =>
    decodeVcpu(VmmhpcVcpuStats.decode(bytes, page.vcpu_offset + i * page.vcpu_stride)),
  );
  return {
    startNs: page.start_ns,
    firstRunNs: page.first_run_ns,
    resets: Number(page.resets),
    console: {
      out: Number(page.console_out),
      dropped: Number(page.console_dropped),
      in: Number(page.console_in),
    },
    vcpus,
  };
}

function decodeVcpu(raw: ReturnType<typeof VmmhpcVcpuStats.decode>): VcpuStats {
  const exits: ExitStats[] = [];
  raw.exits.forEach((exit, reason) => {
    if (exit.count > 0n) {
      exits.push({
        reason: reason === STATS_EXITS - 1 ? "other" : exitName(reason),
        count: Number(exit.count),
        totalNs: Number(exit.total_ns),
        histogram: exit.histogram.map(Number),
      });
    }
  });
  return {
    runs: Number(raw.runs),
    runNs: Number(raw.run_ns),
    outsideNs: Number(raw.outside_ns),
    kicks: Number(raw.kicks),
    unclaimedPio: Number(raw.unclaimed_pio),
    unclaimedMmio: Number(raw.unclaimed_mmio),
    exits,
  };
}

/** @throws VmmError E_UNSUPPORTED where the host's KVM has no binary statistics (before Linux 5.14). */
export function readKvmStats(handle: native.MachineHandle, cpus: number): KvmStats {
  const plain = (map: Map<string, bigint>) =>
    Object.fromEntries([...map].map(([name, value]) => [name, Number(value)]));
  const vcpus = Array.from({ length: cpus }, (_, i) => plain(native.kvmStats(handle, i)));
  const total: Record<string, number> = {};
  for (const vcpu of vcpus) {
    for (const [name, value] of Object.entries(vcpu)) {
      total[name] = (total[name] ?? 0) + value;
    }
  }
  return {
    guestExits: (total.exits ?? 0) - (total.irq_exits ?? 0),
    total,
    vcpus,
    vm: plain(native.kvmStats(handle, -1)),
  };
}
