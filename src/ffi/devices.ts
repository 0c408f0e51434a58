// SPDX-License-Identifier: Apache-2.0
/**
 * vmmhpc_devices.h: its structures and constants, field for field, and its functions, which throw VmmError.
 * All of them take a machine between `create` and `start`. Descriptors that are passed in stay the caller's.
 */
import koffi from "koffi";
import * as L from "./layouts.js";
import { bindings } from "./library.js";
import { type MachineHandle, vmmError } from "./machine.js";
import { bytes, i32, pad, ptr, type StructValue, struct, u16, u32, u64 } from "./struct.js";

/** VMMHPC_BLK_*: of struct vmmhpc_blk. */
export const BlkFlag = { READ_ONLY: 1, DIRECT: 2, NO_URING: 4 } as const;

/** enum vmmhpc_net_kind. */
export const NetKind = { TAP: 1, STREAM: 2, LINK: 3 } as const;
export type NetKind = (typeof NetKind)[keyof typeof NetKind];

export const NET_VHOST = 1;
export const PMEM_READ_ONLY = 1;

export const VmmhpcBlk = struct("vmmhpc_blk", {
  size: u32,
  flags: u32,
  path: ptr,
  overlay_path: ptr,
  serial: ptr,
});

export const VmmhpcNet = struct("vmmhpc_net", {
  size: u32,
  flags: u32,
  kind: u32,
  fd: i32,
  mac: bytes(6),
  mtu: u16,
});

export const VmmhpcHvc = struct("vmmhpc_hvc", {
  size: u32,
  in_fd: i32,
  out_fd: i32,
  columns: u16,
  rows: u16,
});

export const VmmhpcBalloonState = struct("vmmhpc_balloon_state", {
  size: u32,
  reserved: pad(4, 4),
  target_bytes: u64,
  actual_bytes: u64,
  reported_bytes: u64,
});
export type BalloonState = StructValue<typeof VmmhpcBalloonState>;

export const VmmhpcPmem = struct("vmmhpc_pmem", { size: u32, flags: u32, path: ptr });

type Vm = MachineHandle;

interface DeviceApi {
  addBlk(vm: Vm, config: Uint8Array, id: Uint32Array, err: Uint8Array): number;
  overlayCreate(path: string, basePath: string, err: Uint8Array): number;
  addNet(vm: Vm, config: Uint8Array, id: Uint32Array, err: Uint8Array): number;
  tapOpen(name: Uint8Array, fd: Int32Array, err: Uint8Array): number;
  linkOpen(fds: Int32Array, err: Uint8Array): number;
  addRng(vm: Vm, id: Uint32Array, err: Uint8Array): number;
  addHvc(vm: Vm, config: Uint8Array, id: Uint32Array, err: Uint8Array): number;
  addBalloon(vm: Vm, id: Uint32Array, err: Uint8Array): number;
  balloonSet(vm: Vm, bytes: bigint, err: Uint8Array): number;
  balloonGet(vm: Vm, state: Uint8Array, err: Uint8Array): number;
  addVsock(vm: Vm, cid: bigint, id: Uint32Array, err: Uint8Array): number;
  addPmem(vm: Vm, config: Uint8Array, id: Uint32Array, err: Uint8Array): number;
  addGenerationId(vm: Vm, id: Uint8Array, err: Uint8Array): number;
  setGenerationId(vm: Vm, id: Uint8Array, err: Uint8Array): number;
}

const P = "void *";

const api = bindings<DeviceApi>({
  addBlk: ["vmmhpc_add_blk", "int32_t", [P, P, P, P]],
  overlayCreate: ["vmmhpc_overlay_create", "int32_t", ["const char *", "const char *", P]],
  addNet: ["vmmhpc_add_net", "int32_t", [P, P, P, P]],
  tapOpen: ["vmmhpc_tap_open", "int32_t", [P, P, P]],
  linkOpen: ["vmmhpc_link_open", "int32_t", [P, P]],
  addRng: ["vmmhpc_add_rng", "int32_t", [P, P, P]],
  addHvc: ["vmmhpc_add_hvc", "int32_t", [P, P, P, P]],
  addBalloon: ["vmmhpc_add_balloon", "int32_t", [P, P, P]],
  balloonSet: ["vmmhpc_balloon_set", "int32_t", [P, "uint64_t", P]],
  balloonGet: ["vmmhpc_balloon_get", "int32_t", [P, P, P]],
  addVsock: ["vmmhpc_add_vsock", "int32_t", [P, "uint64_t", P, P]],
  addPmem: ["vmmhpc_add_pmem", "int32_t", [P, P, P, P]],
  addGenerationId: ["vmmhpc_add_generation_id", "int32_t", [P, P, P]],
  setGenerationId: ["vmmhpc_set_generation_id", "int32_t", [P, P, P]],
});

function checked(call: (err: Uint8Array) => number): void {
  const err = L.VmmhpcError.alloc({ size: L.VmmhpcError.size });
  const status = call(err);
  if (status < 0) {
    throw vmmError(status, err);
  }
}

/** A call that says in which PCI slot the device is. */
function adding(call: (id: Uint32Array, err: Uint8Array) => number): number {
  const id = new Uint32Array(1);
  checked((err) => call(id, err));
  return id[0] ?? 0;
}

