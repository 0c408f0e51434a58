// SPDX-License-Identifier: Apache-2.0
/**
 * Linux from a disk: the kernel that an image holds, as files that a machine can load.
 *
 *     const { kernel, initrd, cmdline } = await diskBoot('debian.img');
 *     await Machine.create({ kernel, initrd, cmdline, disks: [{ path: 'debian.img' }] });
 *
 * Reads raw images with a GPT, an MBR or no partition table, and ext2, ext3 and ext4 file systems. The files are
 * kept in `$XDG_CACHE_HOME/v3m/disk-boot` under their content's hash.
 */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { VmmError } from "../errors.js";
import { type BootFiles, findBootFiles, isRoot } from "./boot-files.js";
import { ExtFileSystem } from "./ext.js";
import { containerOf, EXT, fileSystemAt } from "./file-systems.js";
import { type Partition, partitionsOf } from "./partitions.js";

export interface DiskBoot {
  /** Copies in the cache. */
  readonly kernel: string;
  readonly initrd: string | undefined;
  /** What the kernel needs to find its root file system, and the console: `root=… rw console=ttyS0`. */
  readonly cmdline: string;
  /** What they are called in the image, such as `boot/vmlinuz-6.1.0-56-cloud-amd64`. */
  readonly kernelName: string;
  readonly initrdName: string | undefined;
}

export interface DiskBootOptions {
  /** The disk's name in the guest, for a root that only a name can find. Default `vda`: the first disk. */
  readonly device?: string;
  /** Default `$XDG_CACHE_HOME/v3m/disk-boot` or `~/.cache/v3m/disk-boot`. */
  readonly cacheDir?: string;
}

const KERNEL_MAX = 512 << 20;
const INITRD_MAX = 2 ** 31;
const HINT = "give --kernel and --initrd";
const STALE_MS = 24 * 3600 * 1000;
/** More partitions than this with ext file systems in them are not looked into. */
const LOOK_MAX = 16;

/**
 * Find the kernel that an image boots by itself. The image is only read, and may be in use by a machine.
 * @throws VmmError E_BAD_IMAGE (damaged, without a kernel, or of a kind that cannot be read), E_TRUNCATED,
 * E_UNSUPPORTED (no debugfs here), E_IO, E_PERMISSION
 */
export async function diskBoot(path: string, options: DiskBootOptions = {}): Promise<DiskBoot> {
  const image = await openImage(path);
  try {
    const size = await sizeOf(image);
    const container = await containerOf(image);
    if (container !== undefined) {
      throw new VmmError("E_BAD_IMAGE", `${path} is in the format ${container}, not a raw image`, {
        hint: `qemu-img convert -O raw ${path} disk.img`,
      });
    }
    const partitions = await partitionsOf(image, size);
    const { files, from, root } = await search(image, path, partitions);
    const cacheDir = options.cacheDir ?? defaultCacheDir();
    const system = new ExtFileSystem(image, from.offset);
    return {
      kernel: await keep(system, files.kernel, KERNEL_MAX, cacheDir),
      initrd: files.initrd && (await keep(system, files.initrd, INITRD_MAX, cacheDir)),
      cmdline: `root=${rootName(root, options.device ?? "vda")} rw console=ttyS0`,
      kernelName: files.kernel.path,
      initrdName: files.initrd?.path,
    };
  } finally {
    await image.close();
  }
}

async function openImage(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO must not block
  } catch (cause) {
    const errno = (cause as NodeJS.ErrnoException).code;
    const denied = errno === "EACCES" || errno === "EPERM";
    throw new VmmError(denied ? "E_PERMISSION" : "E_IO", `cannot read the disk ${path}: ${errno}`, {
      hint: denied ? `sudo chmod a+r ${path}` : "check the path",
      errno,
      cause,
    });
  }
}

