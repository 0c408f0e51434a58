// SPDX-License-Identifier: Apache-2.0
/** The store of images: content known by its digest, names, clones, and what VMs use of it. */
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { lockForReading } from "../../src/ffi/file-lock.js";
import type { Images } from "../../src/images/index.js";
import { overlayWrite } from "../support/overlays.js";
import { messageOf } from "../support/v2m.js";
import { TestVms } from "../support/vms.js";

const MIB = 1 << 20;

let vms: TestVms;
let images: Images;
/** 3 MiB: something, a hole, something. */
let content: Buffer;
let source: string;

beforeEach(async () => {
  vms = new TestVms();
  images = await vms.front().images();
  content = Buffer.concat([randomBytes(MIB), Buffer.alloc(MIB), randomBytes(MIB)]);
  source = join(vms.directory, "source.img");
  writeFileSync(source, content);
});
afterEach(async () => await vms[Symbol.asyncDispose]());

const digest = (data: Buffer) => `sha256:${createHash("sha256").update(data).digest("hex")}`;
const files = (directory: string) => readdirSync(join(vms.state, "images", directory));

describe("an imported image", () => {
  it("is there once, known by its digest, without its holes", async () => {
    const record = await images.import("a", source);
    await images.import("b", source);
    expect(record).toMatchObject({ format: "raw", sealed: true, layers: [{ digest: digest(content) }] });
    expect(files("objects")).toEqual([digest(content).replace(":", "-")]);
    const { path, size, allocated } = await images.info("b");
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(size).toBe(3 * MIB);
    expect(allocated).toBeLessThan(size);
    expect(statSync(path).mode & 0o222).toBe(0);
    await images.delete(["a"]);
    expect(readFileSync((await images.info("b")).path).equals(content)).toBe(true);
    await images.delete(["b"]);
    expect([files("objects"), files("work"), files("names")]).toEqual([[], [], []]);
  });

  it("says where it comes from", async () => {
    await images.import("a", source);
    await images.clone("a", "b");
    const { layers } = await images.info("b");
    expect(layers).toMatchObject([
      { format: "raw", bytes: 3 * MIB, digest: digest(content), provenance: { source } },
      {
        format: "overlay",
        bytes: 3 * MIB,
        provenance: { source: "a", tools: { node: process.versions.node } },
      },
    ]);
    for (const { provenance } of layers) {
      expect(Date.now() - Date.parse(provenance.date)).toBeLessThan(LONG_AGO_MS);
      expect(provenance.command).not.toBe("");
    }
  });

  it("ends on a whole sector", async () => {
    writeFileSync(source, "a disk of a few bytes");
    await images.import("a", source);
    expect(await images.info("a")).toMatchObject({ size: 512 });
    expect(await images.verify(["a"])).toEqual([{ name: "a", problems: [] }]);
  });

  it("does not take the place of another unless that is asked for", async () => {
    await images.create("a", MIB, "raw");
    await expect(images.import("a", source)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(await images.info("a")).toMatchObject({ size: MIB, sealed: false });
    await images.import("a", source, { force: true });
    expect(await images.info("a")).toMatchObject({ size: 3 * MIB, sealed: true });
    expect(files("disks")).toEqual([]);
  });

  it("can be aborted, and leaves nothing", async () => {
    const aborted = AbortSignal.abort(new Error("enough"));
    await expect(images.import("a", source, { signal: aborted })).rejects.toMatchObject({
      code: "E_ABORTED",
    });
    const controller = new AbortController();
    const options = { signal: controller.signal, onProgress: () => controller.abort() };
    await expect(images.import("a", source, options)).rejects.toMatchObject({ code: "E_ABORTED" });
    expect([images.names(), files("work"), files("objects")]).toEqual([[], [], []]);
  });
});

/** A day: the clock may be set, but hardly by that much. */
const LONG_AGO_MS = 86_400_000;

describe("a clone", () => {
  it("of a sealed image is an overlay; converted, it holds what was written to it over its source", async () => {
    await images.import("a", source);
    await images.clone("a", "b");
    const { path, basePath, format } = await images.info("b");
    expect({ format, basePath }).toEqual({ format: "overlay", basePath: (await images.info("a")).path });
    const written = randomBytes(65_536);
    overlayWrite(path, 5, written);
    overlayWrite(path, 40, "zeroes");
    await images.convert("b", "c", "raw");
    const expected = Buffer.from(content);
    written.copy(expected, 5 * 65_536);
    expected.fill(0, 40 * 65_536, 41 * 65_536);
    const info = await images.info("c");
    expect(readFileSync(info.path).equals(expected)).toBe(true);
    expect(info).toMatchObject({ sealed: true, layers: [{}, {}, { digest: digest(expected) }] });
    await images.clone("b", "d"); // a copy of the overlay, on the same base
    await images.convert("d", "e", "raw");
    expect((await images.info("e")).path).toBe(info.path);
  });

  it("keeps what it stands on when that is deleted", async () => {
    await images.import("a", source);
    await images.clone("a", "b");
    await images.delete(["a"]);
    expect(await images.verify(["b"])).toEqual([{ name: "b", problems: [] }]);
    await images.delete(["b"]);
    expect([files("objects"), files("disks")]).toEqual([[], []]);
  });

  it("of an image that VMs write to is a copy", async () => {
    await images.create("a", 4 * MIB, "raw");
    writeFileSync((await images.info("a")).path, content, { flag: "r+" });
    await images.clone("a", "b");
    const { path, sealed } = await images.info("b");
    expect(sealed).toBe(false);
    expect(readFileSync(path).subarray(0, content.length).equals(content)).toBe(true);
    await expect(images.clone("a", "c", "overlay")).rejects.toMatchObject({ code: "E_INVALID" });
  });

  it("waits for no machine: a disk in use is not copied", async () => {
    await images.create("a", MIB, "raw");
    const { path } = await images.info("a");
    const fd = openSync(path, "r");
    expect(lockForReading(fd)).toBe(true);
    for (const attempt of [
      () => images.clone("a", "b"),
      () => images.convert("a", "b", "raw"),
      () => images.resize("a", 2 * MIB),
      () => images.delete(["a"]),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: "E_BUSY" });
    }
    closeSync(fd);
    await images.clone("a", "b");
    expect(images.names()).toEqual(["a", "b"]);
  });
});

