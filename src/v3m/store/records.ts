// SPDX-License-Identifier: Apache-2.0
/** The files of a VM in the store. Each has a version; what a newer one wrote is not touched. */
import { join } from "node:path";
import type { VmState } from "../../vmm/backend.js";
import type { VmDefinition } from "../definition/types.js";
import { VM_STATES } from "../states.js";
import { damaged, readVersioned, writeAtomically } from "./files.js";
import type { ProcessId } from "./process-id.js";

export const FORMAT = 1;

const DEFINITION = "definition.json";
const STATE = "state.json";

/** What is known of a VM's state without asking its back end. */
export interface StateRecord {
  readonly state: VmState;
  /** ISO 8601. */
  readonly since: string;
  readonly detail?: string;
  /** The process that runs the machine. */
  readonly process?: ProcessId;
  /** The back end has not confirmed the definition yet, or is about to forget it. */
  readonly incomplete?: true;
  /** It is being made as a clone of this VM; where nobody is at it any more it is to be removed. */
  readonly cloneOf?: string;
}

/** @returns undefined where there is no such VM. @throws StoreError */
export function readStateRecord(directory: string): StateRecord | undefined {
  const path = join(directory, STATE);
  const value = readVersioned(path, FORMAT);
  if (value === undefined) return undefined;
  if (!VM_STATES.includes(value.state as VmState) || typeof value.since !== "string") throw damaged(path);
  const { version: _, ...record } = value;
  return record as unknown as StateRecord;
}

/** @returns undefined where there is no such VM. @throws StoreError */
export function readDefinitionRecord(directory: string): VmDefinition | undefined {
  const path = join(directory, DEFINITION);
  const value = readVersioned(path, FORMAT);
  if (value === undefined) return undefined;
  if (typeof value.definition !== "object" || value.definition === null) throw damaged(path);
  return value.definition as VmDefinition;
}

export async function writeStateRecord(directory: string, record: StateRecord): Promise<void> {
  await writeAtomically(directory, STATE, `${JSON.stringify({ version: FORMAT, ...record })}\n`);
}

export async function writeDefinitionRecord(directory: string, definition: VmDefinition): Promise<void> {
  await writeAtomically(
    directory,
    DEFINITION,
    `${JSON.stringify({ version: FORMAT, definition }, null, 1)}\n`,
  );
}
