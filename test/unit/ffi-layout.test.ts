// SPDX-License-Identifier: Apache-2.0
/** vmmhpc.h and vmmhpc_devices.h against their TypeScript tables: structures, constants and function signatures, all of them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as devices from "../../src/ffi/devices.js";
import * as layouts from "../../src/ffi/layouts.js";
import { boundSignatures, packageRoot } from "../../src/ffi/library.js";
import "../../src/ffi/machine.js";
import "../../src/ffi/raw.js";
import { evaluate, expectations, isStruct } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const headers = ["vmmhpc.h", "vmmhpc_devices.h"];
const header = headers
  .map((name) => readFileSync(join(include, name), "utf8"))
  .join("\n")
  .replace(/\/\*[\s\S]*?\*\//g, "")
  .replace(/\\\n/g, "");
const ask = (expressions: readonly string[]) =>
  evaluate(
    headers.map((name) => `"${name}"`),
    expressions,
    [`-I${include}`],
  );

/** The tables of both; beside them stand the functions of the one, and what belongs to these. */
const tables: [string, unknown][] = Object.entries<unknown>({ ...layouts, ...devices }).filter(
  ([name, value]) => typeof value !== "function" && name !== "TAP_NAME_MAX",
);
const structs = tables.map(([, value]) => value).filter(isStruct);

/** C name → value, from the tables: a table's own name is part of the constant's. */
function constants(): Map<string, bigint> {
  const prefixes: Record<string, string> = {
    Status: "",
    Backing: "BACKING_",
    Flag: "FLAG_",
    ImageKind: "IMAGE_",
    State: "STATE_",
    StopReason: "STOP_",
    EventType: "EVENT_",
    Space: "SPACE_",
    BlkFlag: "BLK_",
    NetKind: "NET_",
  };
  const all = new Map<string, bigint>();
  for (const [name, value] of tables) {
    if (typeof value === "number" || typeof value === "bigint") {
      all.set(`VMMHPC_${name}`, BigInt(value));
    } else if (!isStruct(value)) {
      for (const [key, number] of Object.entries(value as Record<string, number | bigint>)) {
        all.set(`VMMHPC_${prefixes[name] ?? `${name}?`}${key}`, BigInt(number));
      }
    }
  }
  return all;
}

describe("structures of vmmhpc.h and vmmhpc_devices.h", () => {
  it("are all in the tables", () => {
    const inC = [...header.matchAll(/struct (\w+)\s*\{/g)].map((m) => m[1]).sort();
    expect(structs.map(({ name }) => name).sort()).toEqual(inC);
  });

  it("have the compiler's sizes and offsets", () => {
    const rows = structs.flatMap((type) => expectations(type));
    const answers = ask(rows.map(([expression]) => expression));
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });
});

describe("constants of vmmhpc.h and vmmhpc_devices.h", () => {
  it("are all in the tables", () => {
    const defines = [...header.matchAll(/#define (VMMHPC_\w+)\s+\S/g)].map((m) => m[1]);
    const enums = [...header.matchAll(/enum \w+\s*\{([^}]*)\}/g)].flatMap((m) =>
      [...(m[1] ?? "").matchAll(/(VMMHPC_\w+)/g)].map((n) => n[1]),
    );
    const inC = new Set(
      [...defines, ...enums].filter(
        (name) => !["VMMHPC_H", "VMMHPC_DEVICES_H", "VMMHPC_API"].includes(name ?? ""),
      ),
    );
    expect([...constants().keys()].sort()).toEqual([...inC].sort());
  });

  it("have the compiler's values", () => {
    const answers = ask([...constants().keys()]);
    for (const [name, value] of constants()) {
      expect(BigInt.asUintN(64, answers.get(name) ?? -1n), name).toBe(BigInt.asUintN(64, value));
    }
  });
});

/** The koffi type that a C type is bound with. */
function koffiType(c: string): string {
  const type = c.trim().replace(/\s+/g, " ");
  if (/^const char \*/.test(type)) return "const char *";
  if (type.includes("*") || type.endsWith("]") || type.startsWith("vmmhpc_handler")) return "void *";
  return type.replace(/\s*\w+$/, "") || type;
}

describe("functions of vmmhpc.h and vmmhpc_devices.h", () => {
  const prototypes = [...header.matchAll(/VMMHPC_API ([\w\s*]+?)(\w+)\(([^)]*)\);/g)];

  it("are all bound, with the header's types", () => {
    expect(prototypes.length).toBeGreaterThan(40);
    for (const [, result = "", name = "", parameters = ""] of prototypes) {
      const args = parameters.trim() === "void" ? [] : parameters.split(",").map(koffiType);
      const bound = boundSignatures.get(name);
      expect(bound, `${name} is not bound`).toBeDefined();
      expect([bound?.[1], bound?.[2]], name).toEqual([koffiType(`${result.trim()} _`), args]);
    }
  });

  it("are the only ones bound", () => {
    const names = new Set(prototypes.map((m) => m[2]));
    expect([...boundSignatures.keys()].filter((name) => !names.has(name))).toEqual([]);
  });
});
