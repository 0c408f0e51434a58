// SPDX-License-Identifier: Apache-2.0
/** The snapshots of a VM in the store: whole or not there, whatever happens in between; disks that are put back. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { keepDisks, withKeptDisks, writtenFiles } from "../../src/v3m/backends/disk-copies.js";
import { builtinRegistry } from "../../src/v3m/builtin.js";
import type { VmDefinition } from "../../src/v3m/definition/types.js";
import { Snapshots } from "../../src/v3m/snapshots.js";

const ABOUT = { type: "Process", cpus: 2, memory: 1 << 30 };

let work: string;
const path = (...names: string[]) => join(work, ...names);
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "v3m-snapshots-"));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

describe("snapshots of a VM", () => {
  let snapshots: Snapshots;
  beforeEach(() => {
    snapshots = new Snapshots(work, "vm");
  });
  const fill = async (directory: string) => {
    mkdirSync(directory);
    writeFileSync(join(directory, "state"), "state");
    return undefined;
  };

  it("are kept, listed in order, and removed", async () => {
    expect(await snapshots.list()).toEqual([]);
    for (const name of ["s10", "s2"]) await snapshots.create(name, ABOUT, fill);
    expect(await snapshots.freeName()).toBe("s1");
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(["s2", "s10"]);
    const found = snapshots.get("s2");
    expect(found).toMatchObject({ vm: "vm", ...ABOUT });
    expect(readFileSync(join(found.directory, "state"), "utf8")).toBe("state");
    await snapshots.remove("s2");
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(["s10"]);
    expect(() => snapshots.get("s2")).toThrow(/vm has no snapshot "s2"/);
    expect(readdirSync(path("snapshots"))).toEqual(["s10"]);
  });

  it("say what they have of the memory, where the back end said so", async () => {
    const kept = { dataBytes: 3 << 20, storedBytes: 1 << 20, compressed: true };
    await snapshots.create("a", ABOUT, async (directory) => {
      await fill(directory);
      return kept;
    });
    await snapshots.create("b", ABOUT, fill);
    expect(snapshots.get("a").kept).toEqual(kept);
    expect(snapshots.get("b")).not.toHaveProperty("kept");
    const record = path("snapshots", "a", "snapshot.json");
    const text = readFileSync(record, "utf8");
    for (const damage of ['"compressed":3', '"other":true']) {
      writeFileSync(record, text.replace('"compressed":true', damage));
      expect(() => snapshots.get("a")).toThrow(/damaged/);
    }
  });

  it("are not replaced, and need a name that is one", async () => {
    await snapshots.create("a", ABOUT, fill);
    await expect(snapshots.create("a", ABOUT, fill)).rejects.toMatchObject({ code: "E_EXISTS" });
    for (const name of ["", ".hidden", "a/b", "..", "x".repeat(64)]) {
      await expect(snapshots.create(name, ABOUT, fill)).rejects.toMatchObject({ code: "E_INVALID" });
    }
  });

  it("leave nothing where making one fails, and what was killed is swept", async () => {
    await expect(
      snapshots.create("a", ABOUT, async (directory) => {
        mkdirSync(directory);
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(readdirSync(path("snapshots"))).toEqual([]);
    mkdirSync(path("snapshots", ".new-killed", "data"), { recursive: true });
    mkdirSync(path("snapshots", ".gone-killed"));
    expect(await snapshots.list()).toEqual([]);
    await snapshots.create("a", ABOUT, fill);
    expect(readdirSync(path("snapshots"))).toEqual(["a"]);
  });

  it("say where they are damaged, or newer than this", async () => {
    await snapshots.create("a", ABOUT, fill);
    writeFileSync(path("snapshots", "a", "snapshot.json"), '{"version":99}');
    expect(() => snapshots.get("a")).toThrow(/newer V3M/);
    writeFileSync(path("snapshots", "a", "snapshot.json"), '{"version":1,"vm":3}');
    expect(() => snapshots.get("a")).toThrow(/damaged/);
  });
});

describe("snapshots of QEMU's machines", () => {
  it.each([{ compress: true }, { base: "/older" }])("are refused with %o", async (options) => {
    const nothing = () => {
      throw new Error("it was asked for something");
    };
    const host = { definition: nothing, stateDirectory: nothing, runtimeDirectory: nothing };
    for (const type of ["Qemu", "Kvm"] as const) {
      const backend = await builtinRegistry().get(type, host);
      await expect(backend.snapshot("vm", path("none"), options)).rejects.toMatchObject({
        code: "E_UNSUPPORTED",
        feature: "snapshot",
      });
    }
    expect(existsSync(path("none"))).toBe(false);
  });
});

describe("disks of a snapshot", () => {
  const files = () => [
    { id: "disk0", path: path("a.img") },
    { id: "disk1", path: path("b.img") },
  ];
  beforeEach(async () => {
    writeFileSync(path("a.img"), "then a");
    writeFileSync(path("b.img"), "then b");
    mkdirSync(path("kept"));
    await keepDisks(files(), path("kept"));
    writeFileSync(path("a.img"), "later a");
    writeFileSync(path("b.img"), "later b");
  });
  const text = () => files().map((file) => readFileSync(file.path, "utf8"));

  it("are put in the place of those that there are", async () => {
    await withKeptDisks(files(), path("kept"), {}, async () => {
      expect(text()).toEqual(["then a", "then b"]);
      writeFileSync(path("a.img"), "the guest wrote");
    });
    expect(text()).toEqual(["the guest wrote", "then b"]);
    expect(readFileSync(path("kept", "disks", "disk0"), "utf8")).toBe("then a");
    expect(readdirSync(work).sort()).toEqual(["a.img", "b.img", "kept"]);
  });

  it("are put back where the machine does not start", async () => {
    const failing = withKeptDisks(files(), path("kept"), {}, async () => {
      writeFileSync(path("a.img"), "half of it");
      throw new Error("it does not start");
    });
    await expect(failing).rejects.toThrow("it does not start");
    expect(text()).toEqual(["later a", "later b"]);
    expect(readdirSync(work).sort()).toEqual(["a.img", "b.img", "kept"]);
  });

  it("are refused where one is missing, and nothing changes", async () => {
    rmSync(path("kept", "disks", "disk1"));
    const failing = withKeptDisks(files(), path("kept"), {}, async () => {});
    await expect(failing).rejects.toThrow(/no copy of disk disk1/);
    expect(text()).toEqual(["later a", "later b"]);
  });

  it("are those that are written to", async () => {
    const disk = { id: "x", path: path("a.img"), readOnly: false };
    const definition = (disks: object[]) => ({ disks, pmem: [] }) as unknown as VmDefinition;
    const overlayOf = () => path("overlay");
    expect(await writtenFiles(definition([{ ...disk, readOnly: true }]), overlayOf)).toEqual([]);
    expect(await writtenFiles(definition([{ ...disk, overlay: "file" }]), overlayOf)).toEqual([
      { id: "disk0", path: path("overlay") },
    ]);
    await expect(
      writtenFiles(definition([{ ...disk, overlay: "temporary" }]), () => undefined),
    ).rejects.toMatchObject({ code: "E_UNSUPPORTED" });
    await expect(writtenFiles(definition([{ ...disk, path: "/dev/null" }]), overlayOf)).rejects.toThrow(
      /is a device/,
    );
    expect(existsSync(path("overlay"))).toBe(false);
  });
});
