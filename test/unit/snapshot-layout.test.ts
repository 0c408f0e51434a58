// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_snapshot.h against its TypeScript tables; arguments that are refused without a machine. */
import { describe, expect, it } from "vitest";
import {
  CLONE_NAME_MAX,
  CODEC_PLAIN,
  NOTE_MAX,
  RESTORE_CLONE,
  SAVE_COMPRESSED,
  SNAPSHOT_SIGNATURES,
  VmmhpcSnapshotInfo,
} from "../../src/ffi/snapshot.js";
import { compressSnapshot, readSnapshot, verifySnapshot } from "../../src/vmm/index.js";
import { snapshotNote } from "../../src/vmm/snapshot.js";
import { CHeader, expectations, sorted } from "../support/c-layout.js";

const header = new CHeader("vmmhpc_snapshot.h", "native/include");

describe("vmmhpc_snapshot.h", () => {
  it("has the structure and the constants of the tables", () => {
    const rows = [
      ...expectations(VmmhpcSnapshotInfo),
      ["VMMHPC_RESTORE_CLONE", BigInt(RESTORE_CLONE)] as const,
      ["VMMHPC_SNAPSHOT_COMPRESS", BigInt(SAVE_COMPRESSED)] as const,
      ["VMMHPC_SNAPSHOT_PLAIN", BigInt(CODEC_PLAIN)] as const,
      ["VMMHPC_CLONE_NAME_MAX", BigInt(CLONE_NAME_MAX)] as const,
      ["VMMHPC_SNAPSHOT_NOTE_MAX", BigInt(NOTE_MAX)] as const,
    ];
    expect(header.mismatches(rows)).toEqual([]);
  });

  it("has its functions all bound, with its types", () => {
    expect(sorted(Object.values(SNAPSHOT_SIGNATURES))).toEqual(header.functions());
  });
});

describe("snapshots", () => {
  it("are looked for where they are said to be", async () => {
    expect(() => readSnapshot("/nonexistent")).toThrow(/cannot open the snapshot \/nonexistent/);
    expect(() => readSnapshot("")).toThrow(/needs a path/);
    await expect(compressSnapshot("/nonexistent", "/other")).rejects.toMatchObject({ code: "E_IO" });
    expect(() => compressSnapshot("/nonexistent", "")).toThrow(/needs a path/);
    await expect(verifySnapshot("/nonexistent")).rejects.toMatchObject({ code: "E_IO", errno: "ENOENT" });
  });

  it("have notes of at most 1 MiB", () => {
    expect(snapshotNote("é").length).toBe(2);
    expect(() => snapshotNote(new Uint8Array(NOTE_MAX + 1))).toThrow(/at most 1048576 bytes/);
  });
});
