// SPDX-License-Identifier: Apache-2.0
/** The result as rows of a table: one for each contender, number of pairs and size. */
import { short } from "../measure/statistics.js";
import { BESIDE_MOST, besideOthers } from "./beside.js";
import { LABELS, type TestName } from "./names.js";
import { medianOf, type NetBenchResult, type Point, type Ratio, type Series } from "./result.js";

export const HEADING = [
  "path",
  "pairs",
  "size",
  "p50",
  "p99",
  "p99.9",
  "MB/s",
  "MB/s, both ways",
  "messages/s",
  "exits/message",
  "interrupts/message",
  "CPU ns/byte",
] as const;

/** Bytes of a message for people: `8 B`, `4 KiB`, `1 MiB`. */
export function formatSize(bytes: number): string {
  if (bytes >= 1 << 20 && bytes % (1 << 20) === 0) return `${bytes >> 20} MiB`;
  return bytes >= 1024 && bytes % 1024 === 0 ? `${bytes >> 10} KiB` : `${bytes} B`;
}

/** Nanoseconds for people, three digits. */
export function formatTime(ns: number): string {
  if (ns >= 1e9) return `${short(ns / 1e9)} s`;
  if (ns >= 1e6) return `${short(ns / 1e6)} ms`;
  return ns >= 1e3 ? `${short(ns / 1e3)} µs` : `${short(ns)} ns`;
}

/** Digits in groups of three. */
function formatCount(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en-US") : short(value);
}

/** Beside each other: what the tests of one contender, number of pairs and size gave. */
function row(all: readonly Series[]): string[] {
  const of = (test: TestName) => all.find((series) => series.test === test);
  const cell = (
    series: Series | undefined,
    pick: (point: Point) => number | null | undefined,
    format: (value: number) => string,
  ) => {
    const value = series === undefined ? null : medianOf(series, pick);
    return value === null ? "-" : format(value);
  };
  const [first] = all;
  if (first === undefined) throw new RangeError("no series");
  const [latency, stream, both] = [of("latency"), of("stream"), of("both")];
  const perMessage = (value: number) => (value < 0.001 ? value.toFixed(5) : short(value));
  return [
    LABELS[first.id],
    String(first.pairs),
    formatSize(first.bytes),
    cell(latency, (p) => p.latencyNs?.p50, formatTime),
    cell(latency, (p) => p.latencyNs?.p99, formatTime),
    cell(latency, (p) => p.latencyNs?.p999, formatTime),
    cell(stream, (p) => p.bytesPerSecond / 1e6, short),
    cell(both, (p) => p.bytesPerSecond / 1e6, short),
    cell(stream, (p) => p.messagesPerSecond, formatCount),
    cell(latency, (p) => p.exitsPerMessage, perMessage),
    cell(latency, (p) => p.interruptsPerMessage, perMessage),
    cell(stream, (p) => p.cpuNsPerByte, short),
  ];
}

/** Without the heading; a path that was skipped has one row with the reason. */
export function rows(result: NetBenchResult): string[][] {
  const groups = new Map<string, Series[]>();
  for (const series of result.series) {
    const key = `${series.id} ${series.pairs} ${series.bytes}`;
    groups.set(key, [...(groups.get(key) ?? []), series]);
  }
  return [...groups.values()].map(row);
}

/** What was not measured, and why. */
export function skipped(result: NetBenchResult): string[] {
  return result.paths
    .filter((state) => state.skipped !== null)
    .map(({ path, pairs, skipped }) => {
      const many = pairs === undefined ? "" : `, ${pairs} ${pairs === 1 ? "pair" : "pairs"}`;
      return `${path}${many}: skipped: ${skipped}`;
    });
}

const BESIDE: Readonly<Record<Ratio["floor"], string>> = {
  protected: "two host processes with the same protection",
  processes: "two host processes that may write all",
};

const many = (pairs: number) => (pairs === 1 ? "" : `, ${pairs} pairs`);

/** `shm` beside the floors, and beside the other paths. */
export function verdicts(result: NetBenchResult): string[] {
  const floors = result.ratios.map(({ what, floor, pairs, ratio, goal }) => {
    const judged = goal === null ? "" : ` (${goal.text}: ${goal.met ? "met" : "MISSED"})`;
    return `shm, ${what}${many(pairs)}: ${ratio.toFixed(3)} times ${BESIDE[floor]}${judged}`;
  });
  const others = besideOthers(result).map(({ pairs, bytes, other, ratio, met }) => {
    const judged = met === null ? "" : ` (at most ${BESIDE_MOST}: ${met ? "met" : "MISSED"})`;
    return `shm, latency at ${formatSize(bytes)}${many(pairs)}: ${short(ratio)} times ${LABELS[other]}, the quickest other path${judged}`;
  });
  return [...floors, ...others];
}

/** Where it was measured, and how. */
export function circumstances(result: NetBenchResult): string[] {
  const { machine, guests, plan } = result;
  const where = machine.testbed === null ? "" : `, emulated ${machine.testbed} machine`;
  const kernel = guests.kernel === null ? "" : `, Linux ${guests.kernel}`;
  const others = new Map(result.series.map(({ id, program }) => [id, program]));
  const waits = new Set(result.series.map(({ wait }) => wait));
  return [
    `${machine.cpu}, ${machine.cpus} CPUs${where}, Linux ${machine.kernel}, V3M ${machine.v3m} ${machine.commit ?? ""}`.trim(),
    `guests: ${guests.kind}, ${guests.vcpus} vCPU, ${guests.memoryMiB} MiB${kernel}; shared memory waits by ${[...waits].join(" and ")}`,
    `rounds: ${plan.rounds} of ${plan.durationMs} ms; medians of the rounds; times are one way`,
    ...[...others]
      .filter(([, by]) => by !== "netbench")
      .map(([id, by]) => `${LABELS[id]}: measured by ${by}`),
  ];
}