describe("a disk", () => {
  it("grows; it shrinks only by force", async () => {
    await images.create("a", MIB, "raw");
    await images.resize("a", 2 * MIB);
    expect(await images.info("a")).toMatchObject({ size: 2 * MIB });
    await expect(images.resize("a", MIB)).rejects.toMatchObject({ code: "E_INVALID" });
    await images.resize("a", MIB, { force: true });
    expect(await images.info("a")).toMatchObject({ size: MIB });
    await images.import("sealed", source);
    await images.clone("sealed", "over");
    for (const name of ["sealed", "over"]) {
      await expect(images.resize(name, 8 * MIB)).rejects.toMatchObject({ code: "E_UNSUPPORTED" });
    }
  });

  it.each([0, -512, 100, 2 ** 60])("does not have %d bytes", async (bytes) => {
    await expect(images.create("a", bytes, "raw")).rejects.toMatchObject({ code: "E_INVALID" });
  });

  it.each(["", "../a", "a/b", ".a", "a b", "x".repeat(64)])("is not called %j", async (name) => {
    await expect(images.create(name, MIB, "raw")).rejects.toMatchObject({ code: "E_INVALID" });
    await expect(images.info(name)).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });
});

describe("verify", () => {
  /** Change one byte of a file that may not be written to. */
  function damage(path: string, at: number): void {
    chmodSync(path, 0o600);
    const before = readFileSync(path)[at] ?? 0;
    const fd = openSync(path, "r+");
    writeSync(fd, Buffer.from([before ^ 1]), 0, 1, at);
    closeSync(fd);
  }

  const problems = async (name: string) => (await images.verify([name]))[0]?.problems ?? [];

  it("finds a changed byte of a sealed image, for all that stand on it", async () => {
    await images.import("a", source);
    await images.clone("a", "b");
    await images.create("c", MIB, "raw");
    damage((await images.info("a")).path, 2 * MIB + 77);
    expect(await images.verify(["a", "b", "c"])).toMatchObject([
      { name: "a", problems: [expect.stringContaining("its content has changed")] },
      {
        name: "b",
        problems: [expect.stringContaining("the image that it stands on: its content has changed")],
      },
      { name: "c", problems: [] },
    ]);
  });

  it("finds every damaged field of an overlay", async () => {
    await images.import("a", source);
    await images.clone("a", "b");
    const { path } = await images.info("b");
    overlayWrite(path, 7, randomBytes(65_536));
    expect(await problems("b")).toEqual([]);
    for (const at of [
      0,
      8,
      12,
      16,
      20,
      24,
      32,
      40,
      48,
      56,
      70,
      4088,
      65_536 + 7 * 8,
      65_536 + 7 * 8 + 5,
      65_536,
    ]) {
      damage(path, at);
      expect(await problems("b"), `byte ${at}`).toEqual([expect.stringMatching(/overlay/)]);
      damage(path, at);
    }
    expect(await problems("b")).toEqual([]);
  });

  it("finds what is gone, and what is no record", async () => {
    await images.import("a", source);
    await images.create("b", MIB, "raw");
    const { unlinkSync } = await import("node:fs");
    unlinkSync((await images.info("a")).path);
    unlinkSync((await images.info("b")).path);
    expect(await problems("a")).toEqual(["its content is gone"]);
    expect(await problems("b")).toEqual(["its content is gone"]);
    writeFileSync(join(vms.state, "images/names/b.json"), "{");
    expect(await problems("b")).toEqual([expect.stringContaining("is damaged")]);
    await expect(images.collect()).rejects.toMatchObject({ code: "E_STORE" });
    writeFileSync(join(vms.state, "images/names/b.json"), '{"version":2}');
    expect(await problems("b")).toEqual([expect.stringContaining("newer V3M")]);
  });
});

