// SPDX-License-Identifier: Apache-2.0
/** The result of the I/O benchmark: its type, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";
import { type Round, tests } from "./measure.js";

export interface IoResult {
  readonly schema: "v3m-bench-io/1";
  /** The machine on which the guests ran. */
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly rounds: number;
  readonly memoryMiB: number;
  readonly linuxVersion: string;
  readonly v3m: readonly Round[];
  readonly qemu: readonly Round[];
}

const values = (rounds: readonly Round[], name: string, key: "value" | "exits") =>
  rounds.map((round) => round[name]?.[key] ?? Number.NaN);

/** By test: how many times as good as QEMU (1: equal), and exits as a multiple of QEMU's. */
export function ratios(result: IoResult): { name: string; speed: number; exits: number }[] {
  return tests(true).map(({ name, better }) => {
    const median = (rounds: readonly Round[], key: "value" | "exits") =>
      summarize(values(rounds, name, key)).median;
    const speed = median(result.v3m, "value") / median(result.qemu, "value");
    return {
      name,
      speed: better === "more" ? speed : 1 / speed,
      exits: median(result.v3m, "exits") / median(result.qemu, "exits"),
    };
  });
}

function spread(list: readonly number[]): string {
  const { median, min, max } = summarize(list);
  return `${short(median)} (${short(min)}-${short(max)})`;
}

export function describe(result: IoResult): string {
  const by = new Map(ratios(result).map((ratio) => [ratio.name, ratio]));
  const rows = tests(true).map(({ name, unit, operation }) => [
    `${name}, ${unit}`,
    spread(values(result.v3m, name, "value")),
    spread(values(result.qemu, name, "value")),
    (by.get(name)?.speed ?? Number.NaN).toFixed(2),
    `${short(summarize(values(result.v3m, name, "exits")).median)} a ${operation}`,
    short(summarize(values(result.qemu, name, "exits")).median),
  ]);
  return [
    `1 vCPU, ${result.memoryMiB} MiB; Linux ${result.linuxVersion}; medians of ${result.rounds} rounds (smallest-largest)`,
    table(["", "V3M", "QEMU pc", "as good as QEMU", "exits, V3M", "QEMU"], rows),
  ].join("\n");
}

export function picture(result: IoResult): string {
  const where = result.machine.testbed === null ? "" : ` in the nested machine (${result.machine.testbed})`;
  return plot(
    "Disk and network of a Linux guest, V3M and QEMU with the same back ends",
    tests(true).map(({ name, unit, better }) => ({
      title: `${name} (${better} is better)`,
      unit,
      bars: [
        { label: "V3M", values: values(result.v3m, name, "value"), own: true },
        { label: "QEMU pc", values: values(result.qemu, name, "value"), own: false },
      ],
    })),
    `${result.machine.date.slice(0, 10)}${where}, medians of ${result.rounds} rounds`,
  );
}
