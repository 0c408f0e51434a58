// SPDX-License-Identifier: Apache-2.0
/** What a back end says to a definition that asks for more than its matrix promises. */
import type { CapabilityMatrix, Feature } from "../../vmm/backend.js";
import { featuresOf } from "../definition/features.js";
import type { VmDefinition } from "../definition/types.js";
import { UnsupportedError } from "../errors.js";

/** The error that belongs to a "no" of the matrix. */
export function unsupported(type: string, matrix: CapabilityMatrix, feature: Feature): UnsupportedError {
  const capability = matrix[feature];
  const reason = capability.supported === "no" ? capability.reason : "not with this definition";
  return new UnsupportedError(type, feature, reason);
}

/** @throws UnsupportedError for the first feature of the definition that the matrix says no to */
export function refuseUnsupported(type: string, matrix: CapabilityMatrix, definition: VmDefinition): void {
  const features: Feature[] = [...featuresOf(definition), ...(definition.rng ? (["rng"] as const) : [])];
  const missing = features.find((feature) => matrix[feature].supported === "no");
  if (missing !== undefined) throw unsupported(type, matrix, missing);
}
