// SPDX-License-Identifier: Apache-2.0
/** Events of VMs as they come, whichever process caused them. */
import { type FSWatcher, watch } from "node:fs";
import type { VmEvent } from "../vmm/backend.js";
import { NotFoundError } from "./errors.js";
import { type LoggedEvent, readEvents } from "./store/event-log.js";
import type { Store } from "./store/store.js";

/** `sequence`: the number of the event in its VM; absent for what is not kept (devices, progress). */
export type FrontEvent = VmEvent & { readonly sequence?: number };

export interface EventsOptions {
  /** Whether a VM's events are wanted. Default: all. */
  readonly matches?: (name: string) => boolean;
  /** Events that are kept, before those to come. Default false. */
  readonly past?: boolean;
  /** Go on until the signal is aborted. Default true. */
  readonly follow?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What the front end does for one who follows. */
export interface EventSources {
  /** A back end's own events of a machine, until it has ended; empty where there are none. */
  machine(name: string, signal: AbortSignal): AsyncIterable<VmEvent>;
  /** Find out what became of a machine, and log it. */
  refresh(name: string): Promise<void>;
  /** Whether a machine is recorded as running or paused. */
  isLive(name: string): boolean;
}

interface Followed {
  /** Number of the last event that was told. */
  last: number;
  watcher: FSWatcher | undefined;
  /** A back end's events are being read. */
  machine: boolean;
}

class Follower {
  readonly #store: Store;
  readonly #sources: EventSources;
  readonly #options: EventsOptions;
  readonly #vms = new Map<string, Followed>();
  readonly #changed = new Set<string>();
  readonly #ready: FrontEvent[] = [];
  readonly #stop = new AbortController();
  #wake: () => void = () => {};
  #vmsWatcher: FSWatcher | undefined;

  constructor(store: Store, sources: EventSources, options: EventsOptions) {
    this.#store = store;
    this.#sources = sources;
    this.#options = options;
  }

  #mark(name: string): void {
    this.#changed.add(name);
    this.#wake();
  }

  #watch(path: string, onChange: (file: string | null) => void): FSWatcher | undefined {
    try {
      const watcher = watch(path, { signal: this.#stop.signal }, (_, file) => onChange(file));
      watcher.on("error", () => onChange(null)); // the directory has gone
      return watcher;
    } catch {
      return undefined;
    }
  }

  #names(): string[] {
    const { matches = () => true } = this.#options;
    return this.#store.scan().names.filter(matches);
  }

  #read(name: string): LoggedEvent[] {
    return readEvents(this.#store.directory(name));
  }

  #add(name: string, past: boolean): void {
    const followed: Followed = { last: 0, watcher: undefined, machine: false };
    this.#vms.set(name, followed);
    if (this.#options.follow !== false) {
      followed.watcher = this.#watch(this.#store.directory(name), () => this.#mark(name));
    }
    if (past) this.#collect(name, followed);
    else followed.last = this.#read(name).at(-1)?.sequence ?? 0;
    this.#attach(name, followed);
  }

  #collect(name: string, followed: Followed): void {
    for (const event of this.#read(name)) {
      if (event.sequence > followed.last) {
        followed.last = event.sequence;
        this.#ready.push(event);
      }
    }
  }

  /** Read the back end's own events while the machine is there. */
  #attach(name: string, followed: Followed): void {
    if (this.#options.follow === false || followed.machine || !this.#live(name)) return;
    followed.machine = true;
    void this.#readMachine(name).finally(() => {
      followed.machine = false;
      this.#mark(name);
    });
  }

  #live(name: string): boolean {
    try {
      return this.#sources.isLive(name);
    } catch {
      return false;
    }
  }

  async #readMachine(name: string): Promise<void> {
    try {
      for await (const event of this.#sources.machine(name, this.#stop.signal)) {
        if (event.kind === "state") await this.#sources.refresh(name);
        else {
          this.#ready.push(event);
          this.#wake();
        }
      }
      if (!this.#stop.signal.aborted) await this.#sources.refresh(name);
    } catch {
      // The machine or its back end has gone; the log tells what became of it.
    }
  }

  #update(name: string): void {
    const followed = this.#vms.get(name);
    if (followed === undefined) return;
    if (!this.#store.exists(name)) {
      followed.watcher?.close();
      this.#vms.delete(name);
      this.#ready.push({
        name,
        time: new Date(),
        kind: "definition",
        detail: "removed",
        sequence: followed.last + 1,
      });
      return;
    }
    this.#collect(name, followed);
    this.#attach(name, followed);
  }

  #rescan(): void {
    const names = this.#names();
    for (const name of names) {
      if (!this.#vms.has(name)) this.#add(name, true);
    }
    const present = new Set(names);
    for (const name of this.#vms.keys()) {
      if (!present.has(name)) this.#mark(name);
    }
  }

  async *events(): AsyncGenerator<FrontEvent> {
    const { signal, follow = true, past = false } = this.#options;
    const onAbort = () => this.#wake();
    signal?.addEventListener("abort", onAbort);
    try {
      if (follow) {
        await this.#store.prepare();
        this.#vmsWatcher = this.#watch(this.#store.vmsDirectory, () => this.#mark(""));
      }
      for (const name of this.#names()) this.#add(name, past);
      this.#ready.sort((a, b) => a.time.getTime() - b.time.getTime());
      while (signal?.aborted !== true) {
        const event = this.#ready.shift();
        if (event !== undefined) yield event;
        else if (!follow) return;
        else await this.#more();
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#stop.abort();
      this.#vmsWatcher?.close();
    }
  }

  /** Wait until something has changed, and read it. */
  async #more(): Promise<void> {
    if (this.#changed.size === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = () => {};
    }
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const name of changed) {
      if (name === "") this.#rescan();
      else this.#update(name);
    }
  }
}

/** @throws NotFoundError where no VM matches and no other may come */
export async function* followEvents(
  store: Store,
  sources: EventSources,
  options: EventsOptions,
): AsyncGenerator<FrontEvent> {
  if (options.follow === false && options.matches !== undefined) {
    if (!store.scan().names.some(options.matches)) throw new NotFoundError("*");
  }
  yield* new Follower(store, sources, options).events();
}
