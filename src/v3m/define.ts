// SPDX-License-Identifier: Apache-2.0
/** Defining VMs, and forgetting them: what the store and the back end know is the same, or made so by the next command. */
import type { BackendType, OperationOptions } from "../vmm/backend.js";
import type { Source } from "./definition/load.js";
import type { ImageLookup } from "./definition/resolve-image.js";
import type { DefinitionInput } from "./definition/schema.js";
import type { VmDefinition } from "./definition/types.js";
import { ExistsError, throwIfAborted, VmStateError } from "./errors.js";
import { asV3mError, VmLife } from "./life.js";
import { requireFeatures } from "./matrix.js";
import type { V3mBackend } from "./registry.js";
import { AT_REST } from "./states.js";
import { logEvent } from "./store/event-log.js";
import type { StateRecord } from "./store/records.js";
import type { Store } from "./store/store.js";

/** The path of a file, what stands in one, or what was read from one. */
export type DefinitionSource = string | DefinitionInput | Source;

export interface DefineOptions extends OperationOptions {
  /** Replace the definition of a VM that is not running. Default: a VM of that name is an error. */
  readonly replace?: boolean;
  /** Where relative paths of an object begin. Default: the working directory. */
  readonly directory?: string;
}

export interface Backends {
  types(): Promise<readonly BackendType[]>;
  get(type: BackendType): Promise<V3mBackend>;
  images(): Promise<ImageLookup>;
}

async function sourceOf(from: DefinitionSource, directory: string | undefined): Promise<Source> {
  const { readDefinition, definitionFrom } = await import("./definition/load.js");
  if (typeof from === "string") return await readDefinition(from);
  return "document" in from ? from : definitionFrom(from, directory);
}

/** A VM that the back end has not been told of yet. */
function fresh(): StateRecord {
  return { state: "defined", since: new Date().toISOString(), incomplete: true };
}

export class Definer {
  readonly #store: Store;
  readonly #waitMs: number;
  readonly #backends: Backends;

  constructor(store: Store, waitMs: number, backends: Backends) {
    this.#store = store;
    this.#waitMs = waitMs;
    this.#backends = backends;
  }

  async validate(from: DefinitionSource, directory?: string): Promise<VmDefinition> {
    const { resolveSource } = await import("./definition/load.js");
    const source = await sourceOf(from, directory);
    const types = await this.#backends.types();
    return resolveSource(source, { types, images: await this.#backends.images() });
  }

  async define(from: DefinitionSource, options: DefineOptions): Promise<VmDefinition> {
    const source = await sourceOf(from, options.directory);
    const { name } = source.input;
    const wait = { waitMs: this.#waitMs, signal: options.signal };
    return await this.#store.withVm(name, wait, async () => {
      const before = this.#store.exists(name) ? await this.#replaceable(name, options) : undefined;
      using lock = await this.#store.lockStore(wait);
      const definition = await this.#resolve(source, before);
      const backend = await this.#backends.get(definition.type);
      await this.#check(definition, backend);
      throwIfAborted(options.signal, `define ${name}`);
      if (before === undefined) await this.#store.add(definition, fresh());
      lock[Symbol.dispose]();
      if (before === undefined) await this.#complete(definition, backend, options.signal);
      else await this.#replace(before, definition, backend, options.signal);
      return definition;
    });
  }

  /** The caller has the store's lock: address ranges are given out under it. */
  async #resolve(source: Source, before: VmDefinition | undefined): Promise<VmDefinition> {
    const { resolveSource } = await import("./definition/load.js");
    return resolveSource(source, {
      types: await this.#backends.types(),
      images: await this.#backends.images(),
      takenRanges: this.#store.natRanges(source.input.name),
      ...(before === undefined ? {} : { uuid: before.uuid }),
    });
  }

  async #check(definition: VmDefinition, backend: V3mBackend): Promise<void> {
    const { featuresOf } = await import("./definition/features.js");
    await requireFeatures(backend, featuresOf(definition));
  }

  /** The present definition of a VM that may be replaced. */
  async #replaceable(name: string, options: DefineOptions): Promise<VmDefinition> {
    if (options.replace !== true) throw new ExistsError(name);
    const definition = this.#store.definition(name);
    await this.#mustRest(definition, "define --replace");
    return definition;
  }

  /** @throws VmStateError where the VM is not at rest. A definition that was not completed is no obstacle. */
  async #mustRest(definition: VmDefinition, verb: string): Promise<void> {
    const { name } = definition;
    let { state } = this.#store.state(name);
    if (!AT_REST.includes(state)) {
      const life = new VmLife(this.#store, definition, await this.#backends.get(definition.type));
      await life.reconcile();
      state = life.record.state;
    }
    if (!AT_REST.includes(state)) throw new VmStateError(name, verb, state, AT_REST);
  }

  async #complete(definition: VmDefinition, backend: V3mBackend, signal?: AbortSignal): Promise<void> {
    const life = new VmLife(this.#store, definition, backend);
    try {
      await life.complete(signal);
      life.log("definition", "defined");
    } catch (cause) {
      await this.#remove(definition, backend);
      throw asV3mError(cause, `define ${definition.name}`, signal);
    }
  }

  async #replace(
    before: VmDefinition,
    definition: VmDefinition,
    backend: V3mBackend,
    signal?: AbortSignal,
  ): Promise<void> {
    const { name } = definition;
    const old = await this.#backends.get(before.type);
    await this.#store.setState(name, fresh());
    try {
      await this.#store.setDefinition(name, definition);
      if (old !== backend) await old.undefine(name);
      const life = new VmLife(this.#store, definition, backend);
      await life.complete(signal);
      life.log("definition", "replaced");
    } catch (cause) {
      await this.#restore(before, old);
      throw asV3mError(cause, `define ${name}`, signal);
    }
  }

  /** What goes wrong here is made good by the next command: the record says that the definition is incomplete. */
  async #restore(before: VmDefinition, backend: V3mBackend): Promise<void> {
    try {
      await this.#store.setDefinition(before.name, before);
      await new VmLife(this.#store, before, backend).complete();
    } catch {
      // The first error is the one to tell.
    }
  }

  async #remove(definition: VmDefinition, backend: V3mBackend): Promise<void> {
    await backend.undefine(definition.name);
    using _lock = await this.#store.lockStore({ waitMs: this.#waitMs });
    await this.#store.remove(definition.name);
  }

  async undefine(name: string, options: OperationOptions): Promise<void> {
    await this.#store.withVm(name, { waitMs: this.#waitMs, signal: options.signal }, async () => {
      const definition = this.#store.definition(name);
      await this.#mustRest(definition, "undefine");
      throwIfAborted(options.signal, `undefine ${name}`);
      const backend = await this.#backends.get(definition.type);
      await this.#store.setState(name, { ...this.#store.state(name), incomplete: true });
      logEvent(this.#store.directory(name), {
        name,
        time: new Date(),
        kind: "definition",
        detail: "removed",
      });
      await this.#remove(definition, backend);
    });
  }
}
