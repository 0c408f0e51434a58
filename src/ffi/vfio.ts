// SPDX-License-Identifier: Apache-2.0
/** Binding of libvmmhpc-vfio.so (vmmhpc_vfio.h): PCI functions of the host's for machines. */
import { furtherLibrary } from "./further-library.js";
import type { Signature } from "./library.js";
import { checked, type MachineHandle } from "./machine.js";
import { i32, struct, u32 } from "./struct.js";

export const VmmhpcVfio = struct("vmmhpc_vfio", { size: u32, container: i32, group: i32, device: i32 });

interface VfioApi {
  open(address: string, out: Uint8Array, err: Uint8Array): number;
  close(vfio: Uint8Array): void;
  addVfio(vm: MachineHandle, vfio: Uint8Array, id: Uint32Array, err: Uint8Array): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const VFIO_SIGNATURES: { readonly [K in keyof VfioApi]: Signature } = {
  open: ["vmmhpc_vfio_open", "int32_t", ["const char *", P, P]],
  close: ["vmmhpc_vfio_close", "void", [P]],
  addVfio: ["vmmhpc_add_vfio", "int32_t", [P, P, P, P]],
};

const vfio = furtherLibrary<VfioApi>("vfio", VFIO_SIGNATURES);

/** Open the function and add it to the machine, which keeps it. @returns its PCI slot. @throws VmmError */
export function addVfio(vm: MachineHandle, address: string): number {
  const opened = VmmhpcVfio.alloc({ size: VmmhpcVfio.size, container: -1, group: -1, device: -1 });
  checked((err) => vfio.api().open(address, opened, err));
  try {
    const id = new Uint32Array(1);
    checked((err) => vfio.api().addVfio(vm, opened, id, err));
    return id[0] ?? 0;
  } finally {
    vfio.api().close(opened);
  }
}
