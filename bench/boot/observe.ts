// SPDX-License-Identifier: Apache-2.0
/** What the kernel knows of a machine from outside, in the same way for every monitor. */
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Footprint, footprint } from "../../src/vmm/footprint.js";

const KVM_DEBUG = "/sys/kernel/debug/kvm";

/** KVM's counters of the machine that a process runs. */
export interface KvmCounters {
  /** Exits that the guest caused: all, less those for host interrupts and NMIs. */
  readonly guest: number;
  readonly io: number;
  readonly mmio: number;
  readonly halt: number;
  readonly irqWindow: number;
  /** Page faults in guest-physical space that KVM answered by mapping memory. */
  readonly pageFault: number;
  /** What KVM counts as exits only: MSRs, CPUID, control registers, emulated interrupt controllers ... */
  readonly rest: number;
  /** Everything in debugfs, by name. */
  readonly all: Readonly<Record<string, number>>;
}

function machineDirectory(pid: number): string | undefined {
  try {
    // Named by the thread that made the machine.
    const threads = new Set(readdirSync(`/proc/${pid}/task`));
    return readdirSync(KVM_DEBUG).find((name) => threads.has(name.split("-")[0] ?? ""));
  } catch {
    return undefined;
  }
}

/** Null where debugfs is not readable or the process runs no machine. */
export function kvmCounters(pid: number): KvmCounters | null {
  const name = machineDirectory(pid);
  if (name === undefined) return null;
  const all: Record<string, number> = {};
  for (const entry of readdirSync(join(KVM_DEBUG, name), { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const value = Number(readFileSync(join(KVM_DEBUG, name, entry.name), "utf8"));
    if (Number.isFinite(value)) all[entry.name] = value;
  }
  const of = (counter: string) => all[counter] ?? 0;
  const guest = of("exits") - of("irq_exits") - of("nmi_window_exits");
  const parts = {
    io: of("io_exits"),
    mmio: of("mmio_exits"),
    halt: of("halt_exits"),
    irqWindow: of("irq_window_exits"),
    pageFault: of("pf_fixed"),
  };
  const rest = guest - Object.values(parts).reduce((sum, value) => sum + value, 0);
  return { guest, ...parts, rest, all };
}

/** Memory beside guest RAM, and how much of guest RAM the host backs with huge pages. */
export interface MemoryUse extends Footprint {
  readonly guestResident: number;
  readonly guestHuge: number;
}

interface Mapping {
  readonly from: bigint;
  readonly to: bigint;
  rss: number;
  huge: number;
}

async function writableMappings(smaps: string): Promise<Mapping[]> {
  const found: Mapping[] = [];
  let current: Mapping | undefined;
  for (const line of (await readFile(smaps, "utf8")).split("\n")) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line);
    const bytes = () => Number(/\d+/.exec(line)?.[0]) * 1024;
    if (head !== null) {
      const range = { from: BigInt(`0x${head[1]}`), to: BigInt(`0x${head[2]}`), rss: 0, huge: 0 };
      current = head[3]?.startsWith("rw") ? range : undefined;
      if (current !== undefined) found.push(current);
    } else if (current !== undefined && line.startsWith("Rss:")) {
      current.rss = bytes();
    } else if (current !== undefined && line.startsWith("AnonHugePages:")) {
      current.huge = bytes();
    }
  }
  return found;
}

/**
 * Guest RAM is the mapping of exactly its size, as every monitor here makes it; the fullest, where there are more. If
 * there is none, the fullest of the larger ones.
 */
export async function memoryUse(pid: number, ramBytes: number): Promise<MemoryUse | null> {
  const smaps = `/proc/${pid}/smaps`;
  const size = ({ from, to }: Mapping) => to - from;
  const ram = (await writableMappings(smaps))
    .filter((mapping) => size(mapping) >= BigInt(ramBytes))
    .map((mapping) => ({ ...mapping, exact: size(mapping) === BigInt(ramBytes) }))
    .sort((a, b) => Number(b.exact) - Number(a.exact) || b.rss - a.rss)[0];
  if (ram === undefined) return null;
  return { ...(await footprint([ram], smaps)), guestResident: ram.rss, guestHuge: ram.huge };
}
