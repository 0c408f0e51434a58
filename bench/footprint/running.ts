// SPDX-License-Identifier: Apache-2.0
/** A machine that was started for a measurement, and what the kernel knows of its process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { memoryUse } from "../boot/observe.js";
import type { Contender } from "./contenders.js";
import type { Guest, Workshop } from "./guests.js";

/** Bytes, and numbers of things, of the process that runs a machine. */
export interface Use {
  /** Private anonymous memory beside guest RAM. */
  readonly anonymous: number;
  /** Proportional share of all memory beside guest RAM. */
  readonly pss: number;
  readonly guestResident: number;
  readonly threads: number;
  readonly descriptors: number;
}

const KEPT = 4000;
/** Against hangs only. */
const HANG_MS = 300_000;

export class Running {
  readonly directory: string;
  readonly #contender: Contender;
  readonly #guest: Guest;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #text = "";

  private constructor(contender: Contender, guest: Guest, workshop: Workshop) {
    this.directory = workshop.monitorDirectory();
    this.#contender = contender;
    this.#guest = guest;
    const [program = "", ...args] = contender.command(guest, this.directory);
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#closed = once(this.#child, "close");
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        this.#text = (this.#text + chunk.toString("latin1")).replaceAll("\r", "").slice(-KEPT);
      });
    }
  }

  /** On its way; ready() tells whether it started. */
  static async start(contender: Contender, guest: Guest, workshop: Workshop): Promise<Running> {
    const running = new Running(contender, guest, workshop);
    await once(running.#child, "spawn");
    return running;
  }

  get pid(): number {
    return this.#contender.process(this.#child.pid ?? 0, this.directory);
  }

  /** Until the guest has said what it has to say. @throws where it ends, or says nothing */
  async ready(): Promise<void> {
    const { stdout } = this.#child;
    let timer: NodeJS.Timeout | undefined;
    const hang = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), HANG_MS);
    });
    const closed = this.#closed.then(() => "ended" as const);
    try {
      while (!this.#text.includes(this.#guest.ready)) {
        const more = once(stdout ?? this.#child, "data").then(() => "more" as const);
        const what = await Promise.race([more, closed, hang]);
        if (what !== "more" && !this.#text.includes(this.#guest.ready)) {
          throw new Error(
            `${this.#contender.label}, ${this.#guest.name}: ${what} without an answer: ${this.#text}`,
          );
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async use(): Promise<Use> {
    const { pid } = this;
    const memory = await memoryUse(pid, this.#guest.memoryMiB << 20);
    if (memory === null) throw new Error(`${this.#contender.label}: guest RAM was not found`);
    const { anonymous, pss, guestResident } = memory;
    const count = (what: string) => readdirSync(`/proc/${pid}/${what}`).length;
    return { anonymous, pss, guestResident, threads: count("task"), descriptors: count("fd") };
  }

  /** Kill it, and wait until it has gone: its standard output is closed then. */
  async end(): Promise<void> {
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // ended by itself
    }
    await this.#closed;
  }
}
