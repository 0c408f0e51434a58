// SPDX-License-Identifier: Apache-2.0
/** Exit codes of v2m: stable, documented in docs/reference/v2m.md, errors.md and in `v2m run --help`. */
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
  /** No VM is called that. */
  NOT_FOUND: 8,
  /** The state of the VM does not allow it, or there is one of that name. */
  STATE: 9,
  /** Another command is at work on it. */
  BUSY: 10,
  /** A file of the store is damaged, or was written by a newer V3M. */
  STORE: 11,
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
  E_MODULE: Exit.IMAGE,
  E_NO_KVM: Exit.HOST,
  E_NO_IOMMU: Exit.HOST,
  E_PERMISSION: Exit.HOST,
  E_UNSUPPORTED: Exit.HOST,
  E_NO_LIBRARY: Exit.HOST,
  E_TOOL_MISSING: Exit.HOST,
  E_BAD_IMAGE: Exit.IMAGE,
  E_TRUNCATED: Exit.IMAGE,
  E_NO_ROOM: Exit.IMAGE,
  E_IO: Exit.IMAGE,
  E_NO_MEMORY: Exit.RESOURCES,
  E_LIMIT: Exit.RESOURCES,
  E_TIMEOUT: Exit.TIMEOUT,
  E_DEVICE: Exit.CRASHED,
  E_DEFINITION: Exit.USAGE,
  E_BACKEND: Exit.HOST,
  E_NOT_FOUND: Exit.NOT_FOUND,
  E_VM_STATE: Exit.STATE,
  E_EXISTS: Exit.STATE,
  E_LOCKED: Exit.BUSY,
  E_BUSY: Exit.BUSY,
  E_NETWORK: Exit.HOST,
  E_QEMU: Exit.HOST,
  E_STORE: Exit.STORE,
  E_VERSION: Exit.STORE,
};

/** The exit code of a command that a signal ended. */
export const SIGNAL_CODES: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGHUP: Exit.SIGHUP,
  SIGINT: Exit.SIGINT,
  SIGTERM: Exit.SIGTERM,
};

export function exitCodeOf(error: unknown): number {
  return error instanceof V3mError ? (BY_CODE[error.code] ?? Exit.INTERNAL) : Exit.INTERNAL;
}
