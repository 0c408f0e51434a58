// SPDX-License-Identifier: Apache-2.0
/** The errors of the whole toolkit: one base class, a stable code each, a hint where one can be given. */
import { constants } from "node:os";

/**
 * Stable error codes, all of them in docs/reference/errors.md. The first group is libvmmhpc's (`VMMHPC_E_*`), the
 * second the toolkit's own, the third the V3M front end's.
 */
export type ErrorCode =
  | "E_INVALID"
  | "E_NO_MEMORY"
  | "E_NO_KVM"
  | "E_PERMISSION"
  | "E_UNSUPPORTED"
  | "E_SYSCALL"
  | "E_RANGE"
  | "E_OVERLAP"
  | "E_BAD_IMAGE"
  | "E_TRUNCATED"
  | "E_NO_ROOM"
  | "E_STATE"
  | "E_LIMIT"
  | "E_IO"
  | "E_TIMEOUT"
  | "E_NO_LIBRARY"
  | "E_CLOSED"
  | "E_ABORTED"
  | "E_BACKEND"
  | "E_DEFINITION"
  | "E_EXISTS"
  | "E_LOCKED"
  | "E_NOT_FOUND"
  | "E_STORE"
  | "E_VERSION"
  | "E_VM_STATE"
  | (string & {});

/** What an error may carry beside its code and message. */
export interface ErrorDetails {
  /** What to do about it, one sentence or command. */
  readonly hint?: string | undefined;
  /** Name of the system call's errno, such as `EACCES`. */
  readonly errno?: string | undefined;
  /** The value at fault: an address, a length, a count. */
  readonly value?: bigint | undefined;
  readonly cause?: unknown;
}

/** Base class of every error that the toolkit throws on purpose. */
export class V3mError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly errno: string | undefined;
  readonly value: bigint | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = details.hint;
    this.errno = details.errno;
    this.value = details.value;
  }
}

/** libvmmhpc could not be found or loaded. */
export class LibraryError extends V3mError {}

/** A function of libvmmhpc's machine interface failed. */
export class VmmError extends V3mError {}

/** A KVM system call of `src/kvm` failed. */
export class KvmError extends V3mError {}

/** An argument is wrong: found before anything was done. */
export class ArgumentError extends V3mError {
  constructor(message: string, details: ErrorDetails = {}) {
    super("E_INVALID", message, details);
  }
}

/** The object was closed, or its memory is gone. */
export class ClosedError extends V3mError {
  constructor(message: string, details: ErrorDetails = {}) {
    super("E_CLOSED", message, details);
  }
}

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, value]) => [value, name]),
);

/** `2` → `"ENOENT"`; `undefined` for 0, `"errno N"` for one that Node does not know. */
export function errnoName(errno: number): string | undefined {
  return errno === 0 ? undefined : (ERRNO_NAMES.get(errno) ?? `errno ${errno}`);
}

const HINTS: Readonly<Record<string, string>> = {
  E_PERMISSION:
    "add yourself to group kvm: sudo usermod -aG kvm $USER (then log in again), or run v2m doctor",
  E_NO_KVM:
    "load the module for your CPU: sudo modprobe kvm-intel or kvm-amd; without virtualization hardware use npx v2m-testbed; v2m doctor tells which",
  E_UNSUPPORTED: "v2m doctor lists what this host offers; npx v2m-testbed gives a complete machine",
  E_NO_MEMORY: "ask for less memory, or see what is free: free -m; grep Huge /proc/meminfo",
  E_LIMIT: "v2m doctor shows the limits of this host",
  E_INVALID: "v2m run --help explains the options",
  E_IO: "check the path and its permissions",
  E_BAD_IMAGE: "give a bzImage, a vmlinux, an ELF with a PVH note, or a multiboot image",
  E_TRUNCATED: "the file is shorter than its own header says: copy or download it again",
  E_NO_ROOM: "give the machine more memory",
};

/** The general hint for a code, if there is one. */
export function hintFor(code: ErrorCode): string | undefined {
  return HINTS[code];
}

/** The code that says best what an errno of a KVM call means. */
export function codeForErrno(errno: string | undefined): ErrorCode {
  switch (errno) {
    case "EACCES":
    case "EPERM":
      return "E_PERMISSION";
    case "ENOENT":
    case "ENODEV":
    case "ENXIO":
      return "E_NO_KVM";
    case "ENOTTY":
    case "EOPNOTSUPP":
    case "ENOSYS":
      return "E_UNSUPPORTED";
    case "EINVAL":
      return "E_INVALID";
    case "ENOMEM":
      return "E_NO_MEMORY";
    case "EEXIST":
      return "E_OVERLAP";
    default:
      return "E_SYSCALL";
  }
}
