// SPDX-License-Identifier: Apache-2.0
/** A full disk below the store of images. Here, and not among the unit tests: it takes root to have a small one. */
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { SmallDisk, TestVms } from "../support/vms.js";

const MIB = 1 << 20;

suite("a full disk", { needs: ["root"] }, () => {
  it("is told, and every image stays as it was", async () => {
    await using vms = new TestVms();
    using disk = new SmallDisk("8m");
    const images = await vms.front({ state: disk.directory }).images();
    const source = join(vms.directory, "source");
    writeFileSync(source, randomBytes(3 * MIB));
    await images.import("a", source);
    await images.clone("a", "b");
    await images.create("c", 64 * MIB, "raw");
    const everything = async () =>
      JSON.stringify(await Promise.all(images.names().map((name) => images.info(name))));
    const before = await everything();
    const full = { code: "E_IO", errno: "ENOSPC", hint: expect.stringContaining("nothing was changed") };
    writeFileSync(source, randomBytes(6 * MIB)); // does not fit beside the first
    await expect(images.import("new", source)).rejects.toMatchObject(full);
    await expect(images.import("a", source, { force: true })).rejects.toMatchObject(full);
    disk.fill();
    for (const attempt of [
      () => images.import("new", source),
      () => images.clone("a", "new"),
      () => images.clone("a", "new", "copy"),
      () => images.convert("a", "new", "qcow2"),
      () => images.create("new", MIB, "raw"),
      () => images.create("c", MIB, "raw", { force: true }),
    ]) {
      await expect(attempt()).rejects.toMatchObject(full);
    }
    expect(await everything()).toBe(before);
    for (const { problems } of await images.verify(images.names())) expect(problems).toEqual([]);
    await images.delete(["c"]); // makes room: it must work on a full disk
    disk.empty();
    await images.collect();
    expect(readdirSync(join(disk.directory, "images/work"))).toEqual([]);
    await images.clone("a", "c");
    expect(images.names()).toEqual(["a", "b", "c"]);
  });
});
