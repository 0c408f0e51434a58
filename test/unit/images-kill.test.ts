// SPDX-License-Identifier: Apache-2.0
/** Commands on images that are killed at any moment, or come several at once: what was there stays whole. */
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { ImageInfo } from "../../src/images/index.js";
import { rounds } from "../support/places.js";
import { TestVms } from "../support/vms.js";

const MIB = 1 << 20;

/** Verbs that change something, on images of which `base` is always there. */
const COMMANDS: readonly (readonly string[])[] = [
  ["import", "base", "SOURCE", "--force"],
  ["import", "new", "SOURCE", "--force"],
  ["clone", "base", "new", "--force"],
  ["clone", "base", "copy", "--as", "copy", "--force"],
  ["convert", "base", "flat", "--force"],
  ["create", "disk", "--size", "8M", "--force"],
  ["resize", "disk", "16M"],
  ["delete", "new"],
  ["delete", "copy", "flat"],
  ["gc"],
];

describe("a command on images that is killed", () => {
  it("at any moment leaves all images whole, and nothing that gc does not remove", async () => {
    await using vms = new TestVms();
    const sources = [join(vms.directory, "one"), join(vms.directory, "two")];
    for (const path of sources) writeFileSync(path, randomBytes(24 * MIB));
    const begin = performance.now();
    await vms.json("image", "import", "base", sources[0] ?? "");
    /** How long a command takes here, milliseconds. */
    const usual = (performance.now() - begin) * 1.2;
    const images = await vms.front().images();
    for (let round = 0; round < rounds(12, 50); round++) {
      const words = COMMANDS[Math.floor(Math.random() * COMMANDS.length)] ?? [];
      const args = words.map((word) => (word === "SOURCE" ? (sources[round % 2] ?? "") : word));
      const before = images.names();
      const command = vms.observe("image", ...args);
      const after = Math.random() * usual;
      await sleep(after);
      command.child.kill("SIGKILL");
      await command.outcome;
      const what = `round ${round}: ${args.join(" ")} killed after ${Math.round(after)} ms, before: ${before}`;
      expect(images.names(), what).toContain("base");
      for (const finding of await images.verify(images.names())) expect(finding.problems, what).toEqual([]);
    }
    const collected = await vms.json<{ removed: string[] }>("image", "gc");
    expect(Array.isArray(collected.removed)).toBe(true);
    expect(readdirSync(join(vms.state, "images/work"))).toEqual([]);
    expect(readdirSync(join(vms.state, "images/names")).filter((name) => name.startsWith("."))).toEqual([]);
    const all = await vms.json<ImageInfo[]>("image", "list");
    const files = ["objects", "disks"].flatMap((directory) =>
      readdirSync(join(vms.state, "images", directory)),
    );
    const wanted = new Set(
      all.flatMap(({ file, base }) => [file, base ?? file]).map((file) => file.split("/")[1]),
    );
    expect(files.sort()).toEqual([...wanted].sort());
  }, 300_000); // two seconds a round where the disk is slow
});

describe("commands on images at once", () => {
  it("with one name: one makes it, the others are told", async () => {
    await using vms = new TestVms();
    const source = join(vms.directory, "source");
    writeFileSync(source, randomBytes(8 * MIB));
    const outcomes = await Promise.all([1, 2, 3].map(() => vms.v2m("image", "import", "a", source)));
    expect(outcomes.map(({ code }) => code).sort()).toEqual([0, 9, 9]);
    for (const { code, stderr } of outcomes) {
      if (code !== 0) expect(stderr).toMatch(/there is an image called a already \[E_EXISTS\]\nhint: /);
    }
    const images = await vms.front().images();
    expect(await images.verify(["a"])).toEqual([{ name: "a", problems: [] }]);
  });

  it("with different names: all is there; cleaning up meanwhile takes nothing that is being made", async () => {
    await using vms = new TestVms();
    const source = join(vms.directory, "source");
    writeFileSync(source, randomBytes(8 * MIB));
    const words = [1, 2, 3, 4].flatMap((n) => [["import", `i${n}`, source], ["gc"]]);
    const outcomes = await Promise.all(words.map((args) => vms.v2m("image", ...args)));
    for (const { code, stderr } of outcomes) expect(code, stderr).toBe(0);
    const images = await vms.front().images();
    expect(images.names()).toEqual(["i1", "i2", "i3", "i4"]);
    for (const { problems } of await images.verify(images.names())) expect(problems).toEqual([]);
    expect(readdirSync(join(vms.state, "images/objects"))).toHaveLength(1);
  });
});
