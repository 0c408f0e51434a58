// SPDX-License-Identifier: Apache-2.0
/** Events of VMs as they come, whichever process caused them. */
import { type FSWatcher, watch } from "node:fs";
import type { VmEvent } from "../vmm/backend.js";
import { NotFoundError, StoreError } from "./errors.js";
import { EventLogReader, olderEvents } from "./store/event-log.js";
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
  readonly log: EventLogReader;
  /** The last event that was told was the VM's removal. */
  removed: boolean;
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
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined; // gone meanwhile
      throw new StoreError("E_LIMIT", `cannot watch ${path}: ${(error as Error).message}`, {
        hint: "allow more watches: sysctl fs.inotify.max_user_watches",
        cause: error,
      });
    }
  }

  #names(): string[] {
    const { matches = () => true } = this.#options;
    return this.#store.scan().names.filter(matches);
  }

  #add(name: string, past: boolean): void {
    const directory = this.#store.directory(name);
    const log = new EventLogReader(directory);
    const followed: Followed = { log, removed: false, watcher: undefined, machine: false };
    this.#vms.set(name, followed);
    if (this.#options.follow !== false) followed.watcher = this.#watch(directory, () => this.#mark(name));
    const events = log.read();
    if (past) this.#ready.push(...olderEvents(directory, events[0]?.sequence ?? Number.MAX_VALUE), ...events);
    this.#attach(name, followed);
  }

  #collect(followed: Followed): void {
    for (const event of followed.log.read()) {
      this.#ready.push(event);
      followed.removed = event.kind === "definition" && event.detail === "removed";
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
    this.#collect(followed);
    if (this.#store.exists(name)) {
      this.#attach(name, followed);
      return;
    }
    this.#forget(name, followed);
    if (!followed.removed) {
      this.#ready.push({ name, time: new Date(), kind: "definition", detail: "removed" });
    }
  }

  #forget(name: string, followed: Followed): void {
    followed.watcher?.close();
    followed.log[Symbol.dispose]();
    this.#vms.delete(name);
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
      for (const [name, followed] of this.#vms) this.#forget(name, followed);
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
