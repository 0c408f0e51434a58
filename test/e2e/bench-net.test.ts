// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net` on this host, from the command line to the plots in a browser. How fast anything is does not matter. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment } from "../../src/measure/environment.js";
import { floors } from "../../src/netbench/floors.js";
import { type NetBenchResult, type Plan, writeFiles } from "../../src/netbench/index.js";
import { cellsOf, measureRounds } from "../../src/netbench/measure.js";
import { missing } from "../support/capabilities.js";
import { decodePng } from "../support/png.js";
import { start, v2m } from "../support/v2m.js";

const QUICK = ["--guests", "payload", "--sizes", "8,4K", "--duration", "20ms", "--rounds", "1"];
const BROWSER = "chromium-headless-shell";

/** Payload guests poll, each on a core. */
const able = missing("kvm") === undefined && cpus().length >= 2;
/** Of the line that is drawn last in the plots: that of `shm`, or of memcpy. */
const COLOUR = able ? ([0x25, 0x63, 0xeb] as const) : ([0xa8, 0xa2, 0x9e] as const);

/** Where there are no guests: the floors alone, which run anywhere. */
async function writeFloorsReport(directory: string): Promise<void> {
  const plan: Plan = {
    paths: ["shm"],
    guests: "payload",
    sizes: [8, 4096, 65_536],
    durationMs: 20,
    pairs: [1],
    rounds: 1,
    wait: "interrupt",
  };
  const series = await measureRounds(plan, cellsOf(plan, floors()).cells, () => {});
  const result: NetBenchResult = {
    schema: "v3m-bench-net/1",
    command: [],
    plan,
    machine: environment(),
    host: null,
    guests: { kind: "payload", vcpus: 1, memoryMiB: 16, kernel: null },
    paths: [],
    series,
    ratios: [],
  };
  await writeFiles(directory, result, "");
}

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "v3m-bench-net-"));
});
afterAll(() => rmSync(work, { recursive: true }));

describe("v2m bench net", () => {
  it("measures paths between payload guests beside the floors, and says why not the others", async () => {
    const out = join(work, "out");
    const outcome = await v2m("bench", "net", ...QUICK, "--paths", "tap,shm,rdma", "--out", out);
    if (!able) {
      expect(outcome.code).toBe(4);
      expect(outcome.stderr).toMatch(
        /^v2m: no path can be measured here: tap: .*shm: .* \[E_UNSUPPORTED\]$/m,
      );
      return;
    }
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(outcome.stdout).toContain("rdma: skipped: payload guests have no driver for it\n");
    const result = JSON.parse(readFileSync(join(out, "bench-net.json"), "utf8")) as NetBenchResult;
    expect(result).toMatchObject({
      schema: "v3m-bench-net/1",
      command: ["v2m", "bench", "net", ...QUICK, "--paths", "tap,shm,rdma", "--out", out],
      host: null,
      guests: { kind: "payload" },
      machine: { node: process.version, cpus: cpus().length },
    });
    expect(result.paths).toEqual([
      { path: "rdma", skipped: "payload guests have no driver for it" },
      { path: "tap", skipped: null },
      { path: "shm", skipped: null },
    ]);
    const measured = result.series.map(({ id, test, bytes }) => `${id} ${test} ${bytes}`);
    for (const bytes of [8, 4096]) {
      for (const test of ["latency", "stream", "both"]) {
        expect(measured).toContain(`shm ${test} ${bytes}`);
        expect(measured).toContain(`tap ${test} ${bytes}`);
        expect(measured).toContain(`processes ${test} ${bytes}`);
        expect(measured).toContain(`protected ${test} ${bytes}`);
        expect(measured).toContain(`loopback ${test} ${bytes}`);
      }
      expect(measured).toContain(`memcpy stream ${bytes}`);
    }
    expect(result.ratios.map(({ what, floor }) => `${what}, ${floor}`)).toEqual([
      "latency at 8 B, protected",
      "latency at 8 B, processes",
    ]);
    expect(outcome.stdout).toMatch(/^shm, latency at 8 B: \S+ times tap, the quickest other path/m);
    for (const { id, kind, commands, rounds } of result.series) {
      expect(commands.length).toBeGreaterThan(0);
      expect(rounds).toHaveLength(1);
      for (const { exitsPerMessage, messagesPerSecond } of rounds) {
        expect(messagesPerSecond).toBeGreaterThan(0);
        if (kind === "floor") expect(exitsPerMessage).toBeNull();
        // That `shm` has none is for test/kvm/machine-shm to show, where nobody else is at work.
        else if (id === "shm") expect(exitsPerMessage ?? 0).toBeGreaterThanOrEqual(0);
        else expect(exitsPerMessage ?? 1).toBeGreaterThan(0);
      }
    }
    expect(readdirSync(out).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("the report shows its plots in a browser", async () => {
    const report = join(work, "out/report.html");
    if (!existsSync(report)) await writeFloorsReport(join(work, "out"));
    const picture = join(work, "report.png");
    const page = `file://${report}`;
    const options = [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--hide-scrollbars",
      "--window-size=1400,3000",
    ];
    execFileSync(BROWSER, [...options, `--screenshot=${picture}`, page], { stdio: "ignore" });
    const { width, height, is } = decodePng(readFileSync(picture));
    expect([width, height]).toEqual([1400, 3000]);
    const columns = new Set<number>();
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (is(x, y, COLOUR)) columns.add(x);
    // Two plots, each with a line over half of its width or more.
    expect(columns.size).toBeGreaterThan(400);
    const dom = execFileSync(BROWSER, [...options, "--dump-dom", page], { encoding: "utf8", stdio: "pipe" });
    expect(dom.match(/<svg /g)).toHaveLength(2);
    expect(dom).toContain("host processes, shared memory");
  });

  it("Ctrl-C ends it, and leaves nothing behind", async () => {
    const out = join(work, "interrupted");
    const command = ["bench", "net", ...QUICK, "--paths", "shm", "--rounds", "1000", "--out", out];
    const running = start(...command);
    const began = () => running.stderr.includes("round 1/1000") || running.child.exitCode !== null;
    while (!began()) await sleep(20);
    running.child.kill("SIGINT");
    const { code, stdout } = await running.outcome;
    expect(code).toBe(able ? 130 : 4);
    expect(stdout).toBe("");
    expect(existsSync(out)).toBe(false);
    const left = execFileSync("ps", ["-eo", "args"], { encoding: "utf8" });
    expect(left.split("\n").filter((line) => line.includes(`"rounds":1000`))).toEqual([]);
  });
});
