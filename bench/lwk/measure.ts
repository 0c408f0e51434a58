// SPDX-License-Identifier: Apache-2.0
/** One measurement each: a boot, a computation, exits while a program only computes. */
import { countInstructions } from "../../src/yod/count-instructions.js";
import { inLinux, type LinuxFiles, MEMORY_MIB, type Moment, onLwk, program } from "./guests.js";

/** An exit each: some 100 µs under emulation. */
const MOST_STEPS = 2_000_000;

export interface Boot {
  /** From the first KVM_RUN to the application's first instruction, or to the first user-space line. */
  readonly ns: number;
  /** Guest-caused exits until then. */
  readonly exits: number;
}

export const KINDS = ["integer", "float", "memory"] as const;
export type Kind = (typeof KINDS)[number];

/** Nanoseconds of each kind of work. */
export type Compute = Readonly<Record<Kind, number>>;

/** Of a vCPU that only computes, over so many seconds. */
export interface Quiet {
  readonly seconds: number;
  readonly exits: readonly number[];
  /** Timer interrupts of the kernel; null where it does not tell. */
  readonly ticks: number | null;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

export async function bootLwk(): Promise<Boot & { readonly entryNs: number }> {
  const { appNs, entryNs, appExits } = (await onLwk(["0", "1"])).outcome.statistics;
  if (appNs === null || entryNs === null)
    throw new Error("the kernel did not tell when the application began");
  return { ns: appNs, entryNs, exits: appExits };
}

export async function bootLinux(files: LinuxFiles): Promise<Boot> {
  const { ready, firstRunNs } = await inLinux(files, "true");
  return { ns: Number(ready.ns - firstRunNs), exits: sum(ready.exits) };
}

/** The times in what the program printed, and its checksums. */
function understand(text: string): { times: Compute; hashes: string } {
  const found = KINDS.map((kind) => {
    const match = new RegExp(`^${kind} (\\d+) ([0-9a-f]{16})$`, "m").exec(text);
    if (match === null) throw new Error(`no ${kind} in what the program printed:\n${text.slice(-1000)}`);
    return { kind, ns: Number(match[1]), hash: match[2] };
  });
  return {
    times: Object.fromEntries(found.map(({ kind, ns }) => [kind, ns])) as unknown as Compute,
    hashes: found.map(({ hash }) => hash).join(" "),
  };
}

/** Results must be the same wherever it is computed. */
let expected: string | undefined;
function checked(text: string): Compute {
  const { times, hashes } = understand(text);
  expected ??= hashes;
  if (hashes !== expected) throw new Error(`computed something else: ${hashes}, not ${expected}`);
  return times;
}

export async function computeLwk(args: readonly string[]): Promise<Compute> {
  return checked((await onLwk(args)).stdout);
}

export async function computeLinux(files: LinuxFiles, args: readonly string[]): Promise<Compute> {
  return checked((await inLinux(files, `sleep 1; /bin/compute ${args.join(" ")}`)).text);
}

/**
 * Exits in some seconds of computing: those of a long run less those of a short one, so that start and end
 * cancel out.
 */
export async function quietLwk(seconds: number, cpus: number): Promise<Quiet> {
  const run = async (time: number) => {
    const { statistics } = (await onLwk(["spin", String(time), String(cpus)], { cpus })).outcome;
    if (statistics.vcpuExits === null) throw new Error("KVM does not count exits here");
    return { exits: statistics.vcpuExits, ticks: statistics.timerInterrupts };
  };
  const brief = await run(0.5);
  const long = await run(0.5 + seconds);
  return {
    seconds,
    // One less is possible: which vCPU wakes which is not always the same.
    exits: long.exits.map((count, i) => Math.max(0, count - (brief.exits[i] ?? 0))),
    ticks: long.ticks === null || brief.ticks === null ? null : long.ticks - brief.ticks,
  };
}

export async function quietLinux(files: LinuxFiles, seconds: number, cpus: number): Promise<Quiet> {
  const command = `sleep 1; /bin/compute spin ${seconds} ${cpus}`;
  const { moments } = await inLinux(files, command, ["computing", "computed"], cpus);
  const [from, to] = moments as [Moment, Moment];
  return { seconds, exits: to.exits.map((count, i) => count - (from.exits[i] ?? 0)), ticks: null };
}

/** Instructions from power-on to the application's first, and to its main function; null where that is not possible. */
export async function instructions(): Promise<{ toApplication: number | null; toMain: number | null }> {
  const counts = await countInstructions({
    app: program(),
    args: ["0", "1"],
    memory: MEMORY_MIB << 20,
    maxSteps: MOST_STEPS,
  });
  return { toApplication: counts.toApplication ?? null, toMain: counts.toFunction ?? null };
}
