// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_shm.h and vmmhpc_vfio.h against their TypeScript tables. */
import { describe, expect, it } from "vitest";
import {
  SHM_AREA_MAX,
  SHM_COMMON_MAX,
  SHM_PEERS,
  SHM_SIGNATURES,
  SHM_VECTORS,
  VmmhpcChannelConfig,
  VmmhpcShm,
  VmmhpcShmJoin,
} from "../../src/ffi/shm.js";
import { VFIO_SIGNATURES, VmmhpcVfio } from "../../src/ffi/vfio.js";
import { CHeader, expectations, sorted } from "../support/c-layout.js";

const HEADERS = [
  {
    file: "vmmhpc_shm.h",
    structures: [VmmhpcChannelConfig, VmmhpcShmJoin, VmmhpcShm],
    constants: {
      VMMHPC_SHM_PEERS: SHM_PEERS,
      VMMHPC_SHM_VECTORS: SHM_VECTORS,
      VMMHPC_SHM_AREA_MAX: SHM_AREA_MAX,
      VMMHPC_SHM_COMMON_MAX: SHM_COMMON_MAX,
    },
    signatures: SHM_SIGNATURES,
  },
  { file: "vmmhpc_vfio.h", structures: [VmmhpcVfio], constants: {}, signatures: VFIO_SIGNATURES },
];

describe.each(HEADERS)("$file", ({ file, structures, constants, signatures }) => {
  const header = new CHeader(file, "native/include");

  it("has the structures and the constants of the tables", () => {
    const rows = [
      ...structures.flatMap((structure) => [...expectations(structure)]),
      ...Object.entries(constants).map(([name, value]) => [name, BigInt(value)] as const),
    ];
    expect(header.mismatches(rows)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    expect(sorted(Object.values(signatures))).toEqual(header.functions());
  });
});
