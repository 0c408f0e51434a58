// SPDX-License-Identifier: Apache-2.0
/**
 * Clones of a machine in its monitor. Its memory and the disks that it writes to are taken once, while it is paused. The
 * clones map the memory, and have the disks as a base that they share (a file with a link in each clone's directory, so
 * it goes with the last) under an overlay of their own.
 */
import { chmod, link, mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { OperationOptions } from "../../../vmm/backend.js";
import type { ForkPoint } from "../../../vmm/fork.js";
import { Machine } from "../../../vmm/machine.js";
import { defaultParallelism, mapBounded } from "../../bounded.js";
import { clonePath } from "../../clone.js";
import type { VmDefinition } from "../../definition/types.js";
import { releaseNetwork } from "../../network/index.js";
import { endSupervised } from "../../supervise/index.js";
import { copyDisk, type WrittenFile } from "../disk-copies.js";
import { type Directories, keeperDirectory, startMachine } from "./start.js";

export interface CloneTarget {
  readonly definition: VmDefinition;
  readonly directories: Directories;
}

/** A file of the first machine's that clones need, and where they have it. */
interface CloneFile {
  readonly from: string;
  /** One that nobody writes to (`base`), or that nobody will (`frozen`: a copy), is shared; of others each has a copy. */
  readonly as: "base" | "frozen" | "copy";
  readonly in: (directory: string) => string;
}

function cloneFiles(files: readonly WrittenFile[], from: VmDefinition, clone: VmDefinition): CloneFile[] {
  const bases = clone.disks.flatMap(({ path }, index): CloneFile[] => {
    const disk = from.disks[index];
    if (disk?.overlay === undefined || disk.path === path) return [];
    return [{ from: disk.path, as: "base", in: (directory) => clonePath(directory, `disk${index}`) }];
  });
  const written = files.map(({ id, path }): CloneFile => {
    const index = /^disk(\d+)$/.exec(id)?.[1];
    const overlay = index !== undefined && from.disks[Number(index)]?.overlay === path;
    return {
      from: path,
      as: index === undefined || overlay ? "copy" : "frozen",
      in: (directory) => clonePath(directory, overlay ? `${id}.overlay` : id),
    };
  });
  return [...bases, ...written];
}

/** A file system without links, or one that has no more of them for this file: a copy does as well. */
async function linkOrCopy(from: string, to: string, options: OperationOptions): Promise<void> {
  const linked = await link(from, to).then(
    () => true,
    () => false,
  );
  if (!linked) await copyDisk(from, to, options);
}

/** The state of a machine at one moment: its disks are copied to the first clone. */
async function take(
  machine: Machine,
  files: readonly CloneFile[],
  first: string,
  options: OperationOptions,
): Promise<ForkPoint> {
  const ran = machine.state === "running";
  let point: ForkPoint | undefined;
  if (ran) await machine.pause();
  try {
    options.onProgress?.({ what: "taking memory", done: 0, total: 1 });
    point = await machine.forkPoint();
    for (const [done, file] of files.entries()) {
      options.onProgress?.({ what: "copying disks", done, total: files.length });
      const to = file.in(first);
      if (file.as === "base") await linkOrCopy(file.from, to, options);
      else await copyDisk(file.from, to, options);
      if (file.as === "frozen") await chmod(to, 0o400);
    }
    return point;
  } catch (error) {
    point?.[Symbol.dispose]();
    throw error;
  } finally {
    if (ran) machine.resume();
  }
}

/** Give a clone the disks that the first one has. */
async function shareDisks(
  files: readonly CloneFile[],
  first: string,
  directory: string,
  options: OperationOptions,
): Promise<void> {
  for (const file of files) {
    const [from, to] = [file.in(first), file.in(directory)];
    await (file.as === "copy" ? copyDisk(from, to, options) : linkOrCopy(from, to, options));
  }
}

async function end({ definition, directories }: CloneTarget): Promise<void> {
  const machine = await Machine.connect(directories.runtime).catch(() => undefined);
  await machine?.quit().catch(() => {});
  await machine?.dispose();
  await endSupervised(keeperDirectory(directories.runtime)).catch(() => {});
  await releaseNetwork(definition.nics).catch(() => {});
}

/**
 * @param definition the machine's
 * @throws V3mError; no clone runs then, and their disks are gone
 */
export async function forkMachine(
  machine: Machine,
  definition: VmDefinition,
  written: readonly WrittenFile[],
  clones: readonly CloneTarget[],
  options: OperationOptions,
): Promise<void> {
  const [first] = clones;
  if (first === undefined) return;
  const files = cloneFiles(written, definition, first.definition);
  const failed = new AbortController();
  const signal = AbortSignal.any([failed.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  let running = 0;
  const start = async (point: ForkPoint, { definition, directories }: CloneTarget) => {
    signal.throwIfAborted();
    if (directories !== first.directories) {
      await shareDisks(files, first.directories.state, directories.state, { signal });
    }
    const { name } = definition;
    await startMachine(definition, directories, { signal }, (how, monitor) =>
      Machine.clone(point, { ...how, name }, monitor),
    );
    options.onProgress?.({ what: "starting clones", done: ++running, total: clones.length });
  };
  try {
    for (const { directories } of clones) {
      if (files.length > 0) {
        await mkdir(dirname(clonePath(directories.state, "disk")), { recursive: true, mode: 0o700 });
      }
    }
    using point = await take(machine, files, first.directories.state, options);
    let cause: unknown;
    await mapBounded(clones, defaultParallelism(), (clone) =>
      start(point, clone).catch((error: unknown) => {
        if (!failed.signal.aborted) cause = error;
        failed.abort(error);
      }),
    );
    if (failed.signal.aborted) throw cause;
  } catch (error) {
    for (const clone of clones) await end(clone);
    for (const { directories } of clones) {
      await rm(clonePath(directories.state, ""), { recursive: true, force: true });
    }
    throw error;
  }
}
