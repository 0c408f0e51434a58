// SPDX-License-Identifier: Apache-2.0
/**
 * Clones: machines that go on from the state that another one has right now, and share its memory copy-on-write.
 *
 *     await using point = await machine.forkPoint();         // it goes on, with memory of its own
 *     await using clone = await Machine.clone(point, { ...options, name: "node1-1", nets: others });
 *     clone.start();
 */
import { closeSync } from "node:fs";
import { ArgumentError } from "../errors.js";
import { CLONE_NAME_MAX, type TakenState } from "../ffi/snapshot.js";

export interface CloneOptions {
  /** What the guest finds as its new name: 1 to 63 printable characters of ASCII, no space. */
  readonly name: string;
}

/** The state of a machine at one moment, in memory, which lives as long as this or a clone does. */
export class ForkPoint implements Disposable, AsyncDisposable {
  #taken: TakenState | undefined;

  constructor(taken: TakenState) {
    this.#taken = taken;
  }

  /** For the binding. @throws ArgumentError once it is disposed of */
  get taken(): TakenState {
    if (this.#taken === undefined) throw new ArgumentError("the fork point is gone already");
    return this.#taken;
  }

  /** May be repeated. Clones that were made of it are not touched. */
  [Symbol.dispose](): void {
    if (this.#taken === undefined) return;
    closeSync(this.#taken.stateFd);
    closeSync(this.#taken.memoryFd);
    this.#taken = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }
}

/** For the binding: a name that C sees whole. @throws ArgumentError */
export function cloneName({ name }: CloneOptions): string {
  if (name.length > CLONE_NAME_MAX || !/^[!-~]+$/.test(name)) {
    throw new ArgumentError(`a clone's name has 1 to ${CLONE_NAME_MAX} printable characters, and no space`);
  }
  return name;
}
