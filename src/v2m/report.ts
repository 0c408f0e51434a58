// SPDX-License-Identifier: Apache-2.0
/** Tables and error messages for people. */
import { V3mError } from "../errors.js";

/** Columns aligned, two spaces between; numbers to the right. */
export function table(rows: readonly (readonly string[])[], indent = ""): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  const align = (cell: string, i: number, last: boolean) => {
    const right = !last && /^[\d.,]+( ?(B|KiB|MiB|GiB|ns|µs|ms|s|%))?$/.test(cell);
    return right ? cell.padStart(widths[i] ?? 0) : last ? cell : cell.padEnd(widths[i] ?? 0);
  };
  return rows
    .map(
      (row) =>
        indent +
        row
          .map((cell, i) => align(cell, i, i === row.length - 1))
          .join("  ")
          .trimEnd(),
    )
    .join("\n");
}

/** What happened, and what to do about it, on one or two lines. */
export function formatError(error: unknown): string {
  if (error instanceof V3mError) {
    const hint = error.hint === undefined ? "" : `\nhint: ${error.hint}`;
    return `v2m: ${error.message} [${error.code}]${hint}`;
  }
  return `v2m: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

/** The same for programs. */
export function errorJson(error: unknown): object {
  return error instanceof V3mError
    ? { code: error.code, message: error.message, hint: error.hint ?? null, errno: error.errno ?? null }
    : { code: "E_INTERNAL", message: String(error), hint: null, errno: null };
}
