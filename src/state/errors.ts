// SPDX-License-Identifier: Apache-2.0
/** Errors of files and locks that several commands share. */
import { type ErrorDetails, V3mError } from "../errors.js";

/** Another command is at work on the VM, or on the store. */
export class LockedError extends V3mError {
  constructor(what: string, holder: string | undefined, details: ErrorDetails = {}) {
    super("E_LOCKED", `${what} is in use${holder === undefined ? "" : ` by ${holder}`}`, {
      hint: "wait until that command has ended, or give this one longer: --wait 60",
      ...details,
    });
  }
}

/** A file of the store cannot be read or written; the state is as it was before. */
export class StoreError extends V3mError {}

/** The operation was aborted by its caller. */
export class AbortedError extends V3mError {
  constructor(what: string, cause?: unknown) {
    super("E_ABORTED", `${what} was aborted`, cause === undefined ? {} : { cause });
  }
}

/** @throws AbortedError once the signal is aborted */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted === true) {
    throw new AbortedError(what, signal.reason);
  }
}
