// SPDX-License-Identifier: Apache-2.0
/** YAML and JSON documents as values, with the place in the text that each part of the value came from. */
import { isMap, isPair, isSeq, LineCounter, type Node, type Pair, parseDocument } from "yaml";
import { DefinitionError, type Problem } from "../errors.js";

export type Path = readonly (string | number)[];

/** From 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface ParsedDocument {
  readonly value: unknown;
  /** Where a part of the value is (its key, for one of a mapping), or the nearest part around it that is there. */
  locate(path: Path): Position | undefined;
}

/** `nics[0].mac` */
export function formatPath(path: Path): string {
  return path
    .map((part, i) =>
      typeof part === "number"
        ? `[${part}]`
        : /^[\w$-]+$/.test(part)
          ? `${i > 0 ? "." : ""}${part}`
          : `[${JSON.stringify(part)}]`,
    )
    .join("");
}

function keyOf(pair: Pair): string {
  const key = pair.key as { readonly value?: unknown } | null;
  return String(key?.value ?? key);
}

function offsetOf(node: unknown): number | undefined {
  const target = isPair(node) ? (node.key as Node | null) : (node as Node | null);
  return target?.range?.[0];
}

function find(root: unknown, path: Path): number | undefined {
  let node = root;
  let offset = offsetOf(root);
  for (const part of path) {
    const inner: unknown = isPair(node) ? node.value : node;
    if (isMap(inner)) node = inner.items.find((pair) => keyOf(pair) === String(part));
    else if (isSeq(inner) && typeof part === "number") node = inner.items[part];
    else return offset;
    if (node === undefined) return offset;
    offset = offsetOf(node) ?? offset;
  }
  return offset;
}

/**
 * Parse YAML 1.2, of which JSON is a part. Aliases are limited, tags other than YAML's own are refused, and so is a
 * key that stands twice.
 * @param source the file's name, for errors
 * @throws DefinitionError with the position of what cannot be parsed
 */
export function parseText(text: string, source: string): ParsedDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    version: "1.2",
    strict: true,
    uniqueKeys: true,
    stringKeys: true,
    prettyErrors: false,
    lineCounter: lines,
  });
  const position = (offset: number | undefined): Position | undefined => {
    if (offset === undefined) return undefined;
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const problems: Problem[] = [...document.errors, ...document.warnings].map((error) => ({
    message: error.message.replace(/\s+/g, " "),
    path: "",
    ...position(error.pos[0]),
  }));
  if (problems.length > 0) {
    throw new DefinitionError(source, problems);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw new DefinitionError(source, [
      { message: error instanceof Error ? error.message : String(error), path: "" },
    ]);
  }
  return { value, locate: (path) => position(find(document.contents, path) ?? 0) };
}

/** A value from a program: there are no lines. */
export function fromValue(value: unknown): ParsedDocument {
  return { value, locate: () => undefined };
}
