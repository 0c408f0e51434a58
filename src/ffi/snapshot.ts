// SPDX-License-Identifier: Apache-2.0
/**
 * Binding of libvmmhpc-snapshot.so (vmmhpc_snapshot.h). All calls but `read` take as long as the disk takes,
 * so they run in a thread of koffi's pool.
 */
import { furtherLibrary } from "./further-library.js";
import type { Signature } from "./library.js";
import { checked, checkedAsync, type MachineHandle } from "./machine.js";
import { bytes, type StructValue, struct, u32, u64 } from "./struct.js";

/** VMMHPC_RESTORE_CLONE. */
export const RESTORE_CLONE = 1;
/** VMMHPC_SNAPSHOT_COMPRESS. */
export const SAVE_COMPRESSED = 1;
/** VMMHPC_SNAPSHOT_PLAIN. */
export const CODEC_PLAIN = 0;
/** VMMHPC_CLONE_NAME_MAX. */
export const CLONE_NAME_MAX = 63;
/** VMMHPC_SNAPSHOT_NOTE_MAX. */
export const NOTE_MAX = 1 << 20;

export const VmmhpcSnapshotInfo = struct("vmmhpc_snapshot_info", {
  size: u32,
  major: u32,
  minor: u32,
  library_version: u32,
  cpus: u32,
  image_kind: u32,
  memory_bytes: u64,
  data_bytes: u64,
  created_ns: u64,
  guest_time_ns: u64,
  note_bytes: u64,
  id: bytes(16),
  own_bytes: u64,
  base: bytes(16),
  layers: u32,
  codec: u32,
  stored_bytes: u64,
});
export type SnapshotInfo = StructValue<typeof VmmhpcSnapshotInfo>;

interface SnapshotApi {
  save(vm: MachineHandle, path: string, note: Uint8Array, noteBytes: bigint, err: Uint8Array): number;
  saveSince(
    vm: MachineHandle,
    path: string,
    base: string | null,
    flags: number,
    note: Uint8Array,
    noteBytes: bigint,
    err: Uint8Array,
  ): number;
  compress(from: string, to: string, err: Uint8Array): number;
  write(
    vm: MachineHandle,
    stateFd: number,
    memoryFd: number,
    note: Uint8Array,
    noteBytes: bigint,
    err: Uint8Array,
  ): number;
  restore(vm: MachineHandle, path: string, flags: number, err: Uint8Array): number;
  load(vm: MachineHandle, stateFd: number, memoryFd: number, flags: number, err: Uint8Array): number;
  take(vm: MachineHandle, stateFd: Uint8Array, memoryFd: Uint8Array, err: Uint8Array): number;
  clone(vm: MachineHandle, stateFd: number, memoryFd: number, name: string, err: Uint8Array): number;
  dirtyLogStart(vm: MachineHandle, err: Uint8Array): number;
  dirtyLogCount(vm: MachineHandle, pages: Uint8Array, err: Uint8Array): number;
  read(path: string, info: Uint8Array, note: Uint8Array | null, capacity: bigint, err: Uint8Array): number;
  verify(path: string, err: Uint8Array): number;
}

const P = "void *";
const PATH = "const char *";

/** What the functions are bound with; a unit test compares it with the header. */
export const SNAPSHOT_SIGNATURES: { readonly [K in keyof SnapshotApi]: Signature } = {
  save: ["vmmhpc_snapshot_save", "int32_t", [P, PATH, P, "uint64_t", P]],
  saveSince: ["vmmhpc_snapshot_save_since", "int32_t", [P, PATH, PATH, "uint32_t", P, "uint64_t", P]],
  compress: ["vmmhpc_snapshot_compress", "int32_t", [PATH, PATH, P]],
  write: ["vmmhpc_snapshot_write", "int32_t", [P, "int32_t", "int32_t", P, "uint64_t", P]],
  restore: ["vmmhpc_snapshot_restore", "int32_t", [P, PATH, "uint32_t", P]],
  load: ["vmmhpc_snapshot_load", "int32_t", [P, "int32_t", "int32_t", "uint32_t", P]],
  take: ["vmmhpc_snapshot_take", "int32_t", [P, P, P, P]],
  clone: ["vmmhpc_snapshot_clone", "int32_t", [P, "int32_t", "int32_t", PATH, P]],
  dirtyLogStart: ["vmmhpc_dirty_log_start", "int32_t", [P, P]],
  dirtyLogCount: ["vmmhpc_dirty_log_count", "int32_t", [P, P, P]],
  read: ["vmmhpc_snapshot_read", "int32_t", [PATH, P, P, "uint64_t", P]],
  verify: ["vmmhpc_snapshot_verify", "int32_t", [PATH, P]],
};

