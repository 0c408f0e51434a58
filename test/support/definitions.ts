// SPDX-License-Identifier: Apache-2.0
/** Definitions from text, as a file would hold them. */
import { type LoadOptions, parseDefinition, resolveSource } from "../../src/v3m/definition/load.js";
import { DefinitionError, type Problem, type VmDefinition } from "../../src/v3m/index.js";

export const DIRECTORY = "/base";

/** Read a definition as if it stood in /base/vm.yaml. */
export async function load(text: string | Uint8Array, options: LoadOptions = {}): Promise<VmDefinition> {
  const bytes = typeof text === "string" ? Buffer.from(text) : text;
  return resolveSource(await parseDefinition(bytes, "vm.yaml", DIRECTORY), options);
}

/** What is wrong in a definition. @throws where nothing is */
export async function problems(
  text: string | Uint8Array,
  options: LoadOptions = {},
): Promise<readonly Problem[]> {
  try {
    await load(text, options);
  } catch (error) {
    if (error instanceof DefinitionError) return error.problems;
    throw error;
  }
  throw new Error("nothing is wrong with this definition");
}

/** `3:5 nics[0].mac: message (hint)`, for each problem. */
export async function complaints(text: string | Uint8Array, options: LoadOptions = {}): Promise<string[]> {
  return (await problems(text, options)).map(
    ({ line, column, path, message, hint }) =>
      `${line}:${column} ${path}: ${message}${hint === undefined ? "" : ` (${hint})`}`,
  );
}
