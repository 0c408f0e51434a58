// SPDX-License-Identifier: Apache-2.0
/** Options whose value has parts between commas: `FILE,ro,serial=TEXT`. */
import { parseList, UsageError } from "./values.js";

export interface Part {
  readonly key: string;
  readonly value: string | undefined;
}

export interface Parts {
  readonly first: string;
  readonly rest: readonly Part[];
}

/** `key` or `key=value`. */
export function part(text: string): Part {
  const equals = text.indexOf("=");
  return equals < 0
    ? { key: text, value: undefined }
    : { key: text.slice(0, equals), value: text.slice(equals + 1) };
}

/** `first,key,key=value`. @throws UsageError */
export function split(text: string, option: string): Parts {
  const [first = "", ...rest] = parseList(text);
  if (first === "") {
    throw new UsageError(`${option} ${text}: nothing in front of the first comma`, "v2m run --help");
  }
  return { first, rest: rest.map(part) };
}

export function unknown(option: string, text: string, key: string, known: string): UsageError {
  return new UsageError(`${option} ${text}: unknown ${JSON.stringify(key)}`, `give ${known}`);
}

/** A key that must have a value. @throws UsageError */
export function needed(option: string, key: string, value: string | undefined): string {
  if (value === undefined || value === "") {
    throw new UsageError(`${option}: ${key} needs a value`, `give ${key}=…`);
  }
  return value;
}

/** One that must not. @throws UsageError */
export function bare(option: string, key: string, value: string | undefined): true {
  if (value !== undefined) {
    throw new UsageError(`${option}: ${key} takes no value`, `give ${key} alone`);
  }
  return true;
}
