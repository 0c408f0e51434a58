// SPDX-License-Identifier: Apache-2.0
/** Summaries of repeated measurements. Medians: a busy moment must not move the result. */

export interface Summary {
  readonly count: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @throws RangeError without values: a benchmark that measured nothing has no result. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError("no values to summarize");
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    count: sorted.length,
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

/** Three significant digits, without an exponent. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** The order of round `round`: each contender comes first in turn, so that a drift hits all alike. */
export function rotated<T>(items: readonly T[], round: number): T[] {
  const shift = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(shift), ...items.slice(0, shift)];
}
