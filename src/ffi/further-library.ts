// SPDX-License-Identifier: Apache-2.0
/** The libraries on top of libvmmhpc.so, each beside it and loaded when it is first needed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import koffi from "koffi";
import { LibraryError } from "../errors.js";
import { type Bound, library, packageRoot, type Signature } from "./library.js";

export interface FurtherLibrary<Api extends object> {
  /** Where it is: the environment variable if set, else the release build in this package. */
  path(): string;
  /** Its functions, bound at the first call. @throws LibraryError (`E_NO_LIBRARY`) */
  api(): { readonly [K in keyof Api]: Bound<Api[K]> };
}

/** @param name such as `gdb`: libvmmhpc-gdb.so, or what V3M_LIBVMMHPC_GDB says. */
export function furtherLibrary<Api extends object>(
  name: string,
  signatures: { readonly [K in keyof Api]: Signature },
): FurtherLibrary<Api> {
  const variable = `V3M_LIBVMMHPC_${name.toUpperCase()}`;
  const path = () =>
    process.env[variable] || join(packageRoot(), `native/build/release/libvmmhpc-${name}.so`);
  const load = () => {
    library(); // first: the other one needs its symbols
    const at = path();
    if (!existsSync(at)) {
      throw new LibraryError("E_NO_LIBRARY", `libvmmhpc-${name} is not at ${at}`, {
        hint: process.env[variable] ? `correct or unset ${variable}` : "make build",
      });
    }
    try {
      const so = koffi.load(at);
      return Object.fromEntries(
        Object.entries<Signature>(signatures).map(([key, [symbol, result, args]]) => [
          key,
          so.func(symbol, result, [...args]),
        ]),
      ) as unknown as { readonly [K in keyof Api]: Bound<Api[K]> };
    } catch (cause) {
      throw new LibraryError("E_NO_LIBRARY", `cannot load ${at}: ${String(cause)}`, {
        hint: "make build",
        cause,
      });
    }
  };
  let loaded: { readonly [K in keyof Api]: Bound<Api[K]> } | undefined;
  return {
    path,
    api: () => {
      loaded ??= load();
      return loaded;
    },
  };
}
