// SPDX-License-Identifier: Apache-2.0
/** `v2m yod` before anything runs: its command line, its refusals and their exit codes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment, nestedCommand, parseRoot, planYod, shellQuote } from "../../src/v2m/yod-options.js";
import { LineSplitter } from "../../src/v2m/yod-output.js";
import { formatStatistics } from "../../src/v2m/yod-summary.js";
import { signalNumber } from "../../src/yod/launch.js";
import { messageOf, v2m } from "../support/v2m.js";
import { Workshop } from "../support/yod-sources.js";

const MAIN = "int main(void) { return 0; }";
const APP = "/bin/busybox";
let shop: Workshop;

beforeAll(() => {
  shop = new Workshop();
  shop.compile("dynamic", MAIN, []);
  writeFileSync(shop.path("script"), "#!/bin/sh\n", { mode: 0o755 });
  writeFileSync(shop.path("plain"), "hello", { mode: 0o644 });
});
afterAll(() => shop[Symbol.dispose]());

describe("v2m yod refuses", () => {
  it.each<[string, readonly string[], RegExp]>([
    ["to run nothing", [], /missing required argument 'app'/],
    ["an unknown option", ["--frobnicate", APP], /unknown option '--frobnicate'/],
    ["0 vCPUs", ["--cpus", "0", APP], /--cpus 0/],
    ["memory in words", ["--memory", "lots", APP], /--memory lots/],
    ["an unknown kind of page", ["--hugepages", "3M", APP], /3M/],
    ["a bad list of CPUs", ["--pin", "x", APP], /--pin x/],
    ["a root that is not there", ["--root", "/nonexistent:rw", APP], /--root \/nonexistent:rw/],
    ["a root that is a file", ["--root", "/etc/passwd", APP], /--root \/etc\/passwd/],
    ["a variable without a name", ["--env", "=x", APP], /--env =x/],
    ["a time limit of 0", ["--timeout", "0", APP], /--timeout 0/],
    ["0 ranks", ["--ranks", "0", APP], /--ranks 0/],
    ["a prefix without ranks", ["--prefix", APP], /--prefix needs --ranks/],
    ["a channel for one", ["--channel-size", "1M", APP], /--channel-size needs --ranks, from 2 to 64/],
    ["a channel for too many", ["--ranks", "65", "--channel-size", "1M", APP], /from 2 to 64/],
    [
      "too little of a channel",
      ["--ranks", "2", "--channel-size", "1K", APP],
      /--channel-size 1K: not from 4K to 1G/,
    ],
    [
      "too much of a channel",
      ["--ranks", "2", "--channel-size", "2G", APP],
      /--channel-size 2G: not from 4K to 1G/,
    ],
  ])("%s, with exit code 125", async (_what, args, message) => {
    const outcome = await v2m("yod", ...args);
    expect(messageOf(outcome)).toMatchObject({ code: "E_USAGE", message: expect.stringMatching(message) });
    expect(outcome).toMatchObject({ code: 125, stdout: "" });
  });

  it.each<[string, () => string, number, string]>([
    ["a file that is not there", () => shop.path("absent"), 127, "E_APP_NOT_FOUND"],
    ["a name that is not in PATH", () => "no-such-program", 127, "E_APP_NOT_FOUND"],
    ["a dynamic program", () => shop.path("dynamic"), 126, "E_APP_DYNAMIC"],
    ["a script", () => shop.path("script"), 126, "E_APP_SCRIPT"],
    ["a text", () => shop.path("plain"), 126, "E_APP_FORMAT"],
    ["a directory", () => "/", 126, "E_APP_ACCESS"],
  ])("%s", async (_what, app, code, errorCode) => {
    const outcome = await v2m("yod", app(), "--json", "--frobnicate");
    expect(messageOf(outcome).code).toBe(errorCode);
    expect(outcome).toMatchObject({ code, stdout: "" });
  });

  it("in JSON where asked to", async () => {
    const outcome = await v2m("yod", "--json", shop.path("absent"));
    expect(outcome.code).toBe(127);
    expect(JSON.parse(outcome.stderr)).toMatchObject({ error: { code: "E_APP_NOT_FOUND", errno: "ENOENT" } });
  });

  it("a host without KVM, and offers the nested machine", async () => {
    const outcome = await v2m("yod", "--kvm", join(shop.directory, "kvm"), APP, "echo", "it's");
    expect(outcome.code).toBe(125);
    const { code, hint } = messageOf(outcome);
    expect(code).toMatch(/^E_(NO_KVM|UNSUPPORTED)$/);
    expect(hint).toContain(
      `npx v2m-testbed -- npx v2m yod --kvm ${shop.directory}/kvm ${APP} echo 'it'\\''s'`,
    );
  });

  it("nothing without saying how it ends", async () => {
    const outcome = await v2m("yod", "--help");
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(outcome.stdout).toMatch(/Usage: v2m yod \[options\] APP[\s\S]*126 +the application cannot/);
    expect(outcome.stdout).not.toContain("--console");
  });
});

describe("options of v2m yod", () => {
  const flags = { cpus: "2", memory: "64M", hugepages: "thp" };

  it("become a launch", () => {
    const plan = planYod("./app", ["-x"], {
      ...flags,
      timeout: "1.5",
      env: ["A=b"],
      clearEnv: true,
      root: ["/tmp:rw"],
    });
    expect(plan).toMatchObject({ ranked: false, prefix: false, stats: false, json: false });
    expect(plan.launches).toEqual([
      {
        app: "./app",
        args: ["-x"],
        cpus: 2,
        memory: 64n << 20n,
        backing: "thp",
        prefault: false,
        countCalls: false,
        env: { A: "b" },
        roots: [{ path: "/tmp", writable: true }],
        timeoutMs: 1500,
        pid: process.pid,
      },
    ]);
  });

  it("become as many launches as there are ranks, each with its number, its CPUs and its process number", () => {
    const { launches } = planYod("app", [], { ...flags, ranks: "3", pin: "0-3", clearEnv: true });
    expect(launches.map(({ env }) => env)).toEqual(
      [0, 1, 2].map((rank) => ({
        V3M_RANK: String(rank),
        V3M_RANKS: "3",
        V3M_SIZE: "3",
        PMI_RANK: String(rank),
        PMI_SIZE: "3",
      })),
    );
    expect(launches.map(({ pin }) => pin?.slice(0, 2))).toEqual([
      [0, 1],
      [2, 3],
      [0, 1],
    ]);
    expect(new Set(launches.map(({ pid }) => pid)).size).toBe(3);
  });

  it.each([
    [undefined, undefined, undefined],
    ["1", undefined, undefined],
    ["2", undefined, { peers: 2, areaBytes: 16n << 20n }],
    ["64", "4K", { peers: 64, areaBytes: 4096n }],
    ["3", "1G", { peers: 3, areaBytes: 1n << 30n }],
    ["3", "0", undefined],
    ["65", undefined, undefined],
  ])("connect %s ranks by a channel of size %s", (ranks, channelSize, channel) => {
    const plan = planYod("app", [], {
      ...flags,
      ...(ranks === undefined ? {} : { ranks }),
      ...(channelSize === undefined ? {} : { channelSize }),
    });
    expect(plan.channel).toEqual(channel);
  });

  it("name roots with what may be done there", () => {
    expect(parseRoot("/tmp")).toEqual({ path: "/tmp", writable: false });
    expect(parseRoot("/tmp/:ro")).toEqual({ path: "/tmp", writable: false });
    expect(parseRoot(".:rw")).toEqual({ path: process.cwd(), writable: true });
  });

  it("change the caller's environment in their order", () => {
    const caller = { HOME: "/h", LANG: "C" };
    expect(environment([], false, caller)).toEqual(caller);
    expect(environment(["A=1", "A=2=3", "HOME="], false, caller)).toEqual({ HOME: "", LANG: "C", A: "2=3" });
    expect(environment(["LANG", "GONE"], true, caller)).toEqual({ LANG: "C" });
  });
});

describe("words for a shell", () => {
  it("are quoted where they must be", () => {
    expect(["a/b-c_1.x", "", "a b", "it's", "$x", "--a=b"].map(shellQuote)).toEqual([
      ...["a/b-c_1.x", "''", "'a b'", "'it'\\''s'", "'$x'", "--a=b"],
    ]);
    expect(nestedCommand(["yod", "./a b"])).toBe("npx v2m-testbed -- npx v2m yod './a b'");
  });
});

describe("lines", () => {
  it("are whole, however they arrive, and the last gets its end", () => {
    const splitter = new LineSplitter();
    const text = (lines: Buffer[]) => lines.map(String);
    expect(text(splitter.push(Buffer.from("a")))).toEqual([]);
    expect(text(splitter.push(Buffer.from("b\nc\n\nd")))).toEqual(["ab\n", "c\n", "\n"]);
    expect(text(splitter.end())).toEqual(["d\n"]);
    expect(splitter.end()).toEqual([]);
  });

  it("that do not end are cut", () => {
    const splitter = new LineSplitter();
    const [line] = splitter.push(Buffer.alloc(70_000, 0x61));
    expect(line).toHaveLength(70_001);
  });
});

describe("statistics", () => {
  const statistics = {
    entryNs: 1e5,
    appNs: 2.5e6,
    endNs: null,
    kernelTicks: 1,
    appExits: 7,
    guestExits: 30,
    vcpuExits: [20, 10],
    kvm: null,
    shipped: 5,
    waited: 1,
    bytesRead: 2048,
    bytesWritten: 10,
    timerInterrupts: 0,
    switches: 3,
    threads: 2,
    notProvided: [{ number: 57, name: "fork", count: 2 }],
    notProvidedOthers: 1,
    calls: [],
  };

  it("are a table", () => {
    const text = formatStatistics({ kind: "exit", status: 3, timedOut: false, statistics }, " rank 1");
    expect(text).toContain("--- v2m yod rank 1\napplication ");
    for (const piece of [/exit status 3/, /first instruction +2\.5 ms/, /power-on to end +not reached/]) {
      expect(text).toMatch(piece);
    }
    for (const piece of [/in all +30 \(by vCPU: 20 10\)/, /not provided +fork 2, unknown numbers 1/]) {
      expect(text).toMatch(piece);
    }
  });
});

describe("signals", () => {
  it("are named or numbered", () => {
    expect([signalNumber("SIGTERM"), signalNumber(64)]).toEqual([15, 64]);
    for (const bad of ["SIGNONE", 0, 65, 1.5]) expect(() => signalNumber(bad)).toThrow(/is no signal/);
  });
});
