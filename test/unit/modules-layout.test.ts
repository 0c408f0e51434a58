// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_module.h and vmmhpc_hypercall.h against their TypeScript tables; the includes of the payloads; --module. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { boundSignatures, packageRoot } from "../../src/ffi/library.js";
import * as modules from "../../src/ffi/modules.js";
import { planModules } from "../../src/v2m/module-options.js";
import { evaluate, expectations, isStruct } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const header = readFileSync(join(include, "vmmhpc_module.h"), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
const ask = (expressions: readonly string[]) =>
  evaluate(['"vmmhpc_module.h"'], expressions, [`-I${include}`]);

describe("vmmhpc_module.h", () => {
  it("has the structures of the tables", () => {
    const structs = Object.values<unknown>(modules).filter(isStruct);
    const inC = [...header.matchAll(/struct (\w+)\s*\{/g)].map((m) => m[1]);
    // What the library hands to modules in C is of no concern here.
    expect(structs.map(({ name }) => name).sort()).toEqual(
      inC.filter((name) => name !== "vmmhpc_module_host").sort(),
    );
    const rows = structs.flatMap((type) => expectations(type));
    const answers = ask(rows.map(([expression]) => expression));
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });

  it("has the constants of the tables", () => {
    const named = (prefix: string, table: Readonly<Record<string, number>>) =>
      Object.entries(table).map(([name, value]) => [`VMMHPC_${prefix}${name}`, BigInt(value)] as const);
    const rows = [
      ...named("HOOK_", modules.HookAction),
      ...named("MODULE_", modules.ModuleState),
      ["VMMHPC_MODULE_ABI_MAJOR", BigInt(modules.MODULE_ABI_MAJOR)] as const,
      ["VMMHPC_MODULE_ABI_MINOR", BigInt(modules.MODULE_ABI_MINOR)] as const,
      ["VMMHPC_MODULE_MAX", BigInt(modules.MODULE_MAX)] as const,
      ["VMMHPC_HYPERCALL_FIRST", BigInt(modules.HYPERCALL_FIRST)] as const,
      ["VMMHPC_HYPERCALL_LAST", BigInt(modules.HYPERCALL_LAST)] as const,
    ];
    const answers = ask(rows.map(([expression]) => expression));
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    const koffiType = (c: string) => {
      const type = c.trim().replace(/\s+/g, " ");
      if (/^const char \*/.test(type)) return "const char *";
      if (type.includes("*") || /^vmmhpc_module_(device|hypercall|hook) /.test(type)) return "void *";
      return type.replace(/\s*\w+$/, "");
    };
    const prototypes = [...header.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)];
    expect(prototypes).toHaveLength(9);
    for (const [, result, name = "", parameters = ""] of prototypes) {
      expect(boundSignatures.get(name), name).toEqual([name, result, parameters.split(",").map(koffiType)]);
    }
  });
});

describe("hypercall64.inc", () => {
  it("agrees with vmmhpc_hypercall.h", () => {
    const text = readFileSync(join(packageRoot(), "firmware/payloads/hypercall64.inc"), "utf8");
    const lines = [...text.matchAll(/^HYPERCALL_(\w+)\s+equ (\S+)/gm)].map(
      ([, name, value]) => [`VMMHPC_HYPERCALL_${name}`, BigInt(Number(value))] as const,
    );
    expect(lines).toHaveLength(7);
    const answers = ask(lines.map(([name]) => (name.endsWith("_HERE") ? `${name} >> 32` : name)));
    expect([...answers.values()]).toEqual(lines.map(([, value]) => value));
  });
});

describe("--module", () => {
  it("takes a path and arguments", () => {
    expect(planModules(undefined)).toEqual([]);
    expect(planModules(["a.so", "./b.js,port=1,x=2", "odd,,name.so,a"])).toEqual([
      { path: "a.so", args: "" },
      { path: "./b.js", args: "port=1,x=2" },
      { path: "odd,name.so", args: "a" },
    ]);
  });

  it("says what is wrong", () => {
    expect(() => planModules([""])).toThrow(/--module : no path/);
    expect(() => planModules([",port=1"])).toThrow(/no path/);
  });
});