describe("a definition", () => {
  it("names images, and keeps them", async () => {
    const v3m = vms.front();
    await images.import("base", source);
    const { path } = await images.info("base");
    const on = (disk: object) => v3m.define({ name: "vm", type: "Qemu", disks: [disk] });
    const vm = await on({ image: "base", overlay: "temporary" });
    expect(vm.disks).toMatchObject([
      { id: "disk0", image: "base", path, format: "raw", overlay: "temporary" },
    ]);
    await expect(images.delete(["base"])).rejects.toMatchObject({ code: "E_BUSY" });
    await images.delete(["base"], { force: true });
    expect(statSync(path).size).toBe(content.length); // the VM's disk is there
    expect(images.names()).toEqual([]);
    await v3m.undefine("vm");
    expect((await images.collect()).removed).toEqual([expect.stringMatching(/^objects\/sha256-/)]);
  });

  it("gets the parts of a clone", async () => {
    const v3m = vms.front();
    await images.import("base", source);
    await images.clone("base", "mine");
    const { path, basePath } = await images.info("mine");
    const vm = await v3m.validate(vms.definition("vm", { disks: [{ image: "mine" }] }));
    expect(vm.disks).toMatchObject([{ path: basePath, overlay: path, format: "raw" }]);
  });

  it.each<[what: string, disk: object, path: string, message: RegExp]>([
    ["an image that is not there", { image: "nobody" }, "disks[0].image", /no image is called nobody/],
    ["a sealed image to write to", { image: "base" }, "disks[0].image", /is sealed/],
    ["a clone below an overlay", { image: "mine", overlay: "temporary" }, "disks[0].image", /is an overlay/],
    ["image and path", { image: "base", readOnly: true, path: "p" }, "disks[0].path", /belongs to/],
    ["neither", { readOnly: true }, "disks[0]", /neither path nor image/],
  ])("is refused: %s", async (_what, disk, path, message) => {
    await images.import("base", source);
    await images.clone("base", "mine");
    const attempt = vms.front().validate(vms.definition("vm", { disks: [disk] }));
    await expect(attempt).rejects.toMatchObject({
      code: "E_DEFINITION",
      problems: [{ path, message: expect.stringMatching(message), hint: expect.any(String) }],
    });
  });
});

