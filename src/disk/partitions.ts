// SPDX-License-Identifier: Apache-2.0
/**
 * Where the file systems of a raw disk image are: GPT (UEFI 2.10, 5.3), MBR with logical partitions, or the whole
 * disk. Every number of a table is checked against the size of the image; nothing here trusts it.
 */
import type { FileHandle } from "node:fs/promises";
import { VmmError } from "../errors.js";

export interface Partition {
  /** From 1 as Linux counts; 0: the whole disk, without a table. */
  readonly number: number;
  /** Bytes. */
  readonly offset: number;
  readonly bytes: number;
  /** As Linux takes it in `root=PARTUUID=`; undefined for the whole disk. */
  readonly partUuid: string | undefined;
}

/** 512 nearly always; disks with sectors of 4 KiB have their GPT header in the second of these. */
const SECTOR_SIZES = [512, 4096] as const;
const GPT_ENTRIES_MAX = 1024;
const GPT_ENTRY_MAX = 4096;
/** EFI's type for a disk that is in truth GPT. */
const PROTECTIVE = 0xee;
const SIGNATURE = 0xaa55;
const EXTENDED: readonly number[] = [0x05, 0x0f, 0x85];
/** Linux reads no more of a chain either. */
const LOGICAL_MAX = 60;

function badTable(what: string): VmmError {
  return new VmmError("E_BAD_IMAGE", `the partition table is damaged: ${what}`, {
    hint: "see sfdisk --verify, or give --kernel and --initrd",
  });
}

function outside(number: number): VmmError {
  return new VmmError("E_TRUNCATED", `partition ${number} lies outside of the image`, {
    hint: "the image is shorter than its own table says: copy or download it again",
  });
}

async function readAt(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, offset + done);
    if (bytesRead === 0) {
      throw badTable(`it ends at byte ${offset + done}`);
    }
    done += bytesRead;
  }
  return buffer;
}

/** A partition in sectors that has been found to lie within the disk. */
function place(
  number: number,
  first: bigint,
  count: bigint,
  sector: number,
  size: number,
  partUuid: string,
): Partition {
  const offset = first * BigInt(sector);
  const bytes = count * BigInt(sector);
  if (first <= 0n || count <= 0n) {
    throw badTable(`partition ${number} has no extent`);
  }
  if (offset + bytes > BigInt(size)) {
    throw outside(number);
  }
  return { number, offset: Number(offset), bytes: Number(bytes), partUuid };
}

/** The first three fields of a GUID are little-endian. */
function guid(bytes: Buffer): string {
  const hex = (from: number, to: number, reverse: boolean) => {
    const part = Buffer.from(bytes.subarray(from, to));
    return (reverse ? part.reverse() : part).toString("hex");
  };
  return [hex(0, 4, true), hex(4, 6, true), hex(6, 8, true), hex(8, 10, false), hex(10, 16, false)].join("-");
}

async function gpt(file: FileHandle, size: number, sector: number): Promise<Partition[] | undefined> {
  if (size < 3 * sector) {
    return undefined;
  }
  const header = await readAt(file, sector, 92);
  if (header.toString("latin1", 0, 8) !== "EFI PART") {
    return undefined;
  }
  const tableAt = header.readBigUInt64LE(72) * BigInt(sector);
  const count = header.readUInt32LE(80);
  const entry = header.readUInt32LE(84);
  if (count > GPT_ENTRIES_MAX || entry < 128 || entry > GPT_ENTRY_MAX || entry % 8 !== 0) {
    throw badTable(`${count} entries of ${entry} bytes`);
  }
  if (tableAt < 2n * BigInt(sector) || tableAt + BigInt(count * entry) > BigInt(size)) {
    throw badTable(`its entries would be at byte ${tableAt}`);
  }
  const table = await readAt(file, Number(tableAt), count * entry);
  const found: Partition[] = [];
  for (let i = 0; i < count; i++) {
    const row = table.subarray(i * entry, (i + 1) * entry);
    if (row.subarray(0, 16).some((byte) => byte !== 0)) {
      const first = row.readBigUInt64LE(32);
      const last = row.readBigUInt64LE(40);
      found.push(place(i + 1, first, last - first + 1n, sector, size, guid(row.subarray(16, 32))));
    }
  }
  return found;
}

