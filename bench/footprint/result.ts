// SPDX-License-Identifier: Apache-2.0
/** The result of the footprint benchmark: its type, its ratios, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";
import type { Crowd, Many } from "./measure.js";
import type { Use } from "./running.js";

/** V3M's monitor on the KVM of the computer itself, with a guest of a few instructions. */
export interface Payload {
  readonly machine: Environment;
  readonly memoryMiB: number;
  readonly one: Use;
  readonly many: Many;
  /** Seconds from exec of the starter to the guest's line. */
  readonly starts: readonly number[];
}

export interface FootprintResult {
  readonly schema: "v3m-bench-footprint/1";
  /** The machine on which the contenders ran. */
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly rounds: number;
  readonly commandLine: string;
  readonly linuxVersion: string;
  readonly memoryMiB: { readonly linux: number; readonly lwk: number };
  readonly contenders: readonly { readonly id: string; readonly label: string; readonly own: boolean }[];
  /** By contender: a process with a running Linux guest, one value a round. */
  readonly one: Readonly<Record<string, readonly Use[]>>;
  /** By contender: many LWK guests at once. */
  readonly many: Readonly<Record<string, Many>>;
  /** By contender: seconds from exec to the answer of an LWK guest, one value a round. */
  readonly starts: Readonly<Record<string, readonly number[]>>;
  readonly crowd: Crowd;
  /** Null where /dev/kvm is not usable, or its user not root. */
  readonly payload: Payload | null;
}

export const GOAL = { anonymousKiB: 128, pssKiB: 600, start: 0.2, crowd: 200 } as const;

const KIB = 1024;
const median = (values: readonly number[]) => summarize(values).median;
const middle = (uses: readonly Use[], of: keyof Use) => median(uses.map((use) => use[of]));
const kib = (bytes: number) => (bytes / KIB).toFixed(0);

const mark = (good: boolean) => (good ? "reached" : "missed");
const usesOf = (result: FootprintResult, id: string) => result.one[id] ?? [];
const startsOf = (result: FootprintResult, id: string) => result.starts[id] ?? [];

/** Start of ours as a multiple of the fastest peer's, and who that is. */
export function startRatio(result: FootprintResult): { ratio: number; peer: string } {
  const times = result.contenders.map((c) => ({ ...c, time: median(startsOf(result, c.id)) }));
  const [peer] = times.filter((c) => !c.own).sort((a, b) => a.time - b.time);
  const own = times.find((c) => c.own);
  if (peer === undefined || own === undefined) throw new Error("nobody to compare with");
  return { ratio: own.time / peer.time, peer: peer.label };
}

function goals(result: FootprintResult): string[] {
  const own = result.contenders.find((c) => c.own);
  const uses = usesOf(result, own?.id ?? "");
  const anonymous = middle(uses, "anonymous") / KIB;
  const pss = middle(uses, "pss") / KIB;
  const { ratio, peer } = startRatio(result);
  const { crowd } = result;
  const whole = crowd.answered === GOAL.crowd && crowd.alive === GOAL.crowd && crowd.left === 0;
  return [
    `anonymous memory of a monitor with a Linux guest: ${anonymous.toFixed(0)} KiB, goal ${GOAL.anonymousKiB}: ${mark(anonymous <= GOAL.anonymousKiB)}`,
    `its PSS: ${pss.toFixed(0)} KiB, goal ${GOAL.pssKiB}: ${mark(pss <= GOAL.pssKiB)}`,
    `start of an LWK guest / ${peer}: ${short(ratio)}, goal ${GOAL.start}: ${mark(ratio <= GOAL.start)}`,
    `${crowd.count} LWK guests in ${crowd.seconds.toFixed(1)} s: ${crowd.answered} answered their own tokens, ${crowd.alive} alive at once, ${crowd.left} left behind: ${mark(whole)}`,
  ];
}

function rows(result: FootprintResult): string[][] {
  return result.contenders.map(({ id, label }) => {
    const uses = usesOf(result, id);
    const many = result.many[id];
    const { median: time, min, max } = summarize(startsOf(result, id));
    return [
      label,
      kib(middle(uses, "anonymous")),
      kib(middle(uses, "pss")),
      middle(uses, "threads").toFixed(0),
      middle(uses, "descriptors").toFixed(0),
      many === undefined ? "-" : `${kib(many.each.anonymous)} / ${kib(many.each.pss)}`,
      many === undefined ? "-" : short(many.count / many.seconds),
      `${short(time * 1000)} (${short(min * 1000)}-${short(max * 1000)})`,
    ];
  });
}

function payloadLine({ one, many, starts, machine, memoryMiB }: Payload): string {
  const { median: time, min, max } = summarize(starts.map((seconds) => seconds * 1000));
  return [
    `V3M, payload guests of ${memoryMiB} MiB on ${machine.testbed === null ? "this computer's own" : "the machine's"} KVM:`,
    `${kib(one.anonymous)} KiB anonymous, ${kib(one.pss)} KiB PSS, ${one.threads} threads, ${one.descriptors} descriptors;`,
    `${many.count} at once: ${kib(many.each.anonymous)} / ${kib(many.each.pss)} KiB each, ${short(many.count / many.seconds)} started a second;`,
    `start ${short(time)} ms (${short(min)}-${short(max)})`,
  ].join(" ");
}

export function describe(result: FootprintResult): string {
  const { linux, lwk } = result.memoryMiB;
  const count = Object.values(result.many)[0]?.count ?? 0;
  return [
    `beside guest RAM; Linux ${result.linuxVersion}, ${linux} MiB, "${result.commandLine}"; LWK guests ${lwk} MiB; 1 vCPU; medians (smallest-largest)`,
    "",
    table(
      [
        "",
        "Linux: anon KiB",
        "PSS KiB",
        "threads",
        "descriptors",
        `${count} LWK: anon / PSS KiB each`,
        "started/s",
        "start of one, ms",
      ],
      rows(result),
    ),
    "",
    ...goals(result),
    ...(result.payload === null ? [] : ["", payloadLine(result.payload)]),
  ].join("\n");
}

export function picture(result: FootprintResult): string {
  const bars = (values: (id: string) => readonly number[]) =>
    result.contenders.map(({ id, label, own }) => ({ label, values: values(id), own }));
  const place = result.machine.testbed === null ? "" : ` in the nested machine (${result.machine.testbed})`;
  const linux = (of: keyof Use) => bars((id) => usesOf(result, id).map((use) => use[of] / KIB));
  const many = (value: (many: Many) => number) =>
    bars((id) => {
      const found = result.many[id];
      return found === undefined ? [] : [value(found)];
    });
  return plot(
    "What a virtual machine costs beside its guest's RAM",
    [
      { title: "Anonymous memory, with a Linux guest", unit: "KiB", bars: linux("anonymous") },
      { title: "PSS, with a Linux guest", unit: "KiB", bars: linux("pss") },
      { title: "PSS of each of many LWK guests", unit: "KiB", bars: many((m) => m.each.pss / KIB) },
      { title: "LWK guests started in a second", unit: "", bars: many((m) => m.count / m.seconds) },
      {
        title: "Exec to the answer of an LWK guest",
        unit: "ms",
        bars: bars((id) => startsOf(result, id).map((seconds) => seconds * 1000)),
      },
    ],
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}${place}; bars: medians, dots: rounds`,
  );
}
