// SPDX-License-Identifier: Apache-2.0
/** `v2m fork` with tiny guests in real monitors: clones that are VMs like others, all or none of them. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DefinitionInput, V3m } from "../../src/v3m/index.js";
import type { SnapshotRecord } from "../../src/v3m/snapshots.js";
import { readSnapshot } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LOAD_ADDRESS, payload } from "../support/payloads.js";
import { CLONE_MEMORY, privateBytes } from "../support/smaps.js";
import { TestVms } from "../support/vms.js";

interface Clone {
  readonly name: string;
  readonly outcome: string;
  readonly uuid: string;
  readonly nics: readonly { readonly id: string; readonly mac: string }[];
}

suite("v2m fork", { needs: ["kvm", "jail"] }, () => {
  let vms: TestVms;
  let v3m: V3m;

  const definition = (name: string, more: Partial<DefinitionInput> = {}): DefinitionInput => ({
    name,
    type: "VMM-HPC",
    memory: 32,
    boot: { kernel: join(vms.directory, "echo"), kind: "flat64", loadAddress: LOAD_ADDRESS.flat64 },
    disks: [{ path: join(vms.directory, `${name}.img`), size: "1M" }],
    generationId: "random",
    ...more,
  });

  /** What a guest answers. */
  async function answer(name: string, text: string): Promise<void> {
    const console = await v3m.console(name);
    let got = "";
    await new Promise<void>((resolve, reject) => {
      console.on("data", (chunk: Buffer) => {
        got += chunk.toString("latin1");
        if (got.includes(text)) resolve();
      });
      console.once("end", () => reject(new Error(`${name} has ended: ${got}`)));
      console.write(`${text}\n`);
    });
    console.destroy();
  }

  beforeAll(async () => {
    vms = new TestVms();
    v3m = vms.front();
    const { kernel } = payload("echo");
    writeFileSync(join(vms.directory, "echo"), kernel as Uint8Array);
    await v3m.define(definition("first"));
    await v3m.start("first");
    await answer("first", "here");
  });
  afterAll(async () => {
    for (const name of v3m.names()) await v3m.stop(name, { force: true }).catch(() => {}); // most do not run
    await vms[Symbol.asyncDispose]();
  });

  it("makes VMs that answer, with disks over the first one's", async () => {
    writeFileSync(join(vms.directory, "first.img"), "then", { flag: "r+" });
    const clones = await vms.json<Clone[]>("fork", "first", "3");
    expect(clones.map(({ name, outcome }) => [name, outcome])).toEqual(
      [1, 2, 3].map((i) => [`first-${i}`, "running"]),
    );
    expect(new Set(clones.map(({ uuid }) => uuid)).size).toBe(3);
    writeFileSync(join(vms.directory, "first.img"), "more", { flag: "r+" });
    for (const { name } of clones) {
      await answer(name, `I am ${name}`);
      const { pid } = await v3m.status(name);
      expect(privateBytes(pid ?? 0, CLONE_MEMORY)).toBeLessThanOrEqual(128 << 10);
      const [disk] = v3m.definition(name).disks;
      expect(readFileSync(disk?.path ?? "").toString("latin1", 0, 4)).toBe("then");
      expect(statSync(disk?.path ?? "").nlink).toBe(3);
      expect(existsSync(disk?.overlay ?? "")).toBe(true);
    }
    await answer("first", "still here");
    expect((await v3m.status("first")).state).toBe("running");
  });

  it("makes clones of clones, which outlive them, and can be stopped, started and saved", async () => {
    const { code, stdout } = await vms.v2m("fork", "first-1", "--name", "node[08-09]");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^CLONE +MAC\nnode08\s*\nnode09\s*\n$/);
    await v3m.stop("first-1", { force: true });
    await v3m.undefine("first-1");
    await answer("node08", "a clone's clone");
    const { name } = await v3m.createSnapshot("node08");
    await v3m.stop("node08", { force: true });
    await v3m.restoreSnapshot("node08", name);
    await answer("node08", "restored");
    await v3m.stop("node09", { force: true });
    await v3m.start("node09");
    await answer("node09", "booted");
    for (const clone of ["node08", "node09", "first-2"]) await v3m.stop(clone, { force: true });
  });

  it("makes clones that are saved with a base, which can be removed then", async () => {
    const base = await v3m.createSnapshot("first-3", "whole");
    const made = await vms.json<SnapshotRecord>("snapshot", "create", "first-3", "rest", "--base", "whole");
    expect(made).toMatchObject({ name: "rest", base: "whole" });
    const { bases, ownBytes, dataBytes } = readSnapshot(join(made.directory, "machine"));
    expect(bases).toBe(1);
    expect(ownBytes).toBeLessThan(dataBytes);
    await v3m.removeSnapshot("first-3", base.name);
    await v3m.verifySnapshot("first-3", "rest");
    await v3m.stop("first-3", { force: true });
    await v3m.restoreSnapshot("first-3", "rest");
    await answer("first-3", "back again");
    await expect(v3m.createSnapshot("first-3", "more", { base: "whole" })).rejects.toMatchObject({
      code: "E_NOT_FOUND",
    });
    expect((await (await v3m.snapshots("first-3")).list()).map(({ name }) => name)).toEqual(["rest"]);
  });

  it("makes clones that are saved compressed, while they go on", async () => {
    const made = await vms.json<SnapshotRecord>("snapshot", "create", "first-3", "small", "--compress");
    expect((await v3m.status("first-3")).state).toBe("running");
    expect(readdirSync(made.directory).sort()).toEqual(["disks", "machine"]);
    const { ownBytes, storedBytes } = readSnapshot(join(made.directory, "machine"));
    expect(made.kept).toEqual({
      dataBytes: Number(ownBytes),
      storedBytes: Number(storedBytes),
      compressed: true,
    });
    expect(storedBytes).toBeLessThan(ownBytes);
    await v3m.verifySnapshot("first-3", "small");
    await v3m.stop("first-3", { force: true });
    await v3m.restoreSnapshot("first-3", "small");
    await answer("first-3", "of few bytes");
  });

  it("refuses names that are taken, counts that do not fit, and VMs that do not run", async () => {
    const before = v3m.names();
    await expect(v3m.fork("first", ["no/name"])).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(v3m.fork("first", [])).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(v3m.fork("node08", 1)).rejects.toMatchObject({ code: "E_VM_STATE" });
    await expect(v3m.fork("nobody", 1)).rejects.toMatchObject({ code: "E_NOT_FOUND" });
    for (const [args, code, exit] of [
      [["fork", "first", "--name", "node[07-08]"], "E_EXISTS", 9],
      [["fork", "first", "3", "--name", "node[1-2]"], "E_USAGE", 2],
    ] as const) {
      const outcome = await vms.v2m(...args, "--json");
      expect(JSON.parse(outcome.stderr)).toMatchObject({ error: { code } });
      expect(outcome.code).toBe(exit);
    }
    expect(v3m.names()).toEqual(before);
  });

  it("leaves nothing where one of the clones cannot be made", async () => {
    const before = v3m.names();
    // Where the third one's console would be written there is a directory.
    const log = join(vms.directory, "console.log");
    await v3m.define(definition("logged", { console: { log } }));
    await v3m.start("logged");
    mkdirSync(`${log}.logged-3`);
    const outcome = await vms.v2m("fork", "logged", "4");
    expect(outcome.code).not.toBe(0);
    expect(outcome.stderr).toContain("logged-3");
    expect(v3m.names()).toEqual([...before, "logged"].sort());
    expect(readdirSync(join(vms.state, "vms")).sort()).toEqual([...before, "logged"].sort());
    await answer("logged", "still here");
    await v3m.stop("logged", { force: true });
  });

  it("refuses a machine with a disk whose writes have no file", async () => {
    const path = join(vms.directory, "base.img");
    writeFileSync(path, Buffer.alloc(1 << 20));
    await v3m.define(definition("brief", { disks: [{ path, overlay: "temporary" }] }));
    await v3m.start("brief");
    await expect(v3m.fork("brief", 1)).rejects.toMatchObject({ code: "E_UNSUPPORTED" });
    expect(v3m.names()).not.toContain("brief-1");
    await v3m.stop("brief", { force: true });
  });

  it("forgets clones whose maker was killed", async () => {
    const maker = vms.observe("fork", "first", "30");
    maker.child.stdin?.end();
    while (!v3m.names().includes("first-1")) await new Promise((resolve) => setTimeout(resolve, 2));
    maker.child.kill("SIGKILL");
    await maker.outcome;
    await v3m.list();
    const left = v3m.names().filter((name) => /^first-\d+$/.test(name));
    for (const name of left) expect((await v3m.status(name)).state).not.toBe("starting");
    await answer("first", "in the end");
  });
});
