// SPDX-License-Identifier: Apache-2.0
/** What `v2m yod --stats` and `--json` report when an application has ended. */
import type { Outcome } from "../yod/launch.js";
import type { CallCount } from "../yod/report.js";
import { table } from "./report.js";
import { formatBytes, formatNs } from "./values.js";

const CALLS_SHOWN = 12;

function calls(counts: readonly CallCount[], others = 0): string {
  const shown = counts.slice(0, CALLS_SHOWN).map(({ name, count }) => `${name} ${count}`);
  const rest = counts.length > CALLS_SHOWN ? [`${counts.length - CALLS_SHOWN} more`] : [];
  return [...shown, ...rest, ...(others > 0 ? [`unknown numbers ${others}`] : [])].join(", ");
}

/** How it ended, in words. */
export function endWords(outcome: Outcome): string {
  switch (outcome.kind) {
    case "exit":
      return `exit status ${outcome.status}`;
    case "signal":
    case "fault":
      return `ended by ${outcome.name}`;
    default:
      return outcome.text.split("\n", 1)[0] ?? outcome.kind;
  }
}

/** @param title of the first line, behind `--- v2m yod` */
export function formatStatistics(outcome: Outcome, title: string): string {
  const s = outcome.statistics;
  const time = (ns: number | null) => (ns === null ? "not reached" : formatNs(ns));
  const rows: string[][] = [
    ["application", endWords(outcome)],
    ["power-on to its first instruction", time(s.appNs)],
    ["power-on to end", time(s.endNs)],
    ["guest-caused exits before that instruction", String(s.appExits)],
  ];
  if (s.guestExits !== null) {
    const each = s.vcpuExits !== null && s.vcpuExits.length > 1 ? ` (by vCPU: ${s.vcpuExits.join(" ")})` : "";
    rows.push(["guest-caused exits in all", `${s.guestExits}${each}`]);
  }
  rows.push(
    ["system calls shipped", `${s.shipped}, ${s.waited} of them waited`],
    ["data", `${formatBytes(s.bytesRead)} read, ${formatBytes(s.bytesWritten)} written`],
  );
  if (s.timerInterrupts !== null) rows.push(["timer interrupts", String(s.timerInterrupts)]);
  if (s.switches !== null) rows.push(["switches between threads", String(s.switches)]);
  if (s.threads !== null) rows.push(["threads at once", String(s.threads)]);
  if (s.calls.length > 0) rows.push(["system calls", calls(s.calls)]);
  const missing = calls(s.notProvided, s.notProvidedOthers);
  rows.push(["system calls not provided", missing === "" ? "none asked for" : missing]);
  return `--- v2m yod${title}\n${table(rows)}`;
}

/** One line of JSON. */
export function outcomeJson(outcomes: readonly Outcome[], exitCode: number, ranked: boolean): string {
  const plain = (_key: string, value: unknown) => {
    if (typeof value === "bigint") return `0x${value.toString(16)}`;
    return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
  };
  const [first] = outcomes;
  return JSON.stringify(ranked ? { exitCode, ranks: outcomes } : { exitCode, ...first }, plain);
}
