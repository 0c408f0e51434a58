// SPDX-License-Identifier: Apache-2.0
/** Back ends of others, from modules that somebody has named. */
import { pathToFileURL } from "node:url";
import { BackendError } from "./errors.js";
import type { BackendRegistry, V3mBackendFactory } from "./registry.js";

function isFactory(value: unknown): value is V3mBackendFactory {
  const factory = value as Partial<V3mBackendFactory> | null;
  return typeof factory?.type === "string" && typeof factory.create === "function";
}

/**
 * Register what modules export by default: a factory, or a list of them.
 * @param paths absolute
 * @throws BackendError for a module that cannot be loaded, or is none of this kind
 */
export async function registerModules(registry: BackendRegistry, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    let exported: unknown;
    try {
      exported = ((await import(pathToFileURL(path).href)) as { default?: unknown }).default;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new BackendError(`cannot load the back end ${path}: ${why}`, {
        hint: "correct V3M_BACKENDS, or the file of back ends",
        cause,
      });
    }
    const factories: unknown[] = Array.isArray(exported) ? exported : [exported];
    for (const factory of factories) {
      if (!isFactory(factory)) {
        throw new BackendError(`${path} exports no back end`, {
          hint: "its default export must be { type, create }, or a list of these",
        });
      }
      registry.register(factory);
    }
  }
}
