// SPDX-License-Identifier: Apache-2.0
/** A back end with one machine that nobody else knows of: an installation. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { builtinRegistry } from "../builtin.js";
import type { VmDefinition } from "../definition/types.js";
import type { V3mBackend } from "../registry.js";

/** @param directory of the machine's own; its path is short, as sockets are in it */
export async function privateBackend(directory: string, definition: VmDefinition): Promise<V3mBackend> {
  return await builtinRegistry().get(definition.type, {
    definition: async () => definition,
    stateDirectory: () => join(directory, "state"),
    runtimeDirectory: () => join(directory, "run"),
  });
}

/** Nothing is left of the machine, whatever it was doing. */
export async function endMachine(
  directory: string,
  backend: V3mBackend,
  definition: VmDefinition,
): Promise<void> {
  const { name } = definition;
  await mkdir(join(directory, "run"), { recursive: true });
  await backend.stop(name, { force: true }).catch(() => {}); // it may not run
  await backend.undefine(name).catch(() => {});
  await rm(directory, { recursive: true, force: true });
}
