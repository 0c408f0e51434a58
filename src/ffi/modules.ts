// SPDX-License-Identifier: Apache-2.0
/**
 * vmmhpc_module.h: its structures, and its functions, which throw VmmError. All but `fail` and `list` may wait for
 * vCPUs, and these for a callback in the calling thread: they run in koffi's pool.
 */
import koffi from "koffi";
import { detach } from "./detach.js";
import { Status, VmmhpcError } from "./layouts.js";
import { bindings } from "./library.js";
import { type MachineHandle, vmmError } from "./machine.js";
import { array, chars, pad, ptr, type StructValue, struct, u16, u32, u64 } from "./struct.js";

export const MODULE_ABI_MAJOR = 1;
export const MODULE_ABI_MINOR = 0;
export const MODULE_MAX = 64;
export const HYPERCALL_FIRST = 0x100;
export const HYPERCALL_LAST = 0xffff;

/** enum vmmhpc_hook_action. */
export const HookAction = { PASS: 0, CONSUME: 1, STOP: 2 } as const;

/** enum vmmhpc_module_state. */
export const ModuleState = { STARTING: 0, RUNNING: 1, FAILING: 2, FAILED: 3, REMOVING: 4 } as const;

export const VmmhpcModuleAccess = struct("vmmhpc_module_access", {
  size: u32,
  vcpu: u32,
  offset: u64,
  value: u64,
  bytes: u32,
  direction: u32,
});

export const VmmhpcModuleCall = struct("vmmhpc_module_call", {
  size: u32,
  vcpu: u32,
  number: u32,
  reserved: pad(4, 4),
  args: array(u64, 6),
  result: u64,
});

export const VmmhpcModuleExit = struct("vmmhpc_module_exit", {
  size: u32,
  vcpu: u32,
  reason: u32,
  direction: u32,
  address: u64,
  value: u64,
  bytes: u32,
  count: u32,
  data: ptr,
  detail: u64,
});

export const VmmhpcModule = struct("vmmhpc_module", {
  magic: u64,
  size: u32,
  abi_major: u16,
  abi_minor: u16,
  name: chars(32),
  version: chars(16),
  init: ptr,
  fini: ptr,
  reset: ptr,
});

export const VmmhpcModuleInfo = struct("vmmhpc_module_info", {
  size: u32,
  id: u32,
  state: u32,
  parts: u32,
  device_calls: u64,
  hypercalls: u64,
  hook_calls: u64,
  name: chars(32),
  version: chars(16),
  text: chars(184),
});
export type NativeModuleInfo = StructValue<typeof VmmhpcModuleInfo>;

type Vm = MachineHandle;

interface ModuleApi {
  load(vm: Vm, path: string, args: string, id: Uint32Array, err: Uint8Array): number;
  attach(vm: Vm, descriptor: bigint, args: string, id: Uint32Array, err: Uint8Array): number;
  open(vm: Vm, name: string, id: Uint32Array, err: Uint8Array): number;
  addDevice(
    vm: Vm,
    id: number,
    space: number,
    base: bigint,
    bytes: bigint,
    device: bigint,
    opaque: bigint,
    err: Uint8Array,
  ): number;
  addHypercall(vm: Vm, id: number, call: number, fn: bigint, opaque: bigint, err: Uint8Array): number;
  addExitHook(vm: Vm, id: number, reasons: bigint, fn: bigint, opaque: bigint, err: Uint8Array): number;
  fail(vm: Vm, id: number, text: string, err: Uint8Array): number;
  remove(vm: Vm, id: number, err: Uint8Array): number;
  list(vm: Vm, out: Uint8Array, capacity: number, count: Uint32Array, err: Uint8Array): number;
}

const P = "void *";
const TEXT = "const char *";

