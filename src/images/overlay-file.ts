// SPDX-License-Identifier: Apache-2.0
/** Overlays as files (docs/reference/overlay.md): checked in full, and read as the disk that a guest sees. */
import type { FileHandle } from "node:fs/promises";
import { type ReadAt, readerOf, sizeOf } from "./content.js";
import { ImageError } from "./errors.js";
import { Fnv1a } from "./fnv.js";

const MAGIC = "V3MOVRLY";
const HEADER_BYTES = 4096;
const CHECKSUM_AT = 4088;
export const CLUSTER = 65_536;
const ZERO_CLUSTER = 1;
const SAMPLE = 4096;
const SAMPLES = 16;

function damaged(what: string): ImageError {
  return new ImageError("E_BAD_IMAGE", `the overlay is damaged: ${what}`, {
    hint: "its base is whole: what was written over it since is lost in part",
  });
}

function truncated(where: string): ImageError {
  return new ImageError("E_TRUNCATED", `the overlay ends within its ${where}`, { hint: "copy it again" });
}

interface Header {
  readonly diskBytes: number;
  readonly basePrint: bigint;
  readonly dataOffset: number;
  readonly salt: Buffer;
}

function parseHeader(header: Buffer): Header {
  if (header.toString("latin1", 0, 8) !== MAGIC) throw damaged("it does not begin as one");
  const checksum = new Fnv1a().update(header.subarray(0, CHECKSUM_AT)).value;
  if (checksum !== header.readBigUInt64LE(CHECKSUM_AT)) throw damaged("the header's checksum is wrong");
  const version = header.readUInt32LE(8);
  if (version !== 1) {
    throw new ImageError("E_UNSUPPORTED", `the overlay has version ${version}, known is 1`, {
      hint: "use the V3M that made it",
    });
  }
  const number = (at: number) => Number(header.readBigUInt64LE(at));
  const diskBytes = number(24);
  const dataOffset = number(48);
  const table = Math.ceil(diskBytes / CLUSTER) * 8;
  const fits =
    header.readUInt32LE(12) === HEADER_BYTES &&
    header.readUInt32LE(16) === CLUSTER &&
    header.readUInt32LE(20) === 8 &&
    number(40) === CLUSTER &&
    dataOffset === CLUSTER + Math.ceil(table / CLUSTER) * CLUSTER;
  if (!fits || diskBytes === 0 || diskBytes % 512 !== 0) throw damaged("the header contradicts itself");
  const salt = Buffer.from(header.subarray(56, 64));
  return { diskBytes, basePrint: header.readBigUInt64LE(32), dataOffset, salt };
}

/** The fingerprint of a base. */
async function printOf(base: ReadAt, bytes: number): Promise<bigint> {
  const print = new Fnv1a().update(await base(0, Math.min(CLUSTER, bytes)));
  for (let i = 1; i <= SAMPLES; i++) {
    const at = Math.floor((Math.floor(bytes / 17) * i) / SAMPLE) * SAMPLE;
    print.update(await base(at, Math.min(SAMPLE, bytes - at)));
  }
  return print.value;
}

/** An overlay whose every entry is right, over the base that it was made for. */
export class OverlayFile {
  readonly diskBytes: number;
  readonly #table: Uint32Array;
  readonly #own: ReadAt;
  readonly #base: ReadAt;

  private constructor(diskBytes: number, table: Uint32Array, own: ReadAt, base: ReadAt) {
    this.diskBytes = diskBytes;
    this.#table = table;
    this.#own = own;
    this.#base = base;
  }

  /** @throws ImageError E_BAD_IMAGE, E_TRUNCATED, E_UNSUPPORTED, E_INVALID (another base) */
  static async open(file: FileHandle, base: FileHandle): Promise<OverlayFile> {
    const bytes = await sizeOf(file);
    if (bytes < HEADER_BYTES) throw truncated("header");
    const own = readerOf(file);
    const header = parseHeader(Buffer.from(await own(0, HEADER_BYTES)));
    if (bytes < header.dataOffset) throw truncated("table");
    const below = readerOf(base);
    const baseBytes = await sizeOf(base);
    if (baseBytes !== header.diskBytes || (await printOf(below, baseBytes)) !== header.basePrint) {
      throw new ImageError("E_INVALID", "the overlay was made for another base, or its base was changed", {
        hint: "the base as it was is needed",
      });
    }
    return new OverlayFile(header.diskBytes, await readTable(own, header, bytes), own, below);
  }

  /** The disk's bytes, within one cluster. */
  async #cluster(position: number, length: number): Promise<Buffer> {
    const value = this.#table[Math.floor(position / CLUSTER)] ?? 0;
    if (value === 0) return await this.#base(position, length);
    if (value === ZERO_CLUSTER) return Buffer.alloc(length);
    return await this.#own(value * CLUSTER + (position % CLUSTER), length);
  }

  /** The disk's bytes. */
  readonly read: ReadAt = async (position, length) => {
    const parts: Buffer[] = [];
    for (let at = position; at < position + length; ) {
      const end = Math.min((Math.floor(at / CLUSTER) + 1) * CLUSTER, position + length);
      parts.push(Buffer.from(await this.#cluster(at, end - at)));
      at = end;
    }
    return Buffer.concat(parts);
  };
}

async function readTable(own: ReadAt, header: Header, fileBytes: number): Promise<Uint32Array> {
  const { diskBytes, dataOffset, salt } = header;
  const table = new Uint32Array(Math.ceil(diskBytes / CLUSTER));
  const taken = new Set<number>();
  const words = Buffer.alloc(24);
  salt.copy(words);
  for (let first = 0; first < table.length; first += CLUSTER / 8) {
    const entries = await own(CLUSTER + first * 8, CLUSTER);
    const count = Math.min(CLUSTER / 8, table.length - first);
    for (let i = 0; i < count; i++) {
      const value = entries.readUInt32LE(i * 8);
      const check = entries.readUInt32LE(i * 8 + 4);
      if (value === 0 && check === 0) continue;
      const index = first + i;
      words.writeBigUInt64LE(BigInt(index), 8);
      words.writeBigUInt64LE(BigInt(value), 16);
      if (new Fnv1a().update(words).folded !== check) throw damaged(`entry ${index} of its table is wrong`);
      if (value === ZERO_CLUSTER) table[index] = value;
      else {
        const lastBytes = index === table.length - 1 ? diskBytes - index * CLUSTER : CLUSTER;
        const outside = value * CLUSTER < dataOffset || value * CLUSTER + lastBytes > fileBytes;
        if (outside || taken.has(value)) throw damaged(`entry ${index} of its table leads nowhere`);
        taken.add(value);
        table[index] = value;
      }
    }
  }
  return table;
}

/** Whether a file begins as an overlay does. */
export async function looksLikeOverlay(file: FileHandle): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
  return bytesRead === 8 && buffer.toString("latin1") === MAGIC;
}
