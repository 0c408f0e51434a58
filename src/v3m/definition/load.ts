// SPDX-License-Identifier: Apache-2.0
/** Definitions from files and from programs: YAML, JSON, or the XML profile of 2007. */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { DefinitionError, StoreError } from "../errors.js";
import { fromValue, type ParsedDocument, parseText } from "./document.js";
import { Problems } from "./problems.js";
import { type ResolveOptions, resolveDefinition } from "./resolve.js";
import type { DefinitionInput } from "./schema.js";
import { checkShape } from "./shape.js";
import { decode, looksLikeXml } from "./text.js";
import type { VmDefinition } from "./types.js";

/** Larger files are no definitions. */
const MAX_BYTES = 1 << 20;

export type LoadOptions = Omit<ResolveOptions, "directory">;

/** A definition as written, checked for its shape, and what is needed to say where it is wrong. */
export interface Source {
  readonly name: string;
  readonly directory: string;
  readonly document: ParsedDocument;
  readonly input: DefinitionInput;
  readonly format: "yaml" | "xml";
}

async function readBounded(file: string): Promise<Uint8Array> {
  // Not to wait for a writer where the file is a FIFO.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const buffer = Buffer.alloc(MAX_BYTES + 1);
    let bytes = 0;
    while (bytes < buffer.length) {
      const { bytesRead } = await handle.read(buffer, bytes, buffer.length - bytes);
      if (bytesRead === 0) break;
      bytes += bytesRead;
    }
    return buffer.subarray(0, bytes);
  } finally {
    await handle.close();
  }
}

/** @throws StoreError E_IO where it cannot be read, DefinitionError where it is too large. */
async function readSource(file: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readBounded(file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : message;
    throw new StoreError("E_IO", `${file}: ${why}`, {
      errno: code,
      hint: "give the path of a definition: YAML, JSON, or a profile in XML",
      cause: error,
    });
  }
  if (bytes.length > MAX_BYTES) {
    throw new DefinitionError(file, [{ message: "larger than 1 MiB: no definition", path: "" }]);
  }
  return bytes;
}

function checked(document: ParsedDocument, name: string): DefinitionInput {
  const problems = new Problems(name, document);
  const input = checkShape(document.value, problems);
  problems.throwIfAny();
  return input as DefinitionInput;
}

/** Parse the text of a definition. @param name for errors. @param directory where relative paths begin */
export async function parseDefinition(bytes: Uint8Array, name: string, directory: string): Promise<Source> {
  const text = decode(bytes, name);
  const format = looksLikeXml(text) ? "xml" : "yaml";
  const document =
    format === "xml"
      ? (await import("../profile/index.js")).profileDocument(text, name)
      : parseText(text, name);
  return { name, directory, document, input: checked(document, name), format };
}

/** @throws DefinitionError, StoreError */
export async function readDefinition(file: string): Promise<Source> {
  return await parseDefinition(await readSource(file), file, dirname(resolve(file)));
}

/** A definition from a program. @param directory where relative paths begin; default: the working directory */
export function definitionFrom(input: DefinitionInput, directory = process.cwd()): Source {
  const document = fromValue(input);
  return { name: "definition", directory, document, input: checked(document, "definition"), format: "yaml" };
}

/** Make of a definition what back ends get. @throws DefinitionError */
export function resolveSource(source: Source, options: LoadOptions = {}): VmDefinition {
  const problems = new Problems(source.name, source.document);
  const definition = resolveDefinition(source.input, { ...options, directory: source.directory }, problems);
  problems.throwIfAny();
  return definition;
}
