// SPDX-License-Identifier: Apache-2.0
/**
 * The VMs of a state directory. Nothing runs in the background: files are replaced whole, whoever changes a VM has
 * its lock, and whoever is killed leaves files that the next command finds as they were, or removes.
 *
 *     STATE/store.lock              held while VMs appear and disappear
 *     STATE/locks/NAME              held while a VM is changed
 *     STATE/vms/NAME/definition.json, state.json, events.jsonl, backend/
 *     STATE/vms/.new-…, .gone-…     appearing and disappearing
 *
 * Who holds a VM's lock may take the store's, never the other way round.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { NAME } from "../definition/name.js";
import type { NatRange, VmDefinition } from "../definition/types.js";
import { ExistsError, NotFoundError } from "../errors.js";
import { compareNames } from "./compare.js";
import { type Directories, shortName } from "./directories.js";
import { removeTemporaries, storeError, syncDirectory } from "./files.js";
import type { Lock } from "./lock.js";
import {
  readDefinitionRecord,
  readStateRecord,
  type StateRecord,
  writeDefinitionRecord,
  writeStateRecord,
} from "./records.js";
import { uniqueSuffix } from "./unique.js";

export interface Wait {
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Loaded when a lock is wanted: those who only look take none. */
async function locks(): Promise<typeof Lock> {
  return (await import("./lock.js")).Lock;
}

export class Store {
  readonly directories: Directories;

  constructor(directories: Directories) {
    this.directories = directories;
  }

  get vmsDirectory(): string {
    return join(this.directories.state, "vms");
  }

  /** @throws NotFoundError for what cannot be the name of a VM */
  directory(name: string): string {
    if (!NAME.test(name)) throw new NotFoundError(name);
    return join(this.vmsDirectory, name);
  }

  /** Make `STATE` and what is always in it. */
  async prepare(): Promise<void> {
    try {
      for (const directory of ["vms", "locks"]) {
        await mkdir(join(this.directories.state, directory), { recursive: true, mode: 0o700 });
      }
    } catch (error) {
      throw storeError(error, `cannot make ${this.directories.state}`);
    }
  }

  /** Names of all VMs, and whether a killed command left something to sweep. */
  scan(): { readonly names: string[]; readonly litter: boolean } {
    let entries: string[];
    try {
      entries = readdirSync(this.vmsDirectory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return { names: [], litter: false };
      throw storeError(error, `cannot read ${this.vmsDirectory}`);
    }
    const names = entries.filter((entry) => NAME.test(entry)).sort(compareNames);
    return { names, litter: names.length < entries.length };
  }

  /** @throws NotFoundError, StoreError */
  state(name: string): StateRecord {
    const record = readStateRecord(this.directory(name));
    if (record === undefined) throw new NotFoundError(name);
    return record;
  }

  /** @throws NotFoundError, StoreError */
  definition(name: string): VmDefinition {
    const definition = readDefinitionRecord(this.directory(name));
    if (definition === undefined) throw new NotFoundError(name);
    return definition;
  }

  exists(name: string): boolean {
    return readStateRecord(this.directory(name)) !== undefined;
  }

  #lockPath(name: string): string {
    return join(this.directories.state, "locks", name);
  }

