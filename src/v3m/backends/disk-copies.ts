// SPDX-License-Identifier: Apache-2.0
/**
 * Disks in snapshots: copies of what a machine writes to, made while it does not run. Blocks are shared with the original
 * where the file system can (reflinks), and holes stay holes.
 */
import { execFile } from "node:child_process";
import { link, mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { OperationOptions } from "../../vmm/backend.js";
import type { VmDefinition } from "../definition/types.js";
import { uniqueSuffix } from "../store/unique.js";
import { HypervisorError } from "./errors.js";

/** A file that a machine writes to, by a name that does not change. */
export interface WrittenFile {
  readonly id: string;
  readonly path: string;
}

const run = promisify(execFile);

/**
 * What a machine writes to.
 * @param overlayOf where the writes of a disk with an overlay go; undefined: to a file without a name
 * @throws HypervisorError E_UNSUPPORTED
 */
export async function writtenFiles(
  definition: VmDefinition,
  overlayOf: (index: number) => string | undefined,
): Promise<WrittenFile[]> {
  const files: WrittenFile[] = [];
  for (const [index, { id, path, readOnly, overlay }] of definition.disks.entries()) {
    if (readOnly) continue;
    const written = overlay === undefined ? path : overlayOf(index);
    if (written === undefined) {
      throw new HypervisorError("E_UNSUPPORTED", `disk ${id} has a temporary overlay, which has no name`, {
        hint: "give the overlay a file, and it is kept with the snapshot",
      });
    }
    files.push({ id: `disk${index}`, path: written });
  }
  for (const [index, { path, readOnly }] of definition.pmem.entries()) {
    if (!readOnly) files.push({ id: `pmem${index}`, path });
  }
  for (const { path } of files) {
    const info = await stat(path).catch(() => undefined);
    if (info !== undefined && !info.isFile()) {
      throw new HypervisorError("E_UNSUPPORTED", `${path} is a device, of which no copy is kept`, {
        hint: "snapshots are for machines whose disks are files",
      });
    }
  }
  return files;
}

/** Copy one, durably. @throws HypervisorError E_IO; nothing is left then */
export async function copyDisk(from: string, to: string, { signal }: OperationOptions): Promise<void> {
  signal?.throwIfAborted();
  try {
    await run("cp", ["--reflink=auto", "--sparse=always", "--", from, to]);
    await run("sync", ["--", to]);
  } catch (cause) {
    await rm(to, { force: true });
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new HypervisorError("E_IO", `cannot copy ${from} to ${to}: ${why}`, {
      hint: "is the disk full? df -h",
      cause,
    });
  }
}

/** Copy them into `directory`, which is there. @throws HypervisorError E_IO; what was made is left to the caller */
export async function keepDisks(
  files: readonly WrittenFile[],
  directory: string,
  options: OperationOptions = {},
): Promise<void> {
  if (files.length === 0) return;
  await mkdir(join(directory, "disks"), { mode: 0o700 });
  for (const [done, { id, path }] of files.entries()) {
    options.onProgress?.({ what: "copying disks", done, total: files.length });
    await copyDisk(path, join(directory, "disks", id), options);
  }
}

/**
 * Put the copies in place of the files, do `work`, and put the files back where it fails. A path always has a whole file:
 * the one before, or the copy. Who is killed in between leaves PATH.before-… behind, the file as it was.
 */
export async function withKeptDisks(
  files: readonly WrittenFile[],
  directory: string,
  options: OperationOptions,
  work: () => Promise<void>,
): Promise<void> {
  const replaced: { readonly path: string; readonly before: string }[] = [];
  const backOut = async () => {
    for (const { path, before } of replaced) await rename(before, path).catch(() => {});
  };
  try {
    for (const { id, path } of files) {
      const kept = join(directory, "disks", id);
      await stat(kept).catch(() => {
        throw new HypervisorError("E_INVALID", `the snapshot has no copy of disk ${id}`, {
          hint: "the definition had other disks when it was made",
        });
      });
      await mkdir(dirname(path), { recursive: true });
      const fresh = `${path}.restored-${uniqueSuffix()}`;
      const before = `${path}.before-${uniqueSuffix()}`;
      await copyDisk(kept, fresh, options);
      const had = await link(path, before).then(
        () => true,
        () => false, // it is gone: nothing to go back to
      );
      await rename(fresh, path);
      if (had) replaced.push({ path, before });
    }
    await work();
  } catch (error) {
    await backOut();
    throw error;
  }
  for (const { before } of replaced) await rm(before, { force: true });
}
