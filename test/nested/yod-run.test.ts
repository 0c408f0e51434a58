// SPDX-License-Identifier: Apache-2.0
/** Programs on the lightweight kernel, launched from TypeScript: how they end, what they see, what is left. */
import { createHash, randomBytes } from "node:crypto";
import { realpathSync } from "node:fs";
import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { countInstructions, launch } from "../../src/yod/index.js";
import { suite } from "../support/capabilities.js";
import { holdings } from "../support/leaks.js";
import { App, BUSYBOX, program, runApp, statusOf } from "../support/yod.js";

const MUSL = program("launched.musl");
const GLIBC = program("launched.glibc");

suite("an application on the lightweight kernel", { needs: ["lwk"] }, () => {
  it.each([0, 1, 42, 255])("ends with exit status %i", async (status) => {
    expect(statusOf(await runApp(MUSL, ["exit", String(status)]))).toBe(status);
  });

  it.each(["musl", "musl-pie", "glibc", "glibc-pie"])(
    "sees its arguments, environment and path (%s)",
    async (variant) => {
      const app = program(`launched.${variant}`);
      const args = ["show", "", "two words", "ünïcödé", "-x"];
      const env = { A: "1", EMPTY: "", LONG: "x".repeat(5000), GONE: undefined };
      const run = await runApp(app, args, { env });
      expect(statusOf(run)).toBe(0);
      expect(run.output.toString("utf8").split("\n")).toEqual([
        ...[app, ...args].map((word, i) => `argument ${i} <${word}>`),
        ...["A=1", "EMPTY=", `LONG=${"x".repeat(5000)}`].map((text) => `variable <${text}>`),
        `path <${app}>`,
        `exe <${realpathSync(app)}>`,
        "",
      ]);
    },
  );

  it("reads its standard input to the end and writes it to its standard output", async () => {
    const data = randomBytes(1 << 20);
    const run = await runApp(BUSYBOX, ["cat"], { input: data });
    expect(statusOf(run)).toBe(0);
    expect(createHash("sha256").update(run.output).digest("hex")).toBe(
      createHash("sha256").update(data).digest("hex"),
    );
    expect(run.outcome.statistics.bytesRead).toBeGreaterThanOrEqual(1 << 20);
    expect(run.outcome.statistics.bytesWritten).toBeGreaterThanOrEqual(1 << 20);
  });

  it("answers what is typed, while it waits for more", async () => {
    await using app = await App.start(BUSYBOX, ["sh"], { interactive: true });
    app.type("echo $((6 * 7)) is the answer\n");
    await app.saw("42 is the answer");
    app.type("exit 9\n");
    expect(statusOf(await app.finish())).toBe(9);
  });

  it("keeps standard error apart", async () => {
    const run = await runApp(BUSYBOX, ["sh", "-c", "echo out; echo err >&2; exit 3"]);
    expect([statusOf(run), run.stdout, run.stderr]).toEqual([3, "out\n", "err\n"]);
  });

  it("is told of signals", async () => {
    await using app = await App.start(MUSL, ["listen"]);
    await app.saw("listening");
    for (const name of [
      "SIGHUP",
      "SIGINT",
      "SIGQUIT",
      "SIGUSR1",
      "SIGUSR2",
      "SIGALRM",
      "SIGWINCH",
    ] as const) {
      app.launched.signal(name);
      await app.saw(`signal ${constants.signals[name]}\n`);
    }
    app.launched.signal("SIGTERM");
    expect(statusOf(await app.finish())).toBe(7);
  });

  it.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)("is ended by %s while it sleeps", async (name) => {
    await using app = await App.start(MUSL, ["sleep"]);
    await app.saw("sleeping");
    app.launched.signal(name);
    expect((await app.finish()).outcome).toMatchObject({ kind: "signal", name });
  });

  it("gets a signal that was sent before it was there", async () => {
    await using app = await App.start(BUSYBOX, ["sleep", "1000"]);
    app.launched.signal("SIGTERM");
    expect((await app.finish()).outcome).toMatchObject({ kind: "signal", name: "SIGTERM", timedOut: false });
  });

  it("is ended by SIGTERM when its time is over", async () => {
    const { outcome } = await runApp(BUSYBOX, ["sleep", "1000"], { timeoutMs: 1000 });
    expect(outcome).toMatchObject({ kind: "signal", name: "SIGTERM", timedOut: true });
  });

  it("is stopped where that does not end it", async () => {
    const { outcome } = await runApp(MUSL, ["ignore"], { timeoutMs: 1000, graceMs: 500 });
    expect(outcome).toMatchObject({ kind: "stopped", timedOut: true });
  });

  it("can be stopped at any time, and by being disposed of", async () => {
    await using app = await App.start(MUSL, ["ignore"]);
    await app.launched.stop();
    expect((await app.finish()).outcome).toMatchObject({ kind: "stopped", timedOut: false });
    const { launched } = await App.start(MUSL, ["ignore"]);
    await launched.dispose();
    expect(await launched.wait()).toMatchObject({ kind: "stopped" });
    launched.signal("SIGTERM"); // nobody is there: no error
    await launched.dispose();
  });

  it("shares nothing with another that runs at the same time", async () => {
    const runs = [1, 2].map(async (n) => {
      const input = randomBytes(200_000);
      const run = await runApp(n === 1 ? MUSL : GLIBC, ["exit", String(n)]);
      const cat = await runApp(BUSYBOX, ["cat"], { input });
      expect(cat.output.equals(input)).toBe(true);
      return statusOf(run);
    });
    expect(await Promise.all(runs)).toEqual([1, 2]);
  });

  it("leaves nothing behind", async () => {
    await runApp(MUSL, ["exit", "0"]);
    const before = await holdings();
    for (let i = 0; i < 3; i++) {
      await runApp(MUSL, ["exit", "0"], { cpus: 2 });
      await using app = await App.start(BUSYBOX, ["cat"], { interactive: true });
      app.type("x");
      await app.saw("x");
    }
    const after = await holdings();
    expect(after.descriptors).toEqual(before.descriptors);
    expect(after.threads).toEqual(before.threads);
  });

  it("is counted", async () => {
    const run = await runApp(BUSYBOX, ["sh", "-c", "echo a; (echo b); echo c"], { countCalls: true });
    const { statistics: s } = run.outcome;
    expect(s.appNs).toBeGreaterThan(s.entryNs ?? Number.POSITIVE_INFINITY);
    expect(s.endNs).toBeGreaterThan(s.appNs ?? Number.POSITIVE_INFINITY);
    expect(s.appExits).toBeGreaterThan(0);
    expect(s.guestExits).toBeGreaterThanOrEqual(s.appExits);
    expect(s.shipped).toBeGreaterThan(0);
    expect(s.calls.map(({ name }) => name)).toContain("write");
    // There is no fork: the shell says so, and the report names it.
    expect(run.stderr).toMatch(/can't fork/);
    expect(s.notProvided.map(({ name }) => name).join(" ")).toMatch(/\b(v?fork|clone)\b/);
  });
});

