// SPDX-License-Identifier: Apache-2.0
/** Processes told apart for good: a number is used again, a number with the time of its start is not. */
import { readFileSync } from "node:fs";

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks from the host's boot to the start of the process. */
  readonly start: string;
  readonly boot: string;
}

let boot: string | undefined;

/** Changes with every boot of the host. */
export function bootId(): string {
  boot ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return boot;
}

/** When the process started, or undefined where it has ended. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The name in parentheses may hold anything, so count from the last one.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" || state === "X" ? undefined : rest[18];
}

/** @returns undefined where there is no such process */
export function identify(pid: number): ProcessId | undefined {
  const start = startOf(pid);
  return start === undefined ? undefined : { pid, start, boot: bootId() };
}

export function isAlive(process: ProcessId): boolean {
  return process.boot === bootId() && startOf(process.pid) === process.start;
}
