// SPDX-License-Identifier: Apache-2.0
/**
 * Binding of libvmmhpc-gdb.so (native/gdb/gdb.h): the server for gdb. A library of its own on top of
 * libvmmhpc, loaded with the first server.
 */
import koffi from "koffi";
import { furtherLibrary } from "./further-library.js";
import { VmmhpcError } from "./layouts.js";
import type { Signature } from "./library.js";
import { type MachineHandle, vmmError } from "./machine.js";
import { pad, ptr, struct, u32 } from "./struct.js";

declare const serverBrand: unique symbol;
/** An opaque struct vmmhpc_gdb *. */
export type GdbHandle = bigint & { readonly [serverBrand]: true };

export const VmmhpcGdbConfig = struct("vmmhpc_gdb_config", {
  size: u32,
  flags: u32,
  path: ptr,
  port: u32,
  reserved: pad(4),
});

/** VMMHPC_GDB_WAIT. */
export const GDB_WAIT = 1;
/** VMMHPC_DEBUG_*. */
export const DebugFeature = { INT3: 1, HARDWARE: 2, STEP: 4, BLOCKIRQ: 8 } as const;

/** gdb.h as it is in C. */
export interface GdbApi {
  create(vm: MachineHandle, config: Uint8Array, out: BigUint64Array, err: Uint8Array): number;
  destroy(gdb: GdbHandle): void;
  port(gdb: GdbHandle): number;
  attached(gdb: GdbHandle): number;
  features(gdb: GdbHandle): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const GDB_SIGNATURES: { readonly [K in keyof GdbApi]: Signature } = {
  create: ["vmmhpc_gdb_create", "int32_t", [P, P, P, P]],
  destroy: ["vmmhpc_gdb_destroy", "void", [P]],
  port: ["vmmhpc_gdb_port", "uint32_t", [P]],
  attached: ["vmmhpc_gdb_attached", "uint32_t", [P]],
  features: ["vmmhpc_gdb_features", "uint32_t", [P]],
};

const gdb = furtherLibrary<GdbApi>("gdb", GDB_SIGNATURES);

/** The functions, bound at the first call. @throws LibraryError (`E_NO_LIBRARY`) */
export const gdbLibrary = gdb.api;
/** Where libvmmhpc-gdb.so is: `V3M_LIBVMMHPC_GDB` if set, else the release build in this package. */
export const gdbLibraryPath = gdb.path;

/** @throws VmmError, LibraryError */
export function gdbCreate(
  vm: MachineHandle,
  config: { readonly port: number; readonly path: string | undefined; readonly wait: boolean },
): GdbHandle {
  const path = config.path === undefined ? undefined : Buffer.from(`${config.path}\0`);
  const native = VmmhpcGdbConfig.alloc({
    size: VmmhpcGdbConfig.size,
    flags: config.wait ? GDB_WAIT : 0,
    path: path === undefined ? 0n : koffi.address(path),
    port: config.port,
  });
  const out = new BigUint64Array(1);
  const err = VmmhpcError.alloc({ size: VmmhpcError.size });
  const status = gdbLibrary().create(vm, native, out, err);
  path?.fill(0); // here: reachable until the call has come back
  if (status < 0) {
    throw vmmError(status, err);
  }
  return (out[0] ?? 0n) as GdbHandle;
}

/** In a thread of koffi's pool: it waits for vCPUs, and these may wait for a handler in the caller's thread. */
export function gdbDestroyAsync(gdb: GdbHandle): Promise<void> {
  return new Promise((resolve, reject) => {
    gdbLibrary().destroy.async(gdb, (error) => (error === null ? resolve() : reject(error)));
  });
}
