// SPDX-License-Identifier: Apache-2.0
/**
 * The vmmhpc_raw_* section: thin system-call wrappers for `src/kvm`. Each returns a result >= 0 or -errno
 * and allocates nothing; `check` turns a negative result into a KvmError.
 */
import { codeForErrno, errnoName, hintFor, KvmError } from "../errors.js";
import { bindings } from "./library.js";

/** Memory that a native function reads or writes while it runs: a typed array, or a host address. */
export type NativeBuffer = Uint8Array | BigUint64Array | bigint | null;

export interface RawApi {
  open(path: string | null): number;
  close(fd: number): number;
  /** An ioctl whose argument is a pointer. */
  ioctl(fd: number, request: number, arg: NativeBuffer): number;
  /** An ioctl whose argument is a number. */
  ioctlValue(fd: number, request: number, value: number | bigint): number;
  /** KVM_RUN; 0 or -errno. */
  run(vcpuFd: number): number;
  /** Zeroed memory aligned to 2 MiB, its address in address[0]; a descriptor for shared backings. */
  memory(bytes: number | bigint, backing: number, address: BigUint64Array): number;
  /** mmap(fd), shared, readable and writable; address in address[0]. */
  map(fd: number, bytes: number | bigint, offset: number | bigint, address: BigUint64Array): number;
  unmap(address: bigint, bytes: number | bigint): number;
  eventfd(initial: number): number;
  /** Non-blocking: -EAGAIN when nothing was signalled. */
  eventfdRead(fd: number, value: BigUint64Array): number;
  eventfdWrite(fd: number, value: number | bigint): number;
  kick(kvmRun: bigint, tid: number): number;
  prepareKicks(vcpuFd: number): number;
  gettid(): number;
}

export const raw = bindings<RawApi>({
  open: ["vmmhpc_raw_open", "int64_t", ["const char *"]],
  close: ["vmmhpc_raw_close", "int64_t", ["int32_t"]],
  ioctl: ["vmmhpc_raw_ioctl", "int64_t", ["int32_t", "uint64_t", "void *"]],
  ioctlValue: ["vmmhpc_raw_ioctl_value", "int64_t", ["int32_t", "uint64_t", "uint64_t"]],
  run: ["vmmhpc_raw_run", "int64_t", ["int32_t"]],
  memory: ["vmmhpc_raw_memory", "int64_t", ["uint64_t", "uint32_t", "void *"]],
  map: ["vmmhpc_raw_map", "int64_t", ["int32_t", "uint64_t", "uint64_t", "void *"]],
  unmap: ["vmmhpc_raw_unmap", "int64_t", ["void *", "uint64_t"]],
  eventfd: ["vmmhpc_raw_eventfd", "int64_t", ["uint32_t"]],
  eventfdRead: ["vmmhpc_raw_eventfd_read", "int64_t", ["int32_t", "void *"]],
  eventfdWrite: ["vmmhpc_raw_eventfd_write", "int64_t", ["int32_t", "uint64_t"]],
  kick: ["vmmhpc_raw_kick", "int64_t", ["void *", "int32_t"]],
  prepareKicks: ["vmmhpc_raw_prepare_kicks", "int64_t", ["int32_t"]],
  gettid: ["vmmhpc_raw_gettid", "int64_t", []],
});

/** The error for a negative result. `what` names the call for people: "KVM_CREATE_VM". */
export function rawError(result: number, what: string, value?: bigint): KvmError {
  const errno = errnoName(-result);
  const code = codeForErrno(errno);
  return new KvmError(code, `${what} failed: ${errno}`, { errno, hint: hintFor(code), value });
}

/** `result` itself, or a KvmError where it is negative. */
export function check(result: number, what: string, value?: bigint): number {
  if (result < 0) {
    throw rawError(result, what, value);
  }
  return result;
}
