// SPDX-License-Identifier: Apache-2.0
/** Where results go: `<results>/bench-<name>.json` and `.svg`. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

export class Results {
  readonly directory: string;
  readonly #name: string;

  constructor(directory: string, name: string) {
    this.directory = resolve(directory);
    this.#name = name;
    mkdirSync(this.directory, { recursive: true });
  }

  path(extension: string): string {
    return join(this.directory, `bench-${this.#name}.${extension}`);
  }

  writeJson(value: unknown): void {
    writeFileSync(this.path("json"), `${JSON.stringify(value, null, 2)}\n`);
  }

  /** What `writeJson` wrote, perhaps in another process. The caller knows its type. */
  readJson<T>(): T {
    return JSON.parse(readFileSync(this.path("json"), "utf8")) as T;
  }

  writeSvg(svg: string): void {
    writeFileSync(this.path("svg"), svg);
  }
}
