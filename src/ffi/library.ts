// SPDX-License-Identifier: Apache-2.0
/** Finding and loading libvmmhpc.so, once per thread (a Worker loads it for itself). */
import { existsSync } from "node:fs";
import { join } from "node:path";
import koffi, { type LibraryHandle, type TypeObject } from "koffi";
import { LibraryError } from "../errors.js";
import { packageRoot } from "../package-root.js";

export { packageRoot };

const RELATIVE = "native/build/release/libvmmhpc.so";

/** Where libvmmhpc.so is: `V3M_LIBVMMHPC` if set, else the release build in this package. */
export function libraryPath(): string {
  const override = process.env.V3M_LIBVMMHPC;
  return override !== undefined && override !== "" ? override : join(packageRoot(), RELATIVE);
}

let loaded: LibraryHandle | undefined;

/**
 * The library, loaded at the first call.
 * @throws LibraryError (`E_NO_LIBRARY`) where it is absent or cannot be loaded.
 */
export function library(): LibraryHandle {
  if (loaded === undefined) {
    const path = libraryPath();
    if (!existsSync(path)) {
      throw new LibraryError("E_NO_LIBRARY", `libvmmhpc is not at ${path}`, {
        hint: process.env.V3M_LIBVMMHPC ? "correct or unset V3M_LIBVMMHPC" : "make build",
      });
    }
    try {
      loaded = koffi.load(path);
    } catch (cause) {
      throw new LibraryError("E_NO_LIBRARY", `cannot load ${path}: ${String(cause)}`, {
        hint: "make build",
        cause,
      });
    }
  }
  return loaded;
}

/** koffi's asynchronous form: the call runs in a thread of its pool; buffers must stay alive until then. */
export type AsyncOf<F> = F extends (...args: infer A) => infer R
  ? (...args: [...A, (error: Error | null, result: R) => void]) => void
  : never;

/** A native function: call it, or `.async(…, callback)` to run it in another thread. */
export type Bound<F> = F & { readonly async: AsyncOf<F> };

/** Result and argument types of a C function, in koffi's words. */
export type Signature = readonly [symbol: string, result: TypeSpec, args: readonly TypeSpec[]];
export type TypeSpec = Parameters<typeof koffi.proto>[1] & (string | TypeObject);

/** Every signature that was given to `bindings`, for the test that compares them with the header. */
export const boundSignatures = new Map<string, Signature>();

/**
 * An object of native functions, each bound at its first use: loading this module needs no library, and
 * after the first use a property is koffi's function itself, with nothing between.
 */
export function bindings<Api extends object>(
  signatures: { readonly [K in keyof Api]: Signature },
): {
  readonly [K in keyof Api]: Bound<Api[K]>;
} {
  const api = {};
  for (const [key, [symbol, result, args]] of Object.entries<Signature>(signatures)) {
    boundSignatures.set(symbol, [symbol, result, args]);
    Object.defineProperty(api, key, {
      configurable: true,
      enumerable: true,
      get() {
        let value: unknown;
        try {
          value = library().func(symbol, result, [...args]);
        } catch (cause) {
          if (cause instanceof LibraryError) {
            throw cause;
          }
          throw new LibraryError(
            "E_NO_LIBRARY",
            `${libraryPath()} has no usable ${symbol}: ${String(cause)}`,
            {
              hint: "make build",
              cause,
            },
          );
        }
        Object.defineProperty(api, key, { value, enumerable: true });
        return value;
      },
    });
  }
  return api as { readonly [K in keyof Api]: Bound<Api[K]> };
}
