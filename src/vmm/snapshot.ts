// SPDX-License-Identifier: Apache-2.0
/**
 * Snapshots: the whole state of a machine in a directory, and machines that go on from there
 * (docs/reference/snapshot-format.md).
 *
 *     await machine.snapshot("/var/tmp/before");
 *     await using copy = await Machine.restore("/var/tmp/before", options);   // the same options, and files
 *     copy.start();
 */
import { ArgumentError } from "../errors.js";
import * as native from "../ffi/snapshot.js";
import { KERNEL_KINDS, type KernelKind } from "./options.js";

export interface SnapshotOptions {
  /** Anything to be kept with it, at most 1 MiB. */
  readonly note?: Uint8Array | string;
  /**
   * Directory of an older snapshot, of a machine with the same memory: only pages that differ from it are written. The
   * new one has links to its files, so both are in one file system, and each can be removed.
   */
  readonly base?: string;
  /**
   * Compress the memory, after the machine goes on. Until then it takes its room in the file system as it is. A restore
   * reads and decompresses all of it then, instead of mapping it.
   */
  readonly compress?: boolean;
}

export interface RestoreOptions {
  /**
   * It is a machine beside the first one: network devices keep the MAC addresses of the new machine's options.
   * Default: they get those of the snapshot.
   */
  readonly clone?: boolean;
}

/** What a snapshot says of itself. */
export interface SnapshotInfo {
  /** Another one for each snapshot, in hexadecimal digits. */
  readonly id: string;
  readonly created: Date;
  /** Of the format. */
  readonly version: { readonly major: number; readonly minor: number };
  /** Of the libvmmhpc that wrote it. */
  readonly library: { readonly major: number; readonly minor: number };
  readonly cpus: number;
  readonly kind: KernelKind;
  /** Guest RAM. */
  readonly memoryBytes: bigint;
  /** Of it, what is not all zeroes. */
  readonly dataBytes: bigint;
  /** Of the data, what is not in the snapshots that it is based on. */
  readonly ownBytes: bigint;
  /** What these take in the snapshot: less where they are compressed. */
  readonly storedBytes: bigint;
  readonly compressed: boolean;
  /** How many snapshots it is based on, one upon the other, and the youngest one's id. */
  readonly bases: number;
  readonly base?: string;
  /** The guest's clock (kvmclock), 0 where its host had none. */
  readonly guestTimeNs: bigint;
  readonly note: Buffer;
}

const KINDS = Object.fromEntries(
  Object.entries(KERNEL_KINDS).map(([name, value]) => [value, name]),
) as Readonly<Record<number, KernelKind>>;

const version = (value: number) => ({ major: value >>> 16, minor: value & 0xffff });

/** For the binding: a path that C sees whole. @throws ArgumentError */
export function snapshotPath(path: string): string {
  if (path === "" || path.includes("\0")) {
    throw new ArgumentError("a snapshot needs a path, without NUL characters");
  }
  return path;
}

/** @throws ArgumentError */
export function snapshotNote(note: Uint8Array | string = ""): Uint8Array {
  const bytes = typeof note === "string" ? Buffer.from(note) : note;
  if (bytes.byteLength > native.NOTE_MAX) {
    throw new ArgumentError(`a snapshot's note has at most ${native.NOTE_MAX} bytes`, {
      value: BigInt(bytes.byteLength),
    });
  }
  return bytes;
}

export const saveFlags = ({ compress = false }: SnapshotOptions) => (compress ? native.SAVE_COMPRESSED : 0);

export const restoreFlags = ({ clone = false }: RestoreOptions) => (clone ? native.RESTORE_CLONE : 0);

/**
 * What is in a snapshot's directory; its state is checked, its memory is not (`verifySnapshot`).
 * @throws VmmError E_IO: there is none; E_BAD_IMAGE, E_TRUNCATED: it is damaged; E_UNSUPPORTED: of another version
 */
export function readSnapshot(directory: string): SnapshotInfo {
  const { info, note } = native.read(snapshotPath(directory));
  return {
    id: Buffer.from(info.id).toString("hex"),
    created: new Date(Number(info.created_ns / 1_000_000n)),
    version: { major: info.major, minor: info.minor },
    library: version(info.library_version),
    cpus: info.cpus,
    kind: KINDS[info.image_kind] ?? "auto",
    memoryBytes: info.memory_bytes,
    dataBytes: info.data_bytes,
    ownBytes: info.own_bytes,
    storedBytes: info.stored_bytes,
    compressed: info.codec !== native.CODEC_PLAIN,
    bases: info.layers - 1,
    ...(info.layers > 1 ? { base: Buffer.from(info.base).toString("hex") } : {}),
    guestTimeNs: info.guest_time_ns,
    note,
  };
}

/**
 * Make a compressed copy of a snapshot, in a directory that is not there yet, and in the same file system. What it is based
 * on is linked as it is.
 * @throws VmmError E_INVALID: it is compressed already; else as `readSnapshot`
 */
export function compressSnapshot(directory: string, to: string): Promise<void> {
  return native.compressAsync(snapshotPath(directory), snapshotPath(to));
}

/** Read all of a snapshot and compare it with its checksums. @throws VmmError as `readSnapshot` */
export function verifySnapshot(directory: string): Promise<void> {
  return native.verifyAsync(snapshotPath(directory));
}
