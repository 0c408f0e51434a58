// SPDX-License-Identifier: Apache-2.0
/** Tiny guests are cloned in the middle of their work: all go on, each in memory of its own. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { type ForkPoint, Machine, type MachineOptions } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { finish, guest, PATIENCE, roundsOf, run, Transcript, withRunning } from "../support/machines.js";
import { MonitorPlace } from "../support/monitors.js";
import { CLONE_MEMORY, privateBytes } from "../support/smaps.js";

const GENERATION_GPA = 0xf0000;
/** Nothing of a payload's is there. */
const FREE_GPA = 0x800000;
/** What a clone may have beside what its guest has written. */
const ALLOWANCE = 128 << 10;

const nameOf = (machine: Machine) =>
  machine.memory
    .read(GENERATION_GPA + 16, 64)
    .toString("latin1")
    .replace(/\0.*/s, "");
const generationOf = (machine: Machine) => machine.memory.read(GENERATION_GPA, 16).toString("hex");

suite("clones", { needs: ["kvm"] }, () => {
  let place: MonitorPlace;
  beforeAll(() => {
    place = new MonitorPlace();
  });
  afterAll(() => place.remove());

  const clone = (point: ForkPoint, options: MachineOptions, name: string) =>
    Machine.clone(point, { ...options, name });

  it.each([
    ["arithmetic", guest("compute", { rounds: roundsOf(200_000, 30_000, 60_000) }), ""],
    ["timers and halts", guest("halt", { count: 20, ticks: 2_000_000 }), "halt: ready\n"],
    ["2 vCPUs", guest("smp", { cpus: 2, rounds: roundsOf(200, 200, 1000) }, { cpus: 2 }), "smp: cpus 2\n"],
  ])("continue with %s exactly, and so does the first machine", async (_what, options, until) => {
    const whole = await run(options);
    await using machine = await Machine.create(options);
    const transcript = new Transcript(machine);
    machine.start();
    // Computing is over soon where time is emulated: what comes after this must not be too late.
    if (until === "") await machine.pause();
    await transcript.until(until);
    await using point = await machine.forkPoint();
    if (until === "") await machine.resume();
    const info = await machine.wait(PATIENCE);
    expect(info.cause).toBe("poweroff");
    const first = await transcript.ended;
    expect(first.length).toBe(whole.output.length);
    for (const name of ["a", "b"]) {
      await using copy = await clone(point, options, name);
      const rest = await finish(copy);
      expect(rest.info.cause).toBe("poweroff");
      expect(rest.output).not.toBe("");
      expect(first.endsWith(rest.output)).toBe(true);
    }
  });

  it("have a generation ID and a name of their own, and keep both when they are reset", async () => {
    const options = guest("echo", {}, { generationId: "random" });
    await withRunning(options, "echo: ready\n", async (machine) => {
      await using point = await machine.forkPoint();
      expect(nameOf(machine)).toBe("");
      await using one = await clone(point, options, "node-1");
      await using two = await clone(point, options, "node-2");
      expect([one, two].map(nameOf)).toEqual(["node-1", "node-2"]);
      const ids = [machine, one, two].map(generationOf);
      expect(new Set(ids).size).toBe(3);
      const transcript = new Transcript(one);
      one.start();
      one.reset();
      await transcript.until("echo: ready\n");
      expect([nameOf(one), generationOf(one)]).toEqual(["node-1", ids[1]]);
    });
  });

  it("write to memory of their own, as does the first machine", async () => {
    const options = guest("echo");
    await withRunning(options, "echo: ready\n", async (machine, transcript) => {
      machine.memory.bytes(FREE_GPA, 4).set(Buffer.from("then"));
      const point = await machine.forkPoint();
      machine.memory.bytes(FREE_GPA, 4).set(Buffer.from("main"));
      await using one = await clone(point, options, "one");
      one.memory.bytes(FREE_GPA, 4).set(Buffer.from("one!"));
      await using two = await clone(point, options, "two");
      point[Symbol.dispose]();
      expect(() => point.taken).toThrow(/gone/);
      const read = (from: Machine) => from.memory.read(FREE_GPA, 4).toString();
      expect([machine, one, two].map(read)).toEqual(["main", "one!", "then"]);
      for (const each of [one, two]) {
        const said = new Transcript(each);
        each.start();
        each.console.write("a clone\n");
        await said.until("a clone\n");
      }
      machine.console.write("the first\n");
      await transcript.until("the first\n");
      expect([machine, one, two].map(read)).toEqual(["main", "one!", "then"]);
    });
  });

  it("are made of a paused machine, which stays paused, and of a clone", async () => {
    const options = guest("echo");
    await withRunning(options, "echo: ready\n", async (machine) => {
      await machine.pause();
      await using point = await machine.forkPoint();
      expect(machine.state).toBe("paused");
      await using one = await clone(point, options, "one");
      one.start();
      await using second = await one.forkPoint();
      expect(one.state).toBe("running");
      await using two = await clone(second, options, "two");
      const transcript = new Transcript(two);
      two.start();
      two.console.write("a clone's clone\n");
      await transcript.until("a clone's clone\n");
    });
  });

  it("have no more memory of their own than what they wrote, by KVM's log, and a little", async () => {
    const options = guest("echo", {}, { memory: 64 << 20 });
    await withRunning(options, "echo: ready\n", async (machine) => {
      await using point = await machine.forkPoint();
      await using one = await clone(point, options, "one");
      one.logDirtyPages();
      const transcript = new Transcript(one);
      one.start();
      one.console.write("written\n");
      await transcript.until("written\n");
      await one.pause();
      const pages = one.dirtyPages();
      expect(pages).toBeGreaterThan(0);
      expect(privateBytes(process.pid, CLONE_MEMORY)).toBeLessThanOrEqual(pages * 4096 + ALLOWANCE);
      expect(one.dirtyPages()).toBe(0);
    });
  });

  it("are refused a name that no host has", async () => {
    const options = guest("echo");
    await withRunning(options, "echo: ready\n", async (machine) => {
      await using point = await machine.forkPoint();
      for (const name of ["", "two words", "x".repeat(64), "é"]) {
        await expect(clone(point, options, name)).rejects.toThrow(/a clone's name/);
      }
      await expect(clone(point, { ...options, cpus: 2 }, "a")).rejects.toMatchObject({ code: "E_INVALID" });
    });
  });

  it("in monitors have little memory of their own", async () => {
    const options = guest("echo", {}, { memory: 64 << 20 });
    const where = () => ({ directory: place.directory() });
    await using machine = await Machine.spawn(options, where());
    const transcript = new Transcript(machine);
    machine.start();
    await transcript.until("echo: ready\n");
    await using point = await machine.forkPoint();
    expect(machine.state).toBe("running");
    for (const name of ["one", "two", "three"]) {
      await using copy = await Machine.clone(point, { ...options, name }, where());
      const said = new Transcript(copy);
      copy.start();
      copy.console.write(`${name}\n`);
      await said.until(`${name}\n`);
      const own = privateBytes(copy.monitorInfo().pid, CLONE_MEMORY);
      expect(own).toBeGreaterThan(0);
      expect(own).toBeLessThanOrEqual(ALLOWANCE);
      await copy.quit();
    }
    machine.console.write("still here\n");
    await transcript.until("still here\n");
    await machine.quit();
  });
});
