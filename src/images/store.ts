// SPDX-License-Identifier: Apache-2.0
/**
 * The images of a state directory. Content that does not change is known by its digest and there once, whatever
 * images stand on it; names are records that refer to it. As in the store of VMs, nothing runs in the background,
 * and whoever is killed leaves everything as it was, and litter that the next command removes.
 *
 *     DIRECTORY/store.lock              held while images appear and disappear
 *     DIRECTORY/names/NAME.json         a record
 *     DIRECTORY/objects/sha256-HEX      content that nobody writes to
 *     DIRECTORY/disks/NAME-….FORMAT     content that VMs write to
 *     DIRECTORY/work/…                  what a command is making; it holds .lock there
 *
 * Content comes before the record that refers to it and goes after it, so that a record never lacks its content.
 */
import { readdirSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { throwIfAborted } from "../state/errors.js";
import { damaged, readVersioned, storeError, syncDirectory, writeAtomically } from "../state/files.js";
import { Lock } from "../state/lock.js";
import { uniqueSuffix } from "../state/unique.js";
import { ImageError, noImage } from "./errors.js";
import { removeTree } from "./tools.js";
import type { Digest, ImageRecord } from "./types.js";

/** Safe as the name of a file. */
export const IMAGE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const IMAGE_NAME_HELP =
  "1 to 63 letters, digits, dots, hyphens and underscores, first a letter or a digit";

const FORMAT = 1;
const DIRECTORIES = ["names", "objects", "disks", "work"] as const;

/** Does something while the paths that others (VMs) use are known, and cannot become more. */
export type WithUsed = <T>(work: (used: ReadonlyMap<string, string>) => Promise<T>) => Promise<T>;

export interface ImageStoreOptions {
  readonly directory: string;
  /** How long to wait for another command, milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Tells which files others use, and who: path → name of the VM. Default: none. */
  readonly withUsed?: WithUsed;
}

/** A directory of one command's own, in which it makes what is to become an image. Disposed of, it is gone. */
export class Work implements AsyncDisposable {
  readonly directory: string;
  readonly #lock: Lock;

  constructor(directory: string, lock: Lock) {
    this.directory = directory;
    this.#lock = lock;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await removeTree(this.directory);
    } finally {
      this.#lock[Symbol.dispose]();
    }
  }
}

/** What becomes an image: a file on the disk (fsync), in a Work, and what is known of it. */
export interface NewImage {
  readonly path: string;
  readonly name: string;
  readonly record: Omit<ImageRecord, "name" | "file" | "created" | "sealed">;
  /** Of the content, where nobody is to write to it. */
  readonly digest?: Digest;
  /** Take the place of an image of that name. */
  readonly replace?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface Collected {
  /** Paths that are gone. */
  readonly removed: readonly string[];
  /** Bytes that they took. */
  readonly bytes: number;
}

export class ImageStore {
  readonly directory: string;
  readonly #waitMs: number;
  readonly #withUsed: WithUsed;

  constructor({ directory, waitMs, withUsed }: ImageStoreOptions) {
    this.directory = directory;
    this.#waitMs = waitMs ?? 10_000;
    this.#withUsed = withUsed ?? ((work) => work(new Map()));
  }

  path(file: string): string {
    return join(this.directory, file);
  }

  /** @throws ImageError E_INVALID */
  checkName(name: string): void {
    if (!IMAGE_NAME.test(name)) {
      const what = `${JSON.stringify(name)} cannot be the name of an image`;
      throw new ImageError("E_INVALID", what, { hint: IMAGE_NAME_HELP });
    }
  }

  /** Names of all images, sorted. */
  names(): string[] {
    try {
      return readdirSync(this.path("names"))
        .filter((entry) => entry.endsWith(".json") && IMAGE_NAME.test(entry.slice(0, -5)))
        .map((entry) => entry.slice(0, -5))
        .sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw storeError(error, `cannot read ${this.directory}`);
    }
  }

  /** The record of an image. @throws StoreError where it is damaged */
  find(name: string): ImageRecord | undefined {
    if (!IMAGE_NAME.test(name)) return undefined;
    const path = this.path(`names/${name}.json`);
    const value = readVersioned(path, FORMAT);
    if (value === undefined) return undefined;
    if (typeof value.file !== "string" || !Array.isArray(value.layers)) throw damaged(path);
    const { version: _, ...record } = value;
    return { ...record, name } as unknown as ImageRecord;
  }

  /** @throws ImageError E_NOT_FOUND, StoreError */
  get(name: string): ImageRecord {
    const record = this.find(name);
    if (record === undefined) throw noImage(name);
    return record;
  }

  async #prepare(): Promise<void> {
    try {
      for (const name of DIRECTORIES) await mkdir(this.path(name), { recursive: true, mode: 0o700 });
    } catch (error) {
      throw storeError(error, `cannot make ${this.directory}`);
    }
  }

  async #locked<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    await this.#prepare();
    const options = { what: "the store of images", waitMs: this.#waitMs, signal };
    using _lock = await Lock.take(this.path("store.lock"), options);
    return await work();
  }

