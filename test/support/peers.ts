// SPDX-License-Identifier: Apache-2.0
/** Payload `peers` in monitors: members of a channel that check each other, and do damage when they are told to. */
import { createInterface } from "node:readline";
import { Machine } from "../../src/vmm/index.js";
import { guest } from "./machines.js";
import { gone, type MonitorPlace } from "./monitors.js";

/** How one peer sees another. */
export interface View {
  /** hidden; absent; absent, and its area is not empty; not in step yet; fine; it said something wrong. */
  readonly phase: "hidden" | "absent" | "remains" | "joining" | "fine" | "bad";
  /** Messages that it has heard of it and found right. */
  readonly heard: number;
  /** How often it said something wrong. */
  readonly errors: number;
}

export interface Report {
  /** How often memory that it must not see was not zero. */
  readonly leaks: number;
  readonly of: ReadonlyMap<number, View>;
}

const PHASES: Readonly<Record<string, View["phase"]>> = {
  h: "hidden",
  a: "absent",
  r: "remains",
  s: "joining",
  f: "fine",
  b: "bad",
};

/** What can be asked of a peer, and what it says when it has done it. */
const COMMANDS = {
  noise: ["s", "peers: noise"],
  rejoin: ["j", "peers: joined"],
  storm: ["d", "peers: rang"],
  trespass: ["w", "peers: wrote"],
  leave: ["q", "peers: ok"],
} as const;

export interface ChannelOfPeers {
  readonly place: MonitorPlace;
  /** Of the channel. */
  readonly directory: string;
  readonly peers: number;
  readonly areaBytes: number;
  readonly seed: number;
  /** With whom a peer talks; the others must not see each other. */
  partners(peer: number): readonly number[];
}

/** Names are used once. A peer's machines have so many each: it takes the next one when it comes back by itself. */
const NAMES = 256;
const MACHINES = 65536;

/** A peer at its place: machine after machine. */
export class Member {
  readonly partners: readonly number[];
  readonly #channel: ChannelOfPeers;
  #machines = 0;
  #machine: Machine | undefined;
  #directory = "";
  #pid = 0;
  #lines: AsyncIterator<string> | undefined;

  constructor(
    channel: ChannelOfPeers,
    readonly peer: number,
  ) {
    this.#channel = channel;
    this.partners = channel.partners(peer);
  }

  /** Until it is there. */
  async start(): Promise<void> {
    const { place, directory, peers, areaBytes, seed } = this.#channel;
    this.#directory = place.directory();
    this.#machine = await Machine.spawn(
      guest(
        "peers",
        {
          partners: this.partners.reduce((mask, other) => mask | (1 << other), 0),
          name: ((this.peer + 1) * MACHINES + this.#machines++) * NAMES,
          seed: seed + this.peer + 1,
        },
        {
          memory: 4 << 20,
          shm: [{ directory, peers, areaBytes, peer: this.peer, visibleTo: this.partners }],
        },
      ),
      { directory: this.#directory },
    );
    this.#pid = this.#machine.monitorInfo().pid; // a stopped one does not say it
    this.#lines = createInterface({ input: this.#machine.console })[Symbol.asyncIterator]();
    this.#machine.start();
    await this.#line("peers: here");
  }

  get machine(): Machine {
    if (this.#machine === undefined) throw new Error(`peer ${this.peer} is not there`);
    return this.#machine;
  }

  async command(what: keyof typeof COMMANDS): Promise<void> {
    const [character, answer] = COMMANDS[what];
    this.machine.console.write(character);
    await this.#line(answer);
  }

  async report(): Promise<Report> {
    this.machine.console.write("?");
    const line = await this.#next();
    const leaks = /^peers: leaks (\d+)/.exec(line)?.[1];
    if (leaks === undefined) throw new Error(`peer ${this.peer} said ${JSON.stringify(line)}`);
    const of = new Map<number, View>();
    for (const [, peer, phase = "", heard, errors] of line.matchAll(/ (\d+)=([a-z])(\d+)\/(\d+)/g)) {
      of.set(Number(peer), {
        phase: PHASES[phase] ?? "bad",
        heard: Number(heard),
        errors: Number(errors),
      });
    }
    return { leaks: Number(leaks), of };
  }

  /** To the process. */
  signal(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    process.kill(this.#pid, signal);
  }

  /** It has ended, or is just ending: wait for it, and forget the machine. */
  async ended(): Promise<void> {
    await this.machine.wait();
    await this.machine.dispose();
    this.#machine = undefined;
    await gone(this.#directory);
  }

  async #next(): Promise<string> {
    const next = await this.#lines?.next();
    if (next === undefined || next.done === true) throw new Error(`peer ${this.peer} says no more`);
    return next.value;
  }

  async #line(expected: string): Promise<void> {
    const line = await this.#next();
    if (line !== expected) throw new Error(`peer ${this.peer} said ${JSON.stringify(line)}, not ${expected}`);
  }
}
