// SPDX-License-Identifier: Apache-2.0
/** What `v2m run --stats` and `--json` report when the guest has ended. */
import type { Footprint } from "../vmm/footprint.js";
import type { KvmStats, MachineStats } from "../vmm/stats.js";
import type { StopInfo } from "../vmm/stop-info.js";
import { table } from "./report.js";
import { formatBytes, formatNs } from "./values.js";

export interface RunSummary {
  readonly state: string;
  readonly cause: string;
  readonly text: string;
  readonly exitCode: number;
  readonly resets: number;
  readonly times: {
    /** From the first KVM_RUN to the end. */
    readonly guestNs: number;
    /** From the first KVM_RUN until the console showed the text of --ready. */
    readonly readyNs: number | null;
  };
  readonly memory: (Footprint & { readonly guest: number }) | null;
  readonly exits: readonly { readonly reason: string; readonly count: number; readonly totalNs: number }[];
  readonly kvm: KvmStats | null;
  readonly console: MachineStats["console"];
}

export function summarize(
  info: StopInfo,
  exitCode: number,
  stats: MachineStats,
  more: {
    readonly kvm: KvmStats | null;
    readonly memory: RunSummary["memory"];
    readonly readyNs: bigint | undefined;
    readonly endNs: bigint;
  },
): RunSummary {
  const exits = new Map<string, { reason: string; count: number; totalNs: number }>();
  for (const exit of stats.vcpus.flatMap((vcpu) => vcpu.exits)) {
    const sum = exits.get(exit.reason) ?? { reason: exit.reason, count: 0, totalNs: 0 };
    sum.count += exit.count;
    sum.totalNs += exit.totalNs;
    exits.set(exit.reason, sum);
  }
  const first = stats.firstRunNs;
  return {
    state: info.state,
    cause: info.cause,
    text: info.text,
    exitCode,
    resets: stats.resets,
    times: {
      guestNs: first === 0n ? 0 : Number(more.endNs - first),
      readyNs: more.readyNs === undefined || first === 0n ? null : Number(more.readyNs - first),
    },
    memory: more.memory,
    exits: [...exits.values()].sort((a, b) => b.count - a.count),
    kvm: more.kvm,
    console: stats.console,
  };
}

/** KVM's counters worth a line: kinds of exits. */
const KVM_ROWS: readonly (readonly [string, string])[] = [
  ["exits", "all exits, host interrupts included"],
  ["irq_exits", "host interrupts"],
  ["io_exits", "port I/O"],
  ["mmio_exits", "memory-mapped I/O"],
  ["halt_exits", "HLT"],
  ["pf_taken", "page faults"],
  ["insn_emulation", "emulated instructions"],
  ["irq_injections", "interrupts injected"],
];

export function formatSummary(summary: RunSummary): string {
  const { times, memory, kvm } = summary;
  const rows: string[][] = [["guest", summary.text || summary.state]];
  if (times.readyNs !== null) rows.push(["first KVM_RUN to ready", formatNs(times.readyNs)]);
  rows.push(["first KVM_RUN to end", formatNs(times.guestNs)]);
  if (summary.resets > 0) rows.push(["resets", String(summary.resets)]);
  rows.push(["console", `${summary.console.out} bytes out, ${summary.console.in} in`]);
  if (memory !== null) {
    rows.push([
      "memory beside guest RAM",
      `${formatBytes(memory.pss)} (${formatBytes(memory.anonymous)} anonymous), Node.js included`,
    ]);
  }
  if (kvm !== null) rows.push(["guest-caused exits", String(kvm.guestExits)]);
  const lines = ["--- v2m run", table(rows)];
  if (kvm !== null) {
    const counted = KVM_ROWS.filter(([name]) => (kvm.total[name] ?? 0) > 0);
    lines.push(
      "exits by KVM's counters",
      table(
        counted.map(([name, what]) => [String(kvm.total[name]), name, what]),
        "  ",
      ),
    );
  }
  const handled = summary.exits.map((e) => [
    String(e.count),
    e.reason,
    `${formatNs(e.totalNs / e.count)} each`,
  ]);
  lines.push("exits that reached user space", table(handled, "  "));
  return lines.join("\n");
}
