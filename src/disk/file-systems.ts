// SPDX-License-Identifier: Apache-2.0
/** What a partition or an image holds, by its magic numbers: enough to say what cannot be read, and why. */
import type { FileHandle } from "node:fs/promises";

interface Magic {
  readonly name: string;
  readonly at: number;
  readonly bytes: Buffer;
}

const magic = (name: string, at: number, bytes: string): Magic => ({
  name,
  at,
  bytes: Buffer.from(bytes, "latin1"),
});

/** The one that is read: ext2, ext3 and ext4 have the same. */
export const EXT = "ext";

const FILE_SYSTEMS: readonly Magic[] = [
  magic(EXT, 0x438, "\x53\xef"),
  magic("XFS", 0, "XFSB"),
  magic("Btrfs", 0x10040, "_BHRfS_M"),
  magic("F2FS", 0x400, "\x10\x20\xf5\xf2"),
  magic("SquashFS", 0, "hsqs"),
  magic("EROFS", 0x400, "\xe2\xe1\xf5\xe0"),
  magic("ISO 9660", 0x8001, "CD001"),
  magic("LUKS encryption", 0, "LUKS\xba\xbe"),
  magic("LVM", 0x218, "LVM2 001"),
  magic("swap space", 0xff6, "SWAPSPACE2"),
  magic("FAT", 0x36, "FAT"),
  magic("FAT", 0x52, "FAT32"),
];

/** Containers of disk images, which would have to be converted. */
const CONTAINERS: readonly Magic[] = [
  magic("qcow2", 0, "QFI\xfb"),
  magic("VMDK", 0, "KDMV"),
  magic("VHDX", 0, "vhdxfile"),
  magic("VDI", 0x40, "\x7f\x10\xda\xbe"),
];

async function first(
  file: FileHandle,
  offset: number,
  candidates: readonly Magic[],
): Promise<string | undefined> {
  for (const { name, at, bytes } of candidates) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(bytes.length), 0, bytes.length, offset + at);
    if (bytesRead === bytes.length && buffer.equals(bytes)) {
      return name;
    }
  }
  return undefined;
}

/** The name of the file system at an offset, `EXT` for those that can be read; undefined: none that is known. */
export function fileSystemAt(file: FileHandle, offset: number): Promise<string | undefined> {
  return first(file, offset, FILE_SYSTEMS);
}

/** The name of a format that is no raw image, or undefined. */
export function containerOf(file: FileHandle): Promise<string | undefined> {
  return first(file, 0, CONTAINERS);
}
