// SPDX-License-Identifier: Apache-2.0
/**
 * The machine section of vmmhpc.h as functions that throw VmmError: import * as native from
 * '../ffi/machine.js'; const vm = native.create({ cpus: 1, memory: [{ bytes: 64n << 20n }] }).
 *
 * A device handler registered in JavaScript runs in the thread that registered it. Where vCPUs have their
 * own threads, `pause`, `destroy`, `deviceRemove` and `wait` would wait for a vCPU that waits for this
 * thread: use their Async forms, which leave the event loop free.
 */
import koffi from "koffi";
import { errnoName, hintFor, VmmError } from "../errors.js";
import * as L from "./layouts.js";
import { type MachineHandle, machine, type NativeHandler } from "./machine-api.js";
import { viewOf } from "./struct.js";

export { type MachineHandle, machine, type NativeHandler } from "./machine-api.js";

const STATUS_NAMES = new Map<number, string>(Object.entries(L.Status).map(([name, code]) => [code, name]));

function newError(): Uint8Array {
  return L.VmmhpcError.alloc({ size: L.VmmhpcError.size });
}

/** The VmmError for a status and the error structure that came with it. */
export function vmmError(status: number, err?: Uint8Array): VmmError {
  const info = err === undefined ? undefined : L.VmmhpcError.decode(err);
  const code = STATUS_NAMES.get(status) ?? `E_STATUS_${-status}`;
  const filled = info !== undefined && info.code === status && info.text !== "";
  return new VmmError(code, filled ? info.text : `libvmmhpc failed with ${code}`, {
    hint: hintFor(code),
    errno: filled ? errnoName(info.sys_errno) : undefined,
    value: filled ? info.value : undefined,
  });
}

export function checked(call: (err: Uint8Array) => number): void {
  const err = newError();
  const status = call(err);
  if (status < 0) {
    throw vmmError(status, err);
  }
}

export function checkedAsync(
  start: (err: Uint8Array, done: (error: Error | null, status: number) => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const err = newError();
    start(err, (error, status) => {
      if (error !== null) {
        reject(error);
      } else if (status < 0) {
        reject(vmmError(status, err));
      } else {
        resolve();
      }
    });
  });
}

/** Keeps what a structure points to alive while a native call runs: addresses do not count as references. */
export class Arena {
  readonly #kept: ArrayBufferView[] = [];

  address(memory: ArrayBufferView): bigint {
    this.#kept.push(memory);
    return koffi.address(memory);
  }

  text(value: string | undefined): bigint {
    return value === undefined ? 0n : this.address(Buffer.from(`${value}\0`));
  }

  bytes(value: Uint8Array | undefined): bigint {
    return value === undefined || value.byteLength === 0 ? 0n : this.address(value);
  }

  /** Call it after the native call; it is what keeps the buffers reachable until then. */
  release(): void {
    this.#kept.length = 0;
  }
}

/** One region of guest RAM. */
export interface MemorySpec {
  /** Bytes: a multiple of 4 KiB (or of the huge page size). */
  readonly bytes: bigint;
  readonly backing?: L.Backing;
  /** Touch every page before the guest starts. */
  readonly prefault?: boolean;
  /** Host NUMA node to bind to. */
  readonly numaNode?: number;
}

export interface MachineConfig {
  readonly cpus: number;
  readonly coresPerSocket?: number;
  readonly threadsPerCore?: number;
  /** `Flag.*`, or-ed. */
  readonly flags?: number;
  readonly memory: readonly MemorySpec[];
  /** Host CPU for each vCPU thread, -1 for none; repeated if shorter than `cpus`. */
  readonly pin?: readonly number[];
  readonly kvmPath?: string;
}

/** struct vmmhpc_config; what it points to is kept by the arena. */
export function configStruct(config: MachineConfig, arena: Arena): Uint8Array {
  const memory = new Uint8Array(L.VmmhpcMemory.size * Math.max(1, config.memory.length));
  config.memory.forEach((spec, i) => {
    L.VmmhpcMemory.write(viewOf(memory), i * L.VmmhpcMemory.size, {
      size: L.VmmhpcMemory.size,
      backing: spec.backing ?? L.Backing.ANON,
      bytes: spec.bytes,
      flags: spec.prefault === true ? L.MEMORY_PREFAULT : 0,
      numa_node: spec.numaNode ?? -1,
    });
  });
  const pin = Int32Array.from(config.pin ?? []);
  return L.VmmhpcConfig.alloc({
    size: L.VmmhpcConfig.size,
    cpus: config.cpus,
    cores_per_socket: config.coresPerSocket ?? 0,
    threads_per_core: config.threadsPerCore ?? 0,
    flags: config.flags ?? 0,
    memory_count: config.memory.length,
    memory: arena.address(memory),
    pin: pin.length > 0 ? arena.address(pin) : 0n,
    pin_count: pin.length,
    kvm_path: arena.text(config.kvmPath),
  });
}

