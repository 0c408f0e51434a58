// SPDX-License-Identifier: Apache-2.0
/** Making disk images; all back ends use these. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, link, mkdir, open, rm } from "node:fs/promises";
import { promisify } from "node:util";
import { V3mError } from "../errors.js";
import { removeTree } from "../images/tools.js";
import type { ImageSource, OperationOptions } from "../vmm/backend.js";
import type { VmDefinition } from "./definition/types.js";

const run = promisify(execFile);

export type ImageFormat = "raw" | "qcow2";

/** Whether there is something of that name. */
export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * An empty image; its file takes room as it is written to.
 * @param bytes a multiple of 512
 * @throws V3mError E_EXISTS (the file is there: it is left alone), E_UNSUPPORTED (no qemu-img), E_PERMISSION,
 * E_IO (errno ENOSPC: a full disk); the signal's reason. Nothing is left then.
 */
export async function createEmptyImage(
  path: string,
  format: ImageFormat,
  bytes: number,
  options: OperationOptions = {},
): Promise<void> {
  await made(path, options, async (temporary) => {
    if (format === "qcow2") {
      await qemuImg(["create", "-q", "-f", "qcow2", temporary, String(bytes)], options.signal);
      return;
    }
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.truncate(bytes);
    } finally {
      await file.close();
    }
  });
}

/**
 * A qcow2 image that holds what is written over another image, which stays as it is.
 * @throws as createEmptyImage
 */
export async function createOverlay(
  path: string,
  base: { readonly path: string; readonly format: ImageFormat },
  options: OperationOptions = {},
): Promise<void> {
  await made(path, options, (temporary) =>
    qemuImg(["create", "-q", "-f", "qcow2", "-F", base.format, "-b", base.path, temporary], options.signal),
  );
}

/**
 * A disk with the system that a CD-ROM installs.
 * @param firmware see installFromCdrom
 * @throws as createEmptyImage; V3mError E_GUEST, and whatever the back end throws
 */
export async function createFromCdrom(
  type: string,
  firmware: boolean,
  source: ImageSource<VmDefinition> & { readonly kind: "cdrom" },
  options: OperationOptions = {},
): Promise<void> {
  const { installFromCdrom } = await import("./installation/install.js");
  if (await exists(source.to)) throw isThere(source.to);
  const { signal } = options;
  await made(source.to, signal === undefined ? {} : { signal }, async (temporary) => {
    await createEmptyImage(temporary, source.format, source.size, signal === undefined ? {} : { signal });
    await installFromCdrom(type, firmware, source, temporary, options);
  });
}

/**
 * A disk with the system that a package set describes.
 * @throws as createEmptyImage; DefinitionError, StoreError E_IO (the set), ImageError
 */
export async function createFromPackages(
  source: ImageSource & { readonly kind: "packages" },
  options: OperationOptions = {},
): Promise<void> {
  const { loadPackageSet } = await import("./packages/load.js");
  const { installPackages } = await import("./packages/install.js");
  const set = await loadPackageSet(source.from);
  if (await exists(source.to)) throw isThere(source.to);
  await made(
    source.to,
    { ...(options.signal === undefined ? {} : { signal: options.signal }) },
    async (temporary) => {
      const work = `${temporary}.work`;
      await mkdir(work, { mode: 0o700 });
      try {
        const raw = source.format === "raw" ? temporary : `${work}/raw`;
        const size = source.size === undefined ? {} : { size: source.size };
        await installPackages(set, raw, { ...options, ...size, work });
        if (source.format === "qcow2") {
          await qemuImg(["convert", "-f", "raw", "-O", "qcow2", raw, temporary], options.signal);
        }
      } finally {
        await removeTree(work);
      }
    },
  );
}

/**
 * Run qemu-img. @returns its standard output
 * @throws V3mError E_UNSUPPORTED where there is none, or what it complained about
 */
export async function qemuImg(args: readonly string[], signal?: AbortSignal): Promise<string> {
  try {
    const options = { env: { ...process.env, LC_ALL: "C" }, ...(signal === undefined ? {} : { signal }) };
    return (await run("qemu-img", args, options)).stdout;
  } catch (cause) {
    signal?.throwIfAborted();
    const failed = cause as NodeJS.ErrnoException & { stderr?: string };
    if (failed.code === "ENOENT") {
      throw new V3mError("E_UNSUPPORTED", "there is no qemu-img", {
        hint: "sudo apt install qemu-utils",
        cause,
      });
    }
    const said = (failed.stderr ?? "").trim().replace(/^qemu-img: /, "");
    throw imageError(said === "" ? String(failed.message) : said, cause);
  }
}

/** The file appears complete or not at all, and never in another's place. */
async function made(
  path: string,
  { signal, onProgress }: OperationOptions,
  write: (temporary: string) => Promise<unknown>,
): Promise<void> {
  signal?.throwIfAborted();
  const temporary = `${path}.tmp-${randomBytes(6).toString("hex")}`;
  onProgress?.({ what: `making ${path}`, done: 0, total: 1 });
  try {
    await write(temporary);
    signal?.throwIfAborted();
    await link(temporary, path);
  } catch (cause) {
    if (cause instanceof V3mError || signal?.aborted) throw cause;
    const errno = (cause as NodeJS.ErrnoException).code;
    if (errno === "EEXIST") {
      throw isThere(path);
    }
    throw imageError(`${path}: ${errno ?? String(cause)}`, cause);
  } finally {
    await rm(temporary, { force: true });
  }
  onProgress?.({ what: `making ${path}`, done: 1, total: 1 });
}

function isThere(path: string): V3mError {
  return new V3mError("E_EXISTS", `${path} is there already`, {
    hint: "choose another name, or remove it",
    errno: "EEXIST",
  });
}

function imageError(text: string, cause: unknown): V3mError {
  const message = `cannot make the image: ${text}`;
  if (/ENOSPC|No space left|EFBIG|File too large/.test(text)) {
    return new V3mError("E_IO", message, { hint: "free some space: df -h", errno: "ENOSPC", cause });
  }
  if (/EACCES|EPERM|EROFS|Permission denied|Read-only/.test(text)) {
    return new V3mError("E_PERMISSION", message, { hint: "choose a directory that you may write to", cause });
  }
  return new V3mError("E_IO", message, { hint: "check the path", cause });
}
