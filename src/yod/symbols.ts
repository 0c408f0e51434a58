// SPDX-License-Identifier: Apache-2.0
/** Names for the addresses in a program. */
import { spawnSync } from "node:child_process";
import { type CodeSymbol, codeSymbols } from "./elf.js";

/** A label without a length counts for this much. */
const UNKNOWN_BYTES = 4096n;

export interface Place {
  /** As in the file: C++ and Rust names are mangled. */
  readonly name: string;
  readonly offset: bigint;
}

/** Control characters must not get to a terminal. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\uffff]/g, "?");
}

/** Looks up run-time addresses in a program's symbol table. */
export class Symbolizer {
  readonly #symbols: readonly CodeSymbol[];
  readonly #bias: bigint;

  /** @param bias run-time address less link-time address. */
  constructor(file: Uint8Array, bias = 0n) {
    // By address; of several at one address the last: a function with a length before a label without.
    this.#symbols = codeSymbols(file).sort((a, b) =>
      a.address !== b.address ? (a.address < b.address ? -1 : 1) : a.bytes < b.bytes ? -1 : 1,
    );
    this.#bias = bias;
  }

  /** Whether the file has any names. */
  get empty(): boolean {
    return this.#symbols.length === 0;
  }

  /** The function that holds an address, or undefined. */
  find(address: bigint): Place | undefined {
    const at = address - this.#bias;
    let low = 0;
    let high = this.#symbols.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#symbols[middle]?.address ?? 0n) <= at) low = middle + 1;
      else high = middle;
    }
    // A short label inside a longer function: look a little further back for one that reaches this far.
    for (let i = low - 1; i >= Math.max(0, low - 32); i--) {
      const symbol = this.#symbols[i];
      if (symbol === undefined) break;
      const reach = symbol.bytes > 0n ? symbol.bytes : i === low - 1 ? UNKNOWN_BYTES : 0n;
      if (at < symbol.address + reach) {
        return { name: printable(symbol.name), offset: at - symbol.address };
      }
    }
    return undefined;
  }
}

/** Readable forms of mangled names by c++filt, where that is installed; the others stay as they are. */
export function demangle(names: readonly string[]): ReadonlyMap<string, string> {
  const mangled = [...new Set(names.filter((name) => /^_[ZR]/.test(name)))];
  if (mangled.length === 0) {
    return new Map();
  }
  const { status, stdout } = spawnSync("c++filt", [], {
    input: mangled.join("\n"),
    encoding: "utf8",
    timeout: 5000,
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines = status === 0 ? stdout.split("\n") : [];
  return new Map(mangled.map((name, i) => [name, printable(lines[i] || name)]));
}

/** `main+0x12`. */
export function formatPlace(place: Place, names: ReadonlyMap<string, string> = new Map()): string {
  const name = names.get(place.name) ?? place.name;
  return place.offset === 0n ? name : `${name}+0x${place.offset.toString(16)}`;
}
