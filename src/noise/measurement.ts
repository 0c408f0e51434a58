// SPDX-License-Identifier: Apache-2.0
/** One run of the measuring program (noise.c): what it is asked for, what it prints, and what that means. */
import { V3mError } from "../errors.js";
import { METHODS, type Method } from "./names.js";

/** The same in all places. */
export interface Parameters {
  /** Of each run, seconds. */
  readonly seconds: number;
  /** selfish: what takes longer than this between two readings of the clock is a detour. */
  readonly thresholdNs: number;
  /** fwq: turns of the loop in one quantum of work. */
  readonly work: number;
  /** ftq: length of an interval. */
  readonly intervalNs: number;
}

/** A moment at which the CPU was away: when, since the beginning, and for how long; nanoseconds. */
export type Detour = readonly [atNs: number, lengthNs: number];

export interface Measurement {
  readonly method: Method;
  readonly seconds: number;
  /** Share of the CPU's time that the program did not get, 0 to 1. */
  readonly lost: number;
  /** 99.9th percentile and maximum of one detour, one quantum's delay, one interval's loss. */
  readonly p999Ns: number;
  readonly maxNs: number;
  /** Detours, quanta, intervals. */
  readonly count: number;
  /** All of them, or where there were many a part that holds the longest. */
  readonly detours: readonly Detour[];
}

/** What noise.c printed, as numbers; everything in ticks, for ftq in pieces of work. */
interface Raw {
  readonly method: Method;
  readonly values: ReadonlyMap<string, number>;
  readonly samples: readonly (readonly [start: number, length: number])[];
}

export function programArguments(method: Method, parameters: Parameters): string[] {
  const { seconds, thresholdNs, work, intervalNs } = parameters;
  return [method, ...[seconds, thresholdNs, work, intervalNs].map(String)];
}

function garbled(why: string, text: string): V3mError {
  return new V3mError("E_NOISE", `the measuring program's output makes no sense: ${why}`, {
    hint: `it ended with: ${JSON.stringify(text.slice(-200))}`,
  });
}

function parse(text: string): Raw {
  const lines = text.replaceAll("\r", "").trim().split("\n");
  const method = METHODS.find((name) => lines[0] === `noise 1 ${name}`);
  if (method === undefined) throw garbled("no heading", text);
  const values = new Map<string, number>();
  let at = 1;
  for (; at < lines.length; at++) {
    const [name = "", value = ""] = (lines[at] ?? "").split(" ");
    values.set(name, Number(value));
    if (name === "samples") break;
  }
  const count = values.get("samples") ?? -1;
  const listed = lines.slice(at + 1, at + 1 + count);
  if (count < 0 || listed.length !== count || lines[at + 1 + count] !== "end") {
    throw garbled("it is not complete", text);
  }
  let start = 0;
  const samples = listed.map((line) => {
    const [delta = Number.NaN, length = Number.NaN] = line.split(" ").map((digits) => parseInt(digits, 36));
    start += delta;
    return [start, length] as const;
  });
  if (samples.some(([, length]) => Number.isNaN(length))) throw garbled("a sample is no number", text);
  return { method, values, samples };
}

/** The text of one run, understood. @throws V3mError E_NOISE */
export function understand(text: string): Measurement {
  const { method, values, samples } = parse(text);
  const value = (name: string): number => {
    const found = values.get(name);
    if (found === undefined || !Number.isFinite(found)) throw garbled(`no ${name}`, text);
    return found;
  };
  const nsPerTick = value("ns") / value("ticks");
  const [count, total] = [value("count"), value("total")];
  const common = { method, seconds: value("ns") / 1e9, count };
  const at = (start: number) => start * nsPerTick;
  if (method === "selfish") {
    return {
      ...common,
      lost: total / value("ticks"),
      p999Ns: value("p999") * nsPerTick,
      maxNs: value("longest") * nsPerTick,
      detours: samples.map(([start, length]) => [at(start), length * nsPerTick]),
    };
  }
  if (count === 0) throw garbled("nothing was measured", text);
  if (method === "fwq") {
    // What a quantum takes longer than the shortest one.
    const least = value("shortest");
    const delay = (length: number) => (length - least) * nsPerTick;
    return {
      ...common,
      lost: (total - count * least) / total,
      p999Ns: delay(value("p999")),
      maxNs: delay(value("longest")),
      detours: samples.map(([start, length]) => [at(start), delay(length)]),
    };
  }
  // What an interval holds less than the fullest one, as time.
  const most = value("longest");
  const intervalNs = (value("ticks") * nsPerTick) / count;
  const missing = (done: number) => ((most - done) / most) * intervalNs;
  return {
    ...common,
    lost: (count * most - total) / (count * most),
    p999Ns: missing(value("p001")),
    maxNs: missing(value("shortest")),
    detours: samples.map(([start, done]) => [at(start), missing(done)]),
  };
}