/** Of a file, or of a block device, whose stat says 0. */
async function sizeOf(image: FileHandle): Promise<number> {
  const info = await image.stat();
  if (info.isFile()) {
    return info.size;
  }
  if (!info.isBlockDevice()) {
    throw new VmmError("E_BAD_IMAGE", "the disk is neither a file nor a block device", {
      hint: "give a raw disk image",
    });
  }
  let low = 0;
  let high = 2 ** 48;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { bytesRead } = await image.read(Buffer.alloc(1), 0, 1, middle).catch(() => ({ bytesRead: 0 }));
    if (bytesRead === 1) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Found {
  readonly files: BootFiles;
  readonly from: Partition;
  readonly root: Partition;
}

/** The first partition with a kernel; its root is itself, or the first partition that looks like one. */
async function search(image: FileHandle, path: string, partitions: readonly Partition[]): Promise<Found> {
  const systems: { partition: Partition; system: ExtFileSystem }[] = [];
  const others: string[] = [];
  for (const partition of partitions) {
    const name = await fileSystemAt(image, partition.offset);
    if (name === EXT && systems.length < LOOK_MAX) {
      systems.push({ partition, system: new ExtFileSystem(image, partition.offset) });
    } else if (name !== undefined && name !== EXT) {
      others.push(name);
    }
  }
  if (systems.length === 0) {
    throw nothingToRead(path, others);
  }
  for (const { partition, system } of systems) {
    const files = await findBootFiles(system);
    if (files !== undefined) {
      return { files, from: partition, root: await rootOf(systems, partition) };
    }
  }
  const beside = others.length === 0 ? "" : ` (${others.join(", ")} cannot be read)`;
  throw new VmmError("E_BAD_IMAGE", `no kernel in the boot directory of ${path}${beside}`, { hint: HINT });
}

function nothingToRead(path: string, others: readonly string[]): VmmError {
  if (others.length === 0) {
    return new VmmError("E_BAD_IMAGE", `no file system in ${path}`, { hint: HINT });
  }
  const names = [...new Set(others)].join(", ");
  return new VmmError("E_BAD_IMAGE", `${path} holds ${names}; kernels are read out of ext2, ext3 and ext4`, {
    hint: HINT,
  });
}

async function rootOf(
  systems: readonly { partition: Partition; system: ExtFileSystem }[],
  boot: Partition,
): Promise<Partition> {
  const ordered = [...systems].sort((a, b) => Number(b.partition === boot) - Number(a.partition === boot));
  for (const { partition, system } of ordered) {
    if (await isRoot(system)) {
      return partition;
    }
  }
  return boot;
}

/** By the partition table, which does not depend on the order of disks; without one only a name is left. */
function rootName(root: Partition, device: string): string {
  return root.partUuid === undefined ? `/dev/${device}` : `PARTUUID=${root.partUuid}`;
}

/** As XDG asks, a relative XDG_CACHE_HOME is ignored. */
function defaultCacheDir(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base?.startsWith("/") ? base : join(homedir(), ".cache"), "v3m", "disk-boot");
}

/** A file of the image under its content's hash. One that is there stays: its unpacked form is remembered by it. */
async function keep(
  system: ExtFileSystem,
  file: { readonly path: string; readonly bytes: number },
  max: number,
  cacheDir: string,
): Promise<string> {
  if (file.bytes === 0 || file.bytes > max) {
    throw new VmmError("E_BAD_IMAGE", `${file.path} in the image has ${file.bytes} bytes`, {
      hint: HINT,
      value: BigInt(file.bytes),
    });
  }
  try {
    await mkdir(cacheDir, { recursive: true, mode: 0o700 });
    await removeStale(cacheDir);
    return await copyOut(system, file, cacheDir);
  } catch (cause) {
    if (cause instanceof VmmError) {
      throw cause;
    }
    const errno = (cause as NodeJS.ErrnoException).code;
    throw new VmmError("E_IO", `cannot keep ${file.path} in ${cacheDir}: ${errno}`, {
      hint: "point XDG_CACHE_HOME at a directory that can be written and has room",
      errno,
      cause,
    });
  }
}

async function copyOut(
  system: ExtFileSystem,
  file: { readonly path: string; readonly bytes: number },
  cacheDir: string,
): Promise<string> {
  const temporary = join(cacheDir, `tmp-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    const copy = await open(temporary, "wx+", 0o600);
    const hash = createHash("sha256");
    try {
      const copied = await system.copy(file.path, copy, file.bytes, (chunk) => hash.update(chunk));
      if (copied !== file.bytes) {
        throw new VmmError("E_BAD_IMAGE", `${file.path} in the image cannot be read to its end`, {
          hint: "check the image with e2fsck",
        });
      }
    } finally {
      await copy.close();
    }
    const target = join(cacheDir, hash.digest("hex"));
    if (!(await isThere(target, file.bytes))) {
      await rename(temporary, target);
    }
    return target;
  } finally {
    await rm(temporary, { force: true });
  }
}

async function isThere(path: string, bytes: number): Promise<boolean> {
  return stat(path).then(
    (info) => info.isFile() && info.size === bytes,
    () => false,
  );
}

/** Whoever was killed while copying left its file behind. */
async function removeStale(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const info = name.startsWith("tmp-") ? await stat(path).catch(() => undefined) : undefined;
    if (info !== undefined && info.mtimeMs < Date.now() - STALE_MS) {
      await rm(path, { force: true });
    }
  }
}
