// SPDX-License-Identifier: Apache-2.0
/** Images that other programs have made: raw disks, qcow2, OCI. What comes of each is a raw disk. */
import { constants } from "node:fs";
import { type FileHandle, open, rename, stat } from "node:fs/promises";
import { digestOf, readerOf, sizeOf, syncFile, writeImage } from "./content.js";
import { ImageError } from "./errors.js";
import type { ImportOptions } from "./images.js";
import { importOci } from "./oci.js";
import { looksLikeOverlay } from "./overlay-file.js";
import { provenance } from "./provenance.js";
import { qcow2Problem, qemuImageInfo, qemuImg } from "./qemu-img.js";
import type { SourceKind } from "./source-kinds.js";
import type { Work } from "./store.js";
import { TOOLS, toolVersions } from "./tools.js";
import type { Digest, Layer } from "./types.js";

export interface Imported {
  readonly layers: readonly Layer[];
  readonly digest: Digest;
}

async function startsWith(handle: FileHandle, bytes: string, at: number): Promise<boolean> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(bytes.length), 0, bytes.length, at);
  return bytesRead === bytes.length && buffer.toString("latin1") === bytes;
}

async function openSource(from: string): Promise<FileHandle> {
  try {
    return await open(from, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : message;
    throw new ImageError(code === "EACCES" ? "E_PERMISSION" : "E_IO", `${from}: ${why}`, {
      hint: "give the path of an image",
      errno: code,
      cause: error,
    });
  }
}

/** What the source is, by its first bytes. */
async function kindOf(from: string): Promise<SourceKind> {
  const handle = await openSource(from);
  try {
    if ((await handle.stat()).isDirectory()) return "oci";
    if (await startsWith(handle, "QFI\xfb", 0)) return "qcow2";
    if (await looksLikeOverlay(handle)) {
      throw new ImageError("E_UNSUPPORTED", `${from} is an overlay: it is nothing without its base`, {
        hint: "run v2m image convert where its base is",
      });
    }
    return (await startsWith(handle, "ustar", 257)) ? "oci" : "raw";
  } finally {
    await handle.close();
  }
}

/** Make the disk `to` of a source. @throws ImageError E_BAD_IMAGE, E_IO, E_PERMISSION, E_UNSUPPORTED; AbortedError */
export async function importSource(
  from: string,
  to: string,
  work: Work,
  options: ImportOptions,
): Promise<Imported> {
  const kind = options.kind ?? (await kindOf(from));
  switch (kind) {
    case "raw":
      return await importRaw(from, to, options);
    case "qcow2":
      return await importQcow2(from, to, work, options);
    case "oci":
      return await importOci(from, to, work, options);
  }
}

async function importRaw(from: string, to: string, options: ImportOptions): Promise<Imported> {
  const handle = await openSource(from);
  try {
    const info = await handle.stat();
    const bytes = info.isFile() || info.isBlockDevice() ? await sizeOf(handle) : 0;
    if (bytes === 0)
      throw new ImageError("E_BAD_IMAGE", `${from} is empty, or no disk`, {
        hint: "give the path of an image",
      });
    const copied = await writeImage(to, readerOf(handle), bytes, `importing ${from}`, options);
    const layer: Layer = { format: "raw", ...copied, provenance: provenance(from) };
    return { digest: copied.digest, layers: [layer] };
  } finally {
    await handle.close();
  }
}

/** A source that names further files would have qemu-img read whatever its maker chose. */
function refuseBacking(from: string, backing: string | undefined): void {
  if (backing === undefined) return;
  throw new ImageError("E_UNSUPPORTED", `${from} stands on ${backing}, which would be read too`, {
    hint: "if that is meant: qemu-img convert -O raw, then import its output",
  });
}

async function importQcow2(from: string, to: string, work: Work, options: ImportOptions): Promise<Imported> {
  const info = await qemuImageInfo(from, "qcow2").catch((cause: unknown) => {
    if (cause instanceof ImageError && cause.code === "E_UNSUPPORTED") throw cause;
    throw new ImageError("E_BAD_IMAGE", `${from} is no qcow2 image, or a damaged one`, {
      hint: `qemu-img check ${from}`,
      cause,
    });
  });
  refuseBacking(from, info["backing-filename"]);
  if (/data-file"?:\s*"/.test(JSON.stringify(info))) refuseBacking(from, "a data file of its own");
  const problem = await qcow2Problem(from, options);
  if (problem !== undefined) {
    throw new ImageError("E_BAD_IMAGE", `${from} is damaged: ${problem}`, {
      hint: `qemu-img check ${from}`,
    });
  }
  const { digest } = await digestOf(from, `digesting ${from}`, options);
  const raw = work.path("converted");
  options.onProgress?.({ what: `converting ${from}`, done: 0, total: 1 });
  try {
    await qemuImg(["convert", "-f", "qcow2", "-O", "raw", from, raw], options);
  } catch (error) {
    if (!(error instanceof ImageError) || error.errno === "ENOSPC" || error.code !== "E_IO") throw error;
    throw new ImageError("E_BAD_IMAGE", error.message, { hint: `qemu-img check ${from}`, cause: error });
  }
  await rename(raw, to);
  await syncFile(to);
  const copied = await digestOf(to, `digesting ${from}`, options);
  const start = provenance(from, {
    tools: await toolVersions(TOOLS.qemuImg),
    inputs: [{ name: from, digest, bytes: (await stat(from)).size }],
  });
  return { digest: copied.digest, layers: [{ format: "raw", ...copied, provenance: start }] };
}
