// SPDX-License-Identifier: Apache-2.0
/** vmmhpc_monitor.h against its TypeScript tables; what is read of a monitor's directory, good and damaged. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import * as monitor from "../../src/ffi/monitor.js";
import { monitorSpec, monitorStatus, readConsoleHistory } from "../../src/vmm/monitor.js";
import { evaluate, expectations, isStruct } from "../support/c-layout.js";

const include = join(packageRoot(), "native/include");
const header = readFileSync(join(include, "vmmhpc_monitor.h"), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");

describe("vmmhpc_monitor.h", () => {
  it("has the structures and the constants of the tables", () => {
    const rows = [
      ...Object.values<unknown>(monitor)
        .filter(isStruct)
        .flatMap((type) => expectations(type)),
      ["VMMHPC_HISTORY_MAX", BigInt(monitor.HISTORY_MAX)] as const,
      ["VMMHPC_MONITOR_MODULES", BigInt(monitor.MONITOR_MODULES)] as const,
      ...Object.entries(monitor.JailPart).map(([name, bit]) => [`VMMHPC_JAIL_${name}`, BigInt(bit)] as const),
      ...Object.entries(monitor.Phase).map(([name, n]) => [`VMMHPC_PHASE_${name}`, BigInt(n)] as const),
    ];
    const answers = evaluate(
      ['"vmmhpc_monitor.h"'],
      rows.map(([expression]) => expression),
      [`-I${include}`],
    );
    expect(rows.filter(([expression, value]) => answers.get(expression) !== value)).toEqual([]);
  });

  it("has the functions of libvmmhpc-remote.so all bound, with its types", () => {
    const koffiType = (c: string) =>
      c.includes("char *") ? "const char *" : c.includes("*") ? "void *" : c.trim().replace(/\s*\w+$/, "");
    const inC = [...header.matchAll(/VMMHPC_API (\w+)\s+(\w+)\(([^)]*)\);/g)].map(
      ([, result, name, parameters = ""]) => [name, result, parameters.split(",").map(koffiType)],
    );
    expect(Object.values(monitor.MONITOR_SIGNATURES)).toEqual(inC);
  });
});

describe("a monitor's directory", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-monitor-files-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const page = (fields: Parameters<typeof monitor.VmmhpcStatusPage.alloc>[0]) =>
    monitor.VmmhpcStatusPage.alloc({ magic: 0x535554415453334dn, version: 1, name: "a", ...fields });
  const status = (fields: Parameters<typeof page>[0]) => {
    writeFileSync(join(directory, "status"), page(fields));
    return monitorStatus(directory);
  };

  it("without a monitor says so", () => {
    expect(() => monitorStatus(directory)).toThrow(expect.objectContaining({ code: "E_IO" }));
    expect(() => readConsoleHistory(directory)).toThrow(expect.objectContaining({ code: "E_IO" }));
  });

  it("tells the ends apart, also of monitors that had no time for a word", () => {
    const { ALIVE, ENDED, FAILED, STARTING } = monitor.Phase;
    expect(status({ phase: ALIVE, state: 1 })).toMatchObject({
      state: "crashed",
      alive: false,
      text: expect.stringContaining("SIGKILL"),
    });
    expect(status({ phase: FAILED, state: 1, signal: 31, words: "a forbidden call" })).toMatchObject({
      state: "crashed",
      text: "the monitor ended by a fault: a forbidden call",
      fault: { signal: 31 },
    });
    expect(status({ phase: STARTING, state: 0 }).text).toMatch(/before the machine was started/);
    expect(status({ phase: ENDED, state: 3 })).toMatchObject({ state: "stopped", fault: undefined });
    expect(status({ phase: ALIVE, state: 4 }).state).toBe("crashed");
    expect(status({ phase: 77, state: 77 }).state).toBe("crashed");
  });

  it("knows a process by its number and its start", () => {
    const start =
      readFileSync("/proc/self/stat", "latin1")
        .replace(/^.*\) /, "")
        .split(" ")[19] ?? "";
    const alive = { phase: monitor.Phase.ALIVE, state: 1, pid: process.pid };
    expect(status({ ...alive, pid_start: BigInt(start) })).toMatchObject({
      alive: true,
      state: "running",
      text: "",
    });
    expect(status({ ...alive, pid_start: BigInt(start) + 1n })).toMatchObject({
      alive: false,
      state: "crashed",
    });
  });

  it("damaged, or of another version, is refused", () => {
    expect(() => status({ magic: 1n })).toThrow(/damaged/);
    expect(() => status({ version: 2 })).toThrow(/version 2/);
    writeFileSync(join(directory, "status"), page({}).subarray(0, 100));
    expect(() => monitorStatus(directory)).toThrow(/damaged/);
  });

  it("keeps the newest of the console", () => {
    const file = (total: bigint, capacity = 8n) => {
      const head = Buffer.alloc(64);
      head.set(
        monitor.VmmhpcConsoleHistory.alloc({
          magic: 0x4c4f534e4f43334dn,
          version: 1,
          offset: 64,
          capacity,
          total,
        }),
      );
      writeFileSync(join(directory, "console"), Buffer.concat([head, Buffer.from("abcdefgh")]));
      return readConsoleHistory(directory).toString();
    };
    expect(file(0n)).toBe("");
    expect(file(3n)).toBe("abc");
    expect(file(8n)).toBe("abcdefgh");
    expect(file(10n)).toBe("cdefghab");
    expect(() => file(3n, 9n)).toThrow(/no console history/);
  });
});

describe("what a monitor is asked for", () => {
  it("is checked before anything is done", () => {
    expect(monitorSpec({ directory: "/run/v3m/a", jailWithout: ["root", "seccomp"] })).toEqual({
      directory: "/run/v3m/a",
      name: "a",
      jailWithout: 1026,
      historyBytes: 0,
      disks: 0,
      modules: [],
    });
    expect(() => monitorSpec({ directory: "" })).toThrow(/directory/);
    expect(() => monitorSpec({ directory: "/a", name: "x".repeat(64) })).toThrow(/at most 63/);
    expect(() => monitorSpec({ directory: "/a", history: (16 << 20) + 1 })).toThrow(/too large/);
  });
});
