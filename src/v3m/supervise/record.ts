// SPDX-License-Identifier: Apache-2.0
/** What v3m-supervise left in its directory about the program. */
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import type { ProcessId } from "../store/process-id.js";

export interface ProcessRecord {
  readonly supervisor: ProcessId;
  readonly program: ProcessId;
}

export interface ExitRecord {
  readonly code: number;
  /** Such as `SIGKILL`, where one ended it. */
  readonly signal: string | undefined;
  readonly time: Date;
}

/** What ran or runs here; undefined: nothing since the directory was made. */
export async function readProcess(directory: string): Promise<ProcessRecord | undefined> {
  const record = await readJson(join(directory, "process"));
  const supervisor = parseProcessId(record?.supervisor);
  const program = parseProcessId(record?.program);
  return supervisor && program ? { supervisor, program } : undefined;
}

/** How the program ended; undefined: it has not, or its supervisor was killed. */
export async function readExit(directory: string): Promise<ExitRecord | undefined> {
  const record = await readJson(join(directory, "exit"));
  const { code, signal, time } = record ?? {};
  if (typeof code !== "number" || typeof signal !== "number" || typeof time !== "number") return undefined;
  return { code, signal: signal === 0 ? undefined : signalName(signal), time: new Date(time) };
}

/** A process's identity as it was written to a file; undefined: it is none. */
export function parseProcessId(value: unknown): ProcessId | undefined {
  const { pid, start, boot } = (value ?? {}) as Partial<Record<keyof ProcessId, unknown>>;
  const valid = typeof pid === "number" && pid > 1 && typeof start === "string" && typeof boot === "string";
  return valid ? { pid, start, boot } : undefined;
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  } catch {
    return undefined; // not there; half of one is never there
  }
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}
