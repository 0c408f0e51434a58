// SPDX-License-Identifier: Apache-2.0
/** The machine section of vmmhpc.h as it is in C: status codes, structures as buffers, an error buffer last. */
import { bindings } from "./library.js";
import type { NativeBuffer } from "./raw.js";

declare const machineBrand: unique symbol;
/** An opaque struct vmmhpc *: owned by whoever called `create`, until `destroy`. May be posted to a
 *  Worker, which then must not use it after that. */
export type MachineHandle = bigint & { readonly [machineBrand]: true };

/** Called for an access by the guest; the result is what a read returns. Numbers above 2^53 are bigint. */
export type NativeHandler = (
  opaque: bigint | null,
  vcpu: number,
  offset: number | bigint,
  bytes: number,
  direction: number,
  value: number | bigint,
) => number | bigint;

type Vm = MachineHandle | null;

interface MachineApi {
  version(): number;
  statusName(code: number): string;
  create(config: Uint8Array, out: BigUint64Array, err: Uint8Array): number;
  destroy(vm: Vm): void;
  load(vm: Vm, boot: Uint8Array, err: Uint8Array): number;
  imageKind(vm: Vm): number;
  start(vm: Vm, err: Uint8Array): number;
  pause(vm: Vm, err: Uint8Array): number;
  resume(vm: Vm, err: Uint8Array): number;
  reset(vm: Vm, err: Uint8Array): number;
  stop(vm: Vm, err: Uint8Array): number;
  wait(vm: Vm, timeoutMs: number, err: Uint8Array): number;
  getState(vm: Vm): number;
  getStopInfo(vm: Vm, info: Uint8Array): number;
  vcpuRun(vm: Vm, vcpu: number, err: Uint8Array): number;
  openEvents(vm: Vm, fd: Int32Array, err: Uint8Array): number;
  consoleAttach(vm: Vm, inFd: number, outFd: number, err: Uint8Array): number;
  consoleOpen(vm: Vm, fd: Int32Array, err: Uint8Array): number;
  consoleDetach(vm: Vm, err: Uint8Array): number;
  isRemote(vm: Vm): number;
  memoryAt(vm: Vm, gpa: bigint, bytes: bigint): bigint | null;
  slotCount(vm: Vm): number;
  getSlot(vm: Vm, index: number, slot: Uint8Array): number;
  deviceAdd(
    vm: Vm,
    space: number,
    base: bigint,
    bytes: bigint,
    handler: bigint,
    opaque: NativeBuffer,
    id: Uint32Array,
    err: Uint8Array,
  ): number;
  deviceAddEach(
    vm: Vm,
    space: number,
    base: bigint,
    bytes: bigint,
    handlers: BigUint64Array,
    count: number,
    opaque: bigint,
    id: Uint32Array,
    err: Uint8Array,
  ): number;
  deviceRemove(vm: Vm, id: number, err: Uint8Array): number;
  irqSet(vm: Vm, gsi: number, level: number, err: Uint8Array): number;
  stats(vm: Vm, bytes: BigUint64Array): bigint | null;
  statsFd(vm: Vm): number;
  kvmStats(
    vm: Vm,
    vcpu: number,
    out: Uint8Array | null,
    capacity: number,
    count: Uint32Array,
    err: Uint8Array,
  ): number;
  guestExits(vm: Vm, exits: BigUint64Array, err: Uint8Array): number;
  hostInfo(path: string | null, host: Uint8Array, err: Uint8Array): number;
}

const P = "void *";

/** The functions as they are in C: status codes, an error buffer last. The rest of this file wraps them. */
export const machine = bindings<MachineApi>({
  version: ["vmmhpc_version", "uint32_t", []],
  statusName: ["vmmhpc_status_name", "const char *", ["int32_t"]],
  create: ["vmmhpc_create", "int32_t", [P, P, P]],
  destroy: ["vmmhpc_destroy", "void", [P]],
  load: ["vmmhpc_load", "int32_t", [P, P, P]],
  imageKind: ["vmmhpc_image_kind", "uint32_t", [P]],
  start: ["vmmhpc_start", "int32_t", [P, P]],
  pause: ["vmmhpc_pause", "int32_t", [P, P]],
  resume: ["vmmhpc_resume", "int32_t", [P, P]],
  reset: ["vmmhpc_reset", "int32_t", [P, P]],
  stop: ["vmmhpc_stop", "int32_t", [P, P]],
  wait: ["vmmhpc_wait", "int32_t", [P, "int64_t", P]],
  getState: ["vmmhpc_get_state", "uint32_t", [P]],
  getStopInfo: ["vmmhpc_get_stop_info", "int32_t", [P, P]],
  vcpuRun: ["vmmhpc_vcpu_run", "int32_t", [P, "uint32_t", P]],
  openEvents: ["vmmhpc_open_events", "int32_t", [P, P, P]],
  consoleAttach: ["vmmhpc_console_attach", "int32_t", [P, "int32_t", "int32_t", P]],
  consoleOpen: ["vmmhpc_console_open", "int32_t", [P, P, P]],
  consoleDetach: ["vmmhpc_console_detach", "int32_t", [P, P]],
  isRemote: ["vmmhpc_is_remote", "uint32_t", [P]],
  memoryAt: ["vmmhpc_memory_at", P, [P, "uint64_t", "uint64_t"]],
  slotCount: ["vmmhpc_slot_count", "uint32_t", [P]],
  getSlot: ["vmmhpc_get_slot", "int32_t", [P, "uint32_t", P]],
  deviceAdd: ["vmmhpc_device_add", "int32_t", [P, "uint32_t", "uint64_t", "uint64_t", P, P, P, P]],
  deviceAddEach: [
    "vmmhpc_device_add_each",
    "int32_t",
    [P, "uint32_t", "uint64_t", "uint64_t", P, "uint32_t", P, P, P],
  ],
  deviceRemove: ["vmmhpc_device_remove", "int32_t", [P, "uint32_t", P]],
  irqSet: ["vmmhpc_irq_set", "int32_t", [P, "uint32_t", "uint32_t", P]],
  stats: ["vmmhpc_stats", P, [P, P]],
  statsFd: ["vmmhpc_stats_fd", "int32_t", [P]],
  kvmStats: ["vmmhpc_kvm_stats", "int32_t", [P, "int32_t", P, "uint32_t", P, P]],
  guestExits: ["vmmhpc_guest_exits", "int32_t", [P, P, P]],
  hostInfo: ["vmmhpc_host_info", "int32_t", ["const char *", P, P]],
});