const snapshots = furtherLibrary<SnapshotApi>("snapshot", SNAPSHOT_SIGNATURES);

/** A note of no bytes is NULL in C. */
const noteOf = (note: Uint8Array) => (note.byteLength === 0 ? (null as unknown as Uint8Array) : note);

/** @throws VmmError, LibraryError */
export async function saveAsync(
  vm: MachineHandle,
  path: string,
  note: Uint8Array,
  base: string | null = null,
  flags = 0,
): Promise<void> {
  const length = BigInt(note.byteLength); // read after the call, too: that keeps the note reachable
  await checkedAsync((err, done) =>
    snapshots.api().saveSince.async(vm, path, base, flags, noteOf(note), length, err, done),
  );
  note.byteLength;
}

/** @throws VmmError, LibraryError */
export async function compressAsync(from: string, to: string): Promise<void> {
  await checkedAsync((err, done) => snapshots.api().compress.async(from, to, err, done));
}

/** @throws VmmError, LibraryError */
export async function restoreAsync(vm: MachineHandle, path: string, flags: number): Promise<void> {
  await checkedAsync((err, done) => snapshots.api().restore.async(vm, path, flags, err, done));
}

/** Descriptors of a state in memory; the caller closes them. */
export interface TakenState {
  readonly stateFd: number;
  readonly memoryFd: number;
}

/** @throws VmmError, LibraryError */
export async function takeAsync(vm: MachineHandle): Promise<TakenState> {
  const [state, memory] = [Buffer.alloc(4), Buffer.alloc(4)];
  await checkedAsync((err, done) => snapshots.api().take.async(vm, state, memory, err, done));
  return { stateFd: state.readInt32LE(), memoryFd: memory.readInt32LE() };
}

/** @throws VmmError, LibraryError */
export async function cloneAsync(vm: MachineHandle, from: TakenState, name: string): Promise<void> {
  const { stateFd, memoryFd } = from;
  await checkedAsync((err, done) => snapshots.api().clone.async(vm, stateFd, memoryFd, name, err, done));
}

/** @throws VmmError, LibraryError */
export function dirtyLogStart(vm: MachineHandle): void {
  checked((err) => snapshots.api().dirtyLogStart(vm, err));
}

/** @throws VmmError, LibraryError */
export function dirtyLogCount(vm: MachineHandle): number {
  const pages = Buffer.alloc(8);
  checked((err) => snapshots.api().dirtyLogCount(vm, pages, err));
  return Number(pages.readBigUInt64LE());
}

/** What a snapshot says of itself, and its note. @throws VmmError, LibraryError */
export function read(path: string): { readonly info: SnapshotInfo; readonly note: Buffer } {
  const info = VmmhpcSnapshotInfo.alloc({ size: VmmhpcSnapshotInfo.size });
  checked((err) => snapshots.api().read(path, info, null, 0n, err));
  const note = Buffer.alloc(Number(VmmhpcSnapshotInfo.decode(info).note_bytes));
  if (note.length > 0) {
    checked((err) => snapshots.api().read(path, info, note, BigInt(note.length), err));
  }
  return { info: VmmhpcSnapshotInfo.decode(info), note };
}

/** @throws VmmError E_BAD_IMAGE, E_TRUNCATED; LibraryError */
export async function verifyAsync(path: string): Promise<void> {
  await checkedAsync((err, done) => snapshots.api().verify.async(path, err, done));
}
