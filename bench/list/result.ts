// SPDX-License-Identifier: Apache-2.0
/** The result of the benchmark of `v2m list`: its type, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";

export interface Row {
  readonly label: string;
  /** Defined VMs. */
  readonly vms: number;
  /** From exec to exit, of each start. */
  readonly milliseconds: readonly number[];
}

export interface ListResult {
  readonly schema: "v3m-bench-list/1";
  readonly machine: Environment;
  readonly rounds: number;
  /** The first is the floor: `node -e 0`. */
  readonly rows: readonly Row[];
}

/** What `v2m list` with 200 VMs may cost, as a multiple of the floor. */
export const GOAL = 3;

/** Median of a row as a multiple of the floor's. */
export function ratio(result: ListResult, row: Row): number {
  const floor = result.rows[0]?.milliseconds ?? [];
  return summarize(row.milliseconds).median / summarize(floor).median;
}

export function describe(result: ListResult): string {
  const rows = result.rows.map((row) => {
    const { median, min, max } = summarize(row.milliseconds);
    return [row.label, short(median), `${short(min)}-${short(max)}`, ratio(result, row).toFixed(2)];
  });
  const goal = result.rows.find((row) => row.vms === 200);
  const met = goal !== undefined && ratio(result, goal) <= GOAL;
  return [
    table(["", "median ms", "range", "× node -e 0"], rows),
    `goal, v2m list with 200 VMs at most ${GOAL} × node -e 0: ${met ? "met" : "MISSED"}`,
  ].join("\n");
}

export function picture(result: ListResult): string {
  const bars = result.rows.map(({ label, milliseconds }, i) => ({ label, values: milliseconds, own: i > 0 }));
  return plot(
    "What v2m list costs",
    [{ title: "from exec to exit (less is better)", unit: "ms", bars }],
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}, medians of ${result.rounds} rounds`,
  );
}
