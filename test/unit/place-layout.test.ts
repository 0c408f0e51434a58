// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_place.h against its TypeScript tables. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import {
  DISTANCE_LOCAL,
  DISTANCE_REMOTE,
  NODES_MAX,
  PLACE_SIGNATURES,
  PRIORITY_MAX,
  VmmhpcPlacement,
  WithoutExit,
} from "../../src/ffi/place.js";
import { evaluate, expectations } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const header = readFileSync(join(include, "vmmhpc_place.h"), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");

describe("vmmhpc_place.h", () => {
  it("has the structure and the constants of the tables", () => {
    const rows = [
      ...expectations(VmmhpcPlacement),
      ["VMMHPC_EXIT_HALT", BigInt(WithoutExit.HALT)] as const,
      ["VMMHPC_EXIT_PAUSE", BigInt(WithoutExit.PAUSE)] as const,
      ["VMMHPC_PRIORITY_MAX", BigInt(PRIORITY_MAX)] as const,
      ["VMMHPC_NODES_MAX", BigInt(NODES_MAX)] as const,
      ["VMMHPC_DISTANCE_LOCAL", BigInt(DISTANCE_LOCAL)] as const,
      ["VMMHPC_DISTANCE_REMOTE", BigInt(DISTANCE_REMOTE)] as const,
    ];
    const answers = evaluate(
      ['"vmmhpc_place.h"'],
      rows.map(([expression]) => expression),
      [`-I${include}`],
    );
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    const inC = [...header.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)].map(
      ([, result, name, parameters = ""]) => [name, result, parameters.split(",").map(() => "void *")],
    );
    expect(Object.values(PLACE_SIGNATURES)).toEqual(inC);
  });
});
