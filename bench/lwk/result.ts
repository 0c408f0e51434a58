// SPDX-License-Identifier: Apache-2.0
/** The result of the benchmark of the lightweight kernel: its type, its ratios, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";
import { type Boot, type Compute, KINDS, type Kind, type Quiet } from "./measure.js";

export interface LwkResult {
  readonly schema: "v3m-bench-lwk/1";
  /** The machine on which the guests ran. */
  readonly machine: Environment;
  /** The computer below it, where that is another. */
  readonly host: Environment | null;
  readonly rounds: number;
  readonly memoryMiB: number;
  readonly commandLine: string;
  readonly linuxVersion: string;
  readonly boot: { readonly lwk: readonly (Boot & { entryNs: number })[]; readonly linux: readonly Boot[] };
  /** One element a round: the quickest of its repeats. */
  readonly compute: { readonly lwk: readonly Compute[]; readonly linux: readonly Compute[] };
  readonly quiet: { readonly lwk: readonly Quiet[]; readonly linux: readonly Quiet[] };
  readonly instructions: { readonly toApplication: number | null; readonly toMain: number | null };
}

export const GOAL = { boot: 0.02, compute: 1.02, exitsIn10Seconds: 10 } as const;

const median = (values: readonly number[]) => summarize(values).median;

/** Boot time and computing times of the LWK as multiples of the Linux guest's. */
export function ratios(result: LwkResult): { boot: number } & Record<Kind, number> {
  const of = (kind: Kind) =>
    median(result.compute.lwk.map((c) => c[kind])) / median(result.compute.linux.map((c) => c[kind]));
  return {
    boot: median(result.boot.lwk.map((b) => b.ns)) / median(result.boot.linux.map((b) => b.ns)),
    integer: of("integer"),
    float: of("float"),
    memory: of("memory"),
  };
}

/** The most exits of any vCPU, as if it had been 10 s. */
export function exitsIn10Seconds(quiet: readonly Quiet[]): number {
  return Math.max(...quiet.flatMap(({ exits, seconds }) => exits.map((count) => (count / seconds) * 10)));
}

const ms = (ns: number) => `${short(ns / 1e6)} ms`;

function spread(values: readonly number[], format: (value: number) => string): string {
  const { median: middle, min, max } = summarize(values);
  return `${format(middle)} (${format(min)}-${format(max)})`;
}

function goal(value: number, limit: number): string {
  return `${value < 0.1 ? value.toFixed(4) : value.toFixed(3)} (goal ${limit}${value <= limit ? "" : ", missed"})`;
}

function bootRows(result: LwkResult): string[][] {
  const { lwk, linux } = result.boot;
  const count = (boots: readonly Boot[]) =>
    spread(
      boots.map((b) => b.exits),
      (value) => value.toFixed(0),
    );
  return [
    [
      "power-on to application / user space",
      ms(median(lwk.map((b) => b.ns))),
      ms(median(linux.map((b) => b.ns))),
      goal(ratios(result).boot, GOAL.boot),
    ],
    ["  of it: to the kernel's first instruction", ms(median(lwk.map((b) => b.entryNs))), "", ""],
    ["guest-caused exits until then", count(lwk), count(linux), ""],
  ];
}

function computeRows(result: LwkResult): string[][] {
  const ratio = ratios(result);
  return KINDS.map((kind) => {
    const times = (of: readonly Compute[]) =>
      spread(
        of.map((c) => c[kind]),
        ms,
      );
    return [kind, times(result.compute.lwk), times(result.compute.linux), goal(ratio[kind], GOAL.compute)];
  });
}

function quietRows(result: LwkResult): string[][] {
  const { lwk, linux } = result.quiet;
  return lwk.map((own, i) => {
    const label = `exits of each vCPU in ${own.seconds} s of computing, ${own.exits.length} vCPU${own.exits.length > 1 ? "s" : ""}`;
    const other = linux[i]?.exits.join(", ") ?? "";
    const scaled = exitsIn10Seconds([own]);
    const mark = scaled <= GOAL.exitsIn10Seconds ? "" : ", missed";
    return [label, own.exits.join(", "), other, `goal ${GOAL.exitsIn10Seconds} in 10 s${mark}`];
  });
}

export function describe(result: LwkResult): string {
  const { toApplication, toMain } = result.instructions;
  const ticks = result.quiet.lwk.map((quiet) => quiet.ticks ?? "?").join(", ");
  return [
    `1 vCPU, ${result.memoryMiB} MiB; Linux ${result.linuxVersion}, "${result.commandLine}"; medians of ${result.rounds} rounds (smallest-largest)`,
    "",
    table(
      ["", "LWK", "Linux guest", "ratio"],
      [...bootRows(result), ...computeRows(result), ...quietRows(result)],
    ),
    "",
    `timer interrupts of the lightweight kernel while it computed: ${ticks}`,
    `instructions from power-on to the application: ${toApplication ?? "not counted"}, to its main: ${toMain ?? "not counted"}`,
  ].join("\n");
}

export function picture(result: LwkResult): string {
  const { boot, compute } = result;
  const bars = (lwk: readonly number[], linux: readonly number[]) => [
    { label: "LWK", values: lwk, own: true },
    { label: "Linux guest", values: linux, own: false },
  ];
  const place = result.machine.testbed === null ? "" : ` in the nested machine (${result.machine.testbed})`;
  const of = (values: readonly Compute[], kind: Kind) => values.map((c) => c[kind] / 1e6);
  return plot(
    "The lightweight kernel beside a Linux guest of the same size",
    [
      {
        title: "Power-on to the application's first instruction, to Linux's first user-space line",
        unit: "ms",
        bars: bars(
          boot.lwk.map((b) => b.ns / 1e6),
          boot.linux.map((b) => b.ns / 1e6),
        ),
      },
      {
        title: "Guest-caused exits until then",
        unit: "",
        bars: bars(
          boot.lwk.map((b) => b.exits),
          boot.linux.map((b) => b.exits),
        ),
      },
      ...KINDS.map((kind) => ({
        title: `The same program computing: ${kind}`,
        unit: "ms",
        bars: bars(of(compute.lwk, kind), of(compute.linux, kind)),
      })),
    ],
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}${place}; bars: medians, dots: rounds`,
  );
}
