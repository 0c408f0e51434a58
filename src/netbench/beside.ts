// SPDX-License-Identifier: Apache-2.0
/** `shm` beside the other paths of the same run: how long the smallest message takes. */
import type { PathName } from "./names.js";
import { medianOf, type NetBenchResult, type Series } from "./result.js";

export interface PathRatio {
  readonly pairs: number;
  /** Of a message. */
  readonly bytes: number;
  /** The quickest of the others. */
  readonly other: PathName;
  /** Median latency of `shm` by that of the other. */
  readonly ratio: number;
  /** Whether it is small enough; null where guests share cores, so that the scheduler is what is measured. */
  readonly met: boolean | null;
}

/** The most that a message past the hypervisor may take of one through it. */
export const BESIDE_MOST = 0.1;

const latency = (series: Series) => medianOf(series, (point) => point.latencyNs?.p50) ?? Number.NaN;

/** One for each number of pairs, where there is another path. */
export function besideOthers(result: NetBenchResult): PathRatio[] {
  const bytes = Math.min(...result.plan.sizes);
  const same = result.series.filter(
    (series) => series.kind === "path" && series.test === "latency" && series.bytes === bytes,
  );
  return same
    .filter(({ id }) => id === "shm")
    .flatMap((own): PathRatio[] => {
      const others = same.filter(({ id, pairs }) => id !== "shm" && pairs === own.pairs);
      const [quickest] = others.toSorted((a, b) => latency(a) - latency(b));
      if (quickest === undefined) return [];
      const ratio = latency(own) / latency(quickest);
      const met = own.wait === "poll" ? ratio <= BESIDE_MOST : null;
      return [{ pairs: own.pairs, bytes, other: quickest.id as PathName, ratio, met }];
    });
}
