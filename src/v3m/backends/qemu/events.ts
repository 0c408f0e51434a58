// SPDX-License-Identifier: Apache-2.0
/** What QEMU reported since its start, and what that says about the machine. */
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { VmEvent, VmState } from "../../../vmm/backend.js";
import type { QmpEvent } from "./qmp.js";

/** One line of the events' channel; undefined for answers to commands, the greeting, and a line cut off in front. */
export function parseEvent(line: string): QmpEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { event, timestamp } = (value ?? {}) as Partial<QmpEvent>;
  return typeof event === "string" && typeof timestamp?.seconds === "number"
    ? (value as QmpEvent)
    : undefined;
}

/** Events as they come, from a stream of lines. */
export async function* eventsOf(stream: Readable): AsyncGenerator<QmpEvent> {
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  try {
    for await (const line of lines) {
      const event = parseEvent(line);
      if (event !== undefined) yield event;
    }
  } finally {
    lines.close();
    stream.destroy();
  }
}

export function timeOf({ timestamp }: QmpEvent): Date {
  return new Date(timestamp.seconds * 1000 + Math.floor(timestamp.microseconds / 1000));
}

/** What the events since the start add up to. */
export interface Course {
  /** While QEMU lives. */
  readonly state: "starting" | "running" | "paused";
  /** QEMU's reason for its end: `guest-shutdown`, `guest-reset`, `guest-panic`, `host-qmp-quit`, `host-signal`, … */
  readonly shutdown: string | undefined;
  /** Why the machine was paused by QEMU itself, such as a full disk. */
  readonly trouble: string | undefined;
}

export function courseOf(lines: string): Course {
  let state: Course["state"] = "starting";
  let shutdown: string | undefined;
  let trouble: string | undefined;
  for (const line of lines.split("\n")) {
    const event = parseEvent(line);
    if (event === undefined) continue;
    // Where the oldest are lost, so many came that it must have run.
    if (state === "starting" && event.event !== "STOP") state = "running";
    if (event.event === "STOP") state = "paused";
    if (event.event === "RESUME") [state, trouble] = ["running", undefined];
    if (event.event === "SHUTDOWN") shutdown = String(event.data?.reason ?? "unknown");
    if (event.event === "BLOCK_IO_ERROR") trouble = ioTrouble(event);
  }
  return { state, shutdown, trouble };
}

function ioTrouble({ data }: QmpEvent): string {
  const why = data?.nospace === true ? "no space left on the host" : String(data?.reason ?? "I/O error");
  return `a disk's ${String(data?.operation ?? "access")} failed: ${why}`;
}

const STATES: Readonly<Record<string, VmState>> = {
  RESUME: "running",
  STOP: "paused",
  SHUTDOWN: "stopping",
  GUEST_PANICKED: "crashed",
};

/** In the words of the front end. */
export function vmEvent(event: QmpEvent): VmEvent {
  const state = STATES[event.event];
  const kind = state !== undefined ? "state" : event.event === "RESET" ? "reset" : "device";
  const detail = event.data === undefined ? undefined : JSON.stringify(event.data);
  return {
    name: event.event.toLowerCase().replaceAll("_", "-"),
    time: timeOf(event),
    kind,
    ...(state === undefined ? {} : { state }),
    ...(detail === undefined || detail === "{}" ? {} : { detail }),
  };
}