  /** A directory to make something in, on the store's file system. */
  async work(signal?: AbortSignal): Promise<Work> {
    return await this.#locked(signal, async () => {
      await this.#sweep();
      const directory = this.path(join("work", uniqueSuffix()));
      try {
        await mkdir(directory, { mode: 0o700 });
        const lock = await Lock.tryTake(join(directory, ".lock"));
        if (lock === undefined) throw new Error("somebody has a lock in a new directory");
        return new Work(directory, lock);
      } catch (error) {
        await rm(directory, { recursive: true, force: true });
        throw storeError(error, `cannot make ${directory}`);
      }
    });
  }

  /** Remove what commands that were killed were making. The caller has the store's lock. */
  async #sweep(): Promise<void> {
    for (const entry of await readdir(this.path("work"))) {
      const directory = this.path(join("work", entry));
      const lock = await Lock.tryTake(join(directory, ".lock")).catch(() => undefined);
      if (lock === undefined) continue;
      try {
        await removeTree(directory);
      } catch {
        // What it started may not have ended yet: the next command will.
      } finally {
        lock[Symbol.dispose]();
      }
    }
  }

  /** @throws ImageError E_EXISTS: before long work, so that it is not in vain */
  mustBeFree(name: string, replace: boolean | undefined): void {
    this.checkName(name);
    if (replace !== true && this.find(name) !== undefined) {
      throw new ImageError("E_EXISTS", `there is an image called ${name} already`, {
        hint: "choose another name, or --force to replace it",
      });
    }
  }

  /** The image appears, whole. @throws ImageError E_EXISTS, E_NOT_FOUND (its base is gone), StoreError */
  async add(image: NewImage): Promise<ImageRecord> {
    const { name, record, digest, signal } = image;
    return await this.#locked(signal, async () => {
      throwIfAborted(signal, `making ${name}`);
      this.mustBeFree(name, image.replace);
      if (record.base !== undefined && !(await there(this.path(record.base)))) {
        throw new ImageError("E_NOT_FOUND", `the image below ${name} was deleted meanwhile`, {
          hint: "v2m image list shows what there is",
        });
      }
      const file =
        digest === undefined
          ? `disks/${name}-${uniqueSuffix()}.${record.format}`
          : `objects/${digest.replace(":", "-")}`;
      const full = { ...record, sealed: digest !== undefined, file, created: new Date().toISOString() };
      try {
        if (digest === undefined || !(await there(this.path(file)))) {
          await chmod(image.path, digest === undefined ? 0o600 : 0o400);
          await rename(image.path, this.path(file));
          await syncDirectory(this.path(file.slice(0, file.indexOf("/"))));
        }
      } catch (error) {
        throw storeError(error, `cannot add ${name}`);
      }
      const text = `${JSON.stringify({ version: FORMAT, ...full }, null, 1)}\n`;
      try {
        await writeAtomically(this.path("names"), `${name}.json`, text);
      } catch (error) {
        await this.#collect().catch(() => {}); // the first error is the one to tell
        throw error;
      }
      if (image.replace === true) await this.#collect().catch(() => {});
      return { name, ...full };
    });
  }

  /**
   * Images disappear, and their content where nothing else stands on it.
   * @param options `force`: also those that a VM's definition names
   * @throws ImageError E_NOT_FOUND, E_BUSY; then none has
   */
  async remove(
    names: readonly string[],
    options: { readonly force?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<Collected> {
    return await this.#locked(options.signal, async () => {
      const records = names.map((name) => this.get(name));
      if (options.force !== true) {
        await this.#withUsed(async (used) => {
          for (const { name, file } of records) {
            const vm = used.get(this.path(file));
            if (vm === undefined) continue;
            const hint = `undefine ${vm} first, or --force: its disk stays until then`;
            throw new ImageError("E_BUSY", `${name} is a disk of VM ${vm}`, { hint });
          }
        });
      }
      try {
        for (const name of names) await rm(this.path(`names/${name}.json`));
        await syncDirectory(this.path("names"));
      } catch (error) {
        throw storeError(error, "cannot delete the image");
      }
      return await this.#collect();
    });
  }

  /** Remove content that no image and no VM refers to, and what killed commands left. @throws StoreError */
  async collect(signal?: AbortSignal): Promise<Collected> {
    return await this.#locked(signal, async () => {
      await this.#sweep();
      return await this.#collect();
    });
  }

  /** The caller has the store's lock. A damaged record keeps everything: nobody knows what it refers to. */
  async #collect(): Promise<Collected> {
    const kept = new Set<string>();
    for (const name of this.names()) {
      const { file, base } = this.get(name);
      kept.add(this.path(file));
      if (base !== undefined) kept.add(this.path(base));
    }
    return await this.#withUsed(async (used) => {
      const removed: string[] = [];
      let bytes = 0;
      for (const directory of ["objects", "disks", "names"]) {
        for (const entry of await readdir(this.path(directory))) {
          const path = this.path(join(directory, entry));
          const record = directory === "names" && !entry.startsWith(".");
          if (record || kept.has(path) || used.has(path)) continue;
          bytes += (await stat(path)).blocks * 512;
          await rm(path, { force: true });
          removed.push(join(directory, basename(path)));
        }
      }
      return { removed, bytes };
    });
  }
}

async function there(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
