// SPDX-License-Identifier: Apache-2.0
/** Errors that all back ends share. */
import { V3mError } from "../../errors.js";
import type { BackendType, Feature } from "../../vmm/backend.js";

/** A back end could not do what it was asked for. */
export class BackendError extends V3mError {}

/** The back end cannot do it at all, as its capability matrix says. */
export class UnsupportedError extends BackendError {
  readonly type: BackendType;
  readonly feature: Feature;

  constructor(type: BackendType, feature: Feature, reason: string) {
    super("E_UNSUPPORTED", `${type} has no ${feature}: ${reason}`, {
      hint: `v2m capabilities shows which back end has ${feature}`,
    });
    this.type = type;
    this.feature = feature;
  }
}
