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

/** Events of the older file, but for those from a number on. */
export function olderEvents(directory: string, before: number): LoggedEvent[] {
  return readAll(join(directory, OLDER_LOG)).filter((event) => event.sequence < before);
}

/** All events that are kept, oldest first. */
export function readEvents(directory: string): LoggedEvent[] {
  const events = readAll(join(directory, LOG));
  return [...olderEvents(directory, events[0]?.sequence ?? Number.POSITIVE_INFINITY), ...events];
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

/** Reads a log as it grows, also what was written before the VM was removed. */
export class EventLogReader implements Disposable {
  readonly #path: string;
  #fd: number | undefined;
  #inode = 0;
  #offset = 0;
  /** The beginning of a line whose end is not there yet. */
  #rest = "";

  /** @param directory the VM's; it need not be there yet */
  constructor(directory: string) {
    this.#path = join(directory, LOG);
  }

  /** What has come since the last call. */
  read(): LoggedEvent[] {
    const events = this.#drain();
    const inode = statSync(this.#path, { throwIfNoEntry: false })?.ino;
    if (inode === undefined || inode === this.#inode) return events;
    // Another file has taken the place of the one that was read, or it is the first.
    this[Symbol.dispose]();
    try {
      this.#fd = openSync(this.#path, "r");
    } catch {
      return events; // gone again
    }
    this.#inode = inode;
    return [...events, ...this.#drain()];
  }

  #drain(): LoggedEvent[] {
    if (this.#fd === undefined) return [];
    const buffer = Buffer.alloc(fstatSync(this.#fd).size - this.#offset);
    const bytes = readSync(this.#fd, buffer, 0, buffer.length, this.#offset);
    this.#offset += bytes;
    const { events, rest } = parseLines(this.#rest + buffer.toString("utf8", 0, bytes));
    this.#rest = rest;
    return events;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#inode = 0;
    this.#offset = 0;
    this.#rest = "";
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
