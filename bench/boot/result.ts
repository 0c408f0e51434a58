// SPDX-License-Identifier: Apache-2.0
/** The result of the boot benchmark: its type, its ratios, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";
import type { Contender } from "./contenders.js";
import type { Run } from "./measure.js";
import type { Histogram } from "./trace.js";

export interface ContenderResult extends Contender {
  readonly runs: readonly Run[];
  /** From the tracing round, if there was one. */
  readonly trace?: Histogram;
}

export interface BootResult {
  readonly schema: "v3m-bench-boot/1";
  /** The machine on which the contenders ran. */
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly rounds: number;
  readonly memoryMiB: number;
  readonly commandLine: string;
  readonly addedParameters: readonly string[];
  readonly kernel: { readonly version: string; readonly sha256: string };
  readonly initramfs: { readonly sha256: string };
  readonly contenders: readonly ContenderResult[];
}

export interface Verdict {
  readonly own: string;
  readonly peer: string;
  readonly timeRatio: number;
  readonly exitRatio: number | null;
}

export const GOAL = { time: 0.55, exits: 0.33 } as const;

const seconds = (result: ContenderResult) => result.runs.map((run) => run.seconds);
const exits = (result: ContenderResult) => result.runs.flatMap((run) => run.exits?.guest ?? []);
const median = (values: readonly number[]) => (values.length === 0 ? null : summarize(values).median);

/** Ours: not a peer of any kind. */
export const isOwn = (contender: Contender) => contender.kind === "library" || contender.kind === "v2m";

/** Each of ours against the machine of a kind with the lowest median time. */
export function verdicts(result: BootResult, kind: "qemu" | "tuned" = "qemu"): Verdict[] {
  const time = (of: ContenderResult) => median(seconds(of)) ?? Number.POSITIVE_INFINITY;
  const [peer] = result.contenders.filter((c) => c.kind === kind).sort((a, b) => time(a) - time(b));
  if (peer === undefined) return [];
  const peerExits = median(exits(peer));
  return result.contenders.filter(isOwn).map((own) => {
    const ownExits = median(exits(own));
    return {
      own: own.label,
      peer: peer.label,
      timeRatio: time(own) / time(peer),
      exitRatio: ownExits === null || peerExits === null ? null : ownExits / peerExits,
    };
  });
}

const MIB = 2 ** 20;
const mib = (bytes: number | null) => (bytes === null ? "-" : (bytes / MIB).toFixed(1));

function cells(result: ContenderResult): string[] {
  const time = summarize(seconds(result));
  const counter = (pick: (run: NonNullable<Run["exits"]>) => number) =>
    median(result.runs.flatMap((run) => (run.exits === null ? [] : pick(run.exits))))?.toFixed(0) ?? "-";
  const memory = (pick: (run: NonNullable<Run["memory"]>) => number) =>
    mib(median(result.runs.flatMap((run) => (run.memory === null ? [] : pick(run.memory)))));
  return [
    result.label,
    `${time.median.toFixed(2)} (${time.min.toFixed(2)}-${time.max.toFixed(2)})`,
    counter((e) => e.guest),
    counter((e) => e.io),
    counter((e) => e.mmio),
    counter((e) => e.halt),
    counter((e) => e.irqWindow),
    counter((e) => e.pageFault),
    counter((e) => e.rest),
    `${memory((m) => m.pss)} / ${memory((m) => m.anonymous)}`,
    memory((m) => m.guestHuge),
  ];
}

const HEADING = [
  "",
  "s to user space",
  "guest exits",
  "io",
  "mmio",
  "halt",
  "irq window",
  "page fault",
  "rest",
  "MiB beside RAM: PSS / anon",
  "huge MiB",
];

function verdictLine(verdict: Verdict): string {
  const mark = (value: number, goal: number) =>
    `${short(value)} (goal ${goal}${value <= goal ? "" : ", missed"})`;
  const exitPart = verdict.exitRatio === null ? "not counted" : mark(verdict.exitRatio, GOAL.exits);
  return `${verdict.own} / ${verdict.peer}: time ${mark(verdict.timeRatio, GOAL.time)}, guest-caused exits ${exitPart}`;
}

/** What a monitor that costs nothing would still need: time in guest mode alone, against the fastest peer. */
function floorLines(result: BootResult): string[] {
  const [verdict] = verdicts(result);
  const library = result.contenders.find(({ kind }) => kind === "library");
  const peer = result.contenders.find(({ label }) => label === verdict?.peer);
  if (library?.trace === undefined || peer === undefined) return [];
  const { guestSeconds } = library.trace;
  const ratio = short(guestSeconds / summarize(seconds(peer)).median);
  return [`guest mode alone (one boot, traced): ${guestSeconds.toFixed(2)} s, ${ratio} of ${peer.label}`];
}

export function describe(result: BootResult): string {
  const added = result.addedParameters.length === 0 ? "none" : result.addedParameters.join(" ");
  return [
    `Linux ${result.kernel.version}, ${result.memoryMiB} MiB, 1 vCPU, "${result.commandLine}"; medians of ${result.rounds} rounds`,
    `parameters added by V3M (and given to all): ${added}`,
    "",
    table(HEADING, result.contenders.map(cells)),
    "",
    ...[...verdicts(result), ...verdicts(result, "tuned")].map(verdictLine),
    ...floorLines(result),
  ].join("\n");
}

export function picture(result: BootResult): string {
  const bars = (values: (of: ContenderResult) => number[]) =>
    result.contenders.map((c) => ({ label: c.label, values: values(c), own: isOwn(c) }));
  const anonymous = (c: ContenderResult) =>
    c.runs.flatMap((run) => (run.memory === null ? [] : run.memory.anonymous / MIB));
  const place = result.machine.testbed === null ? "" : ` in the nested machine (${result.machine.testbed})`;
  return plot(
    `Boot of Linux ${result.kernel.version} to user space`,
    [
      { title: "Time from exec to the first user-space line", unit: "s", bars: bars(seconds) },
      { title: "Guest-caused exits until then", unit: "", bars: bars(exits) },
      { title: "Anonymous memory of the process beside guest RAM", unit: "MiB", bars: bars(anonymous) },
    ],
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}${place}; bars: medians, dots: rounds`,
  );
}
