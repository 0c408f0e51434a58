// SPDX-License-Identifier: Apache-2.0
/** The result of `v2m bench net`: rounds, and what of them is shown. */
import type { Environment } from "../measure/environment.js";
import { summarize } from "../measure/statistics.js";
import type { Outcome } from "./contender.js";
import type { FloorName, GuestKind, PathName, TestName, WaitMode } from "./names.js";
import type { Plan } from "./plan.js";

/** One measurement. Times are one way: half of a round trip. */
export interface Point {
  /** Of the slowest pair; null but for the latency test. */
  readonly latencyNs: {
    readonly least: number;
    readonly p50: number;
    readonly p99: number;
    readonly p999: number;
    readonly most: number;
    readonly mean: number;
  } | null;
  /** Of all pairs, in both directions where there are two. */
  readonly messagesPerSecond: number;
  readonly bytesPerSecond: number;
  /** In either direction, of all pairs. */
  readonly messages: number;
  /** Of all guests; null where there are none, or too few messages to tell. */
  readonly exitsPerMessage: number | null;
  readonly interruptsPerMessage: number | null;
  /** Of both sides, for each byte that was sent; null where there were too few messages to tell. */
  readonly cpuNsPerByte: number | null;
}

export interface Series {
  readonly id: PathName | FloorName;
  readonly kind: "path" | "floor";
  readonly test: TestName;
  readonly bytes: number;
  readonly pairs: number;
  readonly wait: WaitMode;
  /** What measured: `netbench`, V3M's own, or another with its version. */
  readonly program: string;
  /** By which it was measured. */
  readonly commands: readonly string[];
  readonly rounds: readonly Point[];
}

export interface PathState {
  readonly path: PathName;
  /** Given where one number of pairs is meant. */
  readonly pairs?: number;
  /** Why it was not measured; null where it was. */
  readonly skipped: string | null;
}

export interface GuestFacts {
  readonly kind: GuestKind;
  readonly vcpus: number;
  readonly memoryMiB: number;
  /** Release of the guests' kernel; null where they have none. */
  readonly kernel: string | null;
}

export interface NetBenchResult {
  readonly schema: "v3m-bench-net/1";
  /** As it was typed. */
  readonly command: readonly string[];
  readonly plan: Plan;
  /** On which it ran. */
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly guests: GuestFacts;
  readonly paths: readonly PathState[];
  readonly series: readonly Series[];
  readonly ratios: readonly Ratio[];
}

/** Of a long run less those of a short one: what a program costs to start and to end does not count. */
function perMessage(brief: number | null, long: number | null, messages: number): number | null {
  return brief === null || long === null || messages <= 0 ? null : Math.max(0, long - brief) / messages;
}

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);

/** Messages that a sample's test moved, both directions together. */
function moved(test: TestName, count: number): number {
  return test === "stream" ? count : 2 * count;
}

/** @param brief as few messages as can be. @param long what was asked for */
export function pointOf(test: TestName, bytes: number, brief: Outcome, long: Outcome): Point {
  const slowest = long.samples.toSorted((a, b) => b.p50 / b.khz - a.p50 / a.khz)[0];
  if (slowest === undefined) throw new RangeError("no samples");
  const half = (ticks: number) => (ticks * 1e6) / slowest.khz / 2;
  const rates = long.samples.map(({ count, ticks, khz }) => (moved(test, count) * khz * 1000) / ticks);
  const total = (outcome: Outcome) => sum(outcome.samples.map((sample) => sample.total));
  const messages = total(long) - total(brief);
  const cpu = perMessage(brief.cpuNs, long.cpuNs, messages);
  return {
    latencyNs:
      test === "latency"
        ? {
            least: half(slowest.shortest),
            p50: half(slowest.p50),
            p99: half(slowest.p99),
            p999: half(slowest.p999),
            most: half(slowest.longest),
            mean: half(slowest.ticks / slowest.count),
          }
        : null,
    messagesPerSecond: sum(rates),
    bytesPerSecond: sum(rates) * bytes,
    messages: sum(long.samples.map(({ count }) => moved(test, count))),
    exitsPerMessage: perMessage(brief.exits, long.exits, messages),
    interruptsPerMessage: perMessage(brief.interrupts, long.interrupts, messages),
    cpuNsPerByte: cpu === null ? null : cpu / bytes,
  };
}

/** Median over the rounds of what `pick` takes; null where a round lacks it. */
export function medianOf(series: Series, pick: (point: Point) => number | null | undefined): number | null {
  const values = series.rounds.map(pick);
  const numbers = values.filter((value) => value !== null && value !== undefined);
  return numbers.length < values.length || numbers.length === 0 ? null : summarize(numbers).median;
}

/** What `shm` is compared with: two processes of the host. */
const RATIO_FLOORS = ["protected", "processes"] as const satisfies readonly FloorName[];

export interface Ratio {
  readonly what: string;
  readonly floor: (typeof RATIO_FLOORS)[number];
  readonly pairs: number;
  readonly ratio: number;
  /** Of issue and documentation; only where each guest polls on a core of its own. */
  readonly goal: { readonly text: string; readonly met: boolean } | null;
}

const LATENCY_MOST = 1.15;
const BANDWIDTH_LEAST = 0.95;

/** `shm` beside two processes of the host by the same code: latency of the smallest messages, bandwidth at 1 MiB. */
export function ratios(result: Pick<NetBenchResult, "series" | "plan" | "machine">): Ratio[] {
  const find = (like: Series, id: FloorName) =>
    result.series.find(
      (s) => s.id === id && s.test === like.test && s.bytes === like.bytes && s.pairs === like.pairs,
    );
  const smallest = Math.min(...result.plan.sizes);
  const beside = (own: Series, name: Ratio["floor"]): Ratio[] => {
    const floor = find(own, name);
    const isLatency = own.test === "latency" && own.bytes === smallest;
    const isBandwidth = own.test === "stream" && own.bytes === 1 << 20;
    if (floor === undefined || !(isLatency || isBandwidth)) return [];
    const pick = isLatency ? (p: Point) => p.latencyNs?.p50 : (p: Point) => p.bytesPerSecond;
    const ratio = (medianOf(own, pick) ?? Number.NaN) / (medianOf(floor, pick) ?? Number.NaN);
    const asked = isLatency ? own.bytes === 8 : true;
    const goal = isLatency
      ? { text: `at most ${LATENCY_MOST}`, met: ratio <= LATENCY_MOST }
      : { text: `at least ${BANDWIDTH_LEAST}`, met: ratio >= BANDWIDTH_LEAST };
    return [
      {
        what: isLatency ? `latency at ${own.bytes} B` : "bandwidth at 1 MiB",
        floor: name,
        pairs: own.pairs,
        ratio,
        goal: own.wait === "poll" && asked && result.machine.testbed === null ? goal : null,
      },
    ];
  };
  return result.series
    .filter(({ id }) => id === "shm")
    .flatMap((own) => RATIO_FLOORS.flatMap((floor) => beside(own, floor)));
}
