// SPDX-License-Identifier: Apache-2.0
/** The life of VMs in the front end, on a back end that somebody else could have written. */
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mapBounded } from "../../src/v3m/bounded.js";
import {
  BackendRegistry,
  builtinRegistry,
  FEATURES,
  KNOWN_TYPES,
  registerModules,
  TRANSITIONS,
  type V3m,
  type Verb,
  type VmState,
} from "../../src/v3m/index.js";
import processBackend from "../support/process-backend.js";
import { TestVms } from "../support/vms.js";

let vms: TestVms;
let v3m: V3m;

beforeEach(() => {
  vms = new TestVms();
  v3m = vms.front();
});
afterEach(async () => await vms[Symbol.asyncDispose]());

/** Read a console until it has shown a text. */
async function saw(name: string, text: string, type?: string): Promise<string> {
  const console = await v3m.console(name);
  try {
    if (type !== undefined) console.write(type);
    let all = "";
    for await (const chunk of console) {
      all += (chunk as Buffer).toString();
      if (all.includes(text)) return all;
    }
    throw new Error(`the console ended before it showed ${text}: ${all}`);
  } finally {
    console.destroy();
  }
}

/** Tell a machine to end, and wait until it has. */
async function end(name: string, word: "quit" | "fail"): Promise<void> {
  const console = await v3m.console(name);
  console.write(`${word}\n`);
  console.resume();
  await new Promise((resolve) => console.once("end", resolve));
  console.destroy();
}

/** Kill processes of a machine, and wait until they have gone. */
async function kill(name: string, which: (pid: number) => boolean = () => true): Promise<void> {
  for (const pid of vms.processes(name).filter(which)) process.kill(pid, "SIGKILL");
  while (vms.processes(name).some(which)) await new Promise((resolve) => setTimeout(resolve, 5));
}

const state = async (name: string) => (await v3m.status(name)).state;

/** Bring a new VM into a state. */
const REACH: Readonly<Record<string, (name: string) => Promise<void>>> = {
  defined: async () => {},
  running: async (name) => await v3m.start(name),
  paused: async (name) => {
    await v3m.start(name);
    await v3m.pause(name);
  },
  stopped: async (name) => {
    await v3m.start(name);
    await v3m.stop(name, { force: true });
  },
  crashed: async (name) => {
    await v3m.start(name);
    await end(name, "fail");
  },
};

