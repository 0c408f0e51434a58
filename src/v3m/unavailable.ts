// SPDX-License-Identifier: Apache-2.0
/** Types that are known by name, and whose back end is not there yet: the matrix says so, and so does every verb. */
import type { Duplex } from "node:stream";
import {
  type Backend,
  type BackendFactory,
  type BackendType,
  type CapabilityMatrix,
  FEATURES,
  type Feature,
  type Probe,
} from "../vmm/backend.js";
import type { VmDefinition } from "./definition/types.js";
import { UnsupportedError } from "./errors.js";

export const NOT_YET = "not available yet";

class UnavailableBackend implements Backend<VmDefinition> {
  readonly type: BackendType;

  constructor(type: BackendType) {
    this.type = type;
  }

  async probe(): Promise<Probe> {
    const no = FEATURES.map((feature) => [feature, { supported: "no", reason: NOT_YET }] as const);
    return {
      type: this.type,
      usable: false,
      reason: NOT_YET,
      hint: "v2m capabilities shows the types that are",
      capabilities: Object.fromEntries(no) as CapabilityMatrix,
    };
  }

  #no(feature: Feature): never {
    throw new UnsupportedError(this.type, feature, NOT_YET);
  }

  async define(definition: VmDefinition): Promise<void> {
    this.#no(`boot:${definition.boot.from}`);
  }
  async undefine(): Promise<void> {}
  async cleanUp(): Promise<void> {}
  async start(): Promise<void> {
    this.#no("start");
  }
  async stop(): Promise<void> {
    this.#no("stop");
  }
  async reset(): Promise<void> {
    this.#no("reset");
  }
  async pause(): Promise<void> {
    this.#no("pause");
  }
  async resume(): Promise<void> {
    this.#no("pause");
  }
  async status(): Promise<never> {
    return this.#no("status");
  }
  async console(): Promise<Duplex> {
    return this.#no("console");
  }
  async stats(): Promise<never> {
    return this.#no("stats");
  }
  events(): AsyncIterable<never> {
    return this.#no("events");
  }
  async createImage(): Promise<void> {
    this.#no("image");
  }
  async snapshot(): Promise<never> {
    return this.#no("snapshot");
  }
  async restore(): Promise<void> {
    this.#no("restore");
  }
  async fork(): Promise<void> {
    this.#no("fork");
  }
  async migrate(): Promise<void> {
    this.#no("migrate");
  }
}

/** @param type a known type without a back end */
export function unavailable(type: BackendType): BackendFactory<VmDefinition> {
  return { type, create: () => new UnavailableBackend(type) };
}
