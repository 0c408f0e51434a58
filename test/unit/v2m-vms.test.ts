// SPDX-License-Identifier: Apache-2.0
/** The verbs on VMs as a user types them. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { completion, SHELLS } from "../../src/v2m/completion.js";
import { GROUPS, groupsFor, VERBS } from "../../src/v2m/groups.js";
import { type ProfileCommand, profileCommand } from "../../src/v2m/profile-options.js";
import { narrow, table } from "../../src/v2m/report.js";
import type { FrontEvent, Probe, VmInfo } from "../../src/v3m/index.js";
import { messageOf } from "../support/v2m.js";
import { TestVms } from "../support/vms.js";

async function program(): Promise<Command> {
  const all = new Command("v2m").enablePositionalOptions();
  for (const group of GROUPS) (await group.load())(all, () => {});
  return all;
}

function help(command: Command): string {
  let text = "";
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

describe("every verb", () => {
  it("is where v2m looks for it", async () => {
    expect((await program()).commands.map((command) => command.name()).sort()).toEqual([...VERBS].sort());
    for (const group of GROUPS) {
      const own = new Command().enablePositionalOptions();
      (await group.load())(own, () => {});
      expect(own.commands.map((command) => command.name()).sort()).toEqual([...group.verbs].sort());
    }
    expect(groupsFor("list")).toHaveLength(1);
    expect(groupsFor("--help")).toHaveLength(GROUPS.length);
  });

  it("has help with examples, and --json", async () => {
    for (const command of (await program()).commands) {
      const text = help(command);
      expect(text, command.name()).toMatch(/^Examples:\n {2}(v2m|source)/m);
      expect(text, command.name()).toMatch(/--json/);
    }
  });

  it("is completed in every shell, with names of VMs where it takes some", async () => {
    const all = await program();
    for (const shell of SHELLS) {
      const script = completion(all, shell);
      for (const verb of VERBS) expect(script, `${shell} ${verb}`).toContain(verb);
      expect(script).toContain("v2m list --names");
    }
  });
});

describe("v2m on VMs", () => {
  let vms: TestVms;
  beforeEach(() => {
    vms = new TestVms();
  });
  afterEach(async () => await vms[Symbol.asyncDispose]());

  it("defines, starts, lists and stops several by one word", async () => {
    const files = [0, 1, 2, 10].map((i) => vms.file(`vm${i}`));
    expect((await vms.v2m("define", ...files)).stdout).toBe(
      "vm0: defined\nvm1: defined\nvm2: defined\nvm10: defined\n",
    );
    expect((await vms.v2m("start", "vm[0-2]")).stdout).toBe("vm0: running\nvm1: running\nvm2: running\n");
    expect((await vms.v2m("list", "--names")).stdout).toBe("vm0\nvm1\nvm2\nvm10\n");
    const list = (await vms.v2m("list")).stdout.split("\n");
    expect(list[0]).toMatch(/^NAME +TYPE +STATE +CPUS +MEMORY +PID +SINCE/);
    expect(list[4]).toMatch(/^vm10 +Process +defined +1 +128 MiB/);
    expect((await vms.json<VmInfo[]>("list", "--state", "running")).map((vm) => vm.name)).toEqual([
      "vm0",
      "vm1",
      "vm2",
    ]);
    const stopped = await vms.v2m("stop", "vm*", "--json", "--parallel", "2");
    expect(JSON.parse(stopped.stdout)).toMatchObject([
      { name: "vm0", outcome: "stopped" },
      { name: "vm1", outcome: "stopped" },
      { name: "vm2", outcome: "stopped" },
      { name: "vm10", error: { code: "E_VM_STATE", hint: expect.any(String) } },
    ]);
    expect(stopped.code).toBe(9);
    expect(await vms.json("undefine", "*")).toHaveLength(4);
    expect((await vms.v2m("list")).stdout).toMatch(/^no VMs/);
  });

  it("shows what a VM is, and how it is", async () => {
    await vms.json("define", vms.file("a", { cpus: 2, memory: "1G" }));
    expect((await vms.v2m("show", "a")).stdout).toMatch(/^version: 1\nname: a\ntype: Process\n/);
    expect(await vms.json("show", "a")).toMatchObject([{ name: "a", cpus: 2, memory: { bytes: 2 ** 30 } }]);
    const status = (await vms.v2m("status", "a")).stdout;
    expect(status).toMatch(/^name +a\n.*\nstate +defined\n/s);
    expect(status).toMatch(/^memory +1\.0 GiB$/m);
    expect(await vms.json("status", "a")).toMatchObject([{ name: "a", state: "defined", memory: 2 ** 30 }]);
  });

  it("attaches to a console: what was said before, what is typed, until nothing is said", async () => {
    await vms.json("define", vms.file("a"));
    await vms.json("start", "a");
    const attached = vms.observe("console", "a");
    attached.type("hello\n");
    await attached.saw("got hello");
    attached.child.kill("SIGTERM");
    expect((await attached.outcome).code).toBe(143);
    const idle = await vms.v2m("console", "a", "--idle", "300ms");
    expect(idle).toMatchObject({ code: 0, stdout: "up\ngot hello\n" });
    expect(await vms.json("console", "a", "--idle", "300ms")).toEqual({
      name: "a",
      output: "up\ngot hello\n",
    });
    const last = vms.observe("console", "a");
    last.type("quit\n");
    expect((await last.outcome).code).toBe(0);
    expect(await vms.json("list")).toMatchObject([{ state: "stopped", detail: "the script ended" }]);
  });

  it("counts, once and again and again", async () => {
    await vms.json("define", vms.file("a"));
    expect((await vms.v2m("stats")).stdout).toBe("no VM runs\n");
    await vms.json("start", "a");
    expect((await vms.v2m("stats")).stdout).toMatch(/^NAME +STATE +CPU TIME\na +running +/);
    expect(await vms.json("stats", "a")).toMatchObject([
      { name: "a", state: "running", stats: { processes: 2 } },
    ]);
    const watched = await vms.v2m("stats", "--watch", "100ms", "--count", "2");
    expect(watched.stdout.match(/^NAME/gm)).toHaveLength(2);
    expect(watched.stdout).toMatch(/%CPU/);
    const lines = (await vms.v2m("stats", "--watch", "100ms", "--count", "2", "--json")).stdout
      .trim()
      .split("\n");
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { vms: [{ name: "a" }] },
      { vms: [{ name: "a" }] },
    ]);
  });

  it("tells what happens", async () => {
    const events = vms.observe("events", "--json");
    const follow = vms.observe("events");
    await vms.json("define", vms.file("a"));
    await Promise.all([events.saw("defined"), follow.saw("a  definition: defined")]);
    await vms.json("start", "a");
    await Promise.all([events.saw('"running"'), follow.saw("a  running")]);
    for (const observed of [events, follow]) {
      observed.child.kill("SIGINT");
      expect((await observed.outcome).code).toBe(0);
    }
    const kept = (await vms.v2m("events", "a", "--no-follow", "--json")).stdout.trim().split("\n");
    expect(kept.map((line) => (JSON.parse(line) as FrontEvent).state ?? "-")).toEqual([
      "defined",
      "starting",
      "running",
    ]);
  });

  it("shows what back ends can do, and why not", async () => {
    const text = (await vms.v2m("capabilities")).stdout;
    expect(text).toMatch(/^FEATURE +VMM-HPC +Qemu +Kvm +Xen +XenHVM +VMWare +Process$/m);
    expect(text).toMatch(/^VMWare: not available yet/m);
    for (const line of text.split("\n").slice(0, 5)) expect(line.length).toBeLessThanOrEqual(80);
    const reasons = (await vms.v2m("capabilities", "Process", "--reasons")).stdout;
    expect(reasons).toMatch(/^ {2}vsock: a process of the host has none$/m);
    const [xen] = await vms.json<Probe[]>("capabilities", "Xen");
    expect(xen).toMatchObject({ type: "Xen", usable: false, capabilities: { start: { supported: "no" } } });
  });

  it("refuses what no back end offers, with the reason", async () => {
    await vms.json("define", vms.file("a"));
    for (const args of [
      ["snapshot", "create", "a", "s"],
      ["snapshot", "create", "a", "s", "--compress"],
      ["restore", "a", "s"],
      ["fork", "a", "3"],
      ["migrate", "a", "--to", "host"],
    ]) {
      const outcome = await vms.v2m(...args);
      expect(messageOf(outcome)).toMatchObject({
        code: "E_UNSUPPORTED",
        message: expect.stringContaining("has none"),
      });
      expect(outcome.code).toBe(4);
    }
  });

  it("shows what snapshots take, and by how much compressing them has helped", async () => {
    await vms.json("define", vms.file("a"));
    const snapshots = await vms.front().snapshots("a");
    const about = { type: "Process", cpus: 1, memory: 128 << 20 };
    const kept = { dataBytes: 42 << 20, storedBytes: 12 << 20, compressed: true };
    for (const [name, memory] of [
      ["older", undefined],
      ["packed", kept],
      ["plain", { ...kept, storedBytes: kept.dataBytes, compressed: false }],
    ] as const) {
      await snapshots.create(name, about, async (directory) => {
        mkdirSync(directory);
        return memory;
      });
    }
    const list = (await vms.v2m("snapshot", "list", "a")).stdout.split("\n");
    expect(list[0]).toMatch(/^VM +SNAPSHOT +TYPE +CPUS +MEMORY +KEPT +BASE +CREATED/);
    expect(list[1]).toMatch(/^a +older +Process +1 +128 MiB +\S+ +20/);
    expect(list[2]).toMatch(/^a +packed +Process +1 +128 MiB +12 MiB, 3\.5:1 /);
    expect(list[3]).toMatch(/^a +plain +Process +1 +128 MiB +42 MiB /);
    const shown = (await vms.v2m("snapshot", "show", "a", "packed")).stdout;
    expect(shown).toMatch(/^of it not zero +42 MiB\nkept in +12 MiB, 3\.5:1$/m);
    expect(await vms.json("snapshot", "show", "a", "packed")).toMatchObject({ name: "packed", kept });
    for (const option of [["--compress"], ["--base", "older"]]) {
      const outcome = await vms.v2m("snapshot", "verify", "a", "packed", ...option);
      expect(messageOf(outcome)).toMatchObject({ code: "E_USAGE" });
      expect(outcome.code).toBe(2);
    }
    expect((await vms.v2m("snapshot", "--help")).stdout).toMatch(
      /v2m snapshot create node1 archive --compress/,
    );
  });

  it("makes images outside of the store", async () => {
    const image = join(vms.directory, "disk.img");
    const args = ["image", "create", "--output", image, "--size", "1M", "--type", "Process"];
    expect(await vms.json(...args)).toEqual({ image, size: 2 ** 20, format: "raw" });
    expect(readFileSync(image)).toHaveLength(2 ** 20);
    expect((await vms.v2m(...args)).code).toBe(4);
    const other = ["image", "create", "--output", `${image}2`, "--size", "1M"];
    expect((await vms.v2m(...other, "--type", "VMWare")).stderr).toMatch(/not available yet/);
    expect((await vms.v2m(...other, "--from-cdrom", "i.iso")).stderr).toMatch(/--machine/);
  });

  it("validates definitions and converts them, there and back", async () => {
    const yaml = join(vms.directory, "vm.yaml");
    writeFileSync(yaml, "name: a\ntype: Qemu\ndisks: [{ path: d.img, size: 1G }]\nmemory: 1G\n");
    expect((await vms.v2m("validate", yaml)).stdout).toBe(`${yaml}: valid, VM a of type Qemu\n`);
    const xml = join(vms.directory, "vm.xml");
    expect((await vms.v2m("convert", yaml, "-o", xml)).code).toBe(0);
    expect(readFileSync(xml, "utf8")).toContain('<image size="1024">d.img</image>');
    expect((await vms.v2m("convert", yaml, "-o", xml)).stderr).toMatch(
      /there is such a file already \[E_IO\]/,
    );
    expect((await vms.v2m("convert", xml)).stdout).toBe(
      "name: a\ntype: Qemu\nmemory: 1024M\nboot: disk\ndisks:\n  - path: d.img\n    size: 1024M\n",
    );
    expect(JSON.parse((await vms.v2m("convert", xml, "--to", "json")).stdout)).toMatchObject({ name: "a" });
    const bad = join(vms.directory, "bad.yaml");
    writeFileSync(bad, "name: a\nmemry: 1G\ncdrom: c\n");
    const outcome = await vms.v2m("validate", bad, yaml);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toBe(
      `v2m: ${bad}:2:1: memry: unknown key (did you mean memory?) [E_DEFINITION]\nhint: docs/reference/definition.md describes definitions, v2m schema prints their JSON Schema\n`,
    );
    expect(outcome.stdout).toContain(`${yaml}: valid`);
    const json = JSON.parse((await vms.v2m("validate", bad, "--json")).stdout);
    expect(json).toMatchObject([{ file: bad, problems: [{ path: "memry", line: 2, column: 1 }] }]);
    expect(JSON.parse((await vms.v2m("schema")).stdout)).toHaveProperty("properties.name");
  });

  it.each<[what: string, args: string[], code: number, message: RegExp]>([
    ["a VM that is not there", ["start", "nobody"], 8, /no VM is called "nobody"/],
    ["a pattern for nobody", ["stop", "x*"], 8, /no VM is called "x\*"/],
    ["a bad range", ["stop", "vm[1-"], 2, /brackets do not match/],
    ["no name", ["start"], 2, /missing required argument/],
    ["a file that is not there", ["define", "/nowhere/vm.yaml"], 5, /there is no such file/],
    ["a state that is none", ["list", "--state", "runing"], 2, /no such state/],
    ["a back end that is none", ["capabilities", "Zen"], 4, /no back end "Zen"/],
    ["a time that is none", ["status", "a", "--wait", "long"], 2, /--wait long/],
    ["an unknown option", ["list", "--jsn"], 2, /unknown option '--jsn'/],
  ])("says what is wrong with %s", async (_what, args, code, message) => {
    const outcome = await vms.v2m(...args);
    expect(messageOf(outcome).message).toMatch(message);
    expect(outcome.stderr).toMatch(/\nhint: .+\n$/);
    expect(outcome.code).toBe(code);
  });

  it("lists the others where the files of one are damaged", async () => {
    await vms.json("define", vms.file("a"), vms.file("b"));
    writeFileSync(join(vms.state, "vms/a/state.json"), "{");
    const outcome = await vms.v2m("list", "--names");
    expect(outcome).toMatchObject({ code: 11, stdout: "b\n" });
    expect(messageOf(outcome)).toMatchObject({ code: "E_STORE" });
    expect((await vms.v2m("start", "a")).code).toBe(11);
  });

  it("ends where nobody reads what it says", async () => {
    const events = vms.observe("events");
    events.child.stdout?.destroy();
    await vms.json("define", vms.file("a"));
    expect((await events.outcome).code).toBe(141);
  });

  it("says what is wrong with a back end's module", async () => {
    vms.env.V3M_BACKENDS = "relative.js";
    expect((await vms.v2m("capabilities")).stderr).toMatch(/must be absolute \[E_USAGE\]/);
    vms.env.V3M_BACKENDS = "/nowhere.js";
    expect((await vms.v2m("capabilities")).stderr).toMatch(
      /cannot load the back end \/nowhere\.js.*\[E_BACKEND\]/s,
    );
    expect((await vms.v2m("list")).code).toBe(0);
  });

  it("does on the command lines of 2007 what they say", async () => {
    const image = join(vms.directory, "disk.img");
    writeFileSync(image, readFileSync(vms.script));
    const profile = join(vms.directory, "profile.xml");
    writeFileSync(
      profile,
      `<profile><name>old</name><type>Process</type><image size="1">disk.img</image><cdrom>cd.iso</cdrom></profile>`,
    );
    // The back end of the tests has no CD-ROM.
    const plain = readFileSync(profile, "utf8").replace("<cdrom>cd.iso</cdrom>", "");
    const out = async (...args: string[]) => (await vms.v2m(profile, ...args)).stdout;
    expect(await out("--validate-profile")).toBe(`${profile}: valid, VM old of type Process\n`);
    expect(await out("--status")).toBe("UNKNOWN\n");
    const refused = async (...args: string[]) => messageOf(await vms.v2m(profile, ...args));
    expect(await refused("--create-vm-image-from-cdrom")).toMatchObject({ code: "E_UNSUPPORTED" });
    expect(await refused("--install-vm-with-oscar")).toMatchObject({ code: "E_UNSUPPORTED" });
    expect(await refused("--boot-vm")).toMatchObject({
      code: "E_UNSUPPORTED",
      message: expect.stringContaining("cdrom"),
    });
    writeFileSync(profile, plain);
    expect(await out("--boot-vm")).toBe("old: running\n");
    expect(await out("--status")).toBe("RUNNING\n");
    expect(await out("--pause-vm")).toBe("old: paused\n");
    expect(await out("--status")).toBe("PAUSE\n");
    expect(await out("--unpause-vm")).toBe("old: running\n");
    expect(await refused("--migrate-vm", "node2")).toMatchObject({ code: "E_UNSUPPORTED" });
    expect(await refused("--boot-vm")).toMatchObject({ code: "E_VM_STATE" });
    expect(await refused("--create-vm-image-from-cdrom")).toMatchObject({ code: "E_DEFINITION" });
    expect(JSON.parse(await out("--status", "--json"))).toEqual({
      name: "old",
      action: "status",
      outcome: "RUNNING",
    });
    await vms.json("stop", "old", "--force");
    expect(await out("--status")).toBe("SHUTDOWN\n");
    writeFileSync(profile, plain.replace("<image", "<memory>256</memory><image")); // the profile has changed
    expect(await out("--boot-vm")).toBe("old: running\n");
    expect(await vms.json("show", "old")).toMatchObject([{ memory: { bytes: 2 ** 28 } }]);
    for (const pid of vms.processes()) process.kill(pid, "SIGKILL");
    expect(await out("--status")).toBe("CRASH\n");
    expect(existsSync(image)).toBe(true);
  });
});

describe("command lines of 2007", () => {
  const read = (...words: string[]): ProfileCommand | undefined => profileCommand(words, VERBS);
  it.each<[words: string[], command: object]>([
    [["p.xml", "--boot-vm"], { profile: "p.xml", action: "boot" }],
    [["--boot-vm", "p.xml"], { profile: "p.xml", action: "boot" }],
    [["p.xml", "--create-vm-image-from-cdrom"], { action: "image-from-cdrom" }],
    [["p.xml", "--install-vm-with-oscar"], { action: "image-from-packages" }],
    [["p.xml", "--install-vm-with-oscar=login"], { action: "image-from-packages", set: "login" }],
    [["p.xml", "--migrate-vm", "n2"], { action: "migrate", node: "n2" }],
    [["--migrate-vm=n2", "p.xml"], { profile: "p.xml", action: "migrate", node: "n2" }],
    [["--migrate-vm", "n2", "p.xml"], { profile: "p.xml", action: "migrate", node: "n2" }],
    [["p.xml", "--pause-vm"], { action: "pause" }],
    [["p.xml", "--unpause-vm"], { action: "unpause" }],
    [["p.xml", "--status", "--json"], { action: "status", json: true }],
    [["p.xml", "--validate-profile"], { action: "validate", json: false }],
  ])("%j", (words, command) => {
    expect(read(...words)).toMatchObject(command);
  });

  it.each<string[][]>([
    [["list"]],
    [["yod", "./app", "--status"]],
    [["run", "--boot-vm"]],
    [["p.xml"]],
    [[]],
  ])("are no such: %j", (words) => {
    expect(read(...words)).toBeUndefined();
  });

  it.each<string[][]>([
    [["--boot-vm"]],
    [["p.xml", "--migrate-vm"]],
    [["p.xml", "--migrate-vm", "--status"]],
    [["p.xml", "--boot-vm", "--status"]],
    [["p.xml", "q.xml", "--boot-vm"]],
    [["p.xml", "--boot-vm", "--fast"]],
    [["p.xml", "--boot-vm=now"]],
  ])("are refused: %j", (words) => {
    expect(() => read(...words)).toThrow(
      expect.objectContaining({ code: "E_USAGE", hint: expect.any(String) }),
    );
  });
});

describe("a table", () => {
  it("fits the terminal; the name is cut last", () => {
    const rows = [
      ["NAME", "STATE", "DETAIL"],
      ["a-name-that-matters", "running", "x".repeat(200)],
    ];
    for (const width of [200, 80, 60, 40]) {
      const lines = table(narrow(rows, width)).split("\n");
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width);
      expect(lines[1]).toMatch(/^a-name-that-matters +running +x.*…$/);
    }
    expect(table(narrow(rows, 30)).split("\n")[1]).toMatch(/^a-name/);
    expect(narrow(rows, 1000)).toEqual(rows);
  });
});
