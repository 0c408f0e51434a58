// SPDX-License-Identifier: Apache-2.0
/** The files of the front end: whole or not there, locked by one, read by all. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import { definitionFrom, resolveSource } from "../../src/v3m/definition/load.js";
import { LockedError } from "../../src/v3m/errors.js";
import { compareNames } from "../../src/v3m/store/compare.js";
import { directories, shortName } from "../../src/v3m/store/directories.js";
import { LOG_BYTES, logEvent, readEvents } from "../../src/v3m/store/event-log.js";
import { readVersioned, writeAtomically } from "../../src/v3m/store/files.js";
import { Lock } from "../../src/v3m/store/lock.js";
import { identify, isAlive } from "../../src/v3m/store/process-id.js";
import type { StateRecord } from "../../src/v3m/store/records.js";
import { Store } from "../../src/v3m/store/store.js";

let directory: string;
let store: Store;
const wait = { waitMs: 10_000 };

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "v3m-store-"));
  store = new Store({ state: join(directory, "state"), runtime: join(directory, "run") });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const definition = (name: string) => resolveSource(definitionFrom({ name, boot: { kernel: "/k" } }));
const record: StateRecord = { state: "defined", since: "2026-01-01T00:00:00.000Z" };

async function add(name: string) {
  const added = definition(name);
  await store.withVm(name, wait, async () => {
    using _lock = await store.lockStore(wait);
    await store.add(added, record);
  });
  return added;
}

/** Another process that takes a lock, says so, and keeps it. */
async function holder(path: string) {
  const module = join(packageRoot(), "dist/src/v3m/store/lock.js");
  const code = `const { Lock } = await import(${JSON.stringify(module)});
    const lock = await Lock.take(${JSON.stringify(path)}, { what: "it", waitMs: 10000 });
    process.stdout.write("taken"); setInterval(() => lock, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Error("the holder ended")));
  });
  return child;
}

describe("the store", () => {
  it("keeps VMs for those who come later", async () => {
    await add("node2");
    const node10 = await add("node10");
    await add("node1");
    const other = new Store(store.directories);
    expect(other.scan()).toEqual({ names: ["node1", "node2", "node10"], litter: false });
    expect(other.definition("node10")).toEqual(node10);
    expect(other.state("node10")).toEqual(record);
    expect(statSync(store.directory("node10")).mode & 0o777).toBe(0o700);
  });

  it("has one VM of a name", async () => {
    await add("a");
    const before = store.definition("a");
    await expect(add("a")).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining("a VM called a"),
    });
    expect(store.definition("a")).toEqual(before);
    expect(store.scan().litter).toBe(false);
  });

  it("says that a VM is not there, whatever the name", () => {
    for (const name of ["none", "..", "a/b", "", "x".repeat(64), ".hidden"]) {
      expect(() => store.state(name)).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
    }
  });

  it("says what is damaged, and what a newer V3M wrote", async () => {
    await add("a");
    const path = join(store.directory("a"), "state.json");
    for (const [text, code] of [
      ["", "E_STORE"],
      ["{", "E_STORE"],
      ["null", "E_STORE"],
      ['{"version":1}', "E_STORE"],
      ['{"version":1,"state":"flying","since":"x"}', "E_STORE"],
      ['{"version":2,"state":"running","since":"x"}', "E_VERSION"],
    ]) {
      writeFileSync(path, text ?? "");
      expect(() => store.state("a")).toThrow(
        expect.objectContaining({ code, message: expect.stringContaining(path) }),
      );
    }
    expect(readVersioned(join(directory, "none"), 1)).toBeUndefined();
  });

  it("removes what killed commands left, under the lock", async () => {
    await add("a");
    const litter = [join(store.vmsDirectory, ".new-x"), join(store.vmsDirectory, ".gone-y")];
    for (const path of litter) {
      mkdirSync(path);
      writeFileSync(join(path, "definition.json"), "{}");
    }
    const temporary = join(store.directory("a"), ".state.json.1-2-3.tmp");
    writeFileSync(temporary, "half");
    expect(store.scan()).toEqual({ names: ["a"], litter: true });
    const busy = await store.lockStore(wait);
    expect(store.scan().litter).toBe(false);
    mkdirSync(litter[0] ?? "");
    await store.sweep(); // somebody may be at it: nothing is touched
    expect(store.scan().litter).toBe(true);
    busy[Symbol.dispose]();
    await store.sweep();
    expect(store.scan().litter).toBe(false);
    await store.withVm("a", wait, async () => expect(existsSync(temporary)).toBe(false));
  });

  it("forgets a VM with all that was its own", async () => {
    await add("a");
    const [state, runtime] = [store.backendState("a"), store.backendRuntime("a")];
    writeFileSync(join(state, "x"), "");
    writeFileSync(join(runtime, "y"), "");
    await store.withVm("a", wait, async () => {
      using _lock = await store.lockStore(wait);
      await store.remove("a");
    });
    expect(store.scan()).toEqual({ names: [], litter: false });
    expect(existsSync(runtime)).toBe(false);
    expect(existsSync(join(store.directories.state, "locks", "a"))).toBe(false);
    expect(() => store.backendState("a")).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
    expect(() => store.backendRuntime("a")).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
  });
});

describe("a file", () => {
  it("is replaced whole, or not at all", async () => {
    await writeAtomically(directory, "f", "one");
    await writeAtomically(directory, "f", "two");
    expect(readFileSync(join(directory, "f"), "utf8")).toBe("two");
    mkdirSync(join(directory, "d"));
    writeFileSync(join(directory, "d", "x"), "");
    await expect(writeAtomically(directory, "d", "three")).rejects.toMatchObject({ code: "E_IO" });
    await expect(writeAtomically(join(directory, "nowhere"), "f", "x")).rejects.toMatchObject({
      errno: "ENOENT",
    });
    expect(readFileSync(join(directory, "f"), "utf8")).toBe("two");
  });
});

describe("a lock", () => {
  it("is had by one at a time, in one process too", async () => {
    const path = join(directory, "lock");
    const first = await Lock.take(path, { what: "it", waitMs: 0 });
    expect(await Lock.tryTake(path)).toBeUndefined();
    const second = Lock.take(path, { what: "it", waitMs: 10_000 });
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
  });

  it("names who has it, and is free when that one is killed", async () => {
    const path = join(directory, "lock");
    const child = await holder(path);
    const refused = await Lock.take(path, { what: "VM a", waitMs: 50 }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(LockedError);
    expect((refused as LockedError).message).toContain(`process ${child.pid}`);
    const waiting = Lock.take(path, { what: "VM a", waitMs: 30_000 });
    child.kill("SIGKILL");
    (await waiting)[Symbol.dispose]();
  });

  it("is given up by those who are aborted", async () => {
    const path = join(directory, "lock");
    using _lock = await Lock.take(path, { what: "it", waitMs: 0 });
    const signal = AbortSignal.abort();
    await expect(Lock.take(path, { what: "it", waitMs: 10_000, signal })).rejects.toMatchObject({
      code: "E_ABORTED",
    });
  });

  it("of a file that was removed is taken on the new one", async () => {
    const path = join(directory, "lock");
    const first = await Lock.take(path, { what: "it", waitMs: 0 });
    const second = Lock.take(path, { what: "it", waitMs: 10_000 });
    first.remove();
    first[Symbol.dispose]();
    using _lock = await second;
    expect(await Lock.tryTake(path)).toBeUndefined();
  });
});

describe("the event log", () => {
  const event = (detail: string) =>
    ({ name: "a", time: new Date(), kind: "state", state: "running", detail }) as const;

  it("numbers events, and survives what was cut off", () => {
    logEvent(directory, event("one"));
    writeFileSync(join(directory, "events.jsonl"), '{"sequence":2,"na', { flag: "a" });
    logEvent(directory, event("two"));
    expect(readEvents(directory).map(({ sequence, detail }) => [sequence, detail])).toEqual([
      [1, "one"],
      [2, "two"],
    ]);
    expect(readEvents(directory)[0]?.time).toBeInstanceOf(Date);
  });

  it("is bounded", () => {
    const long = "x".repeat(100_000);
    for (let i = 0; i < 1000; i++) logEvent(directory, event(long));
    const events = readEvents(directory);
    const size = ["events.jsonl", "events.1.jsonl"].map((name) => statSync(join(directory, name)).size);
    expect(Math.max(...size)).toBeLessThan(LOG_BYTES + 2000);
    expect(events.at(-1)?.sequence).toBe(1000);
    const [first] = events;
    expect(events.map((one) => one.sequence)).toEqual(events.map((_, i) => (first?.sequence ?? 0) + i));
  });
});

describe("directories", () => {
  const env = { HOME: "/home/u" };
  it("are root's, or the user's as XDG says", () => {
    expect(directories({}, {}, 0)).toEqual({ state: "/var/lib/v3m", runtime: "/run/v3m" });
    const xdg = { ...env, XDG_STATE_HOME: "/s", XDG_RUNTIME_DIR: "/r" };
    expect(directories({}, xdg, 1000)).toEqual({ state: "/s/v3m", runtime: "/r/v3m" });
    expect(directories({}, { ...env, XDG_STATE_HOME: "relative" }, 1000).state).toMatch(
      /\.local\/state\/v3m$/,
    );
  });

  it("of another state are others, and short", () => {
    const [a, b] = ["/a", "/b"].map((state) => directories({ state }, {}, 0));
    expect(a?.runtime).toMatch(/^\/run\/v3m\/[0-9a-f]{8}$/);
    expect(a?.runtime).not.toBe(b?.runtime);
    expect(directories({}, { V3M_STATE_DIR: "/a", V3M_RUNTIME_DIR: "/r" }, 0)).toEqual({
      state: "/a",
      runtime: "/r",
    });
    expect(shortName("node1")).toBe("node1");
    const long = ["1", "2"].map((end) => shortName("x".repeat(62) + end));
    expect(long[0]).toHaveLength(24);
    expect(long[0]).not.toBe(long[1]);
  });
});

describe("names", () => {
  it("are in the order in which people count", () => {
    expect(["b", "a10", "a9", "a", "a9b", "A1"].sort(compareNames)).toEqual([
      "A1",
      "a",
      "a9",
      "a9b",
      "a10",
      "b",
    ]);
  });
});

describe("a process", () => {
  it("is told from another with its number", () => {
    const own = identify(process.pid);
    expect(own).toMatchObject({ pid: process.pid });
    if (own === undefined) return;
    expect(isAlive(own)).toBe(true);
    expect(isAlive({ ...own, start: "1" })).toBe(false);
    expect(isAlive({ ...own, boot: "another" })).toBe(false);
    expect(identify(2 ** 22 + 1)).toBeUndefined();
  });
});
