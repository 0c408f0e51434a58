// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_shm.h against its TypeScript tables. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import {
  SHM_AREA_MAX,
  SHM_PEERS,
  SHM_SIGNATURES,
  SHM_VECTORS,
  VmmhpcChannelConfig,
  VmmhpcShm,
  VmmhpcShmJoin,
} from "../../src/ffi/shm.js";
import { evaluate, expectations } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const header = readFileSync(join(include, "vmmhpc_shm.h"), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");

describe("vmmhpc_shm.h", () => {
  it("has the structures and the constants of the tables", () => {
    const rows = [
      ...[VmmhpcChannelConfig, VmmhpcShmJoin, VmmhpcShm].flatMap((structure) => [...expectations(structure)]),
      ["VMMHPC_SHM_PEERS", BigInt(SHM_PEERS)] as const,
      ["VMMHPC_SHM_VECTORS", BigInt(SHM_VECTORS)] as const,
      ["VMMHPC_SHM_AREA_MAX", BigInt(SHM_AREA_MAX)] as const,
    ];
    const answers = evaluate(
      ['"vmmhpc_shm.h"'],
      rows.map(([expression]) => expression),
      [`-I${include}`],
    );
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    const koffiType = (c: string) =>
      c.includes("const char *")
        ? "const char *"
        : c.includes("*")
          ? "void *"
          : c.trim().replace(/\s*\w+$/, "");
    const inC = [...header.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)].map(
      ([, result, name, parameters = ""]) => [name, result, parameters.split(",").map(koffiType)],
    );
    const bound = Object.values(SHM_SIGNATURES);
    const byName = (a: readonly unknown[], b: readonly unknown[]) => String(a[0]).localeCompare(String(b[0]));
    expect(bound.toSorted(byName)).toEqual(inC.toSorted(byName));
  });
});