interface MbrEntry {
  readonly type: number;
  readonly first: number;
  readonly count: number;
}

/** The entries in use, with their places in the table. */
function mbrEntries(sector: Buffer): [number, MbrEntry][] {
  return [0, 1, 2, 3].flatMap((i): [number, MbrEntry][] => {
    const at = 446 + 16 * i;
    const entry = {
      type: sector[at + 4] ?? 0,
      first: sector.readUInt32LE(at + 8),
      count: sector.readUInt32LE(at + 12),
    };
    return entry.type !== 0 && entry.count > 0 ? [[i, entry]] : [];
  });
}

/** A boot sector of a file system (FAT, or one with GRUB) has the signature too, and code where flags would be. */
function isTable(sector: Buffer): boolean {
  const flags = [0, 1, 2, 3].map((i) => sector[446 + 16 * i] ?? 0);
  return sector.readUInt16LE(510) === SIGNATURE && flags.every((flag) => (flag & 0x7f) === 0);
}

async function mbr(file: FileHandle, size: number): Promise<Partition[] | undefined> {
  const sector = await readAt(file, 0, 512);
  const entries = isTable(sector) ? mbrEntries(sector) : [];
  if (entries.length === 0) {
    return undefined;
  }
  if (entries.some(([, { type }]) => type === PROTECTIVE)) {
    throw badTable("it says GPT, and there is none");
  }
  const disk = sector.readUInt32LE(440).toString(16).padStart(8, "0");
  const uuid = (number: number) => `${disk}-${number.toString(16).padStart(2, "0")}`;
  const found: Partition[] = [];
  for (const [index, { type, first, count }] of entries) {
    const number = index + 1;
    if (EXTENDED.includes(type)) {
      found.push(...(await logical(file, first, size, uuid)));
    } else {
      found.push(place(number, BigInt(first), BigInt(count), 512, size, uuid(number)));
    }
  }
  return found;
}

/** The chain of an extended partition: each link holds a partition and the place of the next link. */
async function logical(
  file: FileHandle,
  start: number,
  size: number,
  uuid: (number: number) => string,
): Promise<Partition[]> {
  const found: Partition[] = [];
  const seen = new Set<number>();
  for (let at = start; !seen.has(at); ) {
    seen.add(at);
    if (seen.size > LOGICAL_MAX || (at + 1) * 512 > size) {
      throw badTable("the chain of logical partitions does not end");
    }
    const sector = await readAt(file, at * 512, 512);
    if (sector.readUInt16LE(510) !== SIGNATURE) {
      throw badTable("a link of the chain of logical partitions is missing");
    }
    const entries = mbrEntries(sector).map(([, entry]) => entry);
    const own = entries.find(({ type }) => !EXTENDED.includes(type));
    const next = entries.find(({ type }) => EXTENDED.includes(type));
    if (own !== undefined) {
      const number = 5 + found.length;
      found.push(place(number, BigInt(at + own.first), BigInt(own.count), 512, size, uuid(number)));
    }
    if (next === undefined) {
      break;
    }
    at = start + next.first;
  }
  return found;
}

/**
 * The partitions of an image of so many bytes; the whole of it where it has no table.
 * @throws VmmError E_BAD_IMAGE, E_TRUNCATED
 */
export async function partitionsOf(file: FileHandle, size: number): Promise<Partition[]> {
  if (size < 512) {
    throw new VmmError("E_BAD_IMAGE", `a disk image of ${size} bytes holds nothing`, {
      hint: "give a raw disk image",
    });
  }
  for (const sector of SECTOR_SIZES) {
    const found = await gpt(file, size, sector);
    if (found !== undefined) {
      return found;
    }
  }
  return (await mbr(file, size)) ?? [{ number: 0, offset: 0, bytes: size, partUuid: undefined }];
}
