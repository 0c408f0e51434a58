// SPDX-License-Identifier: Apache-2.0
/** One measurement each: a machine's footprint, that of many, many at once with answers, the start of one. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { monitorStatus, readConsoleHistory } from "../../src/vmm/index.js";
import { type Contender, V3M } from "./contenders.js";
import type { Guest, Workshop } from "./guests.js";
import { Running, type Use } from "./running.js";

/** Against hangs only. */
const HANG_MS = 300_000;

export function one(contender: Contender, guest: Guest, workshop: Workshop): Promise<Use> {
  return together(contender, [guest], workshop, ([running]) => (running as Running).use());
}

/** Start machines one after the other, wait for all their answers, look at them together, end them. */
async function together<T>(
  contender: Contender,
  guests: readonly Guest[],
  workshop: Workshop,
  look: (machines: readonly Running[], seconds: number) => T | Promise<T>,
): Promise<T> {
  const machines: Running[] = [];
  try {
    const started = process.hrtime.bigint();
    for (const guest of guests) machines.push(await Running.start(contender, guest, workshop));
    for (const machine of machines) await machine.ready();
    return await look(machines, Number(process.hrtime.bigint() - started) / 1e9);
  } finally {
    await Promise.all(machines.map((machine) => machine.end()));
  }
}

/** Of so many machines that run at once. */
export interface Many {
  readonly count: number;
  /** From the first start to the last answer. */
  readonly seconds: number;
  /** Each one's, while all of them run. */
  readonly each: Use;
}

/** As many identical machines, started one after the other, as fast as they can be. */
export function many(contender: Contender, guest: Guest, count: number, workshop: Workshop): Promise<Many> {
  const guests = Array.from({ length: count }, () => guest);
  return together(contender, guests, workshop, async (machines, seconds) => {
    const uses: Use[] = [];
    for (const machine of machines) uses.push(await machine.use());
    const mean = (of: keyof Use) => uses.reduce((sum, use) => sum + use[of], 0) / count;
    const each = {
      anonymous: mean("anonymous"),
      pss: mean("pss"),
      guestResident: mean("guestResident"),
      threads: mean("threads"),
      descriptors: mean("descriptors"),
    };
    return { count, seconds, each };
  });
}

/** What became of many machines, each of which was asked something of its own. */
export interface Crowd {
  readonly count: number;
  readonly seconds: number;
  /** Whose console file holds the answer to its own token. */
  readonly answered: number;
  /** That ran, all at the same moment: after the last answer, before the first end. */
  readonly alive: number;
  /** Processes of monitors and VMs in KVM that were there when all had ended. */
  readonly left: number;
}

function monitorsLeft(): number {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "vmm-hpc";
    } catch {
      return false; // ended meanwhile
    }
  }).length;
}

/** Machines of KVM, by its debugfs: PID-FD each; none where that cannot be read. */
function kvmMachinesLeft(): number {
  try {
    return readdirSync("/sys/kernel/debug/kvm").filter((name) => /^\d+-\d+$/.test(name)).length;
  } catch {
    return 0;
  }
}

export async function crowd(count: number, workshop: Workshop): Promise<Crowd> {
  const before = monitorsLeft() + kvmMachinesLeft();
  const guests = Array.from({ length: count }, () => workshop.lwkGuest());
  const seen = await together(V3M, guests, workshop, (machines, seconds) => {
    const answers = machines.filter(({ directory }, i) =>
      readConsoleHistory(directory)
        .toString("latin1")
        .includes(guests[i]?.ready ?? "?"),
    );
    const running = machines.map(({ directory }) => monitorStatus(directory));
    const alive = running.filter((status) => status.alive && status.state === "running").length;
    return { seconds, answered: answers.length, alive };
  });
  return { count, ...seen, left: monitorsLeft() + kvmMachinesLeft() - before };
}

/** Seconds from exec of the starter to the guest's answer (native/tools/bench-launch.c). */
export async function start(contender: Contender, guest: Guest, workshop: Workshop): Promise<number> {
  const directory = workshop.monitorDirectory();
  const launcher = join(packageRoot(), "native/build/release/bench-launch");
  const command = contender.command(guest, directory);
  const { stdout, stderr, status } = spawnSync(launcher, [guest.ready, ...command], {
    input: "",
    encoding: "latin1",
    timeout: HANG_MS,
  });
  if (contender.own) await end(directory);
  if (status !== 0) throw new Error(`${contender.label}: ${stderr}`);
  return Number(stdout.split(" ")[1]) / 1e9;
}

/** The monitor that a starter left behind. */
async function end(directory: string): Promise<void> {
  process.kill(monitorStatus(directory).pid, "SIGKILL");
  while (monitorStatus(directory).alive) await new Promise((resolve) => setTimeout(resolve, 5));
}
