// SPDX-License-Identifier: Apache-2.0
/**
 * The V3M front end: VMs by name, whatever runs them. There is no daemon; every call reads what the last one left,
 * in this process or another.
 *
 *     const v3m = new V3m();
 *     await v3m.define("node1.yaml");
 *     await v3m.start("node1");
 */
import type { Duplex } from "node:stream";
import type { Images } from "../images/index.js";
import type {
  BackendType,
  ImageSource,
  KeepOptions,
  MigrationOptions,
  OperationOptions,
  Probe,
  VmEvent,
  VmState,
  VmStats,
} from "../vmm/backend.js";
import { defaultParallelism, mapBounded, type Settled } from "./bounded.js";
import type { DefineOptions, Definer, DefinitionSource } from "./define.js";
import type { ImageLookup } from "./definition/resolve-image.js";
import type { VmDefinition } from "./definition/types.js";
import { NotFoundError, StoreError, throwIfAborted, UnsupportedError } from "./errors.js";
import type { EventsOptions, FrontEvent } from "./events.js";
import type { Clones } from "./fork.js";
import type { GangVerb } from "./gang.js";
import { selectNames } from "./patterns.js";
import type { BackendRegistry, V3mBackend, V3mBackendHost } from "./registry.js";
import type { SnapshotRecord, Snapshots } from "./snapshots.js";
import { AT_REST, TRANSITIONS, transition, type Verb } from "./states.js";
import { type Directories, directories } from "./store/directories.js";
import { isAlive } from "./store/process-id.js";
import type { StateRecord } from "./store/records.js";
import { Store } from "./store/store.js";

export interface V3mOptions extends Partial<Directories> {
  /** The back ends, or what makes the registry when one is needed. Default: those that V3M brings along. */
  readonly registry?: BackendRegistry | (() => Promise<BackendRegistry>);
  /** How long to wait for another command that works on the same VM, milliseconds. Default 10,000. */
  readonly waitMs?: number;
}

/** What is known of a VM at a glance. */
export interface VmInfo {
  readonly name: string;
  readonly type: BackendType;
  readonly state: VmState;
  readonly since: Date;
  readonly detail?: string;
  readonly pid?: number;
  readonly uuid: string;
  readonly cpus: number;
  /** Bytes of RAM. */
  readonly memory: number;
}

// What those who only look do not need is loaded when it is called for: `v2m list` is to be quick.

const DEFAULT_WAIT_MS = 10_000;

async function builtin(): Promise<BackendRegistry> {
  return (await import("./builtin.js")).builtinRegistry();
}

export class V3m {
  readonly store: Store;
  readonly #makeRegistry: () => Promise<BackendRegistry>;
  #registry: Promise<BackendRegistry> | undefined;
  readonly #waitMs: number;
  readonly #host: V3mBackendHost;
  #madeDefiner: Definer | undefined;

