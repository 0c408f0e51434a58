// SPDX-License-Identifier: Apache-2.0
/**
 * Exit codes of `v2m yod`: the application's, or those that env(1), timeout(1) and docker(1) use for what
 * is not the application's.
 */
import { V3mError } from "../errors.js";
import { AppError } from "../yod/errors.js";
import type { Outcome } from "../yod/launch.js";
import { Exit } from "./exit-codes.js";

export const YodExit = {
  /** --timeout elapsed. */
  TIMEOUT: Exit.TIMEOUT,
  /** v2m, the host or the lightweight kernel failed, or the command line is wrong. */
  FAILED: 125,
  /** The application cannot be executed. */
  CANNOT_EXECUTE: 126,
  /** There is no such application. */
  NOT_FOUND: 127,
  /** And 128 + n: signal n ended the application. */
  SIGNAL: 128,
} as const;

export function yodExitCodeOf(error: unknown): number {
  if (error instanceof AppError) {
    return error.code === "E_APP_NOT_FOUND" ? YodExit.NOT_FOUND : YodExit.CANNOT_EXECUTE;
  }
  return error instanceof V3mError && error.code === "E_TIMEOUT" ? YodExit.TIMEOUT : YodExit.FAILED;
}

export function exitCodeOfOutcome(outcome: Outcome): number {
  if (outcome.timedOut) return YodExit.TIMEOUT;
  switch (outcome.kind) {
    case "exit":
      return outcome.status;
    case "signal":
    case "fault":
      return YodExit.SIGNAL + outcome.signal;
    case "refused":
      return YodExit.CANNOT_EXECUTE;
    default:
      return YodExit.FAILED;
  }
}