/** Create a machine; the caller owns the handle. */
export function create(config: MachineConfig): MachineHandle {
  const arena = new Arena();
  const native = configStruct(config, arena);
  const out = new BigUint64Array(1);
  try {
    checked((err) => machine.create(native, out, err));
  } finally {
    arena.release();
  }
  return (out[0] ?? 0n) as MachineHandle;
}

/** Stop, join and free. The handle, and every address got through it, is invalid afterwards. */
export function destroy(vm: MachineHandle): void {
  machine.destroy(vm);
}

export function destroyAsync(vm: MachineHandle): Promise<void> {
  return new Promise((resolve, reject) => {
    machine.destroy.async(vm, (error) => (error !== null ? reject(error) : resolve()));
  });
}

/** What to boot: paths or bytes. Bytes are copied. */
export interface BootSpec {
  readonly kind?: L.ImageKind;
  readonly kernel: string | Uint8Array;
  readonly initrd?: string | Uint8Array;
  readonly cmdline?: string;
  /** Flat images only: GPA of the first byte and of the entry. */
  readonly loadAddress?: bigint;
}

const pathOf = (from: string | Uint8Array | undefined) => (typeof from === "string" ? from : undefined);
const bytesOf = (from: string | Uint8Array | undefined) => (typeof from === "string" ? undefined : from);

function bootStruct(boot: BootSpec, arena: Arena): Uint8Array {
  return L.VmmhpcBoot.alloc({
    size: L.VmmhpcBoot.size,
    kind: boot.kind ?? L.ImageKind.AUTO,
    kernel_path: arena.text(pathOf(boot.kernel)),
    kernel: arena.bytes(bytesOf(boot.kernel)),
    kernel_bytes: BigInt(bytesOf(boot.kernel)?.byteLength ?? 0),
    initrd_path: arena.text(pathOf(boot.initrd)),
    initrd: arena.bytes(bytesOf(boot.initrd)),
    initrd_bytes: BigInt(bytesOf(boot.initrd)?.byteLength ?? 0),
    cmdline: arena.text(boot.cmdline),
    load_address: boot.loadAddress ?? 0n,
  });
}

export function load(vm: MachineHandle, boot: BootSpec): void {
  const arena = new Arena();
  const native = bootStruct(boot, arena);
  try {
    checked((err) => machine.load(vm, native, err));
  } finally {
    arena.release();
  }
}

/** As `load`, in a thread of koffi's pool: for a machine in a monitor, which takes its time. */
export async function loadAsync(vm: MachineHandle, boot: BootSpec): Promise<void> {
  const arena = new Arena();
  const native = bootStruct(boot, arena);
  try {
    await checkedAsync((err, done) => machine.load.async(vm, native, err, done));
  } finally {
    arena.release();
  }
}

/** What `load` found, or ImageKind.AUTO before it. */
export function imageKind(vm: MachineHandle): L.ImageKind {
  return machine.imageKind(vm) as L.ImageKind;
}

export const start = (vm: MachineHandle): void => checked((err) => machine.start(vm, err));
export const pause = (vm: MachineHandle): void => checked((err) => machine.pause(vm, err));
export const pauseAsync = (vm: MachineHandle): Promise<void> =>
  checkedAsync((err, done) => machine.pause.async(vm, err, done));
export const resume = (vm: MachineHandle): void => checked((err) => machine.resume(vm, err));
export const reset = (vm: MachineHandle): void => checked((err) => machine.reset(vm, err));
export const stop = (vm: MachineHandle): void => checked((err) => machine.stop(vm, err));

/** Wait until it has ended; timeoutMs < 0: for ever. @throws VmmError E_TIMEOUT */
export const wait = (vm: MachineHandle, timeoutMs = -1): void =>
  checked((err) => machine.wait(vm, timeoutMs, err));
/** As `wait`, in a thread of koffi's pool. The pool is small: prefer the event socket for long waits. */
export const waitAsync = (vm: MachineHandle, timeoutMs = -1): Promise<void> =>
  checkedAsync((err, done) => machine.wait.async(vm, timeoutMs, err, done));

export const getState = (vm: MachineHandle): L.State => machine.getState(vm) as L.State;

export function getStopInfo(vm: MachineHandle): L.StopInfo {
  const info = L.VmmhpcStopInfo.alloc({ size: L.VmmhpcStopInfo.size });
  const status = machine.getStopInfo(vm, info);
  if (status < 0) {
    throw vmmError(status);
  }
  return L.VmmhpcStopInfo.decode(info);
}

/** With Flag.EXTERNAL_VCPUS: run a vCPU in this thread until the machine ends; handlers are called here. */
export const vcpuRun = (vm: MachineHandle, vcpu: number): void =>
  checked((err) => machine.vcpuRun(vm, vcpu, err));

/** Descriptor of a UNIX stream socket carrying struct vmmhpc_event; the caller owns it. */
export function openEvents(vm: MachineHandle): number {
  const fd = new Int32Array(1);
  checked((err) => machine.openEvents(vm, fd, err));
  return fd[0] ?? -1;
}