  /** Take the lock of a VM, and remove what killed commands left in its directory. */
  async lockVm(name: string, wait: Wait): Promise<Lock> {
    this.directory(name);
    await this.prepare();
    const lock = await (await locks()).take(this.#lockPath(name), { what: `VM ${name}`, ...wait });
    return await this.#entered(name, lock);
  }

  /** Do something under a VM's lock. @throws LockedError, AbortedError */
  async withVm<T>(name: string, wait: Wait, work: () => Promise<T>): Promise<T> {
    const lock = await this.lockVm(name, wait);
    try {
      return await work();
    } finally {
      this.unlockVm(name, lock);
    }
  }

  /** Do something under the lock of a gang; those of its VMs are taken under it. @throws LockedError, AbortedError */
  async withGang<T>(gang: string, wait: Wait, work: () => Promise<T>): Promise<T> {
    await this.prepare();
    const path = this.#lockPath(`.gang-${gang}`); // no VM's name begins with a dot
    using lock = await (await locks()).take(path, { what: `gang ${gang}`, ...wait });
    try {
      return await work();
    } finally {
      lock.remove();
    }
  }

  /** The lock of a VM if nobody has it. */
  async tryLockVm(name: string): Promise<Lock | undefined> {
    await this.prepare();
    const lock = await (await locks()).tryTake(this.#lockPath(name));
    return lock === undefined ? undefined : await this.#entered(name, lock);
  }

  async #entered(name: string, lock: Lock): Promise<Lock> {
    try {
      if (this.exists(name)) await removeTemporaries(this.directory(name));
      return lock;
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Give a VM's lock back; the lock of one that does not exist leaves no file. */
  unlockVm(name: string, lock: Lock): void {
    try {
      if (!this.exists(name)) lock.remove();
    } catch {
      // Damaged: it exists.
    } finally {
      lock[Symbol.dispose]();
    }
  }

  /** Take the lock under which VMs appear and disappear. */
  async lockStore(wait: Wait): Promise<Lock> {
    const lock = await (await locks()).take(join(this.directories.state, "store.lock"), {
      what: "the store",
      ...wait,
    });
    try {
      await this.#sweep();
      return lock;
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Remove what killed commands left, unless another command is at it. */
  async sweep(): Promise<void> {
    await this.prepare();
    using lock = await (await locks()).tryTake(join(this.directories.state, "store.lock"));
    if (lock !== undefined) await this.#sweep();
  }

  /** The caller has the store's lock, so nobody is about to use these. */
  async #sweep(): Promise<void> {
    for (const entry of await readdir(this.vmsDirectory)) {
      if (!NAME.test(entry)) await rm(join(this.vmsDirectory, entry), { recursive: true, force: true });
    }
  }

  /** Address ranges of all VMs but one. The caller has the store's lock. */
  natRanges(except: string): NatRange[] {
    return this.scan()
      .names.filter((name) => name !== except)
      .flatMap((name) => readDefinitionRecord(this.directory(name))?.nics ?? [])
      .flatMap((nic) => (nic.type === "TUN/TAP+NAT" ? [nic.range] : []));
  }

  /**
   * A new VM appears, whole. The caller has its lock and the store's.
   * @throws ExistsError, StoreError; then there is none
   */
  async add(definition: VmDefinition, record: StateRecord): Promise<void> {
    if (this.exists(definition.name)) throw new ExistsError(definition.name);
    const temporary = join(this.vmsDirectory, `.new-${uniqueSuffix()}`);
    try {
      await mkdir(temporary, { mode: 0o700 });
      await writeDefinitionRecord(temporary, definition);
      await writeStateRecord(temporary, record);
      await rename(temporary, this.directory(definition.name));
      await syncDirectory(this.vmsDirectory);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error instanceof Error && "errno" in error && !("hint" in error)
        ? storeError(error, `cannot add ${definition.name}`)
        : error;
    }
  }

  /** A VM disappears. The caller has its lock and the store's. */
  async remove(name: string): Promise<void> {
    const gone = join(this.vmsDirectory, `.gone-${uniqueSuffix()}`);
    try {
      await rename(this.directory(name), gone);
      await syncDirectory(this.vmsDirectory);
      await rm(this.#runtime(name), { recursive: true, force: true });
      await rm(gone, { recursive: true, force: true });
    } catch (error) {
      throw storeError(error, `cannot remove ${name}`);
    }
  }

  async setState(name: string, record: StateRecord): Promise<void> {
    await writeStateRecord(this.directory(name), record);
  }

  async setDefinition(name: string, definition: VmDefinition): Promise<void> {
    await writeDefinitionRecord(this.directory(name), definition);
  }

  #runtime(name: string): string {
    return join(this.directories.runtime, shortName(name));
  }

  /** Where the back end's directory of a VM is, or will be. */
  backendPath(name: string): string {
    return join(this.directory(name), "backend");
  }

  /** The back end's directory of a VM, made where it is not there. @throws NotFoundError */
  backendState(name: string): string {
    const directory = this.backendPath(name);
    try {
      mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") throw new NotFoundError(name);
      if (code !== "EEXIST") throw storeError(error, `cannot make ${directory}`);
    }
    return directory;
  }

  /** The same for its sockets. */
  backendRuntime(name: string): string {
    if (!this.exists(name)) throw new NotFoundError(name);
    const directory = this.#runtime(name);
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw storeError(error, `cannot make ${directory}`);
    }
    return directory;
  }
}
