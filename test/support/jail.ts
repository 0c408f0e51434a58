// SPDX-License-Identifier: Apache-2.0
/** Runs native/tools/jail-test, and tells what the monitor's threads may do. */
import { execFileSync, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { packageRoot } from "../../src/ffi/library.js";

export const JAIL_TEST = join(packageRoot(), "native/build/release/jail-test");
export const KINDS = ["setup", "control", "vcpu", "io", "disk"] as const;
/** Only against hangs. */
const HANG_MS = 60_000;

export interface Attempt {
  readonly attempt: string;
  /** What is to stop it where there is no seccomp. */
  readonly layer: string;
  readonly outcome: "stopped" | "trapped" | "out";
  readonly by: string;
  /** A system call's name, or an errno's. */
  readonly detail: string;
}

export interface Failure {
  readonly error: string;
  readonly status: string;
  readonly part: string;
  readonly errno: number;
}

export type JailRecord = Attempt | Failure | { readonly in: true } | { readonly process: number };

export interface JailRun {
  readonly status: number | null;
  readonly records: readonly JailRecord[];
}

export function isAttempt(record: JailRecord): record is Attempt {
  return "attempt" in record;
}

export function isFailure(record: JailRecord): record is Failure {
  return "error" in record;
}

/** Run jail-test, perhaps by way of another command. `onProcess` hears which process is the jailed one. */
export async function enterJail(
  command: readonly string[],
  onProcess?: (pid: number) => void,
): Promise<JailRun> {
  const [file = "", ...args] = command;
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
  const records: JailRecord[] = [];
  let jailed: number | undefined;
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    const record = JSON.parse(line) as JailRecord;
    records.push(record);
    if ("process" in record) {
      jailed = record.process;
      onProcess?.(record.process);
    }
  });
  const timer = setTimeout(() => {
    if (jailed !== undefined) process.kill(jailed, "SIGKILL");
    child.kill("SIGKILL");
  }, HANG_MS);
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => resolve(code));
    });
    return { status, records };
  } finally {
    clearTimeout(timer);
  }
}

interface Listed {
  readonly name: string;
  readonly kinds: readonly string[];
}

export interface SeccompLists {
  readonly counts: Readonly<Record<string, number>>;
  readonly calls: readonly (Listed & { readonly check: string })[];
  readonly requests: readonly Listed[];
}

export function seccompLists(): SeccompLists {
  return JSON.parse(execFileSync(JAIL_TEST, ["--list"], { encoding: "utf8" })) as SeccompLists;
}

function table(head: string, rows: readonly (readonly [string, string, readonly string[]])[]): string {
  const lines = [`| ${head} | ${KINDS.join(" | ")} | |`, `|---|${KINDS.map(() => "---|").join("")}---|`];
  for (const [name, note, kinds] of rows) {
    lines.push(
      `| \`${name}\` | ${KINDS.map((kind) => (kinds.includes(kind) ? "✓" : "")).join(" | ")} | ${note} |`,
    );
  }
  return lines.join("\n");
}

/** As in docs/reference/jail.md. */
export function systemCallsTable(lists: SeccompLists): string {
  const rows = lists.calls.map((call) => [call.name, call.check, call.kinds] as const);
  const sums = `| **together** | ${KINDS.map((kind) => `**${lists.counts[kind]}**`).join(" | ")} | |`;
  return `${table("system call", rows)}\n${sums}`;
}

/** As in docs/reference/jail.md. */
export function requestsTable(lists: SeccompLists): string {
  return table(
    "request of `ioctl`",
    lists.requests.map((request) => [request.name, "", request.kinds] as const),
  );
}
