// SPDX-License-Identifier: Apache-2.0
/**
 * Binding of libvmmhpc-yod.so (native/yod/yod.h): the server of an application's file calls. A library of
 * its own on top of libvmmhpc, loaded with the first launch.
 */
import { join } from "node:path";
import { furtherLibrary } from "../ffi/further-library.js";
import { packageRoot, type Signature } from "../ffi/library.js";
import type { MachineHandle } from "../ffi/machine.js";

const KERNEL = "firmware/build/lwk.elf";

declare const serverBrand: unique symbol;
/** An opaque struct vmmhpc_yod *. */
export type ServerHandle = bigint & { readonly [serverBrand]: true };

/** yod.h as it is in C. */
export interface YodApi {
  create(vm: MachineHandle, config: Uint8Array, out: BigUint64Array, err: Uint8Array): number;
  destroy(yod: ServerHandle): void;
  signal(yod: ServerHandle, signal: number, err: Uint8Array): number;
  getReport(yod: ServerHandle, report: Uint8Array, err: Uint8Array): number;
  getStats(yod: ServerHandle, stats: Uint8Array): number;
  queue(yod: ServerHandle): bigint | number;
  adopt(yod: ServerHandle, gpa: bigint, err: Uint8Array): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const YOD_SIGNATURES: { readonly [K in keyof YodApi]: Signature } = {
  create: ["vmmhpc_yod_create", "int32_t", [P, P, P, P]],
  destroy: ["vmmhpc_yod_destroy", "void", [P]],
  signal: ["vmmhpc_yod_signal", "int32_t", [P, "uint32_t", P]],
  getReport: ["vmmhpc_yod_get_report", "int32_t", [P, P, P]],
  getStats: ["vmmhpc_yod_get_stats", "int32_t", [P, P]],
  queue: ["vmmhpc_yod_queue", "uint64_t", [P]],
  adopt: ["vmmhpc_yod_adopt", "int32_t", [P, "uint64_t", P]],
};

const yod = furtherLibrary<YodApi>("yod", YOD_SIGNATURES);

/** The functions, bound at the first call. @throws LibraryError (`E_NO_LIBRARY`) */
export const yodLibrary = yod.api;
/** Where libvmmhpc-yod.so is: `V3M_LIBVMMHPC_YOD` if set, else the release build in this package. */
export const yodLibraryPath = yod.path;

/** Where the lightweight kernel is: `V3M_LWK` if set, else the build in this package. */
export function lightweightKernelPath(): string {
  return process.env.V3M_LWK || join(packageRoot(), KERNEL);
}
