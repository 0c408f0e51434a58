// SPDX-License-Identifier: Apache-2.0
/** Ask the C compiler: sizes, offsets and constants as it sees them, to compare with tables in TypeScript. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StructType } from "../../src/ffi/struct.js";
import { packageRoot } from "../../src/package-root.js";

/** Values of C expressions (integer constants, sizeof, offsetof), in one compilation. */
export function evaluate(
  includes: readonly string[],
  expressions: readonly string[],
  flags: readonly string[] = [],
) {
  const directory = mkdtempSync(join(tmpdir(), "v3m-layout-"));
  try {
    const source = [
      ...["<stddef.h>", "<stdint.h>", "<stdio.h>", ...includes].map((file) => `#include ${file}`),
      "int main(void) {",
      ...expressions.map((e) => `printf("%lld\\n", (long long)(${e}));`),
      "return 0; }",
    ];
    const path = join(directory, "layout.c");
    writeFileSync(path, source.join("\n"));
    execFileSync(
      process.env.CC ?? "gcc",
      ["-std=gnu11", "-w", ...flags, "-o", join(directory, "layout"), path],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    const lines = execFileSync(join(directory, "layout"), { encoding: "utf8" }).trim().split("\n");
    return new Map(expressions.map((expression, i) => [expression, BigInt(lines[i] ?? "")]));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Anything in a structure table: only what is needed to walk it. */
type AnyStruct = Pick<StructType<unknown>, "name" | "size" | "offsets" | "sizes">;

/** Expressions for a structure's size and its fields' offsets and sizes, with what the table says. */
export function expectations(
  type: AnyStruct,
  cName = `struct ${type.name}`,
): [expression: string, value: bigint][] {
  const rows: [string, bigint][] = [[`sizeof(${cName})`, BigInt(type.size)]];
  for (const [field, offset] of Object.entries(type.offsets)) {
    // A leading underscore marks what has no name in C.
    if (!field.startsWith("_")) {
      rows.push([`offsetof(${cName}, ${field})`, BigInt(offset)]);
      rows.push([`sizeof(((${cName} *)0)->${field})`, BigInt(type.sizes[field] ?? -1)]);
    }
  }
  return rows;
}

export function isStruct(value: unknown): value is AnyStruct {
  return typeof value === "object" && value !== null && "offsets" in value && "sizes" in value;
}

/** Expressions, or names of constants, with what a table says. */
export type Rows = readonly (readonly [expression: string, value: bigint])[];

/** A public header of native code, to be compared with its tables. */
export class CHeader {
  readonly #name: string;
  readonly #directories: readonly string[];
  readonly #text: string;

  /** @param directories of the repository, in which its includes are looked for, its own first */
  constructor(name: string, ...directories: readonly string[]) {
    this.#name = name;
    this.#directories = directories.map((directory) => join(packageRoot(), directory));
    this.#text = readFileSync(join(this.#directories[0] ?? "", name), "utf8").replace(
      /\/\*[\s\S]*?\*\//g,
      "",
    );
  }

  /** What the compiler says otherwise. @param more headers */
  mismatches(rows: Rows, ...more: readonly string[]): Rows {
    const answers = evaluate(
      [this.#name, ...more].map((name) => JSON.stringify(name)),
      rows.map(([expression]) => expression),
      this.#directories.map((directory) => `-I${directory}`),
    );
    return rows.filter(([expression, value]) => answers.get(expression) !== value);
  }

  /** Its functions as tables of signatures have them: name, result, parameters. In the order of their names. */
  functions(): readonly Signature[] {
    const koffiType = (c: string) =>
      c.includes("const char *")
        ? "const char *"
        : c.includes("*")
          ? "void *"
          : c.trim().replace(/\s*\w+$/, "");
    return sorted(
      [...this.#text.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)].map(
        ([, result = "", name = "", parameters = ""]) => [name, result, parameters.split(",").map(koffiType)],
      ),
    );
  }
}

type Signature = readonly [name: string, result: string, parameters: readonly string[]];

/** In the order of their names. */
export function sorted(signatures: readonly Signature[]): readonly Signature[] {
  return signatures.toSorted(([a], [b]) => a.localeCompare(b));
}
