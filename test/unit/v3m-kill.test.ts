// SPDX-License-Identifier: Apache-2.0
/** Commands that are killed at any moment, or come two at once: the store stays whole. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { VmInfo } from "../../src/v3m/index.js";
import { rounds } from "../support/places.js";
import { TestVms } from "../support/vms.js";

/** A sequence of numbers that looks random and can be repeated. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Verbs that make sense next, by the state of the VM; `none`: it is not defined. */
const NEXT: Readonly<Record<string, readonly string[]>> = {
  none: ["define"],
  defined: ["start", "start", "replace", "undefine"],
  running: ["pause", "stop", "reset", "stop"],
  paused: ["resume", "stop"],
  stopped: ["start", "replace", "undefine"],
  crashed: ["start", "undefine"],
};

describe("a command that is killed", () => {
  it("at any moment leaves the store whole, and no process", async () => {
    await using vms = new TestVms();
    const seed = Date.now();
    const next = random(seed);
    const file = vms.file("a");
    const args = (verb: string) =>
      verb === "define" ? ["define", file] : verb === "replace" ? ["define", "--replace", file] : [verb, "a"];
    /** How long a command takes here, milliseconds. */
    const begin = performance.now();
    await vms.v2m("list");
    const usual = (performance.now() - begin) * 2;
    let state = "none";
    for (let round = 0; round < rounds(10, 50); round++) {
      const choices = NEXT[state] ?? [];
      const verb = choices[Math.floor(next() * choices.length)] ?? "list";
      const what = `seed ${seed}, round ${round}: ${verb} in ${state}`;
      const command = vms.observe(...args(verb));
      await sleep(next() * usual);
      command.child.kill("SIGKILL");
      await command.outcome;
      let found = await vms.json<VmInfo[]>("list");
      // A machine that the killed command has asked to end may do so a moment after the first look.
      if (vms.processes("a").length === 0) found = await vms.json<VmInfo[]>("list");
      state = found[0]?.state ?? "none";
      expect(Object.keys(NEXT), what).toContain(state);
      const processes = vms.processes("a").length;
      if (state === "running" || state === "paused") expect(processes, what).toBeGreaterThan(0);
      else expect(processes, what).toBe(0);
      for (const name of found.length > 0 ? ["state", "definition"] : []) {
        const path = join(vms.state, "vms/a", `${name}.json`);
        expect(JSON.parse(readFileSync(path, "utf8")), what).toMatchObject({ version: 1 });
      }
    }
    if (state === "none") await vms.json("define", file);
    if (state === "running" || state === "paused") await vms.json("stop", "a", "--force");
    await vms.json("start", "a");
    await vms.json("stop", "a", "--force");
    expect(vms.litter(), `seed ${seed}`).toEqual([]);
    await vms.json("undefine", "a");
    expect(vms.processes()).toEqual([]);
    expect(existsSync(join(vms.runtime, "a"))).toBe(false);
  }, 300_000); // two starts of Node.js a round
});

describe("two commands at once", () => {
  it("on one VM: one does it, the other is told why not", async () => {
    await using vms = new TestVms();
    const file = vms.file("a");
    const codes = async (...commands: readonly (readonly string[])[]) => {
      const outcomes = await Promise.all(commands.map((args) => vms.v2m(...args)));
      for (const { code, stderr } of outcomes)
        if (code !== 0) expect(stderr).toMatch(/\[E_(VM_STATE|EXISTS)\]\nhint: /);
      return outcomes.map(({ code }) => code).sort();
    };
    expect(await codes(["define", file], ["define", file])).toEqual([0, 9]);
    expect(await codes(["start", "a"], ["start", "a"])).toEqual([0, 9]);
    expect(vms.processes("a")).toHaveLength(2);
    expect(await codes(["pause", "a"], ["pause", "a"])).toEqual([0, 9]);
    expect(await codes(["stop", "a", "--force"], ["stop", "a", "--force"])).toEqual([0, 9]);
    expect(vms.processes()).toEqual([]);
    expect(vms.litter()).toEqual([]);
  });
});
