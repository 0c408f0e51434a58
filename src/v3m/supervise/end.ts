// SPDX-License-Identifier: Apache-2.0
/** Ending what v3m-supervise runs, from any process. */
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive, type ProcessId } from "../store/process-id.js";
import { type ProcessRecord, readProcess } from "./record.js";

const POLL_MS = 20;
/** A supervisor waits 3 s for those who are attached and don't read; then it is killed. */
const LINGER_MS = 10_000;

/** v3m-supervise looks for it. */
const ATTENDED = "attended";

/**
 * Say that this command waits for the program's end, and does itself what comes after it. Where it is killed
 * meanwhile, the next command does.
 */
export async function attend(directory: string, here: boolean): Promise<void> {
  if (here) await writeFile(join(directory, ATTENDED), "");
  else await rm(join(directory, ATTENDED), { force: true });
}

/** Whether the program or its supervisor still lives. */
export function isRunning(record: ProcessRecord): boolean {
  return isAlive(record.program) || isAlive(record.supervisor);
}

/**
 * Wait for the end of the program.
 * @returns false when `timeoutMs` passed before
 */
export async function programEnded(
  directory: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const record = await readProcess(directory);
  if (record === undefined) return true;
  return await processEnded(record.program, timeoutMs, signal);
}

/** Kill the program if it lives, wait for its supervisor, and kill that too if it does not come to an end. */
export async function endSupervised(directory: string): Promise<void> {
  const record = await readProcess(directory);
  if (record === undefined) return;
  killProcess(record.program);
  await processEnded(record.program, Number.POSITIVE_INFINITY);
  if (!(await processEnded(record.supervisor, LINGER_MS))) {
    killProcess(record.supervisor);
    await processEnded(record.supervisor, Number.POSITIVE_INFINITY);
  }
  const left = await readdir(directory).catch(() => []);
  for (const name of left.filter((file) => /\.(sock|tmp)$/.test(file))) {
    await rm(join(directory, name), { force: true });
  }
}

/** Kill this process, and no other that has its number by now. */
export function killProcess(process_: ProcessId): void {
  if (!isAlive(process_)) return;
  try {
    process.kill(process_.pid, "SIGKILL");
  } catch {
    // it ended by itself just now
  }
}

/** Wait for a process's end. @returns false when `timeoutMs` passed before */
export async function processEnded(id: ProcessId, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  const until = Date.now() + timeoutMs;
  while (isAlive(id)) {
    if (Date.now() >= until) return false;
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
  return true;
}
