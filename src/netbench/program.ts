// SPDX-License-Identifier: Apache-2.0
/** The measuring program (program/main.c): its command lines, and what it prints. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { V3mError } from "../errors.js";
import { packageRoot } from "../package-root.js";
import type { Request } from "./plan.js";

/** What one leading side measured; ticks are the TSC's. */
export interface Sample {
  /** Round trips, or messages one way (each way for `both`). */
  readonly count: number;
  readonly ticks: number;
  /** Messages in either direction in all, warm-up and control included. */
  readonly total: number;
  /** Of round trips, in ticks; 0 for other tests. */
  readonly shortest: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly longest: number;
  /** Ticks in a millisecond. */
  readonly khz: number;
  /** CPU time of the program and its children, nanoseconds. */
  readonly cpu: number;
}

/** The program. @throws V3mError where it was not built */
export function program(): string {
  const path = join(packageRoot(), "native/build/release/netbench");
  if (!existsSync(path)) throw new V3mError("E_IO", `${path} is not there`, { hint: "make build builds it" });
  return path;
}

/** Beyond the measurement, for warm-up, an emulator, a busy computer: against hangs only. Seconds. */
const GRACE_SECONDS = 240;

/** Seconds after which a program that hangs ends itself. */
export function limitSeconds({ ns }: Pick<Request, "ns">): number {
  return GRACE_SECONDS + Math.ceil((4 * ns) / 1e9);
}

export function requestWords(request: Request): string[] {
  const { test, bytes, ns } = request;
  return [`test=${test}`, `bytes=${bytes}`, `ns=${ns}`, `limit=${limitSeconds(request)}`];
}

const NAMES = [
  "count",
  "ticks",
  "total",
  "shortest",
  "p50",
  "p99",
  "p999",
  "longest",
  "khz",
  "cpu",
] as const satisfies readonly (keyof Sample)[];

/** The program's line among other text. @throws V3mError E_GUEST without a complete one */
export function parseSample(text: string): Sample {
  const line = /^netbench (.*) end\r?$/m.exec(text)?.[1];
  const values = new URLSearchParams((line ?? "").replaceAll(" ", "&"));
  const value = (name: string) => Number(values.get(name) ?? Number.NaN);
  const sample = Object.fromEntries(NAMES.map((name) => [name, value(name)])) as Record<keyof Sample, number>;
  if (
    Object.values(sample).some((number) => !Number.isFinite(number)) ||
    sample.count <= 0 ||
    sample.khz <= 0
  ) {
    throw new V3mError("E_GUEST", "the measuring program's output makes no sense", {
      hint: `it was: ${JSON.stringify(text.slice(-300))}`,
    });
  }
  return sample;
}
