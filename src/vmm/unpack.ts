// SPDX-License-Identifier: Apache-2.0
/**
 * A compressed bzImage, unpacked once on this host and kept: a guest that boots the vmlinux inside does not
 * spend its boot decompressing.
 *
 *     const kernel = await unpackKernel('/boot/vmlinuz');    // …/v3m/vmlinux/3f2a….elf
 *
 * The cache (`$XDG_CACHE_HOME/v3m/vmlinux`) is keyed by content. So that a repeated start need not read the
 * file, `index/` remembers which content a file had, by device, inode, size and both time stamps.
 */
import { createHash, randomBytes } from "node:crypto";
import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { V3mError, VmmError } from "../errors.js";
import * as native from "../ffi/unpack.js";

export interface UnpackOptions {
  /** Where unpacked kernels are kept. Default `$XDG_CACHE_HOME/v3m/vmlinux` or `~/.cache/v3m/vmlinux`. */
  readonly cacheDir?: string;
  /** The most that a kernel may unpack to. Default 1 GiB. */
  readonly maxBytes?: bigint;
}

const DEFAULT_MAX_BYTES = 1n << 30n;
const READ_BYTES = 1 << 20;
/** End of the setup header's fields that matter here; every bzImage is longer. */
const HEADER_BYTES = 0x250;
/** A file changed within the granularity of a time stamp looks unchanged: don't index one this young. */
const RACY_NS = 2_000_000_000n;
const STALE_MS = 24 * 3600 * 1000;

/** Unpackings under way in this process, so that 64 machines started at once unpack once. */
const running = new Map<string, Promise<string>>();

/**
 * The path of the vmlinux inside a bzImage; `path` itself where it is no bzImage or holds an uncompressed
 * kernel.
 * @throws VmmError E_UNSUPPORTED (LZMA, bzip2, LZO: boot the bzImage itself), E_BAD_IMAGE, E_TRUNCATED,
 * E_LIMIT, E_IO
 */
export async function unpackKernel(path: string, options: UnpackOptions = {}): Promise<string> {
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const file = await openKernel(path);
  try {
    const before = await file.stat({ bigint: true });
    if (!before.isFile() || !(await isBzImage(file))) {
      return path;
    }
    const remembered = await lookUp(cacheDir, before);
    if (remembered !== undefined) {
      return remembered;
    }
    const image = await readAll(file, Number(before.size));
    const hash = await sha256(image);
    const target = join(cacheDir, `${hash}.elf`);
    if (!(await isComplete(target))) {
      if (native.probe(image).format === native.Payload.ELF) {
        return path;
      }
      await once(target, () => unpackTo(target, image, options.maxBytes ?? DEFAULT_MAX_BYTES));
    }
    if (sameFile(before, await file.stat({ bigint: true }))) {
      await remember(cacheDir, before, hash).catch(() => {}); // only costs the next start some time
    }
    return target;
  } finally {
    await file.close();
  }
}

/** As XDG asks, a relative XDG_CACHE_HOME is ignored. */
function defaultCacheDir(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base?.startsWith("/") ? base : join(homedir(), ".cache"), "v3m", "vmlinux");
}

async function openKernel(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO must not block
  } catch (cause) {
    const errno = (cause as NodeJS.ErrnoException).code;
    const denied = errno === "EACCES" || errno === "EPERM";
    throw new VmmError(denied ? "E_PERMISSION" : "E_IO", `cannot read the kernel ${path}: ${errno}`, {
      hint: denied ? `sudo chmod a+r ${path}` : "check the path",
      errno,
      cause,
    });
  }
}

async function isBzImage(file: FileHandle): Promise<boolean> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
  return bytesRead === HEADER_BYTES && buffer.toString("latin1", 0x202, 0x206) === "HdrS";
}

async function readAll(file: FileHandle, size: number): Promise<Buffer> {
  const image = Buffer.allocUnsafeSlow(size);
  let done = 0;
  while (done < size) {
    const { bytesRead } = await file.read(image, done, Math.min(READ_BYTES, size - done), done);
    if (bytesRead === 0) {
      throw new VmmError("E_TRUNCATED", "the kernel became shorter while it was read", {
        hint: "try again when nothing writes to it any more",
      });
    }
    done += bytesRead;
  }
  return image;
}

/** In pieces, with the event loop between them. */
async function sha256(image: Buffer): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < image.length; at += READ_BYTES) {
    hash.update(image.subarray(at, at + READ_BYTES));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return hash.digest("hex");
}

/** A finished entry is never empty: it appears by rename, after its contents are on the disk. */
async function isComplete(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isFile() && info.size > 0,
    () => false,
  );
}

async function once(target: string, work: () => Promise<string>): Promise<string> {
  const other = running.get(target);
  if (other !== undefined) {
    return other;
  }
  const own = work().finally(() => running.delete(target));
  running.set(target, own);
  return own;
}

/** Two processes at once each write a file of their own; the second rename replaces equal by equal. */
async function unpackTo(target: string, image: Buffer, maxBytes: bigint): Promise<string> {
  const cacheDir = dirname(target);
  try {
    await mkdir(cacheDir, { recursive: true, mode: 0o700 });
    await removeStale(cacheDir);
    await writeByRename(target, async (file) => {
      await native.unpack(image, file.fd, maxBytes);
      await file.datasync();
    });
  } catch (cause) {
    if (cause instanceof V3mError) {
      throw cause;
    }
    const errno = (cause as NodeJS.ErrnoException).code;
    throw new VmmError("E_IO", `cannot keep the unpacked kernel in ${cacheDir}: ${errno}`, {
      hint: "point XDG_CACHE_HOME at a directory that can be written, or boot the bzImage as it is",
      errno,
      cause,
    });
  }
  return target;
}

async function writeByRename(target: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = `${target}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await write(file);
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Whoever was killed while writing left its temporary file behind. */
async function removeStale(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!/\.tmp-\d+-[0-9a-f]{8}$/.test(name)) {
      continue;
    }
    const path = join(directory, name);
    const info = await stat(path).catch(() => undefined);
    if (info !== undefined && info.mtimeMs < Date.now() - STALE_MS) {
      await rm(path, { force: true });
    }
  }
}

function identity(info: BigIntStats): string {
  return [info.dev, info.ino, info.size, info.mtimeNs, info.ctimeNs].join(" ");
}

function sameFile(a: BigIntStats, b: BigIntStats): boolean {
  return identity(a) === identity(b);
}

/** One small file for each identity, named by its hash, holding the identity and the content's hash. */
function indexPath(cacheDir: string, info: BigIntStats): string {
  return join(cacheDir, "index", createHash("sha256").update(identity(info)).digest("hex"));
}

async function lookUp(cacheDir: string, info: BigIntStats): Promise<string | undefined> {
  const text = await readFile(indexPath(cacheDir, info), "utf8").catch(() => "");
  const [known, hash] = text.split("\n");
  if (known !== identity(info) || hash === undefined || !/^[0-9a-f]{64}$/.test(hash)) {
    return undefined;
  }
  const target = join(cacheDir, `${hash}.elf`);
  return (await isComplete(target)) ? target : undefined;
}

async function remember(cacheDir: string, info: BigIntStats, hash: string): Promise<void> {
  const settled = BigInt(Date.now()) * 1_000_000n - RACY_NS;
  if (info.mtimeNs > settled || info.ctimeNs > settled) {
    return;
  }
  const path = indexPath(cacheDir, info);
  await mkdir(join(cacheDir, "index"), { recursive: true, mode: 0o700 });
  await writeByRename(path, async (file) => {
    await file.writeFile(`${identity(info)}\n${hash}\n`);
  });
}
