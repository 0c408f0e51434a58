// SPDX-License-Identifier: Apache-2.0
/** Every back end that is registered, through the one suite. */
import { builtinRegistry } from "../../src/v3m/builtin.js";
import type { V3mBackendFactory } from "../../src/v3m/registry.js";
import type { Capability } from "../support/capabilities.js";
import { conformance } from "../support/conformance/index.js";
import { currentPlace } from "../support/places.js";

/** What they need to run machines; types that are not available yet only refuse. */
const NEEDS: Readonly<Record<string, readonly Capability[]>> = {
  Qemu: ["private-net"],
  Kvm: ["private-net", "linux-guest"],
  "VMM-HPC": ["private-net", "linux-guest"],
};

const registry = builtinRegistry();
for (const type of registry.types) {
  const factory: V3mBackendFactory = { type, create: (host) => registry.get(type, host) };
  const lean = type === "Qemu" && currentPlace() === "amd"; // see EXCLUSIONS of places.ts
  await conformance(factory, { needs: NEEDS[type] ?? [], lean });
}
