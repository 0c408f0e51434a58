// SPDX-License-Identifier: Apache-2.0
/**
 * What a machine is, by what is left of it: the records of v3m-supervise and the events that QEMU reported. QEMU
 * itself is asked only where it has paused the machine, so that a busy one does not hold a list of hundreds up.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmStatus } from "../../../vmm/backend.js";
import { isAlive } from "../../store/process-id.js";
import { type ExitRecord, readExit, readProcess, readRing } from "../../supervise/index.js";
import { type Course, courseOf } from "./events.js";
import { Qmp } from "./qmp.js";

/** In the runtime directory; says that a command is ending the machine: `off` or `force`. */
export const STOPPING = "stopping";

/** Between QEMU's last event, its end, and its record. */
const RECORD_MS = 2000;
const ASK_MS = 2000;
const POLL_MS = 10;

export async function machineStatus(directory: string): Promise<VmStatus> {
  const record = await readProcess(directory);
  if (record === undefined) return { state: "stopped" };
  for (let waited = 0; ; waited += POLL_MS) {
    const exit = await readExit(directory);
    if (exit !== undefined) return await over(directory, exit);
    const late = waited >= RECORD_MS;
    if (isAlive(record.program)) {
      const course = await courseAt(directory);
      const ending = course.shutdown !== undefined && !late;
      if (!ending && isAlive(record.program)) return await alive(directory, course, record.program.pid);
    } else if (late || !isAlive(record.supervisor)) {
      return { state: "crashed", detail: "v3m-supervise, which ran the machine, was killed" };
    }
    await sleep(POLL_MS);
  }
}

async function courseAt(directory: string): Promise<Course> {
  return courseOf((await readRing(join(directory, "events.ring")))?.data.toString("utf8") ?? "");
}

/** After a command: QEMU's event about it, by which status is told, comes a moment later. */
export async function settled(directory: string, state: Course["state"]): Promise<void> {
  for (let waited = 0; waited < RECORD_MS; waited += POLL_MS) {
    const course = await courseAt(directory);
    if (course.state === state || course.shutdown !== undefined) return;
    await sleep(POLL_MS);
  }
}

async function alive(directory: string, course: Course, pid: number): Promise<VmStatus> {
  if (course.state !== "paused") return { state: course.state, pid };
  if (course.trouble !== undefined) return { state: "paused", detail: course.trouble, pid };
  const why = await askWhy(directory);
  if (why === "internal-error") {
    return { state: "crashed", detail: "the CPU came into a state that KVM cannot run", pid };
  }
  // After a snapshot it stands still as it does in a pause.
  const plain = why === "paused" || why === "postmigrate";
  return { state: "paused", pid, ...(plain ? {} : { detail: `QEMU says: ${why}` }) };
}

async function askWhy(directory: string): Promise<string> {
  try {
    await using qmp = await Qmp.connect(join(directory, "qmp.sock"), { timeoutMs: ASK_MS });
    const { status } = await qmp.execute<{ status: string }>("query-status", undefined, {
      timeoutMs: ASK_MS,
    });
    return status;
  } catch {
    return "paused"; // another command speaks with it, or it ends just now
  }
}

const ENDS: Readonly<Record<string, VmStatus>> = {
  "guest-shutdown": { state: "stopped", detail: "the guest powered off" },
  "guest-reset": { state: "stopped", detail: "the guest reset itself" },
  "guest-panic": { state: "crashed", detail: "the guest's kernel panicked" },
  "host-qmp-quit": { state: "stopped", detail: "stopped" },
  "host-signal": { state: "stopped", detail: "QEMU was told to end by a signal" },
};

async function over(directory: string, exit: ExitRecord): Promise<VmStatus> {
  if ((await readFile(join(directory, STOPPING), "utf8").catch(() => "")) === "force") {
    return { state: "stopped", detail: "stopped by force" };
  }
  const { shutdown } = await courseAt(directory);
  if (exit.signal !== undefined) return { state: "crashed", detail: `QEMU was killed by ${exit.signal}` };
  const known = shutdown === undefined ? undefined : ENDS[shutdown];
  if (exit.code === 0 && known !== undefined) return known;
  const words = await lastWords(directory);
  const said = words === "" ? "" : `: ${words}`;
  return { state: "crashed", detail: `QEMU ended with code ${exit.code}${said}` };
}

/** The last line that QEMU said, without its name in front. */
export async function lastWords(directory: string): Promise<string> {
  const kept = (await readRing(join(directory, "messages.ring")))?.data.toString("utf8") ?? "";
  const line = kept.trim().split("\n").at(-1) ?? "";
  return line.replace(/^\S*qemu-system-x86_64: /, "");
}
