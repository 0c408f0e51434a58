// SPDX-License-Identifier: Apache-2.0
/** The back ends that V3M brings along. What a back end needs is loaded when it is asked for something. */
import { KNOWN_TYPES } from "../vmm/backend.js";
import { kvmBackend, qemuBackend } from "./backends/qemu/index.js";
import { vmmHpcBackend } from "./backends/vmm-hpc/index.js";
import { BackendRegistry, type V3mBackendFactory } from "./registry.js";
import { unavailable } from "./unavailable.js";

/** Back ends that are there, by type; the other known types are not available yet. */
const AVAILABLE: Readonly<Record<string, V3mBackendFactory>> = {
  "VMM-HPC": vmmHpcBackend,
  Qemu: qemuBackend,
  Kvm: kvmBackend,
};

/** A registry of all known types, in the order of 2007. */
export function builtinRegistry(): BackendRegistry {
  const registry = new BackendRegistry();
  for (const type of KNOWN_TYPES) {
    registry.register(AVAILABLE[type] ?? unavailable(type));
  }
  return registry;
}
