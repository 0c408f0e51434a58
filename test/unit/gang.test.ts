// SPDX-License-Identifier: Apache-2.0
/** VMs that start and stop together: all of a gang or none, by one verb on any of them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Gate } from "../../src/v3m/gang.js";
import type { V3m } from "../../src/v3m/index.js";
import { TestVms } from "../support/vms.js";

describe("a gate", () => {
  it("opens when as many are there as are expected, and not before", async () => {
    const gate = new Gate(2);
    const through: string[] = [];
    const first = gate.pass().then(() => through.push("first"));
    await new Promise(setImmediate);
    expect(through).toEqual([]);
    await gate.pass();
    await first;
    expect(through).toEqual(["first"]);
  });

  it("fails for all who wait, and who come later", async () => {
    const gate = new Gate(3);
    const waiting = gate.pass();
    gate.fail(new Error("broken"));
    await expect(waiting).rejects.toThrow("broken");
    await expect(gate.pass()).rejects.toThrow("broken");
  });

  it("is left by those who give up", async () => {
    const abort = new AbortController();
    const waiting = new Gate(2).pass(abort.signal);
    abort.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
  });
});

describe("a gang", () => {
  let vms: TestVms;
  let v3m: V3m;
  beforeEach(async () => {
    vms = new TestVms();
    v3m = vms.front();
    for (const name of ["a", "b", "c"]) {
      await v3m.define(vms.definition(name, name === "c" ? {} : { performance: { gang: "g" } }));
    }
  });
  afterEach(() => vms[Symbol.asyncDispose]());

  const states = async () =>
    Object.fromEntries(
      await Promise.all(v3m.names().map(async (name) => [name, (await v3m.status(name)).state] as const)),
    );

  it("starts, pauses, resumes and stops by a verb on one, others do not", async () => {
    await v3m.start("b");
    expect(await states()).toEqual({ a: "running", b: "running", c: "defined" });
    await v3m.pause("a");
    expect(await states()).toEqual({ a: "paused", b: "paused", c: "defined" });
    await v3m.resume("b");
    expect(await states()).toEqual({ a: "running", b: "running", c: "defined" });
    await v3m.stop("a", { force: true });
    expect(await states()).toEqual({ a: "stopped", b: "stopped", c: "defined" });
  });

  it("does not start where one of it cannot: the error is that one's", async () => {
    const script = join(vms.directory, "gone.sh");
    await v3m.define(vms.definition("d", { boot: { kernel: script }, performance: { gang: "g" } }));
    await expect(v3m.start("a")).rejects.toThrow(/gone\.sh/);
    expect(await states()).toMatchObject({ a: "defined", b: "defined", d: "defined" });
    expect((await v3m.status("a")).detail).toMatch(/start failed: start of gang g: d cannot: .*gone\.sh/);
    writeFileSync(script, "sleep 100\n");
    await v3m.start("a");
    expect(await states()).toMatchObject({ a: "running", b: "running", d: "running" });
  });

  it("passes over those that a verb does not change, but for the one that is named", async () => {
    await v3m.start("a");
    const d = vms.definition("d", { performance: { gang: "g" } });
    await v3m.define(d);
    await v3m.start("d");
    expect(await states()).toMatchObject({ a: "running", b: "running", d: "running" });
    await expect(v3m.start("d")).rejects.toMatchObject({ code: "E_VM_STATE" });
    expect(await states()).toMatchObject({ a: "running", d: "running" });
  });

  it("is started once by a command that names all of it", async () => {
    const outcome = await vms.v2m("start", "a", "b", "c");
    expect(outcome.stdout).toBe("a: running\nb: running\nc: running\n");
    expect(outcome.code).toBe(0);
  });

  it("is worked on by one command at a time, whichever of it that names", async () => {
    await v3m.start("a");
    const other = vms.front();
    const results = await Promise.allSettled([v3m.pause("a"), other.pause("b")]);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await states()).toMatchObject({ a: "paused", b: "paused" });
  });
});
