// SPDX-License-Identifier: Apache-2.0
/** Collects what is wrong in a definition, so that all of it is told at once. */
import { DefinitionError, type Problem } from "../errors.js";
import { formatPath, type ParsedDocument, type Path } from "./document.js";

export class Problems {
  readonly #source: string;
  readonly #document: ParsedDocument;
  readonly #hint: string | undefined;
  readonly #found: Problem[] = [];

  /** @param hint where the form of the document is described; default: that of definitions */
  constructor(source: string, document: ParsedDocument, hint?: string) {
    this.#source = source;
    this.#document = document;
    this.#hint = hint;
  }

  add(path: Path, message: string, hint?: string): void {
    const position = this.#document.locate(path);
    this.#found.push({
      message,
      path: formatPath(path),
      ...position,
      ...(hint === undefined ? {} : { hint }),
    });
  }

  get any(): boolean {
    return this.#found.length > 0;
  }

  /** In the order of the document. @throws DefinitionError where anything was added */
  throwIfAny(): void {
    if (this.any) {
      const order = (problem: Problem) => (problem.line ?? 0) * 1e6 + (problem.column ?? 0);
      throw new DefinitionError(
        this.#source,
        this.#found.toSorted((a, b) => order(a) - order(b)),
        this.#hint,
      );
    }
  }
}
