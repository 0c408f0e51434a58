// SPDX-License-Identifier: Apache-2.0
/** The result of the exit benchmark: its type, its ratios, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";

export interface VariantResult {
  readonly id: string;
  readonly label: string;
  readonly command: readonly string[];
  /** Nanoseconds an exit, one value a round. */
  readonly nanoseconds: readonly number[];
  /** At most so many times the floor, or null. */
  readonly goal: number | null;
}

export interface ExitResult {
  readonly schema: "v3m-bench-exit/1";
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly rounds: number;
  /** Turns of the guest's loop before and in the measurement; each is two exits. */
  readonly warmTurns: number;
  readonly turns: number;
  /** The first is the floor. */
  readonly variants: readonly VariantResult[];
}

const median = (variant: VariantResult) => summarize(variant.nanoseconds).median;

/** Times the floor, by medians. */
export function ratio(result: ExitResult, variant: VariantResult): number {
  const [floor] = result.variants;
  return floor === undefined ? Number.NaN : median(variant) / median(floor);
}

const microseconds = (nanoseconds: number) => (nanoseconds / 1000).toFixed(2);

function cells(result: ExitResult, variant: VariantResult): string[] {
  const { median: middle, min, max } = summarize(variant.nanoseconds);
  const times = ratio(result, variant);
  const goal = variant.goal === null ? "" : `≤ ${variant.goal}${times <= variant.goal ? "" : " missed"}`;
  return [variant.label, microseconds(middle), microseconds(min), microseconds(max), short(times), goal];
}

export function describe(result: ExitResult): string {
  const place = result.machine.testbed === null ? "" : `, nested machine (${result.machine.testbed})`;
  return [
    `A port access that user space answers, ${result.machine.cpu}${place}; medians of ${result.rounds} rounds of ${2 * result.turns}`,
    "",
    table(
      ["answered by", "µs", "min", "max", "× floor", "goal"],
      result.variants.map((variant) => cells(result, variant)),
    ),
  ].join("\n");
}

export function picture(result: ExitResult): string {
  const bars = result.variants.map((variant, index) => ({
    label: variant.label,
    values: variant.nanoseconds.map((value) => value / 1000),
    own: index > 0,
  }));
  return plot(
    "Round trip of a port access that user space answers",
    [{ title: "Time an exit, guest code included", unit: "µs", bars }],
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}; bars: medians, dots: rounds`,
  );
}
