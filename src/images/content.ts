// SPDX-License-Identifier: Apache-2.0
/** The bytes of images: copied without their holes, digested, on the disk for certain. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, type FileHandle, open } from "node:fs/promises";
import { isLocked, lockForReading } from "../ffi/file-lock.js";
import { throwIfAborted } from "../state/errors.js";
import type { OperationOptions } from "../vmm/backend.js";
import { ImageError } from "./errors.js";
import type { Digest } from "./types.js";

export const SECTOR = 512;
/** What is zero is left out of a copy in units of this. */
const BLOCK = 64 << 10;
const CHUNK = 1 << 20;
const ZEROES = Buffer.alloc(BLOCK);

/** Gives the bytes at a position; what it gives is valid until it is called again. */
export type ReadAt = (position: number, length: number) => Promise<Buffer>;

/** What is read of a file; a short one is an error. */
export function readerOf(handle: FileHandle): ReadAt {
  const buffer = Buffer.alloc(CHUNK);
  return async (position, length) => {
    const into = length <= CHUNK ? buffer.subarray(0, length) : Buffer.alloc(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(into, done, length - done, position + done);
      if (bytesRead === 0)
        throw new ImageError("E_TRUNCATED", "the file became shorter while it was read", {
          hint: "wait until nobody writes to it",
        });
      done += bytesRead;
    }
    return into;
  };
}

/** Bytes in a file or a block device. */
export async function sizeOf(handle: FileHandle): Promise<number> {
  const info = await handle.stat();
  if (!info.isBlockDevice()) return info.size;
  // A device's size is where its end is; Node has no lseek(2), so look for it.
  let size = 0;
  const one = Buffer.alloc(1);
  for (let step = 2 ** 45; step >= SECTOR; step /= 2) {
    const { bytesRead } = await handle.read(one, 0, 1, size + step - 1).catch(() => ({ bytesRead: 0 }));
    if (bytesRead === 1) size += step;
  }
  return size;
}

async function writeSparse(to: FileHandle, data: Buffer, position: number): Promise<void> {
  let start = 0;
  const write = async (end: number) => {
    for (let done = start; done < end; ) {
      done += (await to.write(data, done, end - done, position + done)).bytesWritten;
    }
  };
  for (let at = 0; at < data.length; at += BLOCK) {
    const end = Math.min(at + BLOCK, data.length);
    if (data.compare(ZEROES, 0, end - at, at, end) !== 0) continue;
    await write(at);
    start = end;
  }
  await write(data.length);
}

export interface Copied {
  readonly digest: Digest;
  readonly bytes: number;
}

/**
 * Write a new file of `bytes` bytes, rounded up to whole sectors, without its zeroes; it is on the disk then.
 * @param what for progress
 */
export async function writeImage(
  path: string,
  read: ReadAt,
  bytes: number,
  what: string,
  { signal, onProgress }: OperationOptions = {},
): Promise<Copied> {
  const hash = createHash("sha256");
  const file = await open(path, "wx", 0o600);
  try {
    const size = Math.ceil(bytes / SECTOR) * SECTOR;
    await file.truncate(size);
    for (let at = 0; at < bytes; at += CHUNK) {
      throwIfAborted(signal, what);
      const data = await read(at, Math.min(CHUNK, bytes - at));
      hash.update(data);
      await writeSparse(file, data, at);
      onProgress?.({ what, done: at + data.length, total: bytes });
    }
    hash.update(ZEROES.subarray(0, size - bytes));
    await file.sync();
    return { digest: `sha256:${hash.digest("hex")}`, bytes: size };
  } finally {
    await file.close();
  }
}

/** The digest of a file's content. */
export async function digestOf(path: string, what: string, options: OperationOptions = {}): Promise<Copied> {
  const { signal, onProgress } = options;
  const hash = createHash("sha256");
  const file = await open(path, "r");
  try {
    const bytes = await sizeOf(file);
    const read = readerOf(file);
    for (let at = 0; at < bytes; at += CHUNK) {
      throwIfAborted(signal, what);
      hash.update(await read(at, Math.min(CHUNK, bytes - at)));
      onProgress?.({ what, done: Math.min(at + CHUNK, bytes), total: bytes });
    }
    return { digest: `sha256:${hash.digest("hex")}`, bytes };
  } finally {
    await file.close();
  }
}

/** Open an image to read all of it while nobody writes to it. @throws ImageError E_BUSY */
export async function openQuiet(path: string, name: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!isLocked(handle.fd) && lockForReading(handle.fd)) return handle;
  await handle.close();
  throw busy(name);
}

export function busy(name: string): ImageError {
  return new ImageError("E_BUSY", `a machine is using ${name}`, { hint: "stop the machine first" });
}

/** Whether a machine has the file open, as far as locks tell. */
export async function inUse(path: string): Promise<boolean> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return isLocked(handle.fd);
  } finally {
    await handle.close();
  }
}

/** Copy a file that VMs write to: sharing its blocks, where the file system can. It is on the disk then. */
export async function copyQuiet(
  from: string,
  to: string,
  name: string,
  options: OperationOptions,
): Promise<void> {
  const source = await openQuiet(from, name);
  try {
    const shared = await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE).then(
      () => true,
      () => false,
    );
    if (shared) await syncFile(to);
    else await writeImage(to, readerOf(source), await sizeOf(source), `copying ${name}`, options);
  } finally {
    await source.close();
  }
}

/** What was written to a file is on the disk. */
export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
