// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_shm.h and vmmhpc_vfio.h against their TypeScript tables. */
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
import { VFIO_SIGNATURES, VmmhpcVfio } from "../../src/ffi/vfio.js";
import { evaluate, expectations } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const HEADERS = [
  {
    file: "vmmhpc_shm.h",
    structures: [VmmhpcChannelConfig, VmmhpcShmJoin, VmmhpcShm],
    constants: {
      VMMHPC_SHM_PEERS: SHM_PEERS,
      VMMHPC_SHM_VECTORS: SHM_VECTORS,
      VMMHPC_SHM_AREA_MAX: SHM_AREA_MAX,
    },
    signatures: SHM_SIGNATURES,
  },
  { file: "vmmhpc_vfio.h", structures: [VmmhpcVfio], constants: {}, signatures: VFIO_SIGNATURES },
];

describe.each(HEADERS)("$file", ({ file, structures, constants, signatures }) => {
  const header = readFileSync(join(include, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");

  it("has the structures and the constants of the tables", () => {
    const rows = [
      ...structures.flatMap((structure) => [...expectations(structure)]),
      ...Object.entries(constants).map(([name, value]) => [name, BigInt(value)] as const),
    ];
    const answers = evaluate(
      [`"${file}"`],
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
    const bound = Object.values(signatures);
    const byName = (a: readonly unknown[], b: readonly unknown[]) => String(a[0]).localeCompare(String(b[0]));
    expect(bound.toSorted(byName)).toEqual(inC.toSorted(byName));
  });
});
