// SPDX-License-Identifier: Apache-2.0
/** Binding of libvmmhpc-place.so (vmmhpc_place.h): where and how a machine runs, and what its guest sees of that. */
import { furtherLibrary } from "./further-library.js";
import type { Signature } from "./library.js";
import { Arena, checked, checkedAsync, type MachineHandle } from "./machine.js";
import { isRemote } from "./monitor.js";
import { pad, ptr, struct, u32 } from "./struct.js";

/** VMMHPC_EXIT_*: instructions that do not leave the guest any more. */
export const WithoutExit = { HALT: 1, PAUSE: 2 } as const;
export const PRIORITY_MAX = 99;
export const NODES_MAX = 64;
export const DISTANCE_LOCAL = 10;
export const DISTANCE_REMOTE = 20;

export const VmmhpcPlacement = struct("vmmhpc_placement", {
  size: u32,
  without_exits: u32,
  vcpu_priority: u32,
  io_priority: u32,
  io_pin_count: u32,
  nodes: u32,
  io_pin: ptr,
  vcpu_nodes: ptr,
  memory_nodes: ptr,
  distances: ptr,
  cache_cores: u32,
  reserved: pad(4, 4),
});

interface PlaceApi {
  place(vm: MachineHandle, placement: Uint8Array, err: Uint8Array): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const PLACE_SIGNATURES: { readonly [K in keyof PlaceApi]: Signature } = {
  place: ["vmmhpc_place", "int32_t", [P, P, P]],
};

const library = furtherLibrary<PlaceApi>("place", PLACE_SIGNATURES);

export interface PlacementSpec {
  /** `WithoutExit.*`, or-ed. */
  readonly withoutExits: number;
  /** SCHED_FIFO, 1 to 99; 0: as usual. */
  readonly vcpuPriority: number;
  readonly ioPriority: number;
  readonly ioPin: readonly number[];
  /** NUMA nodes of the guest; 0: none are shown. */
  readonly nodes: number;
  /** Of each vCPU. */
  readonly vcpuNodes: readonly number[];
  /** Of each memory region. */
  readonly memoryNodes: readonly number[];
  /** Row by row; empty: the usual ones. */
  readonly distances: readonly number[];
  /** Cores that share a last-level cache; 0: those of a socket. */
  readonly cacheCores: number;
}

/** Right after the machine was made. Where it fails the machine can only be destroyed. @throws VmmError, LibraryError */
export async function place(vm: MachineHandle, spec: PlacementSpec): Promise<void> {
  const arena = new Arena();
  const numbers = (values: readonly number[]) =>
    values.length === 0 ? 0n : arena.address(Uint32Array.from(values));
  const placement = VmmhpcPlacement.alloc({
    size: VmmhpcPlacement.size,
    without_exits: spec.withoutExits,
    vcpu_priority: spec.vcpuPriority,
    io_priority: spec.ioPriority,
    io_pin_count: spec.ioPin.length,
    nodes: spec.nodes,
    io_pin: numbers(spec.ioPin),
    vcpu_nodes: numbers(spec.vcpuNodes),
    memory_nodes: numbers(spec.memoryNodes),
    distances: spec.distances.length === 0 ? 0n : arena.address(Uint8Array.from(spec.distances)),
    cache_cores: spec.cacheCores,
  });
  try {
    const { api } = library;
    if (isRemote(vm)) await checkedAsync((err, done) => api().place.async(vm, placement, err, done));
    else checked((err) => api().place(vm, placement, err));
  } finally {
    arena.release();
  }
}