describe("a VM", () => {
  it("lives from define to undefine", async () => {
    const { uuid } = await v3m.define(vms.file("a"));
    expect(await v3m.status("a")).toMatchObject({ name: "a", type: "Process", state: "defined", uuid });
    await v3m.start("a");
    const running = await v3m.status("a");
    expect(running).toMatchObject({ state: "running", pid: expect.any(Number) });
    expect(vms.processes("a")).toContain(running.pid);
    await saw("a", "got hello", "hello\n");
    await v3m.pause("a");
    expect(await state("a")).toBe("paused");
    await v3m.resume("a");
    expect(await saw("a", "got again", "again\n")).toContain("up\ngot hello\n"); // scroll-back
    await v3m.reset("a");
    expect((await saw("a", "got anew", "anew\n")).match(/up\n/g)).toHaveLength(2);
    expect(await v3m.stats("a")).toMatchObject({ processes: 2 });
    await v3m.stop("a");
    expect(await v3m.status("a")).toMatchObject({ state: "stopped" });
    expect(vms.processes()).toEqual([]);
    await v3m.undefine("a");
    expect(v3m.names()).toEqual([]);
    expect(readdirSync(join(vms.state, "locks"))).toEqual([]);
  });

  it("stands still while it is paused: what it is told waits", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.start("a");
    await saw("a", "up");
    await v3m.pause("a");
    const console = await v3m.console("a");
    let all = "";
    console.on("data", (chunk: Buffer) => {
      all += chunk.toString();
    });
    console.write("later\n");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(all).toBe("up\n");
    await v3m.resume("a");
    while (!all.includes("got later")) await new Promise((resolve) => console.once("data", resolve));
    console.destroy();
  });

  it.each(Object.keys(REACH))("that is %s allows some verbs and refuses the others", async (reached) => {
    await v3m.define(vms.definition("a"));
    await REACH[reached]?.("a");
    expect(await state("a")).toBe(reached);
    const call: Readonly<Partial<Record<Verb, () => Promise<unknown>>>> = {
      start: () => v3m.start("a"),
      stop: () => v3m.stop("a"),
      reset: () => v3m.reset("a"),
      pause: () => v3m.pause("a"),
      resume: () => v3m.resume("a"),
      console: () => v3m.console("a"),
      stats: () => v3m.stats("a"),
    };
    for (const [verb, act] of Object.entries(call)) {
      const from: readonly VmState[] = TRANSITIONS[verb as Verb].from;
      if (from.includes(reached as VmState)) continue;
      await expect(act(), verb).rejects.toMatchObject({
        code: "E_VM_STATE",
        state: reached,
        message: expect.stringMatching(new RegExp(`^a is ${reached}: ${verb} needs a VM that is`)),
        hint: expect.any(String),
      });
      expect(await state("a"), `after ${verb}`).toBe(reached);
    }
    const atRest = ["defined", "stopped", "crashed"].includes(reached);
    if (!atRest) {
      await expect(v3m.undefine("a")).rejects.toMatchObject({ code: "E_VM_STATE" });
      await expect(v3m.define(vms.definition("a"), { replace: true })).rejects.toMatchObject({
        code: "E_VM_STATE",
      });
    } else await v3m.start("a");
  });

  it("that powers off by itself is stopped, one that fails has crashed, and says why", async () => {
    for (const [word, found, detail] of [
      ["quit", "stopped", "the script ended"],
      ["fail", "crashed", "the script ended with code 7"],
    ] as const) {
      await v3m.define(vms.definition("a"), { replace: true });
      await v3m.start("a");
      await end("a", word);
      expect(await v3m.list()).toMatchObject([{ name: "a", state: found, detail }]);
      expect(readdirSync(join(vms.runtime, "a"))).toEqual([]);
    }
  });

  it("whose process was killed has crashed; the others go on, and nothing is left of it", async () => {
    for (const name of ["a", "b"]) {
      await v3m.define(vms.definition(name));
      await v3m.start(name);
    }
    await kill("a");
    expect(await vms.front().list()).toMatchObject([
      { name: "a", state: "crashed", detail: "its process was killed" },
      { name: "b", state: "running" },
    ]);
    expect(readdirSync(join(vms.runtime, "a"))).toEqual([]);
    await saw("b", "got still here", "still here\n");
    await v3m.start("a");
    await saw("a", "up");
  });

  it("of which half is killed has crashed: the other half is removed", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.start("a");
    const { pid: leader } = await v3m.status("a");
    await kill("a", (pid) => pid === leader);
    expect(vms.processes("a")).toHaveLength(1);
    expect(await v3m.list()).toMatchObject([{ state: "crashed" }]);
    expect(vms.processes("a")).toEqual([]);
  });

  it("that cannot be started is as it was, and says why", async () => {
    await v3m.define(vms.definition("a", { boot: { kernel: join(vms.directory, "none") } }));
    await expect(v3m.start("a")).rejects.toMatchObject({
      code: "E_BACKEND",
      message: expect.stringMatching(/ENOENT/),
    });
    expect(await v3m.status("a")).toMatchObject({
      state: "defined",
      detail: expect.stringMatching(/^start failed/),
    });
    expect(vms.processes()).toEqual([]);
  });

  it("is not started by one who gave up", async () => {
    await v3m.define(vms.definition("a"));
    await expect(v3m.start("a", { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "E_ABORTED",
    });
    expect(await state("a")).toBe("defined");
    expect(vms.processes()).toEqual([]);
  });

  it("is started once by two who want it at the same time", async () => {
    await v3m.define(vms.definition("a"));
    const both = await Promise.allSettled([v3m.start("a"), vms.front().start("a")]);
    expect(both.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(both.find((one) => one.status === "rejected")?.reason).toMatchObject({ code: "E_VM_STATE" });
    expect(vms.processes("a")).toHaveLength(2);
  });

  it("in use says by whom, when the wait is over", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.store.withVm("a", { waitMs: 0 }, async () => {
      await expect(vms.front({ waitMs: 50 }).start("a")).rejects.toMatchObject({
        code: "E_LOCKED",
        message: expect.stringContaining(`process ${process.pid}`),
      });
      expect(await vms.front().list()).toMatchObject([{ name: "a", state: "defined" }]); // looking needs no lock
    });
  });
});

