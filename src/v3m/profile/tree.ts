// SPDX-License-Identifier: Apache-2.0
/**
 * XML as a tree of elements with their positions. Only what is in the text counts: a document type is neither
 * fetched nor read, and no entity but XML's own five is known, so nothing can be expanded.
 */
import { SaxesParser } from "saxes";
import type { Position } from "../definition/document.js";
import { DefinitionError } from "../errors.js";

export interface Element extends Position {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly Element[];
  /** All character data directly in it, without white space at its ends. */
  readonly text: string;
}

interface OpenElement extends Position {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: Element[];
  text: string;
}

/** A profile has three levels; this is against documents that are none. */
const MAX_DEPTH = 16;

class Builder {
  readonly #parser = new SaxesParser({ position: true, xmlns: false });
  readonly #open: OpenElement[] = [];
  readonly #source: string;
  #root: Element | undefined;
  /** Where the tag that is being read began. */
  #tag: Position = { line: 1, column: 1 };

  constructor(source: string) {
    this.#source = source;
    const parser = this.#parser;
    parser.on("error", (error) => this.#fail(error.message.replace(/^(?:[^:]*:)?\d+:\d+: /, "")));
    parser.on("doctype", (text) => {
      if (/<!ENTITY|%/.test(text))
        this.#fail("a document type with entities is refused", "remove <!DOCTYPE …>");
    });
    parser.on("opentagstart", (tag) => {
      // The parser stands behind the name.
      this.#tag = { line: parser.line, column: Math.max(1, parser.column - tag.name.length - 1) };
    });
    parser.on("opentag", (tag) => {
      if (this.#open.length >= MAX_DEPTH) this.#fail("elements are nested too deeply: no profile");
      const attributes = new Map(Object.entries(tag.attributes as Record<string, string>));
      this.#open.push({ name: tag.name, attributes, children: [], text: "", ...this.#tag });
    });
    parser.on("text", (text) => this.#text(text));
    parser.on("cdata", (text) => this.#text(text));
    parser.on("closetag", () => this.#close());
  }

  #fail(message: string, hint?: string): never {
    const { line, column } = this.#parser;
    const problem = { message, path: "", line, column: Math.max(1, column) };
    throw new DefinitionError(this.#source, [hint === undefined ? problem : { ...problem, hint }]);
  }

  #text(text: string): void {
    const top = this.#open.at(-1);
    if (top !== undefined) top.text += text;
  }

  #close(): void {
    const done = this.#open.pop();
    if (done === undefined) return;
    const element = { ...done, text: done.text.trim() };
    const parent = this.#open.at(-1);
    if (parent === undefined) this.#root = element;
    else parent.children.push(element);
  }

  build(text: string): Element {
    this.#parser.write(text).close();
    return this.#root ?? this.#fail("there is no element");
  }
}

/** @throws DefinitionError with the position of what is not well-formed */
export function parseXml(text: string, source: string): Element {
  return new Builder(source).build(text);
}
