// SPDX-License-Identifier: Apache-2.0
/** native/gdb/gdb.h and vmmhpc_debug.h against their TypeScript tables; the argument of --gdb. */
import { describe, expect, it } from "vitest";
import { DebugFeature, GDB_SIGNATURES, GDB_WAIT, VmmhpcGdbConfig } from "../../src/ffi/gdb.js";
import { planGdb } from "../../src/v2m/gdb-options.js";
import { gdbEndpoint } from "../../src/vmm/gdb.js";
import { CHeader, expectations, sorted } from "../support/c-layout.js";

const header = new CHeader("gdb.h", "native/gdb", "native/include");

describe("gdb.h", () => {
  it("has the structure and the constants of the tables", () => {
    const rows = [
      ...expectations(VmmhpcGdbConfig),
      ["VMMHPC_GDB_WAIT", BigInt(GDB_WAIT)] as const,
      ...Object.entries(DebugFeature).map(
        ([name, value]) => [`VMMHPC_DEBUG_${name}`, BigInt(value)] as const,
      ),
    ];
    expect(header.mismatches(rows, "vmmhpc_debug.h")).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    expect(sorted(Object.values(GDB_SIGNATURES))).toEqual(header.functions());
  });
});

describe("--gdb", () => {
  it("takes a port or a path", () => {
    expect(gdbEndpoint("1234")).toEqual({ port: 1234 });
    expect(gdbEndpoint("./1234")).toEqual({ path: "./1234" });
    expect(planGdb({ gdb: "0", gdbWait: true })).toEqual({ port: 0, wait: true });
    expect(planGdb({})).toBeUndefined();
  });

  it("says what is wrong", () => {
    expect(() => gdbEndpoint("65536")).toThrow(/not a TCP port/);
    expect(() => planGdb({ gdb: "" })).toThrow(/--gdb .*not the path of a socket/);
    expect(() => planGdb({ gdb: "x".repeat(108) })).toThrow(/not the path/);
    expect(() => planGdb({ gdbWait: true })).toThrow(/--gdb-wait needs --gdb/);
  });
});