  /** Nothing is read or made yet. */
  constructor(options: V3mOptions = {}) {
    this.store = new Store(directories(options));
    const { registry } = options;
    this.#makeRegistry =
      typeof registry === "function" ? registry : async () => registry ?? (await builtin());
    this.#waitMs = options.waitMs ?? DEFAULT_WAIT_MS;
    this.#host = {
      definition: async (name) => this.store.definition(name),
      stateDirectory: (name) => this.store.backendState(name),
      runtimeDirectory: (name) => this.store.backendRuntime(name),
    };
  }

  async #registered(): Promise<BackendRegistry> {
    this.#registry ??= this.#makeRegistry();
    return await this.#registry;
  }

  /** The registered types. */
  async types(): Promise<readonly BackendType[]> {
    return (await this.#registered()).types;
  }

  async #backend(type: BackendType): Promise<V3mBackend> {
    return await (await this.#registered()).get(type, this.#host);
  }

  /** What the back ends can do on this host. @param types default: all that are registered */
  async capabilities(types?: readonly BackendType[]): Promise<Probe[]> {
    const { probeOnce } = await import("./matrix.js");
    const asked = types ?? (await this.types());
    return await Promise.all(asked.map(async (type) => await probeOnce(await this.#backend(type))));
  }

  /** Names of all VMs, in the order in which people count. */
  names(): string[] {
    return this.store.scan().names;
  }

  /** The VMs that words with ranges and patterns name. @throws NotFoundError */
  select(words: readonly string[]): string[] {
    return selectNames(words, this.names());
  }

  /** @throws NotFoundError */
  definition(name: string): VmDefinition {
    return this.store.definition(name);
  }

  // --- definitions ---

  async #definer(): Promise<Definer> {
    const { Definer } = await import("./define.js");
    this.#madeDefiner ??= new Definer(this.store, this.#waitMs, {
      types: () => this.types(),
      get: (type) => this.#backend(type),
      images: () => this.imageLookup(),
    });
    return this.#madeDefiner;
  }

  // --- images ---

  /** The images of the state directory. Those that definitions of VMs name are kept, whatever becomes of their names. */
  async images(): Promise<Images> {
    const { openImages } = await import("./image-store.js");
    return await openImages(this.store, this.#waitMs);
  }

  /** What definitions need to know of images. */
  async imageLookup(): Promise<ImageLookup> {
    const { lookup } = await import("./image-store.js");
    return lookup(this.store);
  }

  /** Check a definition without keeping it. @throws DefinitionError */
  async validate(from: DefinitionSource, directory?: string): Promise<VmDefinition> {
    return await (await this.#definer()).validate(from, directory);
  }

  /**
   * Define a VM, or with `replace` define it anew.
   * @param from path of a file, or an object
   * @throws DefinitionError, ExistsError, VmStateError, UnsupportedError; then nothing has changed
   */
  async define(from: DefinitionSource, options: DefineOptions = {}): Promise<VmDefinition> {
    return await (await this.#definer()).define(from, options);
  }

  /** Forget a VM that is not running. Its images stay. */
  async undefine(name: string, options: OperationOptions = {}): Promise<void> {
    await (await this.#definer()).undefine(name, options);
  }

  // --- verbs ---

  /** The back end of a VM, whose matrix has a feature. */
  async #able(name: string, verb: Verb): Promise<V3mBackend> {
    const backend = await this.#backend(this.store.definition(name).type);
    const { requireFeatures } = await import("./matrix.js");
    await requireFeatures(backend, [TRANSITIONS[verb].feature]);
    return backend;
  }

  async #run(
    name: string,
    verb: Verb,
    options: OperationOptions,
    action: (backend: V3mBackend) => Promise<void>,
    more: { readonly undo?: (backend: V3mBackend) => Promise<void>; readonly detail?: string } = {},
  ): Promise<void> {
    const backend = await this.#able(name, verb);
    const { requireUsable } = await import("./matrix.js");
    const { VmLife } = await import("./life.js");
    if (verb === "start" || verb === "restore") await requireUsable(backend);
    await this.store.withVm(name, { waitMs: this.#waitMs, signal: options.signal }, async () => {
      const life = new VmLife(this.store, this.store.definition(name), backend);
      await life.reconcile();
      throwIfAborted(options.signal, `${verb} ${name}`);
      const { undo, detail } = more;
      await life.run(verb, () => action(backend), {
        signal: options.signal,
        ...(undo === undefined ? {} : { undo: () => undo(backend) }),
        ...(detail === undefined ? {} : { detail }),
      });
      if (verb === "reset") life.log("reset");
    });
  }

  /** On a VM, or on all of its gang. */
  async #together(
    name: string,
    verb: GangVerb,
    options: OperationOptions,
    act: (name: string, options: OperationOptions) => Promise<void>,
  ): Promise<void> {
    const gang = this.store.definition(name).performance?.gang;
    if (gang === undefined) return await act(name, options);
    const { together } = await import("./gang.js");
    const undo = (member: string) => this.#stop(member, { force: true }).catch(() => {});
    const list = (names: readonly string[]) => this.list(names, () => {});
    await together(name, gang, verb, { store: this.store, waitMs: this.#waitMs, list, act, undo }, options);
  }

  /** Start a VM; with it all of its gang, or none. */
  async start(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#together(name, "start", options, async (member, how) => {
      await this.#run(member, "start", how, (backend) => backend.start(member, how), {
        undo: async (backend) => {
          await backend.stop(member, { force: true });
          await backend.cleanUp(member);
        },
      });
    });
  }

  /** Ask the guest to power off; by force when its stop timeout has passed, or at once with `force`. */
  async stop(name: string, options: OperationOptions & { readonly force?: boolean } = {}): Promise<void> {
    await this.#together(name, "stop", options, (member) => this.#stop(member, options));
  }

  async #stop(name: string, options: OperationOptions & { readonly force?: boolean }): Promise<void> {
    const more = options.force === true ? { detail: "by force" } : {};
    await this.#run(name, "stop", options, (backend) => backend.stop(name, options), more);
  }

  async reset(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#run(name, "reset", options, (backend) => backend.reset(name, options));
  }

  async pause(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#together(name, "pause", options, async (member, how) => {
      await this.#run(member, "pause", how, (backend) => backend.pause(member, how), {
        undo: (backend) => backend.resume(member),
      });
    });
  }

  async resume(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#together(name, "resume", options, async (member, how) => {
      await this.#run(member, "resume", how, (backend) => backend.resume(member, how), {
        undo: (backend) => backend.pause(member),
      });
    });
  }

  /** Keep the state of a machine in a directory. */
  async snapshot(name: string, directory: string, options: KeepOptions = {}): Promise<void> {
    await this.#run(name, "snapshot", options, async (backend) => {
      await backend.snapshot(name, directory, options);
    });
  }

  /** The snapshots of a VM, by name: to look at them. @throws NotFoundError */
  async snapshots(name: string): Promise<Snapshots> {
    const { Snapshots } = await import("./snapshots.js");
    this.store.definition(name);
    return new Snapshots(this.store.directory(name), name);
  }

  /**
   * Keep the state of a machine under a name.
   * @param snapshot default: a free one, s1, s2 …
   * @param options `base`: name of an older one, whose memory this one shares where nothing has changed; `compress`: what
   *   is written of the memory
   * @throws SnapshotError E_EXISTS; then, and whenever it fails, there is no new one
   */
  async createSnapshot(
    name: string,
    snapshot?: string,
    { base, ...options }: KeepOptions = {},
  ): Promise<SnapshotRecord> {
    let made: SnapshotRecord | undefined;
    await this.#run(name, "snapshot", options, async (backend) => {
      const snapshots = await this.snapshots(name);
      const { type, cpus, memory } = this.store.definition(name);
      const since = base === undefined ? {} : { base: snapshots.get(base).directory };
      made = await snapshots.create(
        snapshot ?? (await snapshots.freeName()),
        { type, cpus, memory: memory.bytes, ...(base === undefined ? {} : { base }) },
        (directory) => backend.snapshot(name, directory, { ...options, ...since }),
      );
    });
    if (made === undefined) throw new NotFoundError(name);
    return made;
  }

  /**
   * Compare all of a snapshot with its checksums, where the back end's have any.
   * @throws SnapshotError E_NOT_FOUND; VmmError E_BAD_IMAGE, E_TRUNCATED: it is damaged
   */
  async verifySnapshot(name: string, snapshot: string): Promise<void> {
    const { directory, type } = (await this.snapshots(name)).get(snapshot);
    const backend = await this.#backend(type);
    if (backend.verifySnapshot === undefined) {
      throw new UnsupportedError(type, "snapshot", "its snapshots have no checksums");
    }
    await backend.verifySnapshot(directory);
  }

  /** Forget a snapshot. @throws SnapshotError E_NOT_FOUND */
  async removeSnapshot(name: string, snapshot: string, options: OperationOptions = {}): Promise<void> {
    await this.store.withVm(name, { waitMs: this.#waitMs, signal: options.signal }, async () => {
      await (await this.snapshots(name)).remove(snapshot);
    });
  }

  /** Start a VM in the state that it had. @throws SnapshotError E_NOT_FOUND */
  async restoreSnapshot(name: string, snapshot: string, options: OperationOptions = {}): Promise<void> {
    const now = (await this.#able(name, "restore")).type;
    const { directory, type } = (await this.snapshots(name)).get(snapshot);
    if (type !== now) {
      const { SnapshotError } = await import("./snapshots.js");
      throw new SnapshotError(
        "E_INVALID",
        `snapshot ${snapshot} of ${name} is one of ${type}, not of ${now}`,
        {
          hint: `define ${name} with that type, or choose another snapshot`,
        },
      );
    }
    await this.restore(name, directory, options);
  }

  /** Start a machine in the state that a snapshot has kept. */
  async restore(name: string, directory: string, options: OperationOptions = {}): Promise<void> {
    await this.#run(name, "restore", options, (backend) => backend.restore(name, directory, options));
  }

  /**
   * Clone a running machine, which is paused meanwhile and goes on. The clones run, and share its memory copy-on-write.
   * @param clones how many, called NAME-1, NAME-2 …, or what they are called
   * @returns their definitions, with the MAC addresses that they have
   * @throws ExistsError, UnsupportedError …: there are no clones then
   */
  async fork(name: string, clones: Clones, options: OperationOptions = {}): Promise<readonly VmDefinition[]> {
    let made: readonly VmDefinition[] = [];
    await this.#run(name, "fork", options, async (backend) => {
      const { Fork } = await import("./fork.js");
      made = await new Fork(this.store, backend, this.#waitMs).run(
        this.store.definition(name),
        clones,
        options,
      );
    });
    return made;
  }

  /** Move a running machine to another host. */
  async migrate(name: string, target: string, options: MigrationOptions = {}): Promise<void> {
    await this.#run(name, "migrate", options, (backend) => backend.migrate(name, target, options), {
      detail: `migrated to ${target}`,
    });
  }

  /** Make an image with a back end's means. @throws UnsupportedError */
  async createImage(
    type: BackendType,
    source: ImageSource<VmDefinition>,
    options: OperationOptions = {},
  ): Promise<void> {
    const backend = await this.#backend(type);
    const { requireFeatures } = await import("./matrix.js");
    const { asV3mError } = await import("./life.js");
    await requireFeatures(backend, [source.kind === "empty" ? "image" : `image-from-${source.kind}`]);
    try {
      await backend.createImage(source, options);
    } catch (error) {
      throw asV3mError(error, `creating ${source.to}`, options.signal);
    }
  }

  // --- looking ---

  /** The console of a running or paused machine: what it has said so far, then what it says. */
  async console(name: string, options: OperationOptions = {}): Promise<Duplex> {
    const backend = await this.#looking(name, "console");
    return await backend.console(name, options);
  }

  async stats(name: string): Promise<VmStats> {
    const backend = await this.#looking(name, "stats");
    return await backend.stats(name);
  }

  async #looking(name: string, verb: Verb): Promise<V3mBackend> {
    const backend = await this.#able(name, verb);
    const [info] = await this.list([name]);
    if (info === undefined) throw new NotFoundError(name);
    transition(name, verb, info.state);
    return backend;
  }

  #info(definition: VmDefinition, record: StateRecord): VmInfo {
    return {
      name: definition.name,
      type: definition.type,
      state: record.state,
      since: new Date(record.since),
      ...(record.detail === undefined ? {} : { detail: record.detail }),
      ...(record.process === undefined ? {} : { pid: record.process.pid }),
      uuid: definition.uuid,
      cpus: definition.cpus,
      memory: definition.memory.bytes,
    };
  }

  /** Make the record of a VM true, unless another command is at work on it. */
  async #refresh(name: string): Promise<void> {
    const lock = await this.store.tryLockVm(name);
    if (lock === undefined) return;
    try {
      const { VmLife } = await import("./life.js");
      const definition = this.store.definition(name);
      await new VmLife(this.store, definition, await this.#backend(definition.type)).reconcile();
    } finally {
      this.store.unlockVm(name, lock);
    }
  }

  /** The state of a VM; the back end is asked. @throws NotFoundError */
  async status(name: string): Promise<VmInfo> {
    const { state } = this.store.state(name);
    if (!AT_REST.includes(state)) await this.#refresh(name);
    return this.#info(this.store.definition(name), this.store.state(name));
  }

  /**
   * All VMs, or those given, from what is recorded; a back end is asked only for a VM whose process has ended.
   * A VM that disappears meanwhile is left out.
   * @param onDamaged is told of VMs whose files cannot be read, which are left out; without it that is an error
   */
  async list(
    names: readonly string[] = this.#scanned(),
    onDamaged?: (error: StoreError, name: string) => void,
  ): Promise<VmInfo[]> {
    const doubtful = names.filter((name) => this.#doubtful(name));
    const limit = defaultParallelism();
    const refreshed = await mapBounded(doubtful, limit, async (name) => await this.#refresh(name));
    const failed = new Map(doubtful.map((name, i) => [name, refreshed[i]]));
    return names.flatMap((name) => {
      try {
        return this.#glance(name, failed.get(name));
      } catch (error) {
        if (onDamaged === undefined || !(error instanceof StoreError)) throw error;
        onDamaged(error, name);
        return [];
      }
    });
  }

  #scanned(): string[] {
    const { names, litter } = this.store.scan();
    if (litter) void this.store.sweep().catch(() => {}); // nobody waits for it
    return names;
  }

  /** Whether what is recorded may be true no more: the process has ended, or a command was killed on its way. */
  #doubtful(name: string): boolean {
    try {
      const { process, state } = this.store.state(name);
      if (AT_REST.includes(state)) return false;
      const settled = state === "running" || state === "paused";
      return !settled || process === undefined || !isAlive(process);
    } catch {
      return false; // #glance tells
    }
  }

  /** @param refreshed what came of finding out, where that was tried */
  #glance(name: string, refreshed: Settled<void> | undefined): VmInfo[] {
    try {
      const info = this.#info(this.store.definition(name), this.store.state(name));
      return refreshed !== undefined && "error" in refreshed && refreshed.error instanceof Error
        ? [{ ...info, detail: refreshed.error.message }]
        : [info];
    } catch (error) {
      if (error instanceof NotFoundError) return [];
      throw error;
    }
  }

  /**
   * Events of all VMs, in this and other processes, until the signal is aborted (or with `follow: false` those
   * that are kept). While somebody follows, a machine that ends by itself is noticed at once.
   */
  async *events(options: EventsOptions = {}): AsyncGenerator<FrontEvent> {
    const { followEvents } = await import("./events.js");
    yield* followEvents(
      this.store,
      {
        machine: (name, signal) => this.#machineEvents(name, signal),
        refresh: (name) => this.#refresh(name),
        isLive: (name) => !AT_REST.includes(this.store.state(name).state),
      },
      options,
    );
  }

  async *#machineEvents(name: string, signal: AbortSignal): AsyncGenerator<VmEvent> {
    const backend = await this.#backend(this.store.definition(name).type);
    const { requireFeatures } = await import("./matrix.js");
    await requireFeatures(backend, ["events"]);
    yield* backend.events(name, { signal });
  }
}
