// SPDX-License-Identifier: Apache-2.0
/** The front end's errors. Each says what happened, why, and what to do. */
import { type ErrorDetails, V3mError } from "../errors.js";
import type { Feature, VmState } from "../vmm/backend.js";

export { AbortedError, LockedError, StoreError, throwIfAborted } from "../state/errors.js";

/** Something that is wrong in a definition, and where. */
export interface Problem {
  readonly message: string;
  /** Where in the document: `nics[0].mac`; empty for the whole of it. */
  readonly path: string;
  /** From 1; absent where the document has no lines (an object from a program). */
  readonly line?: number;
  readonly column?: number;
  /** What to write instead. */
  readonly hint?: string;
}

function formatProblem(source: string, problem: Problem): string {
  const at = problem.line === undefined ? "" : `:${problem.line}:${problem.column ?? 1}`;
  const path = problem.path === "" ? "" : `${problem.path}: `;
  const hint = problem.hint === undefined ? "" : ` (${problem.hint})`;
  return `${source}${at}: ${path}${problem.message}${hint}`;
}

/** A definition is wrong; all that is wrong in it is in `problems`. */
export class DefinitionError extends V3mError {
  readonly source: string;
  readonly problems: readonly Problem[];

  /** @param source the file's name, for people. @param problems at least one. @param hint default: about definitions */
  constructor(source: string, problems: readonly Problem[], hint?: string) {
    super("E_DEFINITION", problems.map((problem) => formatProblem(source, problem)).join("\n"), {
      hint: hint ?? "docs/reference/definition.md describes definitions, v2m schema prints their JSON Schema",
    });
    this.source = source;
    this.problems = problems;
  }
}

/** There is no VM of that name. */
export class NotFoundError extends V3mError {
  constructor(name: string, details: ErrorDetails = {}) {
    super("E_NOT_FOUND", `no VM is called ${JSON.stringify(name)}`, {
      hint: "v2m list shows the names of all",
      ...details,
    });
  }
}

/** There is a VM of that name already. */
export class ExistsError extends V3mError {
  constructor(name: string, details: ErrorDetails = {}) {
    super("E_EXISTS", `a VM called ${name} is defined already`, {
      hint: `replace its definition with v2m define --replace, or remove it first: v2m undefine ${name}`,
      ...details,
    });
  }
}

/** The state of the VM does not allow the verb. */
export class VmStateError extends V3mError {
  readonly state: VmState;

  constructor(name: string, verb: string, state: VmState, allowed: readonly VmState[]) {
    super("E_VM_STATE", `${name} is ${state}: ${verb} needs a VM that is ${allowed.join(" or ")}`, {
      hint: hintForState(name, state),
    });
    this.state = state;
  }
}

function hintForState(name: string, state: VmState): string {
  switch (state) {
    case "defined":
    case "stopped":
    case "crashed":
      return `start it first: v2m start ${name}`;
    case "paused":
      return `let it go on first: v2m resume ${name}`;
    case "running":
      return `stop it first: v2m stop ${name}`;
    default:
      return `wait until it is done: v2m status ${name}`;
  }
}

/** The back end cannot do it, as its capability matrix says. */
export class UnsupportedError extends V3mError {
  readonly feature: Feature;
  readonly reason: string;

  constructor(type: string, feature: Feature, reason: string) {
    super("E_UNSUPPORTED", `${type} does not support ${feature}: ${reason}`, {
      hint: `v2m capabilities shows which back end does`,
    });
    this.feature = feature;
    this.reason = reason;
  }
}

/** A back end broke its contract, or failed with what is no V3mError. */
export class BackendError extends V3mError {
  constructor(message: string, details: ErrorDetails = {}) {
    super("E_BACKEND", message, details);
  }
}
