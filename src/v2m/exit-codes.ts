// SPDX-License-Identifier: Apache-2.0
/** Exit codes of v2m: stable, documented in docs/reference/v2m.md and in `v2m run --help`. */
import { V3mError } from "../errors.js";

export const Exit = {
  /** It did what was asked; for `run`: the guest powered off. */
  OK: 0,
  /** A failure of v2m itself. */
  INTERNAL: 1,
  /** The command line is wrong. */
  USAGE: 2,
  /** The guest crashed, or a TypeScript device failed. */
  CRASHED: 3,
  /** This host cannot run it: no KVM, no permission, or KVM lacks something. */
  HOST: 4,
  /** Kernel, initrd or command line cannot be loaded. */
  IMAGE: 5,
  /** Not enough memory, or more vCPUs than the host allows. */
  RESOURCES: 6,
  /** The guest reset itself, with --no-reboot. */
  RESET: 7,
  /** --timeout elapsed; as timeout(1). */
  TIMEOUT: 124,
  /** 128 + signal. */
  SIGHUP: 129,
  SIGINT: 130,
  SIGPIPE: 141,
  SIGTERM: 143,
} as const;

const BY_CODE: Readonly<Record<string, number>> = {
  E_USAGE: Exit.USAGE,
  E_INVALID: Exit.USAGE,
  E_OVERLAP: Exit.IMAGE,
  E_NO_KVM: Exit.HOST,
  E_PERMISSION: Exit.HOST,
  E_UNSUPPORTED: Exit.HOST,
  E_NO_LIBRARY: Exit.HOST,
  E_BAD_IMAGE: Exit.IMAGE,
  E_TRUNCATED: Exit.IMAGE,
  E_NO_ROOM: Exit.IMAGE,
  E_IO: Exit.IMAGE,
  E_NO_MEMORY: Exit.RESOURCES,
  E_LIMIT: Exit.RESOURCES,
  E_TIMEOUT: Exit.TIMEOUT,
  E_DEVICE: Exit.CRASHED,
};

export function exitCodeOf(error: unknown): number {
  return error instanceof V3mError ? (BY_CODE[error.code] ?? Exit.INTERNAL) : Exit.INTERNAL;
}
