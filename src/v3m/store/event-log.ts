// SPDX-License-Identifier: Apache-2.0
/**
 * Events of a VM, one line of JSON each, appended by whoever holds the VM's lock and read by anybody. The file is
 * bounded: when it is full it becomes the older one, whose place it takes.
 */
import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { VmEvent } from "../../vmm/backend.js";

export const LOG = "events.jsonl";
export const OLDER_LOG = "events.1.jsonl";
/** Bytes of one file; there are two. */
export const LOG_BYTES = 256 * 1024;
const DETAIL_LENGTH = 1000;

/** An event with its number in the VM: they follow each other without a gap, but for what was forgotten. */
export interface LoggedEvent extends VmEvent {
  readonly sequence: number;
}

function parseLine(line: string): LoggedEvent | undefined {
  try {
    const { time, ...rest } = JSON.parse(line) as LoggedEvent & { time: string };
    return typeof rest.sequence === "number" ? { ...rest, time: new Date(time) } : undefined;
  } catch {
    return undefined; // cut off by a full disk or a kill
  }
}

/** Whole lines of a text; what is behind the last of them is not one yet. */
export function parseLines(text: string): { events: LoggedEvent[]; rest: string } {
  const lines = text.split("\n");
  const rest = lines.pop() ?? "";
  return { events: lines.flatMap((line) => parseLine(line) ?? []), rest };
}

function readAll(path: string): LoggedEvent[] {
  try {
    return parseLines(readFileSync(path, "utf8")).events;
  } catch {
    return [];
  }
}

/** All events that are kept, oldest first. */
export function readEvents(directory: string): LoggedEvent[] {
  return [...readAll(join(directory, OLDER_LOG)), ...readAll(join(directory, LOG))];
}

/** The last bytes of a file. */
function tail(fd: number, size: number): string {
  const buffer = Buffer.alloc(Math.min(size, 4096));
  const bytes = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
  return buffer.toString("utf8", 0, bytes);
}

function lastSequence(directory: string, end: string): number {
  const last = parseLines(`${end}\n`).events.at(-1) ?? readAll(join(directory, OLDER_LOG)).at(-1);
  return last?.sequence ?? 0;
}

function append(directory: string, event: VmEvent): void {
  const path = join(directory, LOG);
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES) {
    renameSync(path, join(directory, OLDER_LOG));
  }
  const fd = openSync(path, "a+", 0o600);
  try {
    const end = tail(fd, fstatSync(fd).size);
    const sequence = lastSequence(directory, end) + 1;
    const detail = event.detail === undefined ? {} : { detail: event.detail.slice(0, DETAIL_LENGTH) };
    const line = JSON.stringify({ sequence, ...event, ...detail });
    // A line that was cut off must not take this one with it.
    writeSync(fd, `${end === "" || end.endsWith("\n") ? "" : "\n"}${line}\n`);
  } finally {
    closeSync(fd);
  }
}

/** The caller has the VM's lock. A log that cannot be written (a full disk) stops nobody. */
export function logEvent(directory: string, event: VmEvent): void {
  try {
    append(directory, event);
  } catch {
    // The state itself is in the state file, and that was written.
  }
}
