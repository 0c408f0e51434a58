// SPDX-License-Identifier: Apache-2.0
/** Checks of images: no machine runs. */
import { execFileSync } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import { qemuImg } from "../../../src/v3m/images.js";
import { installIso } from "../install-iso.js";
import { repositoryLine } from "../package-paths.js";
import type { Check } from "./check.js";
import { ConsoleShell } from "./shell.js";
import { disk, MIB, PLAIN, type World } from "./world.js";

/** A small set: no kernel, and a file and a user of its own. */
function smallSet(world: World): string {
  const path = world.path("small.yaml");
  const set = {
    name: "small",
    repositories: [repositoryLine()],
    size: "400M",
    files: [{ path: "/etc/motd", content: "a set was here\n", mode: "0640", owner: "hpc:hpc" }],
    users: [{ name: "hpc", uid: 4711 }],
    scripts: ["id hpc >/etc/v3m-script"],
  };
  writeFileSync(path, JSON.stringify(set));
  return path;
}

/** Boot what was installed, without the CD-ROM: it says what it is, and powers off. */
async function bootInstalled(world: World, path: string): Promise<string> {
  await world.define({
    ...PLAIN,
    name: "installed",
    type: world.backend.type,
    boot: { from: "disk", cmdline: "quiet" },
    disks: [disk("disk0", path)],
  });
  await world.backend.start("installed");
  const shell = new ConsoleShell(await world.backend.console("installed"));
  await shell.until(() => shell.ended, "the end").catch(() => {});
  expect((await world.backend.status("installed")).state).toBe("stopped");
  await world.undefine("installed");
  return shell.text;
}

export const IMAGES: readonly Check[] = [
  {
    feature: "image-from-cdrom",
    name: "an unattended installation of Debian packages, which boots without the CD-ROM; one that is there is left alone",
    async run(world) {
      const to = world.path("from-cdrom.img");
      const source = {
        kind: "cdrom",
        from: await installIso(),
        to,
        format: "raw",
        size: 256 * MIB,
        machine: { ...PLAIN, name: "installer", type: world.backend.type },
      } as const;
      const seen = new Set<string>();
      await world.backend.createImage(source, { onProgress: ({ what }) => seen.add(what) });
      expect([...seen].join("\n")).toContain("installing: packages");
      const said = await bootInstalled(world, to);
      expect(said).toMatch(/V3M-INSTALLED bash \d\S+ install ok installed/);
      expect(said).toMatch(/V3M-ROOT \/dev\/vda1/);
      expect(Number(/V3M-PACKAGES (\d+)/.exec(said)?.[1])).toBeGreaterThan(25);
      expect(said).toMatch(/V3M-CDROM 0/);
      await expect(world.backend.createImage(source)).rejects.toMatchObject({ code: "E_EXISTS" });
      const missing = { ...source, from: world.path("nowhere.iso"), to: world.path("no.img") };
      await expect(world.backend.createImage(missing)).rejects.toMatchObject({ code: "E_IO" });
      expect(existsSync(missing.to)).toBe(false);
    },
  },
  {
    feature: "image",
    name: "empty images of both formats; one that is there is left alone",
    async run(world) {
      const raw = world.path("made.raw");
      await world.backend.createImage({ kind: "empty", to: raw, format: "raw", size: 8 * MIB });
      expect(statSync(raw).size).toBe(8 * MIB);
      const again = world.backend.createImage({ kind: "empty", to: raw, format: "raw", size: MIB });
      await expect(again).rejects.toMatchObject({ code: "E_EXISTS" });
      expect(statSync(raw).size).toBe(8 * MIB);
      const qcow2 = world.path("made.qcow2");
      await world.backend.createImage({ kind: "empty", to: qcow2, format: "qcow2", size: 8 * MIB });
      expect(JSON.parse(await qemuImg(["info", "--output=json", qcow2]))).toMatchObject({
        format: "qcow2",
        "virtual-size": 8 * MIB,
      });
    },
  },
  {
    feature: "image-from-packages",
    name: "a disk with what the set says; one that is there is left alone",
    machineless: true,
    needs: ["packages"],
    async run(world) {
      const to = world.path("packages.img");
      const source = { kind: "packages", from: smallSet(world), to, format: "raw" } as const;
      await world.backend.createImage(source);
      expect(statSync(to).size).toBe(400 * MIB);
      const debugfs = (request: string) =>
        execFileSync("debugfs", ["-R", request, `${to}?offset=${MIB}`], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "ignore"],
          env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
        });
      expect(debugfs("cat /etc/motd")).toBe("a set was here\n");
      expect(debugfs("stat /etc/motd")).toMatch(/Mode: +0640[\s\S]*User: +4711 +Group: +4711/);
      expect(debugfs("cat /etc/v3m-script")).toMatch(/^uid=4711\(hpc\)/);
      expect(debugfs("cat /var/lib/dpkg/status")).toMatch(/^Package: bash$/m);
      const { mtimeMs } = statSync(to);
      await expect(world.backend.createImage(source)).rejects.toMatchObject({ code: "E_EXISTS" });
      expect(statSync(to).mtimeMs).toBe(mtimeMs);
      const missing = { ...source, from: world.path("nowhere.yaml"), to: world.path("other.img") };
      await expect(world.backend.createImage(missing)).rejects.toMatchObject({ code: "E_IO" });
    },
  },
];