describe("v2m image", () => {
  it("does all of it on the command line", async () => {
    expect(await vms.json("image", "import", "a", source)).toMatchObject({ name: "a", sealed: true });
    expect(await vms.json("image", "clone", "a", "b")).toMatchObject({ name: "b", format: "overlay" });
    expect(await vms.json("image", "create", "c", "--size", "1M")).toMatchObject({ size: MIB });
    expect(await vms.json("image", "resize", "c", "2M")).toMatchObject({ size: 2 * MIB });
    expect((await vms.v2m("image", "list")).stdout).toMatch(
      /^NAME .*\na +raw, sealed .*\nb +overlay .*\nc +raw .*\n$/,
    );
    expect((await vms.v2m("image", "list", "--names")).stdout).toBe("a\nb\nc\n");
    expect((await vms.v2m("image", "show", "b")).stdout).toMatch(/layer 2: overlay, 3.0 MiB\n {2}of a, /);
    const [shown] = await vms.json<{ layers: { provenance: { command: string } }[] }[]>("image", "show", "b");
    expect(shown?.layers[1]?.provenance.command).toBe("v2m image clone a b --json");
    const out = join(vms.directory, "out.img");
    expect(await vms.json("image", "convert", "b", "--output", out)).toEqual({ image: out, format: "raw" });
    expect(readFileSync(out).equals(content)).toBe(true);
    expect((await vms.v2m("image", "convert", "b", "--output", out)).code).toBe(9);
    expect((await vms.v2m("image", "verify")).stdout).toBe("a: well\nb: well\nc: well\n");
    writeFileSync((await images.info("b")).path, "damaged");
    const verified = await vms.v2m("image", "verify", "b", "--json");
    expect(verified.code).toBe(11);
    expect(JSON.parse(verified.stdout)).toMatchObject([{ name: "b", problems: [expect.any(String)] }]);
    expect(await vms.json("image", "delete", "a", "b")).toMatchObject({
      removed: [expect.any(String), expect.any(String)],
    });
    expect(await vms.json("image", "gc")).toEqual({ removed: [], bytes: 0 });
    expect((await vms.v2m("image", "list", "--names")).stdout).toBe("c\n");
  });

  it.each<[args: string[], code: number, message: RegExp]>([
    [["show", "nobody"], 8, /no image is called "nobody"/],
    [["delete", "nobody"], 8, /no image/],
    [["clone", "nobody", "a"], 8, /no image/],
    [["create", "a"], 2, /--size is missing/],
    [["create", "a", "--size", "x"], 2, /--size x/],
    [["create", "--size", "1M"], 2, /either the name of an image or --output/],
    [["create", "a", "--size", "1M", "--output", "f"], 2, /either the name/],
    [["create", "../a", "--size", "1M"], 2, /cannot be the name/],
    [["create", "there", "--size", "1M"], 9, /there is an image called there/],
    [["import", "a", "/nowhere"], 5, /there is no such file/],
    [["import", "a", "/dev/null"], 5, /is empty, or no disk/],
    [["resize", "there", "none"], 2, /size none/],
    [["frobnicate"], 2, /unknown command/],
  ])("%j fails with exit code %d", async (args, code, message) => {
    await images.create("there", MIB, "raw");
    const outcome = await vms.v2m("image", ...args);
    expect(messageOf(outcome).message).toMatch(message);
    expect(outcome.code).toBe(code);
  });

  it("has help with examples for every verb", async () => {
    for (const verb of [
      "create",
      "import",
      "list",
      "show",
      "clone",
      "resize",
      "convert",
      "delete",
      "verify",
      "gc",
    ]) {
      const { code, stdout } = await vms.v2m("image", verb, "--help");
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`Exit codes:[^]*Examples:\\n  v2m image ${verb}`));
    }
  });
});
