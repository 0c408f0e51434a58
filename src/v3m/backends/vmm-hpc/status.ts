// SPDX-License-Identifier: Apache-2.0
/** What a machine is, by its monitor's status page. */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { VmmError } from "../../../errors.js";
import type { VmStatus } from "../../../vmm/backend.js";
import { type MonitorStatus, monitorStatus } from "../../../vmm/monitor.js";
import { identify, type ProcessId } from "../../store/process-id.js";
import { parseProcessId } from "../../supervise/index.js";

/** In the runtime directory; says that a command is ending the machine by force. */
export const FORCED = "forced";

/** In the runtime directory: which process the monitor is. Its own status page it could forge. */
const MONITOR = "monitor.json";

const POLL_MS = 10;

/** Remember which process the monitor is, for the command that may have to kill it. */
export async function recordMonitor(directory: string, pid: number): Promise<void> {
  const path = join(directory, MONITOR);
  await writeFile(`${path}.tmp`, JSON.stringify(identify(pid) ?? {}), { mode: 0o600 });
  await rename(`${path}.tmp`, path);
}

/** Undefined: no monitor was started here, or its starter was killed before it had written this. */
export async function recordedMonitor(directory: string): Promise<ProcessId | undefined> {
  try {
    return parseProcessId(JSON.parse(await readFile(join(directory, MONITOR), "utf8")));
  } catch {
    return undefined;
  }
}

/** The page of the monitor that is, or was, in a directory; undefined where there was none. */
export function pageOf(directory: string): MonitorStatus | undefined {
  try {
    return monitorStatus(directory);
  } catch (error) {
    if (error instanceof VmmError && error.code === "E_IO") return undefined;
    throw error;
  }
}

export async function machineStatus(directory: string): Promise<VmStatus> {
  const page = pageOf(directory);
  if (page === undefined) return { state: "stopped" };
  const ended = page.state === "stopped" || page.state === "crashed";
  if (page.alive && !ended) {
    return { state: page.state === "paused" ? "paused" : "running", pid: page.pid };
  }
  if ((await readFile(join(directory, FORCED), "utf8").catch(() => undefined)) !== undefined) {
    return { state: "stopped", detail: "stopped by force" };
  }
  const state = page.state === "stopped" ? "stopped" : "crashed";
  const detail = page.text === "" ? page.stop?.text : page.text;
  return { state, ...(detail === undefined || detail === "" ? {} : { detail }) };
}

/** Wait until there is no monitor any more. @returns false when `timeoutMs` passed before */
export async function monitorEnded(
  directory: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const until = Date.now() + timeoutMs;
  while (pageOf(directory)?.alive === true) {
    if (Date.now() >= until) return false;
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
  return true;
}
