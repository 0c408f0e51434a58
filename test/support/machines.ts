// SPDX-License-Identifier: Apache-2.0
/** Tiny guests through Machine: make one, run it, keep what it printed. */
import { Machine, type MachineOptions, type MachineStats, type StopInfo } from "../../src/vmm/index.js";
import { LOAD_ADDRESS, type PayloadName, type PayloadParameters, payload } from "./payloads.js";
import { currentPlace, rounds } from "./places.js";
import { hex } from "./raw-guest.js";

/** For whatever a guest does: an emulated CPU may be hundreds of times slower than this one. */
export const PATIENCE = 180_000;

/** In an emulated machine: fewer rounds there. */
export const SLOW = currentPlace() === "amd" || currentPlace() === "intel";

/** Options beside the kernel. */
export type GuestOptions = Omit<MachineOptions, "kernel" | "kind" | "loadAddress">;

/** What a machine needs to boot a payload; 16 MiB of RAM unless told otherwise. */
export function guest<N extends PayloadName>(
  name: N,
  parameters?: PayloadParameters<N>,
  options: GuestOptions = {},
): MachineOptions {
  return { memory: 16 << 20, ...options, ...payload(name, parameters) };
}

/** Prints "busy: ready", then spins with interrupts on. */
const SPIN = `
  48 8d 35 10 00 00 00 ;       lea  rsi, [text]
  66 ba f8 03          ;       mov  dx, 0x3f8
  ac                   ; next: lodsb
  84 c0                ;       test al, al
  74 03                ;       jz   spin
  ee                   ;       out  dx, al
  eb f8                ;       jmp  next
  fb                   ; spin: sti
  eb fe                ;       jmp  $
  90`;

/**
 * A guest that is busy for ever: payload `busy` in mode 1 to 3; in mode 0 one that spins. Bochs gets no
 * interrupt to its host while a guest spins with interrupts off, and then all of it hangs: the payload's
 * mode 0, and APs that wait in a loop, are not for every place.
 */
export function busy(mode: 0 | 1 | 2 | 3, options: GuestOptions = {}): MachineOptions {
  if (mode !== 0) {
    return guest("busy", { mode }, options);
  }
  const kernel = Buffer.concat([hex(SPIN), Buffer.from("busy: ready\n\0")]);
  return { memory: 16 << 20, ...options, kernel, kind: "flat64", loadAddress: LOAD_ADDRESS.flat64 };
}

/** All that the console says from now on; `until` resolves once it has said a text (all of it: at its end). */
export class Transcript {
  text = "";
  readonly ended: Promise<string>;
  readonly #waiting = new Set<() => void>();

  constructor(machine: Machine) {
    this.ended = new Promise((resolve) => {
      machine.console.on("data", (chunk: Buffer) => {
        this.text += chunk.toString("latin1");
        this.#check();
      });
      machine.console.once("close", () => resolve(this.text));
      machine.console.once("end", () => resolve(this.text));
    });
  }

  until(text: string): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (this.text.includes(text)) {
          this.#waiting.delete(check);
          resolve();
        }
      };
      this.#waiting.add(check);
      check();
    });
  }

  #check(): void {
    for (const check of this.#waiting) {
      check();
    }
  }
}

export interface Run {
  readonly output: string;
  readonly info: StopInfo;
  readonly stats: MachineStats;
}

/** Start a machine that was made, and wait for its end and for all of its output. It is not disposed of. */
export async function finish(machine: Machine): Promise<Run> {
  const transcript = new Transcript(machine);
  machine.start();
  const info = await machine.wait(PATIENCE);
  const output = await transcript.ended;
  return { output, info, stats: machine.stats() };
}

/** Boot, run to the end, dispose. */
export async function run(options: MachineOptions): Promise<Run> {
  await using machine = await Machine.create(options);
  return await finish(machine);
}

/** How many rounds: in emulated machines, by default, and in `make test-full`. */
export function roundsOf(slow: number, short: number, full: number): number {
  return SLOW ? slow : rounds(short, full);
}

/** Make a machine, start it, wait until it has printed `until`, give it to `use`, dispose of it. */
export async function withRunning(
  options: MachineOptions,
  until: string,
  use: (machine: Machine, transcript: Transcript) => Promise<void>,
): Promise<void> {
  await using machine = await Machine.create(options);
  const transcript = new Transcript(machine);
  machine.start();
  await transcript.until(until);
  await use(machine, transcript);
}

/** The next reset: how many times it was so far. */
export function nextReset(machine: Machine): Promise<number> {
  return new Promise((resolve) => {
    machine.once("reset", resolve);
  });
}
