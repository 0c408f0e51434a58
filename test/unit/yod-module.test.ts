// SPDX-License-Identifier: Apache-2.0
/** The launch module: what the lightweight kernel is given, byte for byte. */
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.js";
import { buildLaunchModule, environmentStrings, type ModuleOptions } from "../../src/yod/launch-module.js";
import { YOD_LAUNCH_MAGIC, YodLaunch } from "../../src/yod/layouts.js";

const file = Buffer.alloc(5000, 0xc3);
const base: ModuleOptions = {
  file,
  path: "./app",
  argv: ["app", "-n", "", "ünïcödé"],
  env: { HOME: "/root", EMPTY: "", GONE: undefined, "with space": "a=b" },
  pid: 42,
  nodename: "node7",
};

function strings(module: Buffer): string[] {
  const { strings_offset, strings_bytes } = YodLaunch.decode(module);
  const at = Number(strings_offset);
  const text = module.toString("utf8", at, at + Number(strings_bytes));
  expect(text.endsWith("\0")).toBe(true);
  return text.slice(0, -1).split("\0");
}

describe("a launch module", () => {
  const module = buildLaunchModule(base);
  const header = YodLaunch.decode(module);

  it("begins with its description", () => {
    expect(module.toString("latin1", 0, 7)).toBe("LWKLUNH");
    expect(header).toMatchObject({
      magic: YOD_LAUNCH_MAGIC,
      version: 1,
      bytes_header: YodLaunch.size,
      bytes: BigInt(module.length),
      app_bytes: 5000n,
      argc: 4,
      envc: 3,
      flags: 0,
      pid: 42,
      nodename: "node7",
      stack_bytes: 0n,
      uid: process.getuid?.(),
    });
  });

  it("holds arguments, environment and path in this order", () => {
    expect(strings(module)).toEqual([
      ...["app", "-n", "", "ünïcödé"],
      ...["HOME=/root", "EMPTY=", "with space=a=b"],
      "./app",
    ]);
  });

  it("holds the application on a page boundary, and is whole pages long", () => {
    expect(Number(header.app_offset) % 4096).toBe(0);
    expect(module.length % 4096).toBe(0);
    const at = Number(header.app_offset);
    expect(module.subarray(at, at + 5000).equals(file)).toBe(true);
    expect(module.subarray(at + 5000).every((byte) => byte === 0)).toBe(true);
    expect(Number(header.strings_offset + header.strings_bytes)).toBeLessThanOrEqual(at);
  });

  it("has a seed of its own each time, and the time of day", () => {
    const other = YodLaunch.decode(buildLaunchModule(base));
    expect(Buffer.from(other.seed).equals(Buffer.from(header.seed))).toBe(false);
    expect(Number(header.unix_ns / 1_000_000_000n)).toBeGreaterThan(1_700_000_000);
  });

  it("makes room for strings longer than a page", () => {
    const argv = ["app", "x".repeat(100_000)];
    const long = buildLaunchModule({ ...base, argv });
    expect(strings(long)[1]).toHaveLength(100_000);
    const at = Number(YodLaunch.decode(long).app_offset);
    expect(long.subarray(at, at + 5000).equals(file)).toBe(true);
  });

  it("carries stack size and the wish for counters", () => {
    const other = YodLaunch.decode(buildLaunchModule({ ...base, stackBytes: 1 << 20, countCalls: true }));
    expect(other).toMatchObject({ stack_bytes: 1n << 20n, flags: 1 });
  });

  it("cuts a node name that is too long, at a whole character", () => {
    const { nodename } = YodLaunch.decode(buildLaunchModule({ ...base, nodename: "ü".repeat(60) }));
    expect(nodename).toBe("ü".repeat(31));
  });

  it.each<[string, Partial<ModuleOptions>]>([
    ["no arguments at all", { argv: [] }],
    ["a NUL in an argument", { argv: ["app", "a\0b"] }],
    ["a NUL in a variable", { env: { A: "a\0b" } }],
    ["a variable without a name", { env: { "": "a" } }],
    ["a variable with = in its name", { env: { "A=B": "a" } }],
    ["process 0", { pid: 0 }],
    ["a process number with a fraction", { pid: 1.5 }],
    ["a process number that Linux cannot have", { pid: 5_000_000 }],
  ])("refuses %s", (_what, change) => {
    expect(() => buildLaunchModule({ ...base, ...change })).toThrow(ArgumentError);
  });
});

describe("environment strings", () => {
  it("keep their order and leave out what is undefined", () => {
    expect(environmentStrings({ B: "1", A: undefined, C: "x=y" })).toEqual(["B=1", "C=x=y"]);
  });
});
