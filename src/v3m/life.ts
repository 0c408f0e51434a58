// SPDX-License-Identifier: Apache-2.0
/** A VM under its lock: its recorded state made true, and verbs that lead from one state to another. */
import { V3mError } from "../errors.js";
import type { VmEvent, VmState, VmStatus } from "../vmm/backend.js";
import type { VmDefinition } from "./definition/types.js";
import { AbortedError, BackendError, NotFoundError } from "./errors.js";
import type { V3mBackend } from "./registry.js";
import { AT_REST, type Transition, transition, type Verb } from "./states.js";
import { logEvent } from "./store/event-log.js";
import { bootId, identify } from "./store/process-id.js";
import type { StateRecord } from "./store/records.js";
import type { Store } from "./store/store.js";

const DISCARD_WAIT_MS = 10_000;

const isLive = (state: VmState) => state === "running" || state === "paused";

/** What went wrong in a back end, as an error of ours. */
export function asV3mError(error: unknown, what: string, signal: AbortSignal | undefined): V3mError {
  if (signal?.aborted === true) return new AbortedError(what, error);
  if (error instanceof V3mError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new BackendError(`${what} failed: ${why}`, {
    hint: "this is a fault of the back end: report it with what v2m status --json shows",
    cause: error,
  });
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

export class VmLife {
  readonly #store: Store;
  readonly #backend: V3mBackend;
  readonly definition: VmDefinition;
  #record: StateRecord;

  /** The caller has the VM's lock as long as this is used. */
  constructor(store: Store, definition: VmDefinition, backend: V3mBackend) {
    this.#store = store;
    this.#backend = backend;
    this.definition = definition;
    this.#record = store.state(definition.name);
  }

  get record(): StateRecord {
    return this.#record;
  }

  get #name(): string {
    return this.definition.name;
  }

  async #set(next: Omit<StateRecord, "since">): Promise<void> {
    const { state } = this.#record;
    const record = { since: new Date().toISOString(), ...next };
    await this.#store.setState(this.#name, record);
    this.#record = record;
    if (state !== next.state) this.log("state", next.detail);
  }

  log(kind: VmEvent["kind"], detail?: string): void {
    logEvent(this.#store.directory(this.#name), {
      name: this.#name,
      time: new Date(),
      state: this.#record.state,
      kind,
      ...(detail === undefined ? {} : { detail }),
    });
  }

  async #setLive(state: VmState, pid: number | undefined): Promise<void> {
    const process = pid === undefined ? undefined : identify(pid);
    await this.#set({ state, ...(process === undefined ? {} : { process }) });
  }

  /** Record what the machine really is, and remove what it left behind where it is no more. */
  async #settle(status: VmStatus, atRest: (status: VmStatus) => Omit<StateRecord, "since">): Promise<void> {
    if (isLive(status.state)) {
      const { state, process } = this.#record;
      if (state !== status.state || process?.pid !== status.pid) {
        await this.#setLive(status.state, status.pid);
      }
      return;
    }
    await this.#backend.cleanUp(this.#name);
    await this.#set(atRest(status));
  }

  /** Why a machine that was recorded in a state is gone. */
  #gone(before: StateRecord, status: VmStatus): Omit<StateRecord, "since"> {
    const rebooted = before.process !== undefined && before.process.boot !== bootId();
    const interrupted = before.state === "starting" ? "its start was interrupted" : undefined;
    const detail = rebooted ? "this host was rebooted" : (status.detail ?? interrupted);
    const state = status.state === "crashed" || rebooted ? "crashed" : "stopped";
    return { state, ...(detail === undefined ? {} : { detail }) };
  }

  /**
   * Finish what a killed command began, and find out what became of the machine.
   * @throws NotFoundError for a clone whose making was never finished: it is removed
   */
  async reconcile(): Promise<void> {
    if (this.#record.cloneOf !== undefined) {
      await this.discard();
      throw new NotFoundError(this.#name);
    }
    if (this.#record.incomplete === true) await this.complete();
    const before = this.#record;
    if (AT_REST.includes(before.state)) return;
    await this.#settle(await this.#backend.status(this.#name), (status) => this.#gone(before, status));
  }

  /** The machine of a clone runs: it is a VM like others from now on. */
  async born(of: string): Promise<void> {
    this.log("definition", `cloned from ${of}`);
    await this.#settle(await this.#backend.status(this.#name), (status) => this.#gone(this.#record, status));
  }

  /** End a clone's machine and forget the clone. The caller has not got the store's lock. */
  async discard(waitMs = DISCARD_WAIT_MS): Promise<void> {
    const { state } = await this.#backend.status(this.#name);
    if (isLive(state)) await this.#backend.stop(this.#name, { force: true });
    await this.#backend.cleanUp(this.#name);
    await this.#backend.undefine(this.#name);
    using _lock = await this.#store.lockStore({ waitMs });
    await this.#store.remove(this.#name);
  }

  /** Tell the back end the definition, and record that it took it. */
  async complete(signal?: AbortSignal): Promise<void> {
    await this.#backend.define(this.definition, signal === undefined ? {} : { signal });
    const { incomplete: _, ...record } = this.#record;
    await this.#store.setState(this.#name, record);
    this.#record = record;
  }

  /**
   * Do what a verb says.
   * @param undo for where the new state cannot be recorded: the machine is to be again what the store says
   * @throws VmStateError, and what `action` throws; then the recorded state is what the machine is
   */
  async run(
    verb: Verb,
    action: () => Promise<void>,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly undo?: () => Promise<void>;
      /** Recorded with the new state. */
      readonly detail?: string;
    } = {},
  ): Promise<void> {
    const { during, to }: Transition = transition(this.#name, verb, this.#record.state);
    const before = this.#record;
    if (during !== undefined) {
      const { process } = before;
      await this.#set({ state: during, ...(process === undefined ? {} : { process }) });
    }
    try {
      await action();
    } catch (cause) {
      const error = asV3mError(cause, `${verb} ${this.#name}`, options.signal);
      await this.#afterFailure(verb, before, error);
      throw error;
    }
    if (to !== undefined) await this.#arrive(to, before, options);
  }

  async #arrive(
    to: VmState,
    before: StateRecord,
    options: { readonly undo?: () => Promise<void>; readonly detail?: string },
  ): Promise<void> {
    try {
      if (!isLive(to)) {
        await this.#set({ state: to, ...(options.detail === undefined ? {} : { detail: options.detail }) });
        return;
      }
      const status = await this.#backend.status(this.#name);
      await this.#settle(status, (now) => this.#gone(before, now));
      if (isLive(status.state) && status.state !== to && before.state === status.state) {
        throw new BackendError(`${this.#name} is still ${status.state}`, {
          hint: "this is a fault of the back end: its matrix says that it can do this",
        });
      }
    } catch (error) {
      await options.undo?.().catch(() => {}); // the first error is the one to tell
      throw error;
    }
  }

  /** The state after a verb that failed; what goes wrong here is found by the next command. */
  async #afterFailure(verb: Verb, before: StateRecord, error: V3mError): Promise<void> {
    try {
      const status = await this.#backend.status(this.#name);
      await this.#settle(status, (now) =>
        AT_REST.includes(before.state)
          ? { state: before.state, detail: `${verb} failed: ${messageOf(error)}` }
          : this.#gone(before, now),
      );
    } catch {
      // The record says what was under way.
    }
  }
}
