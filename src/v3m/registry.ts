// SPDX-License-Identifier: Apache-2.0
/** The back ends that a front end knows. Each is registered by name; nothing is found by itself. */
import type { Backend, BackendFactory, BackendHost, BackendType } from "../vmm/backend.js";
import type { VmDefinition } from "./definition/types.js";
import { didYouMean } from "./did-you-mean.js";
import { BackendError } from "./errors.js";

export type V3mBackend = Backend<VmDefinition>;
export type V3mBackendFactory = BackendFactory<VmDefinition>;
export type V3mBackendHost = BackendHost<VmDefinition>;

export class BackendRegistry {
  readonly #factories = new Map<BackendType, V3mBackendFactory>();
  readonly #made = new Map<BackendType, Promise<V3mBackend>>();

  /** @throws BackendError where the type is registered already. */
  register(factory: V3mBackendFactory): this {
    if (this.#factories.has(factory.type)) {
      throw new BackendError(`a back end ${factory.type} is registered already`, {
        hint: "give the new one another type",
      });
    }
    this.#factories.set(factory.type, factory);
    return this;
  }

  /** In the order of registration. */
  get types(): BackendType[] {
    return [...this.#factories.keys()];
  }

  /** The back end of a type, made at the first call. @throws BackendError E_BACKEND where there is none. */
  async get(type: BackendType, host: V3mBackendHost): Promise<V3mBackend> {
    const factory = this.#factories.get(type);
    if (factory === undefined) {
      const meant = didYouMean(type, this.types);
      throw new BackendError(`there is no back end ${JSON.stringify(type)}`, {
        hint: meant === undefined ? `one of ${this.types.join(", ")}` : `did you mean ${meant}?`,
      });
    }
    let made = this.#made.get(type);
    if (made === undefined) {
      made = Promise.resolve(factory.create(host));
      this.#made.set(type, made);
      made.catch(() => this.#made.delete(type));
    }
    return await made;
  }
}
