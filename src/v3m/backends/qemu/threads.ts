// SPDX-License-Identifier: Apache-2.0
/** Host CPUs and priorities of another process's threads, by the system calls that taskset and chrt make. */
import koffi from "koffi";
import { errnoName } from "../../../errors.js";
import type { Bound } from "../../../ffi/library.js";
import { HypervisorError } from "../errors.js";

/** Of the kernel's CPU sets: CONFIG_NR_CPUS of distributions' kernels. */
const MAX_CPUS = 8192;
const SCHED_FIFO = 1;

interface Calls {
  setAffinity(tid: number, bytes: number, mask: Uint8Array): number;
  setScheduler(tid: number, policy: number, parameters: Int32Array): number;
}

let bound: { readonly [K in keyof Calls]: Bound<Calls[K]> } | undefined;

function calls(): NonNullable<typeof bound> {
  const libc = koffi.load(null);
  bound ??= {
    setAffinity: libc.func("sched_setaffinity", "int", ["int", "size_t", "void *"]),
    setScheduler: libc.func("sched_setscheduler", "int", ["int", "int", "void *"]),
  };
  return bound;
}

function affinity(tid: number, cpus: readonly number[]): boolean {
  const mask = new Uint8Array(MAX_CPUS / 8);
  for (const cpu of cpus) {
    if (cpu < MAX_CPUS) mask[cpu >> 3] = (mask[cpu >> 3] ?? 0) | (1 << (cpu & 7));
  }
  return calls().setAffinity(tid, mask.length, mask) === 0;
}

/** @param what whose thread it is, for the message. @throws HypervisorError E_INVALID for a CPU that is not there */
export function pinThread(tid: number, cpus: readonly number[], what: string): void {
  // Each by itself first: the kernel passes over those of a set that are not there.
  for (const cpu of cpus) {
    if (affinity(tid, [cpu])) continue;
    const errno = errnoName(koffi.errno());
    throw new HypervisorError("E_INVALID", `cannot pin ${what} to host CPU ${cpu}: ${errno}`, {
      hint: "lscpu lists the CPUs of this host; cgroups may forbid some",
      errno,
      value: BigInt(cpu),
    });
  }
  affinity(tid, cpus);
}

/** Real time: SCHED_FIFO. @throws HypervisorError E_PERMISSION without the right to it */
export function prioritize(tid: number, priority: number, what: string): void {
  if (calls().setScheduler(tid, SCHED_FIFO, Int32Array.of(priority)) === 0) return;
  const errno = errnoName(koffi.errno());
  throw new HypervisorError(
    errno === "EPERM" ? "E_PERMISSION" : "E_SYSCALL",
    `cannot give ${what} real-time priority ${priority}: ${errno}`,
    {
      hint: "it takes CAP_SYS_NICE, or a limit that allows it: ulimit -r",
      errno,
      value: BigInt(priority),
    },
  );
}
