// SPDX-License-Identifier: Apache-2.0
/** Asks a back end's capability matrix before its verbs. */
import type { Feature, Probe } from "../vmm/backend.js";
import { BackendError, UnsupportedError } from "./errors.js";
import type { V3mBackend } from "./registry.js";

/** What each back end answered in this process; hosts do not change that fast. */
const answers = new WeakMap<V3mBackend, Promise<Probe>>();

export async function probeOnce(backend: V3mBackend): Promise<Probe> {
  let answer = answers.get(backend);
  if (answer === undefined) {
    answer = backend.probe();
    answers.set(backend, answer);
    answer.catch(() => answers.delete(backend));
  }
  return await answer;
}

/** @throws UnsupportedError for the first feature that the matrix says no to */
export async function requireFeatures(backend: V3mBackend, features: readonly Feature[]): Promise<void> {
  const { capabilities } = await probeOnce(backend);
  for (const feature of features) {
    const capability = capabilities[feature];
    if (capability === undefined || capability.supported === "no") {
      throw new UnsupportedError(
        backend.type,
        feature,
        capability?.reason ?? "the back end does not know this feature",
      );
    }
  }
}

/** @throws BackendError where the back end can run no machine here, and what to do about it */
export async function requireUsable(backend: V3mBackend): Promise<void> {
  const { usable, reason, hint } = await probeOnce(backend);
  if (!usable) {
    throw new BackendError(`${backend.type} cannot run machines here: ${reason ?? "it does not say why"}`, {
      hint: hint ?? "v2m doctor shows what this host offers",
    });
  }
}
