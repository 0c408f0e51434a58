// SPDX-License-Identifier: Apache-2.0
/** The life of a VM: which verb is allowed in which state, and where it leads. */
import type { Feature, VmState } from "../vmm/backend.js";
import { VmStateError } from "./errors.js";

export const VM_STATES = [
  "defined",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "crashed",
  "migrating",
] as const satisfies readonly VmState[];

/** Nothing of the machine exists. */
export const AT_REST: readonly VmState[] = ["defined", "stopped", "crashed"];

export interface Transition {
  /** States that allow the verb. */
  readonly from: readonly VmState[];
  /** The state while it is under way; absent: it stays what it is. */
  readonly during?: VmState;
  /** The state when it is done; absent: it is what it was. */
  readonly to?: VmState;
  /** The row of the capability matrix. */
  readonly feature: Feature;
}

const LIVE: readonly VmState[] = ["running", "paused"];

export const TRANSITIONS = {
  start: { from: AT_REST, during: "starting", to: "running", feature: "start" },
  stop: { from: LIVE, during: "stopping", to: "stopped", feature: "stop" },
  reset: { from: ["running"], feature: "reset" },
  pause: { from: ["running"], to: "paused", feature: "pause" },
  resume: { from: ["paused"], to: "running", feature: "pause" },
  snapshot: { from: LIVE, feature: "snapshot" },
  restore: { from: AT_REST, during: "starting", to: "running", feature: "restore" },
  fork: { from: LIVE, feature: "fork" },
  migrate: { from: ["running"], during: "migrating", to: "stopped", feature: "migrate" },
  console: { from: LIVE, feature: "console" },
  stats: { from: LIVE, feature: "stats" },
} as const satisfies Readonly<Record<string, Transition>>;

export type Verb = keyof typeof TRANSITIONS;

/** @throws VmStateError where the state does not allow the verb */
export function transition(name: string, verb: Verb, state: VmState): Transition {
  const found: Transition = TRANSITIONS[verb];
  if (!found.from.includes(state)) {
    throw new VmStateError(name, verb, state, found.from);
  }
  return found;
}