suite("an application that crashes on the lightweight kernel", { needs: ["lwk"] }, () => {
  it.each(["musl", "glibc-pie"])("is reported with its functions' names (%s)", async (variant) => {
    const { outcome } = await runApp(program(`launched.${variant}`), ["null"]);
    expect(outcome).toMatchObject({ kind: "fault", name: "SIGSEGV" });
    if (outcome.kind !== "fault") return;
    const { report } = outcome;
    expect(report.fault).toMatch(
      /^write to address 0x0 by code at store_deeply(\+0x[0-9a-f]+)? \(null pointer\)$/,
    );
    const exact = report.frames.filter((frame) => frame.exact).map(({ place }) => place?.replace(/\+.*/, ""));
    expect(exact.slice(0, 3)).toEqual(["store_deeply", "call_store", "main"]);
    expect(report.code.length).toBeGreaterThan(0);
    expect(report.vector).toBe(14);
  });

  it.each([
    ["segv", "SIGSEGV", /^write to address 0x[0-9a-f]+ by code at .*\(not mapped\)$/],
    ["fpe", "SIGFPE", /^division by zero/],
    ["ill", "SIGILL", /^invalid instruction .*ud2/],
    ["overflow", "SIGSEGV", /\(stack overflow\)$/],
  ])("is reported in words (%s)", async (how, name, words) => {
    const { outcome } = await runApp(program("signals.glibc"), [how]);
    expect(outcome).toMatchObject({ kind: "fault", name });
    if (outcome.kind === "fault") expect(outcome.report.fault).toMatch(words);
  });

  it("by abort() ends by the signal", async () => {
    const { outcome } = await runApp(program("signals.musl"), ["abort"]);
    expect(outcome).toMatchObject({ kind: "signal", name: "SIGABRT" });
  });
});

suite("the lightweight kernel, step by step", { needs: ["lwk"] }, () => {
  it("has its instructions counted", async () => {
    const before = await holdings();
    const counts = await countInstructions({
      app: MUSL,
      args: ["exit", "0"],
      memory: 64 << 20,
      maxSteps: 5000,
    });
    expect(counts).toMatchObject({
      steps: 5000,
      toApplication: undefined,
      toFunction: undefined,
      stopped: "it did not get there in 5000 steps",
    });
    expect(counts.counted).toBeGreaterThan(4000);
    await expect(countInstructions({ app: MUSL, until: "no_such_function" })).rejects.toMatchObject({
      code: "E_INVALID",
    });
    expect((await holdings()).descriptors).toEqual(before.descriptors);
  });
});

describe("launching nothing", () => {
  it("fails before a machine is made", async () => {
    const before = await holdings();
    await expect(launch({ app: "/nonexistent" })).rejects.toMatchObject({ code: "E_APP_NOT_FOUND" });
    await expect(launch({ app: BUSYBOX, roots: [{ path: "relative" }] })).rejects.toMatchObject({
      code: expect.stringMatching(/^E_(INVALID|UNSUPPORTED)$/),
    });
    expect((await holdings()).descriptors).toEqual(before.descriptors);
  });
});
