// SPDX-License-Identifier: Apache-2.0
/** One thing that a back end is to do where its matrix says yes. */
import type { Feature } from "../../../src/vmm/backend.js";
import type { Capability } from "../capabilities.js";
import type { World } from "./world.js";

export interface Check {
  readonly feature: Feature;
  readonly name: string;
  /** No machine runs: what the back end needs for those does not matter. */
  readonly machineless?: true;
  /** What this place must have. */
  readonly needs?: readonly Capability[];
  /** @throws where the back end does not do it */
  run(world: World): Promise<void>;
}