describe("a definition", () => {
  it("is made once, and replaced when that is asked for; the UUID stays", async () => {
    const { uuid } = await v3m.define(vms.definition("a"));
    await expect(v3m.define(vms.definition("a"))).rejects.toMatchObject({ code: "E_EXISTS" });
    const next = await v3m.define(vms.definition("a", { cpus: 3 }), { replace: true });
    expect(next).toMatchObject({ uuid, cpus: 3 });
    expect(v3m.definition("a")).toEqual(next);
  });

  it("that the back end refuses leaves nothing, or what was there", async () => {
    const bad = vms.definition("a", { boot: { kernel: "k", kind: "pvh" } });
    await expect(v3m.define(bad)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    expect(v3m.names()).toEqual([]);
    const before = await v3m.define(vms.definition("a"));
    await expect(v3m.define(bad, { replace: true })).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    expect(v3m.definition("a")).toEqual(before);
    await v3m.start("a");
  });

  it("that the matrix says no to is refused with the matrix' reason, and changes nothing", async () => {
    const [probe] = await v3m.capabilities(["Process"]);
    expect(Object.keys(probe?.capabilities ?? {})).toEqual([...FEATURES]);
    const asking = {
      "disk:qcow2": vms.definition("a", { disks: [{ path: "d", format: "qcow2" }] }),
      "nic:user": vms.definition("a", { nics: [{ type: "user" }] }),
      vsock: vms.definition("a", { vsock: 3 }),
      "boot:cdrom": { ...vms.definition("a", { cdrom: "c" }), boot: "cdrom" as const },
    };
    for (const [feature, definition] of Object.entries(asking)) {
      await expect(v3m.define(definition)).rejects.toMatchObject({
        code: "E_UNSUPPORTED",
        feature,
        reason: "a process of the host has none",
      });
      expect(v3m.names()).toEqual([]);
    }
  });

  it("takes address ranges that no other VM has, in two commands at once too", async () => {
    const wide = { type: "TUN/TAP+NAT", network: "10.64.0.0/24" } as const;
    const taken = v3m.validate(vms.definition("a", { nics: [wide, { type: "TUN/TAP+NAT" }] }));
    expect((await taken).nics).toHaveLength(2);
    await expect(v3m.validate(vms.definition("a", { nics: [wide, wide] }))).rejects.toMatchObject({
      code: "E_DEFINITION",
    });
  });
});

describe("verbs that no back end of these offers", () => {
  it("fail with the matrix' reason and change nothing", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.start("a");
    const before = await v3m.status("a");
    const refused = { code: "E_UNSUPPORTED", reason: "a process of the host has none" };
    await expect(v3m.snapshot("a", "/d")).rejects.toMatchObject({ ...refused, feature: "snapshot" });
    await expect(v3m.restore("a", "/d")).rejects.toMatchObject({ ...refused, feature: "restore" });
    await expect(v3m.fork("a", 2)).rejects.toMatchObject({ ...refused, feature: "fork" });
    await expect(v3m.migrate("a", "host")).rejects.toMatchObject({ ...refused, feature: "migrate" });
    const image = {
      kind: "cdrom",
      from: "/i",
      to: "/t",
      format: "raw",
      size: 1,
      machine: v3m.definition("a"),
    } as const;
    await expect(v3m.createImage("Process", image)).rejects.toMatchObject({
      ...refused,
      feature: "image-from-cdrom",
    });
    expect(await v3m.status("a")).toEqual(before);
  });
});

describe("an image", () => {
  it("is made with the back end's means, and never over another", async () => {
    const to = join(vms.directory, "disk.img");
    const source = { kind: "empty", to, format: "raw", size: 1 << 20 } as const;
    const seen: number[] = [];
    await v3m.createImage("Process", source, { onProgress: ({ done }) => seen.push(done) });
    expect(seen.at(-1)).toBe(1 << 20);
    await expect(v3m.createImage("Process", source)).rejects.toMatchObject({ code: "E_BACKEND" });
    await expect(v3m.createImage("Xen", source)).rejects.toMatchObject({ code: "E_UNSUPPORTED" });
  });
});

