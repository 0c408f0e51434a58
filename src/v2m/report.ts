// SPDX-License-Identifier: Apache-2.0
/** Tables and error messages for people. */
import { V3mError } from "../errors.js";

/** Cut to a number of characters, the last of them an ellipsis. */
export function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(0, length - 1))}…`;
}

/** No column is made narrower than this. */
const MIN_COLUMN = 8;

/**
 * Rows that fit a width when `table` aligns them: the widest column is cut, again and again, the first one (a name)
 * last of all.
 */
export function narrow(rows: readonly (readonly string[])[], width: number): string[][] {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => row[i]?.length ?? 0)),
  );
  const total = () => widths.reduce((sum, one) => sum + one, 2 * (columns - 1));
  while (total() > width) {
    const others = widths.slice(1);
    const widest = Math.max(...others);
    const at = widest > MIN_COLUMN ? others.lastIndexOf(widest) + 1 : 0;
    if ((widths[at] ?? 0) <= MIN_COLUMN) break;
    widths[at] = Math.max(MIN_COLUMN, (widths[at] ?? 0) - (total() - width));
  }
  return rows.map((row) => row.map((cell, i) => cut(cell, widths[i] ?? cell.length)));
}

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
