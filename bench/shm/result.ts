// SPDX-License-Identifier: Apache-2.0
/** The result of the benchmark of channels of shared memory: its type, and how people see it. */
import type { Environment } from "../../src/measure/environment.js";
import { short, summarize } from "../../src/measure/statistics.js";
import { plot } from "../lib/svg.js";
import { table } from "../lib/table.js";

export interface Row {
  /** Bytes of each message. */
  readonly bytes: number;
  /** Round trips of each measurement. */
  readonly messages: number;
  /** Of what all may write, in which the numbers of messages are; 0: they are in areas. */
  readonly commonBytes: number;
  /** Nanoseconds from one message to the next, there and back: of each round. */
  readonly guests: readonly number[];
  /** Two processes that may write all of the memory. */
  readonly host: readonly number[];
  /** Two processes each of which may only read the other's, as guests. */
  readonly protected: readonly number[];
}

/** What guests are compared with. */
export type Floor = "host" | "protected";

export interface ShmResult {
  readonly schema: "v3m-bench-shm/3";
  readonly machine: Environment;
  readonly rounds: number;
  /** By which ticks became time. */
  readonly tscKHz: number;
  readonly rows: readonly Row[];
  /** Of the medians, guests to processes: one for each row. */
  readonly ratios: readonly Readonly<Record<Floor, number>>[];
}

/** Latency of 8 bytes at most so many times the host's; bandwidth of 1 MiB at least so much of it. */
export const GOALS = { latency: 1.15, bandwidth: 0.95 } as const;

const isBandwidth = ({ bytes }: Row) => bytes > 8;

/** Latency: one way, nanoseconds. Bandwidth: of data in one direction, MB/s. */
const value = (row: Row, nanoseconds: number) =>
  isBandwidth(row) ? (row.bytes * 1000) / nanoseconds : nanoseconds / 2;

function ratio(row: Row, floor: Floor): number {
  return value(row, summarize(row.guests).median) / value(row, summarize(row[floor]).median);
}

export const ratiosOf = (row: Row): Record<Floor, number> => ({
  protected: ratio(row, "protected"),
  host: ratio(row, "host"),
});

const met = (row: Row, floor: Floor) =>
  isBandwidth(row) ? ratio(row, floor) >= GOALS.bandwidth : ratio(row, floor) <= GOALS.latency;

export function describe(result: ShmResult): string {
  const rows = result.rows.map((row) => {
    const show = (all: readonly number[]) => {
      const { median, min, max } = summarize(all.map((nanoseconds) => value(row, nanoseconds)));
      return `${short(median)} (${short(min)}-${short(max)})`;
    };
    const compare = (floor: Floor) => `${ratio(row, floor).toFixed(3)} ${met(row, floor) ? "met" : "MISSED"}`;
    return [
      isBandwidth(row) ? `${row.bytes / 2 ** 20} MiB, MB/s` : `${row.bytes} B, one way, ns`,
      row.commonBytes > 0 ? "common section" : "areas",
      isBandwidth(row) ? `at least ${GOALS.bandwidth}` : `at most ${GOALS.latency}`,
      show(row.guests),
      show(row.protected),
      compare("protected"),
      show(row.host),
      compare("host"),
    ];
  });
  return table(
    [
      "",
      "numbers in",
      "goal",
      "two guests",
      "processes, protected",
      "ratio",
      "processes, both write all",
      "ratio",
    ],
    rows,
  );
}

export function picture(result: ShmResult): string {
  return plot(
    "Messages by shared memory",
    result.rows.map((row) => ({
      title:
        (isBandwidth(row) ? "1 MiB messages (more is better)" : "8 bytes, one way (less is better)") +
        (row.commonBytes > 0 ? ", with a common section" : ", areas only"),
      unit: isBandwidth(row) ? "MB/s" : "ns",
      bars: [
        { label: "two guests, shm", values: row.guests.map((n) => value(row, n)), own: true },
        {
          label: "processes, protected",
          values: row.protected.map((n) => value(row, n)),
          own: false,
        },
        { label: "processes, both write all", values: row.host.map((n) => value(row, n)), own: false },
      ],
    })),
    `${result.machine.date.slice(0, 10)}, ${result.machine.cpu}, medians of ${result.rounds} rounds`,
  );
}
