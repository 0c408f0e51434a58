// SPDX-License-Identifier: Apache-2.0
/** What is to be measured: the command line, understood. It travels to the measuring process as JSON. */
import type { GuestKind, PathName, TestName, WaitMode } from "./names.js";

export interface Plan {
  readonly paths: readonly PathName[];
  readonly guests: GuestKind;
  /** Bytes of a message. */
  readonly sizes: readonly number[];
  /** Of one measurement, about. */
  readonly durationMs: number;
  /** Pairs of guests that talk at once: each of these numbers is measured. */
  readonly pairs: readonly number[];
  /** Alternated rounds, whose medians are shown. */
  readonly rounds: number;
  /** How a guest waits for a message by shared memory; `auto`: poll where each guest has a core. */
  readonly wait: WaitMode | "auto";
  /** PCI functions that can reach each other, of leader and follower, for `vfio`; null: none were named. */
  readonly vfio: readonly [string, string] | null;
}

/** One measurement of one path, by all pairs at once. */
export interface Request {
  readonly test: TestName;
  readonly bytes: number;
  /** Nanoseconds that it may take, about; 0: as few messages as can be. */
  readonly ns: number;
  readonly pairs: number;
  readonly wait: WaitMode;
}

export const SIZE_MOST = 4 << 20;

/** 8 bytes to 4 MiB. */
export const DEFAULT_SIZES: readonly number[] = [8, 64, 512, 4096, 32_768, 262_144, 1_048_576, SIZE_MOST];

/** `poll` needs a core for each guest: one that spins keeps another from its core. */
export function waitMode(plan: Pick<Plan, "wait">, pairs: number, cpus: number): WaitMode {
  if (plan.wait !== "auto") return plan.wait;
  return 2 * pairs <= cpus ? "poll" : "interrupt";
}
