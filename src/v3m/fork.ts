// SPDX-License-Identifier: Apache-2.0
/**
 * Clones of a running VM: defined, and started from its state; all of them, or none. The records of clones that are on
 * their way say so, and whoever finds one that nobody works on any more removes it.
 */
import { randomUUID } from "node:crypto";
import { V3mError } from "../errors.js";
import type { OperationOptions } from "../vmm/backend.js";
import { cloneDefinition } from "./clone.js";
import { NAME, NAME_HELP } from "./definition/name.js";
import type { VmDefinition } from "./definition/types.js";
import { ExistsError, throwIfAborted } from "./errors.js";
import { VmLife } from "./life.js";
import type { V3mBackend } from "./registry.js";
import type { Lock } from "./store/lock.js";
import type { Store } from "./store/store.js";

/** No fork makes more clones than this. */
export const CLONES_MAX = 10_000;

/** How many clones, called NAME-1, NAME-2 …, or what they are called. */
export type Clones = number | readonly string[];

/** The first names that are free, or those given. @throws V3mError E_USAGE, ExistsError */
function namesOf(store: Store, name: string, clones: Clones): string[] {
  if (typeof clones === "number") {
    const names: string[] = [];
    for (let i = 1; names.length < clones; i++) {
      const candidate = `${name}-${i}`;
      if (!NAME.test(candidate) || !store.exists(candidate)) names.push(candidate);
    }
    return namesOf(store, name, names);
  }
  const names = [...new Set(clones)];
  const bad = names.find((one) => !NAME.test(one));
  if (bad !== undefined) {
    throw new V3mError("E_USAGE", `a clone cannot be called ${JSON.stringify(bad)}`, { hint: NAME_HELP });
  }
  if (names.length === 0 || names.length > CLONES_MAX) {
    throw new V3mError("E_USAGE", `${names.length} clones`, { hint: `from 1 to ${CLONES_MAX}` });
  }
  const taken = names.find((one) => store.exists(one));
  if (taken !== undefined) throw new ExistsError(taken, { hint: "choose other names: v2m fork --name" });
  return names;
}

export class Fork {
  readonly #store: Store;
  readonly #backend: V3mBackend;
  readonly #waitMs: number;

  /** @param backend the VM's */
  constructor(store: Store, backend: V3mBackend, waitMs: number) {
    this.#store = store;
    this.#backend = backend;
    this.#waitMs = waitMs;
  }

  /**
   * The caller has the VM's lock, and has checked that it runs or is paused.
   * @returns the clones' definitions
   * @throws V3mError; there are no clones then
   */
  async run(from: VmDefinition, clones: Clones, options: OperationOptions): Promise<VmDefinition[]> {
    const names = namesOf(this.#store, from.name, clones);
    const locks: [string, Lock][] = [];
    const lives: VmLife[] = [];
    try {
      for (const name of names) {
        const wait = { waitMs: this.#waitMs, signal: options.signal };
        locks.push([name, await this.#store.lockVm(name, wait)]);
      }
      await this.#define(from, names, lives, options);
      throwIfAborted(options.signal, `fork ${from.name}`);
      await this.#backend.fork(from.name, names, options);
      for (const life of lives) await life.born(from.name);
      return lives.map(({ definition }) => definition);
    } catch (error) {
      for (const life of lives) await life.discard(this.#waitMs).catch(() => {}); // the next command tries again
      throw error;
    } finally {
      for (const [name, lock] of locks) this.#store.unlockVm(name, lock);
    }
  }

  /** @param lives gets each clone as it appears */
  async #define(
    from: VmDefinition,
    names: readonly string[],
    lives: VmLife[],
    { signal }: OperationOptions,
  ): Promise<void> {
    using _lock = await this.#store.lockStore({ waitMs: this.#waitMs, signal });
    const taken = this.#store.natRanges("");
    for (const name of names) {
      const identity = {
        name,
        uuid: randomUUID(),
        directory: this.#store.backendPath(name),
        from: this.#store.backendPath(from.name),
      };
      const definition = cloneDefinition(from, identity, taken);
      await this.#store.add(definition, {
        state: "starting",
        since: new Date().toISOString(),
        cloneOf: from.name,
      });
      lives.push(new VmLife(this.#store, definition, this.#backend));
      await this.#backend.define(definition, signal === undefined ? {} : { signal });
    }
  }
}