/** C strings for one call. An address keeps nothing alive: `release` after the call does. */
class Strings {
  readonly #kept: Buffer[] = [];

  address(text: string | undefined): bigint {
    if (text === undefined) {
      return 0n;
    }
    const buffer = Buffer.from(`${text}\0`);
    this.#kept.push(buffer);
    return koffi.address(buffer);
  }

  release(): void {
    this.#kept.length = 0;
  }
}

function withStrings<T>(use: (strings: Strings) => T): T {
  const strings = new Strings();
  try {
    return use(strings);
  } finally {
    strings.release();
  }
}

export interface BlkSpec {
  readonly path: string;
  /** An overlay file that exists. */
  readonly overlayPath?: string;
  readonly serial?: string;
  /** `BlkFlag.*`, or-ed. */
  readonly flags?: number;
}

/** Add a disk. @returns its PCI slot, as do all functions that add a device on the bus */
export function addBlk(vm: Vm, spec: BlkSpec): number {
  return withStrings((strings) => {
    const config = VmmhpcBlk.alloc({
      size: VmmhpcBlk.size,
      flags: spec.flags ?? 0,
      path: strings.address(spec.path),
      overlay_path: strings.address(spec.overlayPath),
      serial: strings.address(spec.serial),
    });
    return adding((id, err) => api.addBlk(vm, config, id, err));
  });
}

/** Make an empty overlay over a base. Refuses to overwrite: E_IO, errno EEXIST. */
export const overlayCreate = (path: string, basePath: string): void =>
  checked((err) => api.overlayCreate(path, basePath, err));

export interface NetSpec {
  readonly kind: NetKind;
  readonly fd: number;
  /** Six bytes; without: derived by libvmmhpc. */
  readonly mac?: Uint8Array;
  readonly mtu?: number;
  /** Tap only. */
  readonly vhost?: boolean;
}

export function addNet(vm: Vm, spec: NetSpec): number {
  const config = VmmhpcNet.alloc({
    size: VmmhpcNet.size,
    flags: spec.vhost === true ? NET_VHOST : 0,
    kind: spec.kind,
    fd: spec.fd,
    mac: spec.mac ?? new Uint8Array(6),
    mtu: spec.mtu ?? 0,
  });
  return adding((id, err) => api.addNet(vm, config, id, err));
}

/** The longest name of a network interface. */
export const TAP_NAME_MAX = 15;

/** Open a tap device; `%d` in its name becomes a number. The caller owns the descriptor. */
export function tapOpen(name: string): { readonly name: string; readonly fd: number } {
  const buffer = Buffer.alloc(TAP_NAME_MAX + 1);
  buffer.write(name, 0, TAP_NAME_MAX);
  const fd = new Int32Array(1);
  checked((err) => api.tapOpen(buffer, fd, err));
  return { name: buffer.toString("utf8", 0, buffer.indexOf(0)), fd: fd[0] ?? -1 };
}

/** Two connected sockets for `NetKind.LINK`; the caller owns both. */
export function linkOpen(): readonly [number, number] {
  const fds = new Int32Array(2);
  checked((err) => api.linkOpen(fds, err));
  return [fds[0] ?? -1, fds[1] ?? -1];
}

export const addRng = (vm: Vm): number => adding((id, err) => api.addRng(vm, id, err));

export interface HvcSpec {
  /** -1: none. */
  readonly inFd: number;
  readonly outFd: number;
  readonly columns?: number;
  readonly rows?: number;
}

export function addHvc(vm: Vm, spec: HvcSpec): number {
  const config = VmmhpcHvc.alloc({
    size: VmmhpcHvc.size,
    in_fd: spec.inFd,
    out_fd: spec.outFd,
    columns: spec.columns ?? 0,
    rows: spec.rows ?? 0,
  });
  return adding((id, err) => api.addHvc(vm, config, id, err));
}

export const addBalloon = (vm: Vm): number => adding((id, err) => api.addBalloon(vm, id, err));

/** Ask the guest to give up that many bytes; any time. */
export const balloonSet = (vm: Vm, size: bigint): void => checked((err) => api.balloonSet(vm, size, err));

export function balloonGet(vm: Vm): BalloonState {
  const state = VmmhpcBalloonState.alloc({ size: VmmhpcBalloonState.size });
  checked((err) => api.balloonGet(vm, state, err));
  return VmmhpcBalloonState.decode(state);
}

export const addVsock = (vm: Vm, cid: bigint): number => adding((id, err) => api.addVsock(vm, cid, id, err));

export function addPmem(vm: Vm, path: string, readOnly: boolean): number {
  return withStrings((strings) => {
    const config = VmmhpcPmem.alloc({
      size: VmmhpcPmem.size,
      flags: readOnly ? PMEM_READ_ONLY : 0,
      path: strings.address(path),
    });
    return adding((id, err) => api.addPmem(vm, config, id, err));
  });
}

/** `id`: 16 bytes. Before `load`. */
export const addGenerationId = (vm: Vm, id: Uint8Array): void =>
  checked((err) => api.addGenerationId(vm, id, err));

/** Change it, and tell the guest; any time. */
export const setGenerationId = (vm: Vm, id: Uint8Array): void =>
  checked((err) => api.setGenerationId(vm, id, err));
