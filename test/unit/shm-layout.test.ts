// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_shm.h against its TypeScript tables. */
import { describe, expect, it } from "vitest";
import {
  SHM_AREA_MAX,
  SHM_PEERS,
  SHM_SIGNATURES,
  SHM_VECTORS,
  VmmhpcChannelConfig,
  VmmhpcShm,
  VmmhpcShmJoin,
} from "../../src/ffi/shm.js";
import { CHeader, expectations, sorted } from "../support/c-layout.js";

const header = new CHeader("vmmhpc_shm.h", "native/include");

describe("vmmhpc_shm.h", () => {
  it("has the structures and the constants of the tables", () => {
    const rows = [
      ...[VmmhpcChannelConfig, VmmhpcShmJoin, VmmhpcShm].flatMap((structure) => [...expectations(structure)]),
      ["VMMHPC_SHM_PEERS", BigInt(SHM_PEERS)] as const,
      ["VMMHPC_SHM_VECTORS", BigInt(SHM_VECTORS)] as const,
      ["VMMHPC_SHM_AREA_MAX", BigInt(SHM_AREA_MAX)] as const,
    ];
    expect(header.mismatches(rows)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    expect(sorted(Object.values(SHM_SIGNATURES))).toEqual(header.functions());
  });
});
