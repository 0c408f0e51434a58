// SPDX-License-Identifier: Apache-2.0
/** What verbs on VMs write: results on standard output, progress and errors on standard error. */
import type { Progress } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { errorJson, formatError, narrow, table } from "./report.js";

/** Characters of a line of this terminal; a pipe has no end. */
function lineWidth(stream: NodeJS.WriteStream): number {
  return stream.isTTY === true ? Math.max(40, stream.columns) : Number.POSITIVE_INFINITY;
}

let guarded = false;

/** Text on standard output. When nobody reads it any more, the command ends as others do. */
export function write(text: string): void {
  if (!guarded) {
    guarded = true;
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(Exit.SIGPIPE);
      throw error;
    });
  }
  process.stdout.write(text);
}

export function say(text: string): void {
  write(`${text}\n`);
}

/** Values that JSON lacks: a Date is text, a whole number beyond 2^53 too. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

/** One document, indented. */
export function sayJson(value: unknown): void {
  say(JSON.stringify(value, plain, 2));
}

/** One line for each: for what goes on. */
export function sayJsonLine(value: unknown): void {
  say(JSON.stringify(value, plain));
}

/** A table that fits the terminal; `none` where it has but a heading. */
export function sayTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  none: string,
): void {
  say(rows.length === 0 ? none : table(narrow([heading, ...rows], lineWidth(process.stdout))));
}

export function complain(error: unknown, json: boolean): void {
  process.stderr.write(json ? `${JSON.stringify({ error: errorJson(error) })}\n` : `${formatError(error)}\n`);
}

/** `2026-11-28 22:47:40`, in local time. */
export function formatTime(time: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${day} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":")}`;
}

const BAR = 24;
const CLEAR_LINE = "\r\x1b[K";

/** A bar on a terminal's standard error; elsewhere nothing. */
export class ProgressBar implements Disposable {
  readonly #stream = process.stderr;
  readonly #shown: boolean;
  #drawn = false;

  constructor(shown: boolean) {
    this.#shown = shown && this.#stream.isTTY === true;
  }

  show({ what, done, total }: Progress): void {
    if (!this.#shown) return;
    const share = total === undefined || total === 0 ? undefined : Math.min(1, done / total);
    const filled = Math.round(BAR * (share ?? 0));
    const bar = share === undefined ? "" : `[${"#".repeat(filled)}${" ".repeat(BAR - filled)}] `;
    const count = total === undefined ? `${done}` : `${Math.floor(100 * (share ?? 0))} %`;
    this.#stream.write(CLEAR_LINE + `${bar}${count}  ${what}`.slice(0, lineWidth(this.#stream) - 1));
    this.#drawn = true;
  }

  clear(): void {
    if (this.#drawn) this.#stream.write(CLEAR_LINE);
    this.#drawn = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
