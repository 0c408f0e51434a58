// SPDX-License-Identifier: Apache-2.0
/** Images of other programs: qcow2 by QEMU's tools, OCI by umoci and skopeo, made here by the same. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Images } from "../../src/images/index.js";
import { TestVms } from "../support/vms.js";

const MIB = 1 << 20;

let vms: TestVms;
let images: Images;

beforeEach(async () => {
  vms = new TestVms();
  images = await vms.front().images();
});
afterEach(async () => await vms[Symbol.asyncDispose]());

const run = (program: string, ...args: string[]) =>
  execFileSync(program, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, HOME: vms.directory },
  });
const litter = () =>
  ["work", "objects", "disks"].flatMap((name) => readdirSync(join(vms.state, "images", name)));

describe("qcow2", () => {
  let content: Buffer;
  let qcow2: string;
  beforeEach(() => {
    content = Buffer.concat([randomBytes(MIB), Buffer.alloc(2 * MIB), randomBytes(MIB)]);
    writeFileSync(join(vms.directory, "raw"), content);
    qcow2 = join(vms.directory, "disk.qcow2");
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", join(vms.directory, "raw"), qcow2);
  });

  it("becomes a raw image with the same content; its own digest is recorded", async () => {
    const { layers } = await images.import("a", qcow2);
    expect(readFileSync((await images.info("a")).path).equals(content)).toBe(true);
    expect(layers[0]?.provenance).toMatchObject({
      source: qcow2,
      tools: { "qemu-img": expect.stringMatching(/^\d/) },
      inputs: [{ name: qcow2, digest: expect.stringMatching(/^sha256:/) }],
    });
  });

  it("that stands on another file is refused, and so is a damaged one", async () => {
    const top = join(vms.directory, "top.qcow2");
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, top);
    await expect(images.import("a", top)).rejects.toMatchObject({
      code: "E_UNSUPPORTED",
      message: expect.stringContaining(qcow2),
    });
    truncateSync(qcow2, 70_000);
    await expect(images.import("a", qcow2)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    writeFileSync(qcow2, "QFI\xfb is all there is", "latin1");
    await expect(images.import("a", qcow2)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    expect(litter()).toEqual([]);
  });

  it("clones are QEMU's own overlays, checked by verify and resized in a copy", async () => {
    await images.import("a", qcow2);
    await images.clone("a", "b", "qcow2");
    const { path, basePath } = await images.info("b");
    expect(JSON.parse(run("qemu-img", "info", "--output=json", path))).toMatchObject({
      format: "qcow2",
      "virtual-size": 4 * MIB,
      "full-backing-filename": basePath,
    });
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 64k", path);
    await images.resize("b", 8 * MIB);
    expect(await images.info("b")).toMatchObject({ size: 8 * MIB, basePath });
    await images.convert("b", "c", "raw");
    const expected = Buffer.concat([content, Buffer.alloc(4 * MIB)]).fill(0x5a, MIB, MIB + 65_536);
    expect(readFileSync((await images.info("c")).path).equals(expected)).toBe(true);
    const grown = (await images.info("b")).path;
    expect(await images.verify(["b"])).toEqual([{ name: "b", problems: [] }]);
    writeFileSync(grown, Buffer.alloc(4096, 0xff), { flag: "r+" });
    expect(await images.verify(["b"])).toMatchObject([{ name: "b", problems: [expect.any(String)] }]);
  });
});

describe("OCI", () => {
  let layout: string;
  /** Two layers: the second one removes a file and adds one. */
  beforeEach(() => {
    layout = join(vms.directory, "layout");
    const image = `${layout}:v1`;
    const bundle = join(vms.directory, "bundle");
    const rootless = process.geteuid?.() === 0 ? [] : ["--rootless"];
    run("umoci", "init", "--layout", layout);
    run("umoci", "new", "--image", image);
    run("umoci", "unpack", ...rootless, "--image", image, bundle);
    const root = join(bundle, "rootfs");
    mkdirSync(join(root, "etc"));
    writeFileSync(join(root, "etc/motd"), "hello\n", { mode: 0o640 });
    writeFileSync(join(root, "etc/gone"), "x");
    symlinkSync("etc/motd", join(root, "link"));
    run("umoci", "repack", "--image", image, bundle);
    rmSync(bundle, { recursive: true });
    run("umoci", "unpack", ...rootless, "--image", image, bundle);
    rmSync(join(root, "etc/gone"));
    writeFileSync(join(root, "second"), "2");
    writeFileSync(join(root, "large"), randomBytes(3 * MIB));
    run("umoci", "repack", "--image", image, bundle);
  });

  const debugfs = (path: string, request: string) => run("debugfs", "-R", request, path);

  it("a layout becomes a file system with the files of all layers, the same each time", async () => {
    const { layers } = await images.import("a", layout, { size: 32 * MIB });
    const { path, size } = await images.info("a");
    expect(size).toBe(32 * MIB);
    expect(debugfs(path, "cat /etc/motd")).toBe("hello\n");
    expect(debugfs(path, "stat /etc/motd")).toMatch(/Mode: +0640/);
    expect(debugfs(path, "stat /link")).toMatch(/Fast link dest: "etc\/motd"/);
    expect(debugfs(path, "ls -p /etc")).not.toContain("gone");
    expect(debugfs(path, "cat /second")).toBe("2");
    run("e2fsck", "-fn", path);
    expect(layers[0]?.provenance.inputs).toMatchObject([
      { name: "manifest", digest: expect.stringMatching(/^sha256:/) },
      { name: "layer 1", bytes: expect.any(Number) },
      { name: "layer 2" },
    ]);
    const again = await images.import("b", layout, { size: 32 * MIB });
    expect(again.layers[0]?.digest).toBe(layers[0]?.digest);
  });

  it("so does an archive of it", async () => {
    const archive = join(vms.directory, "archive.tar");
    run("skopeo", "--insecure-policy", "copy", `oci:${layout}:v1`, `oci-archive:${archive}:v1`);
    await images.import("a", archive);
    expect(debugfs((await images.info("a")).path, "cat /etc/motd")).toBe("hello\n");
  });

  it("a damaged layer, an image that is not there, what is no layout: each is refused", async () => {
    await expect(images.import("a", layout, { reference: "v9" })).rejects.toMatchObject({
      code: "E_BAD_IMAGE",
      hint: expect.stringContaining("v1"),
    });
    await expect(images.import("a", layout, { size: 2 * MIB })).rejects.toMatchObject({
      code: "E_IO",
      errno: "ENOSPC",
      hint: expect.stringContaining("--size"),
    });
    const damaged = join(vms.directory, "damaged");
    cpSync(layout, damaged, { recursive: true });
    const index = JSON.parse(readFileSync(join(damaged, "index.json"), "utf8"));
    const blob = (digest: string) => join(damaged, "blobs", digest.replace(":", "/"));
    const manifest = JSON.parse(readFileSync(blob(index.manifests[0].digest), "utf8"));
    const layer = blob(manifest.layers[0].digest);
    const bytes = readFileSync(layer);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0xff;
    writeFileSync(layer, bytes);
    await expect(images.import("a", damaged)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    writeFileSync(join(damaged, "index.json"), "{");
    await expect(images.import("a", damaged)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    await expect(images.import("a", vms.directory)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    expect(litter()).toEqual([]);
  });
});
