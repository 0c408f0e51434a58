// SPDX-License-Identifier: Apache-2.0
/** Where this package is: for files that are not modules. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { LibraryError } from "./errors.js";

/** The directory of this package's package.json, from `src` as well as from `dist/src`. */
export function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let at = start; ; at = dirname(at)) {
    if (existsSync(join(at, "package.json"))) {
      return at;
    }
    if (dirname(at) === at) {
      throw new LibraryError("E_NO_LIBRARY", `no package.json above ${start}`, { hint: "make build" });
    }
  }
}
