// SPDX-License-Identifier: Apache-2.0
/** Errors of launching an application on the lightweight kernel. */
import { type ErrorDetails, V3mError } from "../errors.js";

/**
 * - `E_APP_NOT_FOUND`: there is no such file
 * - `E_APP_ACCESS`: it cannot be read, or is not executable
 * - `E_APP_FORMAT`: it is no x86-64 ELF executable
 * - `E_APP_SCRIPT`: it is a script, which needs an interpreter
 * - `E_APP_DYNAMIC`: it is dynamically linked
 * - `E_APP_REFUSED`: the lightweight kernel could not load it
 */
export type AppErrorCode =
  | "E_APP_NOT_FOUND"
  | "E_APP_ACCESS"
  | "E_APP_FORMAT"
  | "E_APP_SCRIPT"
  | "E_APP_DYNAMIC"
  | "E_APP_REFUSED";

/** The application cannot be launched; found before anything ran, except for `E_APP_REFUSED`. */
export class AppError extends V3mError {
  declare readonly code: AppErrorCode;

  constructor(code: AppErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}

/** A function of libvmmhpc-yod failed. */
export class YodError extends V3mError {}