/** Connect the UART to descriptors (-1: none); the machine duplicates them. */
export const consoleAttach = (vm: MachineHandle, inFd: number, outFd: number): void =>
  checked((err) => machine.consoleAttach(vm, inFd, outFd, err));

/** Descriptor of a UNIX stream socket to the UART; the caller owns it. */
export function consoleOpen(vm: MachineHandle): number {
  const fd = new Int32Array(1);
  checked((err) => machine.consoleOpen(vm, fd, err));
  return fd[0] ?? -1;
}

/** Host address of a piece of guest RAM, or null where it is not all RAM. Valid until destroy. */
export const memoryAt = (vm: MachineHandle, gpa: bigint, bytes: bigint): bigint | null =>
  machine.memoryAt(vm, gpa, bytes);

/** The pieces of guest RAM; host addresses are valid until destroy. */
export function slots(vm: MachineHandle): L.Slot[] {
  return Array.from({ length: machine.slotCount(vm) }, (_, index) => {
    const slot = L.VmmhpcSlot.alloc();
    const status = machine.getSlot(vm, index, slot);
    if (status < 0) {
      throw vmmError(status);
    }
    return L.VmmhpcSlot.decode(slot);
  });
}

const HANDLER = koffi.pointer(
  koffi.proto("uint64_t", ["void *", "uint32_t", "uint64_t", "uint32_t", "uint32_t", "uint64_t"]),
);

/** A JavaScript function as a vmmhpc_handler; it must not throw. Unregister it after `deviceRemove`. */
export const registerHandler = (handler: NativeHandler): bigint => koffi.register(handler, HANDLER);
export const unregisterHandler = (pointer: bigint): void => koffi.unregister(pointer);

/** Claim a range for a handler (from registerHandler, or a C function's address); gives the device's id. */
export function deviceAdd(
  vm: MachineHandle,
  space: L.Space,
  base: bigint,
  bytes: bigint,
  handler: bigint,
  opaque: bigint = 0n,
): number {
  const id = new Uint32Array(1);
  checked((err) => machine.deviceAdd(vm, space, base, bytes, handler, opaque, id, err));
  return id[0] ?? 0;
}

/** As `deviceAdd`, with a handler for each vCPU. */
export function deviceAddEach(
  vm: MachineHandle,
  space: L.Space,
  base: bigint,
  bytes: bigint,
  handlers: readonly bigint[],
): number {
  const id = new Uint32Array(1);
  const list = BigUint64Array.from(handlers);
  checked((err) => machine.deviceAddEach(vm, space, base, bytes, list, list.length, 0n, id, err));
  return id[0] ?? 0;
}

export const deviceRemove = (vm: MachineHandle, id: number): void =>
  checked((err) => machine.deviceRemove(vm, id, err));
export const deviceRemoveAsync = (vm: MachineHandle, id: number): Promise<void> =>
  checkedAsync((err, done) => machine.deviceRemove.async(vm, id, err, done));

export const irqSet = (vm: MachineHandle, gsi: number, level: boolean): void =>
  checked((err) => machine.irqSet(vm, gsi, level ? 1 : 0, err));

/** Address and length of the statistics page (layouts VmmhpcStatsPage, VmmhpcVcpuStats); valid until
 *  destroy. */
export function stats(vm: MachineHandle): { address: bigint; bytes: number } {
  const bytes = new BigUint64Array(1);
  const address = machine.stats(vm, bytes);
  return { address: address ?? 0n, bytes: Number(bytes[0]) };
}

/** The memfd behind the page, owned by the machine. */
export const statsFd = (vm: MachineHandle): number => machine.statsFd(vm);

/** KVM's own counters of one vCPU, or of the VM where vcpu is -1. */
export function kvmStats(vm: MachineHandle, vcpu = -1): Map<string, bigint> {
  const count = new Uint32Array(1);
  for (let capacity = 96; ; capacity = count[0] ?? 0) {
    const out = new Uint8Array(capacity * L.VmmhpcKvmStat.size);
    checked((err) => machine.kvmStats(vm, vcpu, out, capacity, count, err));
    const there = count[0] ?? 0;
    if (there <= capacity) {
      const entries = Array.from({ length: there }, (_, i) =>
        L.VmmhpcKvmStat.decode(out, i * L.VmmhpcKvmStat.size),
      );
      return new Map(entries.map(({ name, value }) => [name, value]));
    }
  }
}

/** Guest-caused exits of all vCPUs: KVM's exits less those for host interrupts. */
export function guestExits(vm: MachineHandle): bigint {
  const exits = new BigUint64Array(1);
  checked((err) => machine.guestExits(vm, exits, err));
  return exits[0] ?? 0n;
}

/** What the host offers. Works without /dev/kvm too: see `kvm_status`. */
export function hostInfo(kvmPath?: string): L.Host {
  const host = L.VmmhpcHost.alloc({ size: L.VmmhpcHost.size });
  checked((err) => machine.hostInfo(kvmPath ?? null, host, err));
  return L.VmmhpcHost.decode(host);
}
