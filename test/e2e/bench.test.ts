// SPDX-License-Identifier: Apache-2.0
/** The benchmarks run and leave results of the documented shape. How fast anything is, is not a test's business. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BootResult, verdicts } from "../../bench/boot/result.js";
import type { ExitResult } from "../../bench/exit/result.js";
import { type FootprintResult, GOAL } from "../../bench/footprint/result.js";
import type { ListResult } from "../../bench/list/result.js";
import { packageRoot } from "../../src/ffi/library.js";
import { currentPlace, FULL } from "../support/places.js";

const EXIT_LIMIT_MS = 300_000;
const BOOT_LIMIT_MS = 1_800_000;

let results: string;
beforeAll(() => {
  results = mkdtempSync(join(tmpdir(), "v3m-bench-"));
});
afterAll(() => rmSync(results, { recursive: true, force: true }));

/** Runs dist/bench/<name>.js and returns its JSON, its SVG and what it printed. */
async function bench<T>(name: string, ...args: string[]): Promise<{ result: T; svg: string; text: string }> {
  const script = join(packageRoot(), "dist/bench", `${name}.js`);
  const child = spawn(process.execPath, [script, "--results", results, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  let errors = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  expect(code, errors).toBe(0);
  const file = (extension: string) => readFileSync(join(results, `bench-${name}.${extension}`), "utf8");
  return { result: JSON.parse(file("json")) as T, svg: file("svg"), text };
}

describe("benchmarks", () => {
  test(
    "bench:exit",
    async () => {
      const { result, svg, text } = await bench<ExitResult>("exit", "--quick");
      expect(result.schema).toBe("v3m-bench-exit/1");
      expect(result.machine.node).toBe(process.version);
      expect(result.variants.map(({ id }) => id)).toEqual([
        "floor",
        "c",
        "typescript-raw",
        "typescript-worker",
        "typescript-callback",
      ]);
      for (const variant of result.variants) {
        expect(variant.nanoseconds).toHaveLength(result.rounds);
        for (const value of variant.nanoseconds) expect(value).toBeGreaterThan(0);
        expect(text).toContain(variant.label);
      }
      expect(svg.startsWith("<svg ") && svg.trimEnd().endsWith("</svg>")).toBe(true);
    },
    EXIT_LIMIT_MS,
  );

  test(
    "bench:list",
    async () => {
      const { result, svg, text } = await bench<ListResult>("list", "--rounds", "1");
      expect(result.schema).toBe("v3m-bench-list/1");
      expect(result.rows[0]?.label).toBe("node -e 0");
      for (const row of result.rows) {
        expect(row.milliseconds).toHaveLength(3);
        expect(text).toContain(row.label);
      }
      expect(svg.trimEnd().endsWith("</svg>")).toBe(true);
    },
    EXIT_LIMIT_MS,
  );

  test("an option that does not exist is refused", async () => {
    const script = join(packageRoot(), "dist/bench/exit.js");
    const child = spawn(process.execPath, [script, "--fast"], { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(2);
    expect(errors).toContain("usage: npm run bench:exit");
  });

  // Some minutes, and a machine in the machine: for `make test-full`, from this computer only.
  if (FULL && currentPlace() === "host") {
    test(
      "bench:boot",
      async () => {
        const { result, svg } = await bench<BootResult>("boot", "--rounds", "1");
        expect(result.schema).toBe("v3m-bench-boot/1");
        expect(result.contenders.map(({ kind }) => kind)).toContain("qemu");
        for (const contender of result.contenders) {
          expect(contender.runs).toHaveLength(1);
          for (const run of contender.runs) expect(run.seconds).toBeGreaterThan(0);
        }
        expect(verdicts(result).map(({ own }) => own)).toEqual(["V3M, library", "V3M, v2m run"]);
        expect(svg).toContain("</svg>");
      },
      BOOT_LIMIT_MS,
    );
    test(
      "bench:footprint: 200 machines at once, each with an answer of its own",
      async () => {
        const { result, text } = await bench<FootprintResult>("footprint", "--quick");
        expect(result.schema).toBe("v3m-bench-footprint/1");
        expect(result.crowd).toMatchObject({ count: 200, answered: 200, alive: 200, left: 0 });
        const [own] = result.one.v3m ?? [];
        expect(own?.anonymous).toBeLessThanOrEqual(GOAL.anonymousKiB << 10);
        expect(own?.pss).toBeLessThanOrEqual(GOAL.pssKiB << 10);
        expect(text).toContain("200 answered their own tokens");
      },
      BOOT_LIMIT_MS,
    );
  }
});
