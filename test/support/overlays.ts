// SPDX-License-Identifier: Apache-2.0
/** Overlays as docs/reference/overlay.md has them, written to without a machine. */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";

const CLUSTER = 65_536;
const WORD = (1n << 64n) - 1n;

function fnv1a(data: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of data) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & WORD;
  return hash;
}

/** Write a whole cluster of the disk, into a new cluster of the file. */
export function overlayWrite(path: string, index: number, data: Buffer | "zeroes"): void {
  const fd = openSync(path, "r+");
  try {
    const header = Buffer.alloc(64);
    readSync(fd, header, 0, 64, 0);
    const dataOffset = Number(header.readBigUInt64LE(48));
    const value = data === "zeroes" ? 1 : Math.ceil(Math.max(fstatSync(fd).size, dataOffset) / CLUSTER);
    if (data !== "zeroes") writeSync(fd, data, 0, CLUSTER, value * CLUSTER);
    const words = Buffer.alloc(24);
    header.copy(words, 0, 56, 64);
    words.writeBigUInt64LE(BigInt(index), 8);
    words.writeBigUInt64LE(BigInt(value), 16);
    const hash = fnv1a(words);
    const entry = Buffer.alloc(8);
    entry.writeUInt32LE(value);
    entry.writeUInt32LE(Number((hash ^ (hash >> 32n)) & 0xffffffffn), 4);
    writeSync(fd, entry, 0, 8, CLUSTER + index * 8);
  } finally {
    closeSync(fd);
  }
}
