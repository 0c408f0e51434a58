// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_yod.h, native/yod/yod.h and the kernel's system call numbers against their TypeScript tables. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import * as layouts from "../../src/yod/layouts.js";
import { YOD_SIGNATURES } from "../../src/yod/library.js";
import { SYSTEM_CALLS, systemCallName } from "../../src/yod/system-calls.js";
import { evaluate, expectations, isStruct } from "../support/c-layout.js";

const root = packageRoot();
const directories = [join(root, "native/include"), join(root, "native/yod")];
const flags = directories.map((directory) => `-I${directory}`);
const plain = (path: string) => readFileSync(join(root, path), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
const server = plain("native/yod/yod.h");
const shared = plain("native/include/vmmhpc_yod.h");
const ask = (expressions: readonly string[]) => evaluate(['"vmmhpc_yod.h"', '"yod.h"'], expressions, flags);

describe("structures of yod", () => {
  const structs = Object.values<unknown>(layouts).filter(isStruct);

  it("are all in the tables", () => {
    const inC = [...(shared + server).matchAll(/struct (\w+)\s*\{/g)].map((m) => m[1]).sort();
    expect(structs.map(({ name }) => name).sort()).toEqual(inC);
  });

  it("have the compiler's sizes and offsets", () => {
    const rows = structs.flatMap((type) => expectations(type));
    const answers = ask(rows.map(([expression]) => expression));
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });
});

describe("constants of yod", () => {
  it("have the compiler's values", () => {
    const { End, NO_VECTOR, ...rest } = layouts;
    expect(NO_VECTOR).toBe(0xffff_ffff);
    const values = new Map<string, bigint>(
      Object.entries(End).map(([name, value]) => [`YOD_END_${name}`, BigInt(value)]),
    );
    for (const [name, value] of Object.entries(rest)) {
      if (typeof value === "number" || typeof value === "bigint") values.set(name, BigInt(value));
    }
    expect(values.size).toBeGreaterThan(15);
    const answers = ask([...values.keys()]);
    for (const [name, value] of values) expect(answers.get(name), name).toBe(value);
  });

  it("name every way to end", () => {
    const inC = [...shared.matchAll(/\bYOD_END_(\w+) = (\d)/g)].map((m) => [m[1], Number(m[2])]);
    expect(Object.entries(layouts.End)).toEqual(inC);
  });
});

describe("functions of yod.h", () => {
  it("are all bound, with the header's types", () => {
    const koffiType = (c: string) => (c.includes("*") ? "void *" : c.trim().replace(/\s*\w+$/, ""));
    const inC = [...server.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)].map(
      ([, result, name, parameters = ""]) => [name, result, parameters.split(",").map(koffiType)],
    );
    expect(inC.length).toBeGreaterThan(4);
    expect(Object.values(YOD_SIGNATURES)).toEqual(inC);
  });
});

describe("system calls", () => {
  it("have the numbers of the C library's header", () => {
    const names = [...SYSTEM_CALLS.values()];
    expect(names.length).toBeGreaterThan(350);
    const answers = evaluate(
      ["<asm/unistd.h>"],
      names.map((name) => `__NR_${name}`),
    );
    for (const [number, name] of SYSTEM_CALLS) expect(answers.get(`__NR_${name}`), name).toBe(BigInt(number));
  });

  it("without a name are named by number", () => {
    expect(systemCallName(1)).toBe("write");
    expect(systemCallName(400)).toBe("syscall 400");
  });
});
