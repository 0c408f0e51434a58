// SPDX-License-Identifier: Apache-2.0
/** Several VMs by one word: `vm[0-7]`, `node[01-16,20]`, `web*`, `db?`. */

import { V3mError } from "../errors.js";
import { NAME } from "./definition/name.js";
import { didYouMean } from "./did-you-mean.js";
import { NotFoundError } from "./errors.js";

/** No word names more VMs than this. */
const MAX_NAMES = 100_000;

function bad(pattern: string, why: string): never {
  throw new V3mError("E_USAGE", `${JSON.stringify(pattern)}: ${why}`, {
    hint: "give names, ranges as vm[0-7,9], or patterns with * and ?",
  });
}

/** `0-7,9`: numbers as they are written, leading zeros kept. */
function numbers(list: string, pattern: string): string[] {
  return list.split(",").flatMap((part) => {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part);
    if (match?.[1] === undefined) return bad(pattern, `${JSON.stringify(part)} is no range of numbers`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first) bad(pattern, `${part} runs backwards`);
    if (last - first >= MAX_NAMES) bad(pattern, `${part} is too many`);
    const width = match[1].startsWith("0") ? match[1].length : 0;
    return Array.from({ length: last - first + 1 }, (_, i) => String(first + i).padStart(width, "0"));
  });
}

/** Expand all ranges; `*` and `?` stay. @throws V3mError E_USAGE */
export function expandRanges(pattern: string): string[] {
  const parts = pattern.split(/\[([^[\]]*)\]/);
  if (parts.some((part, i) => i % 2 === 0 && /[[\]]/.test(part))) bad(pattern, "brackets do not match");
  let words = [""];
  parts.forEach((part, i) => {
    const next = i % 2 === 0 ? [part] : numbers(part, pattern);
    if (words.length * next.length > MAX_NAMES) bad(pattern, "that is too many");
    words = words.flatMap((word) => next.map((more) => word + more));
  });
  return words;
}

function glob(word: string): RegExp {
  const escaped = word.replaceAll(/[.+^${}()|\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`);
}

/**
 * The VMs that words name, each once, in the order of the words. A word without `*` or `?` must name VMs that exist,
 * one with them at least one.
 * @throws NotFoundError, V3mError E_USAGE
 */
export function selectNames(words: readonly string[], all: readonly string[]): string[] {
  const known = new Set(all);
  const found = new Set<string>();
  for (const word of words.flatMap(expandRanges)) {
    if (/[*?]/.test(word)) {
      const matcher = glob(word);
      const matching = all.filter((name) => matcher.test(name));
      if (matching.length === 0) throw new NotFoundError(word, { hint: "v2m list shows the names of all" });
      for (const name of matching) found.add(name);
      continue;
    }
    if (!NAME.test(word) || !known.has(word)) {
      const meant = didYouMean(word, all);
      throw new NotFoundError(word, meant === undefined ? {} : { hint: `did you mean ${meant}?` });
    }
    found.add(word);
  }
  return [...found];
}