const api = bindings<ModuleApi>({
  load: ["vmmhpc_module_load", "int32_t", [P, TEXT, TEXT, P, P]],
  attach: ["vmmhpc_module_attach", "int32_t", [P, P, TEXT, P, P]],
  open: ["vmmhpc_module_open", "int32_t", [P, TEXT, P, P]],
  addDevice: [
    "vmmhpc_module_add_device",
    "int32_t",
    [P, "uint32_t", "uint32_t", "uint64_t", "uint64_t", P, P, P],
  ],
  addHypercall: ["vmmhpc_module_add_hypercall", "int32_t", [P, "uint32_t", "uint32_t", P, P, P]],
  addExitHook: ["vmmhpc_module_add_exit_hook", "int32_t", [P, "uint32_t", "uint64_t", P, P, P]],
  fail: ["vmmhpc_module_fail", "int32_t", [P, "uint32_t", TEXT, P]],
  remove: ["vmmhpc_module_remove", "int32_t", [P, "uint32_t", P]],
  list: ["vmmhpc_module_list", "int32_t", [P, P, "uint32_t", P, P]],
});

const newError = () => VmmhpcError.alloc({ size: VmmhpcError.size });

/** A call in koffi's pool; what `start` closes over stays alive until it is done. */
function pooled(
  start: (err: Uint8Array, done: (error: Error | null, status: number) => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const err = newError();
    start(err, (error, status) => {
      if (error !== null) reject(error);
      else if (status < 0) reject(vmmError(status, err));
      else resolve();
    });
  });
}

/** Load a shared object; gives the module's id in this machine. */
export async function moduleLoad(vm: Vm, path: string, args: string): Promise<number> {
  const id = new Uint32Array(1);
  await pooled((err, done) => api.load.async(vm, path, args, id, err, done));
  return id[0] ?? 0;
}

/** A module whose parts are added by the calls below. */
export async function moduleOpen(vm: Vm, name: string): Promise<number> {
  const id = new Uint32Array(1);
  await pooled((err, done) => api.open.async(vm, name, id, err, done));
  return id[0] ?? 0;
}

export const moduleAddDevice = (
  vm: Vm,
  id: number,
  space: number,
  base: bigint,
  bytes: bigint,
  callback: bigint,
): Promise<void> =>
  pooled((err, done) => api.addDevice.async(vm, id, space, base, bytes, callback, 0n, err, done));

export const moduleAddHypercall = (vm: Vm, id: number, number: number, callback: bigint): Promise<void> =>
  pooled((err, done) => api.addHypercall.async(vm, id, number, callback, 0n, err, done));

/** @param reasons bit n: KVM_EXIT_ n; 0: all */
export const moduleAddExitHook = (vm: Vm, id: number, reasons: bigint, callback: bigint): Promise<void> =>
  pooled((err, done) => api.addExitHook.async(vm, id, reasons, callback, 0n, err, done));

/** Waits until no vCPU is in it. */
export const moduleRemove = (vm: Vm, id: number): Promise<void> =>
  pooled((err, done) => api.remove.async(vm, id, err, done));

/** Declare it failed; from any thread. One that is gone or has failed already is left alone. */
export function moduleFail(vm: Vm, id: number, text: string): void {
  api.fail(vm, id, text, newError());
}

export function moduleList(vm: Vm): NativeModuleInfo[] {
  const out = new Uint8Array(MODULE_MAX * VmmhpcModuleInfo.size);
  const count = new Uint32Array(1);
  const err = newError();
  const status = api.list(vm, out, MODULE_MAX, count, err);
  if (status < 0) {
    throw vmmError(status, err);
  }
  return Array.from({ length: Math.min(count[0] ?? 0, MODULE_MAX) }, (_, i) =>
    VmmhpcModuleInfo.decode(out, i * VmmhpcModuleInfo.size),
  );
}

const CALLBACK = koffi.pointer(koffi.proto("int32_t", ["void *", "void *"]));

/**
 * A function as a vmmhpc_module_device, _hypercall or _hook: it gets the structure as a DataView, valid during the
 * call, and must not throw. Unregister it after the module's removal.
 */
export function registerCallback(bytes: number, callback: (view: DataView) => number): bigint {
  return koffi.register((_opaque: bigint | null, address: bigint) => {
    const buffer = koffi.view(address, bytes);
    try {
      return callback(new DataView(buffer));
    } finally {
      detach(buffer);
    }
  }, CALLBACK);
}
export const unregisterCallback = (pointer: bigint): void => koffi.unregister(pointer);

/** What a callback returns where it failed. */
export const CALLBACK_FAILED: number = Status.E_STATE;