describe("the registry", () => {
  it("knows the types of 2007; those without a back end say so", async () => {
    const registry = builtinRegistry();
    expect(registry.types).toEqual([...KNOWN_TYPES]);
    for (const type of ["Xen", "XenHVM", "VMWare"]) {
      const [probe] = await v3m.capabilities([type]);
      expect(probe).toMatchObject({ type, usable: false, reason: "not available yet" });
      for (const feature of FEATURES) {
        expect(probe?.capabilities[feature]).toEqual({ supported: "no", reason: "not available yet" });
      }
      await expect(v3m.define({ name: "a", type, boot: { kernel: "k" } })).rejects.toMatchObject({
        code: "E_UNSUPPORTED",
        reason: "not available yet",
      });
      expect((await v3m.validate({ name: "a", type, boot: { kernel: "k" } })).type).toBe(type);
    }
  });

  it("has one back end of a type, and suggests another for a typing error", async () => {
    const registry = builtinRegistry().register(processBackend);
    expect(() => registry.register(processBackend)).toThrow(expect.objectContaining({ code: "E_BACKEND" }));
    await expect(v3m.capabilities(["Proces"])).rejects.toMatchObject({ hint: "did you mean Process?" });
  });

  it("takes modules that somebody names, and says what is wrong with them", async () => {
    const module = (text: string) => {
      const path = join(vms.directory, `backend${text.length}.mjs`);
      writeFileSync(path, text);
      return path;
    };
    const registry = new BackendRegistry();
    await registerModules(registry, [
      module('export default [{ type: "Mine", create() { throw new Error("no"); } }];'),
    ]);
    expect(registry.types).toEqual(["Mine"]);
    for (const text of [
      "export default 1;",
      "export default { type: 3 };",
      "export const x = 1;",
      "syntax error",
    ]) {
      await expect(registerModules(registry, [module(text)])).rejects.toMatchObject({ code: "E_BACKEND" });
    }
  });

  it("is not asked by those who list VMs of a back end that is gone", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.start("a");
    const without = vms.front({ registry: builtinRegistry() });
    expect(await without.list()).toMatchObject([{ name: "a", state: "running" }]);
    await kill("a");
    expect(await without.list()).toMatchObject([
      { name: "a", detail: expect.stringMatching(/no back end "Process"/) },
    ]);
    await expect(without.start("a")).rejects.toMatchObject({ code: "E_BACKEND" });
  });
});

describe("what a killed command left", () => {
  it("is finished by the next one: a definition that the back end was not told of", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.store.setState("a", { ...v3m.store.state("a"), incomplete: true });
    await v3m.start("a");
    expect(v3m.store.state("a")).not.toHaveProperty("incomplete");
  });

  it.each(["starting", "stopping", "migrating"] as const)(
    "is found out: %s, and the machine runs",
    async (left) => {
      await v3m.define(vms.definition("a"));
      await v3m.start("a");
      await v3m.store.setState("a", { state: left, since: new Date().toISOString() });
      expect(await v3m.list()).toMatchObject([{ state: "running", pid: vms.processes("a")[0] }]);
    },
  );

  it("is found out: starting, and there is no machine", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.store.setState("a", { state: "starting", since: new Date().toISOString() });
    expect(await v3m.list()).toMatchObject([{ state: "crashed", detail: "its process was killed" }]);
    await v3m.start("a");
  });

  it("of another boot of the host is told as that", async () => {
    await v3m.define(vms.definition("a"));
    const process = { pid: 1, start: "1", boot: "another" };
    await v3m.store.setState("a", { state: "running", since: new Date().toISOString(), process });
    expect(await v3m.list()).toMatchObject([{ state: "crashed", detail: "this host was rebooted" }]);
  });

  it("is removed from the store, whatever command is the next", async () => {
    await v3m.define(vms.definition("a"));
    writeFileSync(join(vms.state, "vms", ".new-x"), "");
    await v3m.list();
    while (existsSync(join(vms.state, "vms", ".new-x")))
      await new Promise((resolve) => setTimeout(resolve, 10));
    rmSync(join(vms.state, "vms", ".new-x"), { force: true });
  });
});

describe("many at once", () => {
  it("are never more than were asked for, and one that fails keeps none of the others", async () => {
    let [now, most] = [0, 0];
    const results = await mapBounded([...Array(50).keys()], 7, async (i) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 1));
      now--;
      if (i % 10 === 3) throw new Error(String(i));
      return i;
    });
    expect(most).toBe(7);
    expect(results.map((result) => ("value" in result ? result.value : result.error))).toEqual(
      [...Array(50).keys()].map((i) => (i % 10 === 3 ? new Error(String(i)) : i)),
    );
    expect(await mapBounded([], 3, async () => 1)).toEqual([]);
  });
});
