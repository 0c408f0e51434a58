// SPDX-License-Identifier: Apache-2.0
/** Sizes and times as people write them in definitions. */

const SHIFT: Readonly<Record<string, number>> = { "": 20, b: 0, k: 10, m: 20, g: 30, t: 40 };

export const SIZE_HELP = "give a number with K, M, G or T, such as 512M; a plain number is MiB";

/** Sizes that can be written, for JSON Schema: `512M`, `2G`, `1.5GiB`, `65536K`, `4096B`. */
export const SIZE_PATTERN = "^[0-9]+(\\.[0-9]{1,3})?([Bb]|[KkMmGgTt](i?[Bb])?)?$";

const SIZE = /^(\d+)(?:\.(\d{1,3}))?(?:(b)|([kmgt])(?:i?b)?)?$/i;

/**
 * All units are powers of 1024 and a plain number is MiB, as on the command line and in the 2007 profile.
 * @returns whole bytes, or undefined for what is no size, or none that a number holds exactly
 */
export function parseBytes(value: string | number): number | undefined {
  const match = SIZE.exec(typeof value === "number" ? String(value) : value.trim());
  if (match?.[1] === undefined) {
    return undefined;
  }
  const shift = SHIFT[(match[3] ?? match[4] ?? "").toLowerCase()] ?? 20;
  const thousandths = BigInt(match[1] + (match[2] ?? "").padEnd(3, "0"));
  const scaled = thousandths << BigInt(shift);
  const bytes = scaled / 1000n;
  return bytes > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(bytes);
}

/** The shortest text that `parseBytes` reads back: `512M`, `1536K`, `1000B`. */
export function formatSize(bytes: number): string {
  for (const [unit, shift] of [
    ["T", 40],
    ["G", 30],
    ["M", 20],
    ["K", 10],
  ] as const) {
    const size = 2 ** shift;
    if (bytes >= size && bytes % size === 0) {
      return `${bytes / size}${unit}`;
    }
  }
  return `${bytes}B`;
}

export const TIME_HELP = "give seconds, or a unit: 90, 500ms, 10m";
export const TIME_PATTERN = "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)?$";

const TIME_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A plain number is seconds. @returns milliseconds, at most 2^31 - 1 (24 days), or undefined */
export function parseMs(value: string | number): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(typeof value === "number" ? String(value) : value.trim());
  const ms = Math.round(Number(match?.[1]) * (TIME_MS[match?.[2] ?? "s"] ?? 1000));
  return match === null || ms > 2 ** 31 - 1 ? undefined : ms;
}

/** The text that `parseMs` reads back. */
export function formatMs(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}
