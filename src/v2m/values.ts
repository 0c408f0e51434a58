// SPDX-License-Identifier: Apache-2.0
/** Values of command-line options: sizes, counts, lists, durations. Each throws UsageError. */
import { V3mError } from "../errors.js";

/** The command line is wrong; the message names the option. */
export class UsageError extends V3mError {
  constructor(message: string, hint = "v2m --help lists the options") {
    super("E_USAGE", message, { hint });
  }
}

const UNITS: Readonly<Record<string, bigint>> = {
  "": 1n << 20n,
  k: 1n << 10n,
  m: 1n << 20n,
  g: 1n << 30n,
  t: 1n << 40n,
};

/** `512M`, `2G`, `1.5G`, `65536K`; a plain number is MiB. @returns bytes */
export function parseSize(text: string, option: string): bigint {
  const match = /^(\d+)(?:\.(\d{1,3}))?([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const unit = UNITS[match?.[3]?.toLowerCase() ?? ""];
  if (match?.[1] === undefined || unit === undefined) {
    throw new UsageError(`${option} ${text}: not a size`, "give a number with K, M, G or T, such as 512M");
  }
  const fraction = (match[2] ?? "").padEnd(3, "0");
  const bytes = BigInt(match[1]) * unit + (BigInt(fraction) * unit) / 1000n;
  if (bytes > 1n << 52n) {
    throw new UsageError(`${option} ${text}: no machine has that much memory`, "give a size such as 512M");
  }
  return bytes - (bytes % 4096n);
}

export function parseCount(text: string, option: string, min: number, max = 0xffff_ffff): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === 0xffff_ffff ? `of at least ${min}` : `from ${min} to ${max}`;
    throw new UsageError(`${option} ${text}: give a whole number ${range}`);
  }
  return value;
}

/** `0-3,8`: host CPUs in that order. */
export function parseCpuList(text: string, option: string): number[] {
  const cpus: number[] = [];
  for (const part of text.split(",")) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    if (match === null) {
      throw new UsageError(`${option} ${text}: not a list of CPUs`, "give CPUs such as 2,3 or 0-3");
    }
    const first = Number(match[1]);
    const last = Number(match[2] ?? first);
    if (last < first) {
      throw new UsageError(`${option} ${text}: ${part} runs backwards`, "give CPUs such as 0-3");
    }
    for (let cpu = first; cpu <= last; cpu++) {
      cpus.push(cpu);
    }
  }
  return cpus;
}

/** Parts between commas; two commas are one that belongs to a part. */
export function parseList(text: string): string[] {
  return text
    .replaceAll(",,", "\0")
    .split(",")
    .map((part) => part.replaceAll("\0", ","));
}

/** Seconds, with a fraction, or with a unit: `90`, `1.5`, `500ms`, `10m`. @returns milliseconds */
export function parseDuration(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim());
  const factor = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match?.[2] ?? "s"] ?? 1000;
  const ms = Number(match?.[1]) * factor;
  if (match === null || !(ms > 0) || ms > 2 ** 31 - 1) {
    throw new UsageError(`${option} ${text}: not a duration`, "give seconds, or a unit: 90, 500ms, 10m");
  }
  return ms;
}

/** Bytes for people: `5.2 MiB`. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") {
      return `${unit === "B" ? value : value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
    }
    value /= 1024;
  }
  return `${value}`;
}

/** Nanoseconds for people: `1.24 s`, `35.0 ms`, `3.1 µs`. */
export function formatNs(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(1)} ms`;
  if (ns >= 1e3) return `${(ns / 1e3).toFixed(1)} µs`;
  return `${Math.round(ns)} ns`;
}
