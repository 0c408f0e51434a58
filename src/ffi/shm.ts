// SPDX-License-Identifier: Apache-2.0
/** Binding of libvmmhpc-shm.so (vmmhpc_shm.h): channels of shared memory between machines. */
import { join } from "node:path";
import { furtherLibrary } from "./further-library.js";
import { packageRoot, type Signature } from "./library.js";
import { checked, checkedAsync, type MachineHandle } from "./machine.js";
import { i32, struct, u32, u64 } from "./struct.js";

/** VMMHPC_SHM_*. */
export const SHM_PEERS = 64;
export const SHM_VECTORS = 4;
export const SHM_AREA_MAX = 2 ** 30;
export const SHM_COMMON_MAX = 2 ** 30;

export const VmmhpcChannelConfig = struct("vmmhpc_channel_config", {
  size: u32,
  peers: u32,
  area_bytes: u64,
  common_bytes: u64,
});
export const VmmhpcShmJoin = struct("vmmhpc_shm_join", { size: u32, peer: u32, visible_to: u64 });
export const VmmhpcShm = struct("vmmhpc_shm", { size: u32, fd: i32 });

interface ShmApi {
  create(config: Uint8Array, out: BigUint64Array, err: Uint8Array): number;
  destroy(channel: bigint): void;
  join(channel: bigint, place: Uint8Array, fd: Int32Array, err: Uint8Array): number;
  open(path: string, config: Uint8Array, place: Uint8Array, fd: Int32Array, err: Uint8Array): number;
  addShm(vm: MachineHandle, config: Uint8Array, id: Uint32Array, err: Uint8Array): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const SHM_SIGNATURES: { readonly [K in keyof ShmApi]: Signature } = {
  create: ["vmmhpc_channel_create", "int32_t", [P, P, P]],
  destroy: ["vmmhpc_channel_destroy", "void", [P]],
  join: ["vmmhpc_channel_join", "int32_t", [P, P, P, P]],
  open: ["vmmhpc_channel_open", "int32_t", ["const char *", P, P, P, P]],
  addShm: ["vmmhpc_add_shm", "int32_t", [P, P, P, P]],
};

const shm = furtherLibrary<ShmApi>("shm", SHM_SIGNATURES);

/** Where v3m-channel is: `V3M_CHANNEL` if set, else the release build in this package. */
export const channelProgram = (): string =>
  process.env.V3M_CHANNEL || join(packageRoot(), "native/build/release/v3m-channel");

export interface ChannelConfig {
  readonly peers: number;
  readonly areaBytes: bigint;
  readonly commonBytes: bigint;
}

export interface ChannelPlace {
  readonly peer: number;
  /** A bit for each peer. */
  readonly visibleTo: bigint;
}

const configOf = ({ peers, areaBytes, commonBytes }: ChannelConfig) =>
  VmmhpcChannelConfig.alloc({
    size: VmmhpcChannelConfig.size,
    peers,
    area_bytes: areaBytes,
    common_bytes: commonBytes,
  });

const placeOf = ({ peer, visibleTo }: ChannelPlace) =>
  VmmhpcShmJoin.alloc({ size: VmmhpcShmJoin.size, peer, visible_to: visibleTo });

/** @throws VmmError, LibraryError; the caller destroys it */
export function createChannel(config: ChannelConfig): bigint {
  const out = new BigUint64Array(1);
  checked((err) => shm.api().create(configOf(config), out, err));
  return out[0] ?? 0n;
}

export const destroyChannel = (channel: bigint): void => shm.api().destroy(channel);

/** @returns a descriptor, the caller's. @throws VmmError */
export function joinChannel(channel: bigint, place: ChannelPlace): number {
  const fd = new Int32Array(1);
  checked((err) => shm.api().join(channel, placeOf(place), fd, err));
  return fd[0] ?? -1;
}

/** Likewise at a socket of v3m-channel's. It may take as long as that takes to answer. @throws VmmError */
export async function openChannel(path: string, config: ChannelConfig, place: ChannelPlace): Promise<number> {
  const fd = new Int32Array(1);
  const [configBytes, placeBytes] = [configOf(config), placeOf(place)];
  await checkedAsync((err, done) => shm.api().open.async(path, configBytes, placeBytes, fd, err, done));
  return fd[0] ?? -1;
}

/** @returns the device's PCI slot */
export function addShm(vm: MachineHandle, fd: number): number {
  const id = new Uint32Array(1);
  checked((err) => shm.api().addShm(vm, VmmhpcShm.alloc({ size: VmmhpcShm.size, fd }), id, err));
  return id[0] ?? 0;
}
