// SPDX-License-Identifier: Apache-2.0
/** Small programs for unit tests, compiled when asked for: whoever runs unit tests has a compiler. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Three functions deep, then a write to NULL. */
export const NULL_WRITER = `
__attribute__((noinline)) int store(volatile int *where, int what) { *where = what; return what + 1; }
__attribute__((noinline)) int middle(int what) { return store((volatile int *)0, what) + 1; }
int main(int argc, char **argv) { (void)argv; return middle(argc) + 1; }
`;

/** A directory of compiled programs. */
export class Workshop implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "v3m-yod-"));

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Compile one source file. @returns the path of the result */
  compile(name: string, source: string, flags: readonly string[], compiler = "gcc"): string {
    const input = this.path(`${name}.${compiler === "g++" ? "cpp" : "c"}`);
    writeFileSync(input, source);
    execFileSync(compiler, ["-w", ...flags, "-o", this.path(name), input], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    return this.path(name);
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
