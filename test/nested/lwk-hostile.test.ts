// SPDX-License-Identifier: Apache-2.0
/**
 * An application that means harm (test/programs/hostile.c): it ends, by itself or with a report of its crash. The
 * lightweight kernel does not fail, the server and the machine's process live on, and a neighbour notices nothing.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { FULL, rounds } from "../support/places.js";
import { App, type AppOptions, type AppRun, BUSYBOX, program, runApp, statusOf } from "../support/yod.js";

const GLIBC = program("hostile.glibc");
const MUSL = program("hostile.musl");
/** One run with random system calls; another seed each time. */
const CALLS_SECONDS = rounds(2, 5);
const CALLS_RUNS = rounds(4, 14);
/** It lives as long as this file runs. */
const NEIGHBOUR_MS = 3_600_000;
const FIRST_SEED = FULL ? Math.floor(Date.now() / 1000) % 1_000_000 : 1;

/** Run it; it must not bring down anything but itself. */
async function attack(app: string, args: readonly string[], options: AppOptions = {}): Promise<AppRun> {
  const run = await runApp(app, args, { memory: 128 << 20, ...options });
  const { outcome } = run;
  const text = "text" in outcome ? outcome.text : "";
  expect(["exit", "signal", "fault"], `${args.join(" ")}: ${outcome.kind}: ${text}`).toContain(outcome.kind);
  expect(outcome.timedOut, `${args.join(" ")}: it went on until it was told to end`).toBe(false);
  return run;
}

suite("a hostile application on the lightweight kernel", { needs: ["lwk"] }, () => {
  /** A neighbour in the same process, which answers all the time. */
  let neighbour: App;
  let place: string;
  let turn = 0;
  beforeAll(async () => {
    place = mkdtempSync(join(tmpdir(), "v3m-hostile-"));
    neighbour = await App.start(BUSYBOX, ["cat"], { interactive: true, timeoutMs: NEIGHBOUR_MS });
  });
  afterEach(async () => {
    neighbour.type(`still here ${++turn}\n`);
    await neighbour.saw(`still here ${turn}\n`);
    expect(statusOf(await runApp(program("launched.musl"), ["exit", "42"]))).toBe(42);
  });
  afterAll(async () => {
    await neighbour?.[Symbol.asyncDispose]();
    rmSync(place, { recursive: true, force: true });
  });

  it.each(Array.from({ length: CALLS_RUNS }, (_, i) => i))(
    "makes every system call with random arguments, run %i",
    async (i) => {
      const seed = FIRST_SEED + i;
      const options = { cpus: 1 + (i % 2), cwd: place, roots: [{ path: place, writable: true }] };
      const run = await attack(
        i % 3 === 0 ? GLIBC : MUSL,
        ["calls", String(CALLS_SECONDS), String(seed)],
        options,
      );
      expect(run.stdout).toContain(`seed ${seed}\n`);
      expect(readdirSync(join(place, ".."))).toContain(place.slice(place.lastIndexOf("/") + 1));
    },
  );

  it.each([1, 2])("jumps to and reads random addresses, seed %i", async (seed) => {
    const run = await attack(MUSL, ["jumps", String(seed)]);
    expect([statusOf(run), run.stdout]).toEqual([0, "3000 accesses, 3000 faults\n"]);
  });

  it("reads, writes and jumps where the kernel lives", async () => {
    const run = await attack(GLIBC, ["kernel"]);
    expect([statusOf(run), run.stdout]).toEqual([0, "0 kernel addresses could be used\n"]);
  });

  it("executes privileged instructions", async () => {
    const run = await attack(MUSL, ["privileged"]);
    expect(statusOf(run)).toBe(0);
    const done = [...run.stdout.matchAll(/^(.+?) +DONE$/gm)].map((match) => match[1]);
    // KVM answers hypercalls from user mode with an error: that is no harm.
    expect(done.filter((name) => name !== "vmcall" && name !== "vmmcall")).toEqual([]);
    expect(run.stdout.match(/refused$/gm)?.length).toBeGreaterThan(25);
  });

  it("makes system calls with its registers in disorder", async () => {
    const run = await attack(MUSL, ["registers"]);
    expect([statusOf(run), run.stdout]).toEqual([0, "system calls with odd registers: still here\n"]);
  });

  it("gives random frames to sigreturn", async () => {
    for (let seed = 1; seed <= rounds(5, 50); seed++) await attack(MUSL, ["frame", String(seed)]);
  });

  it.each([GLIBC, MUSL])("recurses without end (%s)", async (app) => {
    const { outcome } = await attack(app, ["stack"]);
    expect(outcome).toMatchObject({ kind: "fault", name: "SIGSEGV" });
  });

  it("asks for 10,000 threads", async () => {
    const run = await attack(MUSL, ["threads", "10000"], { cpus: 2, memory: 256 << 20 });
    expect([statusOf(run), run.stdout]).toEqual([0, "all threads ended\n"]);
  });

  it("takes all memory there is", async () => {
    const run = await attack(MUSL, ["memory"]);
    expect([statusOf(run), run.stdout]).toEqual([0, "all memory taken\n"]);
  });
});
