// SPDX-License-Identifier: Apache-2.0
/** The result of `v2m noise`: rounds, their medians, and the table. */
import type { Detour, Measurement, Parameters } from "./measurement.js";
import type { Method, Place } from "./names.js";

/** What is compared. */
export interface Statistics {
  readonly lost: number;
  readonly p999Ns: number;
  readonly maxNs: number;
  readonly perSecond: number;
}

export interface Series {
  readonly place: Place;
  readonly method: Method;
  readonly rounds: readonly Statistics[];
  /** Of the round whose share of time lost is the median. */
  readonly detours: readonly Detour[];
}

export interface NoiseResult {
  readonly schema: "v3m-noise/1";
  readonly date: string;
  readonly cpu: string;
  readonly kernel: string;
  /** `amd` or `intel` inside an emulated machine, else null. */
  readonly testbed: string | null;
  readonly parameters: Parameters;
  readonly rounds: number;
  readonly memoryMiB: number;
  readonly series: readonly Series[];
}

function statistics(measurement: Measurement): Statistics {
  const { lost, p999Ns, maxNs, count, seconds } = measurement;
  return { lost, p999Ns, maxNs, perSecond: count / seconds };
}

/** Rounds of one method in one place. @throws RangeError without any */
export function series(place: Place, method: Method, measurements: readonly Measurement[]): Series {
  const middle = measurements.toSorted((a, b) => a.lost - b.lost)[(measurements.length - 1) >> 1];
  if (middle === undefined) throw new RangeError("no rounds");
  const round = ([at, length]: Detour): Detour => [Math.round(at), Math.round(length)];
  return { place, method, rounds: measurements.map(statistics), detours: middle.detours.map(round) };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}

export function medians(of: Series): Statistics {
  const each = (pick: (round: Statistics) => number) => median(of.rounds.map(pick));
  return {
    lost: each((r) => r.lost),
    p999Ns: each((r) => r.p999Ns),
    maxNs: each((r) => r.maxNs),
    perSecond: each((r) => r.perSecond),
  };
}

export const PLACE_NAMES: Readonly<Record<Place, string>> = {
  host: "host",
  linux: "Linux guest",
  lwk: "LWK",
};

export const METHOD_NAMES: Readonly<Record<Method, string>> = {
  selfish: "selfish detour",
  fwq: "fixed work quantum (FWQ)",
  ftq: "fixed time quantum (FTQ)",
};

/** Rows for a table, a heading first. */
export function rows(result: NoiseResult, formatNs: (ns: number) => string): string[][] {
  const percent = (share: number) => `${(share * 100).toFixed(share < 0.001 ? 4 : 2)} %`;
  return [
    ["method", "where", "time lost", "99.9th percentile", "maximum", "samples a second"],
    ...result.series.map((of) => {
      const { lost, p999Ns, maxNs, perSecond } = medians(of);
      const cells = [percent(lost), formatNs(p999Ns), formatNs(maxNs), perSecond.toFixed(0)];
      return [METHOD_NAMES[of.method], PLACE_NAMES[of.place], ...cells];
    }),
  ];
}

/** Whether the lightweight kernel lost less time than the Linux guest, for each method measured in both. */
export function verdicts(
  result: NoiseResult,
): { method: Method; lwk: number; linux: number; below: boolean }[] {
  return result.series.flatMap((own) => {
    const other = result.series.find((s) => s.method === own.method && s.place === "linux");
    if (own.place !== "lwk" || other === undefined) return [];
    const [lwk, linux] = [medians(own).lost, medians(other).lost];
    return [{ method: own.method, lwk, linux, below: lwk < linux }];
  });
}
