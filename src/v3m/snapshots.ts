// SPDX-License-Identifier: Apache-2.0
/**
 * The snapshots of a VM, by name. They are beneath its directory in the store and go with it:
 *
 *     STATE/vms/NAME/snapshots/SNAPSHOT/snapshot.json   what this file writes, last
 *     STATE/vms/NAME/snapshots/SNAPSHOT/data/           what the back end has put there
 *     STATE/vms/NAME/snapshots/.new-…, .gone-…          appearing and disappearing
 *
 * All but looking needs the VM's lock.
 */
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { V3mError } from "../errors.js";
import type { KeptMemory } from "../vmm/backend.js";
import { compareNames } from "./store/compare.js";
import { damaged, readVersioned, storeError, syncDirectory, writeAtomically } from "./store/files.js";
import { uniqueSuffix } from "./store/unique.js";

const VERSION = 1;
const RECORD = "snapshot.json";
/** As VMs are named; never with a dot in front. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** What is known of a snapshot at a glance. */
export interface SnapshotRecord {
  readonly name: string;
  readonly vm: string;
  readonly type: string;
  readonly created: Date;
  readonly cpus: number;
  /** Bytes of RAM. */
  readonly memory: number;
  /** Name that the snapshot had in comparison to which this one was written. It may be gone: this one does not need it. */
  readonly base?: string;
  /** What it has of the memory, where the back end said so. */
  readonly kept?: KeptMemory;
  /** Where the back end's part of it is. */
  readonly directory: string;
}

function isKept(value: unknown): value is KeptMemory {
  const { dataBytes, storedBytes, compressed } = (value ?? {}) as Record<string, unknown>;
  return typeof dataBytes === "number" && typeof storedBytes === "number" && typeof compressed === "boolean";
}

/** There is no such snapshot, there is one already, or it cannot be called so. */
export class SnapshotError extends V3mError {}

export class Snapshots {
  readonly #root: string;
  readonly #vm: string;

  /** @param vmDirectory of the VM in the store */
  constructor(vmDirectory: string, vm: string) {
    this.#root = join(vmDirectory, "snapshots");
    this.#vm = vm;
  }

  #path(name: string): string {
    if (!NAME.test(name)) {
      throw new SnapshotError("E_INVALID", `a snapshot cannot be called ${JSON.stringify(name)}`, {
        hint: "letters, digits, dots, dashes and underscores, at most 63",
      });
    }
    return join(this.#root, name);
  }

  #read(name: string): SnapshotRecord | undefined {
    const directory = this.#path(name);
    const path = join(directory, RECORD);
    const record = readVersioned(path, VERSION);
    if (record === undefined) return undefined;
    const { vm, type, created, cpus, memory, base, kept } = record;
    if (
      typeof vm !== "string" ||
      typeof type !== "string" ||
      typeof created !== "string" ||
      typeof cpus !== "number" ||
      typeof memory !== "number" ||
      (base !== undefined && typeof base !== "string") ||
      (kept !== undefined && !isKept(kept))
    ) {
      throw damaged(path);
    }
    return {
      name,
      vm,
      type,
      created: new Date(created),
      cpus,
      memory,
      ...(base === undefined ? {} : { base }),
      ...(kept === undefined ? {} : { kept }),
      directory: join(directory, "data"),
    };
  }

  /** @throws SnapshotError E_NOT_FOUND, StoreError */
  get(name: string): SnapshotRecord {
    const found = this.#read(name);
    if (found !== undefined) return found;
    throw new SnapshotError("E_NOT_FOUND", `${this.#vm} has no snapshot ${JSON.stringify(name)}`, {
      hint: `v2m snapshot list ${this.#vm} shows them`,
    });
  }

  /** In the order in which people count. */
  async list(): Promise<SnapshotRecord[]> {
    let entries: string[];
    try {
      entries = await readdir(this.#root);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw storeError(error, `cannot read ${this.#root}`);
    }
    const names = entries.filter((entry) => NAME.test(entry)).sort(compareNames);
    return names.flatMap((name) => this.#read(name) ?? []);
  }

  /** A name that is free: s1, s2 … */
  async freeName(): Promise<string> {
    const taken = new Set((await this.list()).map(({ name }) => name));
    for (let i = 1; ; i++) {
      if (!taken.has(`s${i}`)) return `s${i}`;
    }
  }

  /**
   * Make one: `fill` makes the directory that it is given, and says what it has of the memory. It appears whole, or not at all.
   * @throws SnapshotError E_EXISTS, StoreError, and what `fill` throws
   */
  async create(
    name: string,
    about: Pick<SnapshotRecord, "type" | "cpus" | "memory" | "base">,
    fill: (directory: string) => Promise<KeptMemory | undefined>,
  ): Promise<SnapshotRecord> {
    const path = this.#path(name);
    if (this.#read(name) !== undefined) {
      throw new SnapshotError("E_EXISTS", `${this.#vm} has a snapshot ${name} already`, {
        hint: `choose another name, or remove it first: v2m snapshot delete ${this.#vm} ${name}`,
      });
    }
    const temporary = join(this.#root, `.new-${uniqueSuffix()}`);
    try {
      await mkdir(temporary, { recursive: true, mode: 0o700 });
      await this.#sweep(temporary);
    } catch (error) {
      throw storeError(error, `cannot make ${temporary}`);
    }
    try {
      const kept = await fill(join(temporary, "data"));
      const { type, cpus, memory, base } = about;
      const record = {
        version: VERSION,
        vm: this.#vm,
        type,
        created: new Date().toISOString(),
        cpus,
        memory,
        ...(base === undefined ? {} : { base }),
        ...(kept === undefined ? {} : { kept }),
      };
      await writeAtomically(temporary, RECORD, `${JSON.stringify(record)}\n`);
      await rename(temporary, path);
      await syncDirectory(this.#root);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error instanceof V3mError ? error : storeError(error, `cannot keep ${path}`);
    }
    return this.get(name);
  }

  /** @throws SnapshotError E_NOT_FOUND, StoreError */
  async remove(name: string): Promise<void> {
    const { directory } = this.get(name);
    const gone = join(this.#root, `.gone-${uniqueSuffix()}`);
    try {
      await rename(join(directory, ".."), gone);
      await syncDirectory(this.#root);
      await rm(gone, { recursive: true, force: true });
    } catch (error) {
      throw storeError(error, `cannot remove snapshot ${name} of ${this.#vm}`);
    }
  }

  /** Remove what killed commands left. */
  async #sweep(except: string): Promise<void> {
    for (const entry of await readdir(this.#root)) {
      const path = join(this.#root, entry);
      if (!NAME.test(entry) && path !== except) await rm(path, { recursive: true, force: true });
    }
  }
}
