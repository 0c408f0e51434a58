// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net` without guests: its program on this host, the figures, the table, plots and report, the options. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Contender, Outcome } from "../../src/netbench/contender.js";
import { writeFiles } from "../../src/netbench/files.js";
import { cellsOf, measureRounds } from "../../src/netbench/measure.js";
import { readResult } from "../../src/netbench/payload.js";
import { type Plan, type Request, waitMode } from "../../src/netbench/plan.js";
import { bandwidthPlot, latencyPlot } from "../../src/netbench/plot.js";
import { parseSample, program, requestWords, type Sample } from "../../src/netbench/program.js";
import { reportHtml } from "../../src/netbench/report.js";
import { medianOf, type NetBenchResult, pointOf, ratios, type Series } from "../../src/netbench/result.js";
import { formatSize, formatTime, rows, skipped, verdicts } from "../../src/netbench/table.js";
import type { BenchNetFlags } from "../../src/v2m/bench-command.js";
import { planBenchNet } from "../../src/v2m/bench-net.js";
import { evaluate } from "../support/c-layout.js";
import { v2m } from "../support/v2m.js";

const FLAGS: BenchNetFlags = {
  paths: "tap,vhost,user,shm,rdma,vfio",
  guests: "linux",
  duration: "1",
  pairs: "1",
  rounds: "3",
  wait: "auto",
};

function sample(values: Partial<Sample>): Sample {
  const round = { shortest: 0, p50: 0, p99: 0, p999: 0, longest: 0 };
  return { count: 100, ticks: 2e6, total: 200, ...round, khz: 2e6, cpu: 0, ...values };
}

const outcome = (values: Partial<Sample>, more: Partial<Outcome> = {}): Outcome => ({
  samples: [sample(values)],
  exits: 0,
  interrupts: 0,
  cpuNs: 0,
  ...more,
});

const PLAN: Plan = {
  paths: ["tap", "shm"],
  guests: "payload",
  sizes: [8, 4096, 1 << 20],
  durationMs: 100,
  pairs: [1],
  rounds: 2,
  wait: "auto",
};

/** Latency of 8 bytes: 100, 200, 300 ns; twice the size, twice the time. */
function series(id: Series["id"], test: Series["test"], bytes: number, factor: number): Series {
  const ticks = 400 * factor * (bytes / 8);
  const round = (times: number) =>
    pointOf(
      test,
      bytes,
      outcome({ total: 16 }, { exits: 1000, cpuNs: 500 }),
      outcome(
        {
          count: 1000,
          ticks: ticks * 1000,
          total: 2016,
          shortest: ticks,
          p50: ticks * times,
          p99: 2 * ticks,
          p999: 4 * ticks,
          longest: 8 * ticks,
        },
        { exits: 5000, interrupts: 2000, cpuNs: 16_500 },
      ),
    );
  return {
    id,
    kind: id === "shm" ? "path" : "floor",
    test,
    bytes,
    pairs: 1,
    wait: "poll",
    commands: [`netbench via=${id}`],
    rounds: [round(1), round(1.5)],
  };
}

const MEASURED: Omit<NetBenchResult, "ratios"> = {
  schema: "v3m-bench-net/1",
  command: ["v2m", "bench", "net", "--paths", "tap,shm"],
  plan: PLAN,
  machine: {
    date: "2026-11-29T12:00:00.000Z",
    cpu: "a <CPU> & more",
    cpus: 2,
    memoryMiB: 1024,
    loadAverage: 0,
    kernel: "6.1",
    node: "v20",
    qemu: null,
    testbed: null,
    kvm: { "kvm.x": "</script><script>alert(1)</script>" },
    transparentHugePages: "always",
    v3m: "0.1.0",
    commit: "abc",
  },
  host: null,
  guests: { kind: "payload", vcpus: 1, memoryMiB: 16, kernel: null },
  paths: [
    { path: "tap", skipped: "no bridge" },
    { path: "shm", pairs: 2, skipped: "no <core>" },
    { path: "shm", skipped: null },
  ],
  series: PLAN.sizes.flatMap((bytes) =>
    (["latency", "stream", "both"] as const).flatMap((test) => [
      series("processes", test, bytes, 1),
      series("protected", test, bytes, 1.2),
      series("shm", test, bytes, 1.1),
    ]),
  ),
};
const RESULT: NetBenchResult = { ...MEASURED, ratios: ratios(MEASURED) };

describe("the measuring program", () => {
  const run = (...words: string[]) => parseSample(execFileSync(program(), words, { encoding: "utf8" }));
  const request = (test: Request["test"], bytes: number) =>
    requestWords({ test, bytes, ns: 2_000_000, pairs: 1, wait: "interrupt" });

  // Nobody polls here: other tests run on the same cores.
  const ways = [
    "via=processes wait=interrupt",
    "via=processes writes=own wait=interrupt",
    "via=processes writes=own common=0 wait=interrupt",
    "via=loopback",
  ];
  it.each(
    ways.flatMap((way) =>
      (["latency", "stream", "both"] as const).flatMap((test) =>
        [1, 8, 49, 70_001, 4 << 20].map((bytes) => ({ way, test, bytes })),
      ),
    ),
  )("$way: $test of $bytes bytes", ({ way, test, bytes }) => {
    const measured = run(...way.split(" "), ...request(test, bytes));
    expect(measured.count).toBeGreaterThanOrEqual(4);
    expect(measured.total).toBeGreaterThan(measured.count);
    expect(measured.ticks).toBeGreaterThan(0);
    if (test === "latency") {
      // Percentiles are of buckets, 0.8 % wide.
      const order = [measured.shortest, measured.p50 * 1.008, measured.p99 * 1.016, measured.p999 * 1.024];
      expect(order).toEqual(order.toSorted((a, b) => a - b));
      expect(measured.p999).toBeLessThanOrEqual(measured.longest * 1.008);
    }
  });

  it("two that poll on one core give it to each other", () => {
    expect(run("via=processes", "wait=poll", "cpus=0,0", ...request("latency", 8)).count).toBeGreaterThan(0);
  });

  it("copies", () => {
    expect(run("via=copy", ...request("stream", 4096)).count).toBeGreaterThan(0);
  });

  it.each([
    ["via=nothing"],
    ["via=tcp", "port=x"],
    ["bytes=0"],
    ["test=fast"],
    ["cpus=1,"],
    ["common=100"],
    ["frobnicate"],
  ])("refuses %j", (...words) => {
    const { status, stdout, stderr } = spawnSync(program(), [...words], { encoding: "utf8" });
    expect(status).not.toBe(0);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^netbench: /);
  });

  it("ends by itself where nobody answers", () => {
    const { signal } = spawnSync(program(), ["via=tcp", "role=follow", "port=0", "limit=1"]);
    expect(signal).toBe("SIGALRM");
  });

  it.each(["", "netbench count=1 end", "netbench count=x ticks=1 end\n"])("garbled output: %j", (text) => {
    expect(() => parseSample(text)).toThrow(expect.objectContaining({ code: "E_GUEST" }));
  });
});

describe("the result in a payload's memory", () => {
  const FIELDS = ["count", "ticks", "total", "shortest", "p50", "p99", "p999", "longest"] as const;

  it("is laid out as in C", () => {
    const header = `"${new URL("../../src/netbench/program/measure.h", import.meta.url).pathname}"`;
    const offsets = ["magic", "error", ...FIELDS].map((name) => `offsetof(struct result, ${name})`);
    const values = evaluate([header], [...offsets, "RESULT_MAGIC"]);
    const memory = Buffer.alloc(80);
    memory.writeBigUInt64LE(values.get("RESULT_MAGIC") ?? 0n, Number(values.get(offsets[0] ?? "")));
    FIELDS.forEach((name, i) => {
      memory.writeBigUInt64LE(BigInt(i + 1), Number(values.get(`offsetof(struct result, ${name})`)));
    });
    const numbers = Object.fromEntries(FIELDS.map((name, i) => [name, i + 1]));
    expect(readResult(memory, 2e6)).toEqual({ ...numbers, khz: 2e6, cpu: 0 });
  });

  it("is refused where it is not complete, or has an error", () => {
    expect(() => readResult(Buffer.alloc(80), 1)).toThrow(expect.objectContaining({ code: "E_GUEST" }));
  });
});

describe("figures", () => {
  it("are one way, and less what start and end cost", () => {
    const point = series("shm", "latency", 8, 1).rounds[0];
    expect(point).toMatchObject({
      latencyNs: { least: 100, p50: 100, p99: 200, p999: 400, most: 800, mean: 100 },
      messages: 2000,
      exitsPerMessage: 2,
      interruptsPerMessage: 1,
      cpuNsPerByte: 1,
    });
    expect(point?.messagesPerSecond).toBeCloseTo(1e7, 0);
    expect(point?.bytesPerSecond).toBeCloseTo(8e7, 0);
  });

  it("of several pairs: rates add up, latency is the slowest one's", () => {
    const two = (p50: number): Outcome => ({
      ...outcome({}),
      samples: [sample({ p50: 100 }), sample({ p50 })],
    });
    const point = pointOf("latency", 8, two(1), two(400));
    expect(point.latencyNs?.p50).toBe(100);
    expect(point.messagesPerSecond).toBeCloseTo(
      2 * pointOf("latency", 8, outcome({}), outcome({})).messagesPerSecond,
      6,
    );
  });

  it("without guests have no exits", () => {
    const none = { exits: null, interrupts: null };
    const point = pointOf("stream", 8, outcome({}, none), outcome({ total: 300 }, none));
    expect(point).toMatchObject({ exitsPerMessage: null, interruptsPerMessage: null, latencyNs: null });
  });

  it("medians; none where a round lacks the figure", () => {
    const own = series("shm", "latency", 8, 1);
    expect(medianOf(own, (point) => point.latencyNs?.p50)).toBe(125);
    expect(medianOf(own, () => null)).toBeNull();
  });

  it("shm is compared with two processes of the host, protected alike and not at all", () => {
    const latency = { what: "latency at 8 B", pairs: 1, goal: { text: "at most 1.15", met: true } };
    const bandwidth = { what: "bandwidth at 1 MiB", pairs: 1 };
    const goal = { text: "at least 0.95" };
    expect(ratios(MEASURED)).toEqual([
      { ...latency, floor: "protected", ratio: expect.closeTo(1.1 / 1.2, 9) },
      { ...latency, floor: "processes", ratio: expect.closeTo(1.1, 9) },
      { ...bandwidth, floor: "protected", ratio: expect.closeTo(1.2 / 1.1, 9), goal: { ...goal, met: true } },
      { ...bandwidth, floor: "processes", ratio: expect.closeTo(1 / 1.1, 9), goal: { ...goal, met: false } },
    ]);
    const emulated = { ...MEASURED, machine: { ...MEASURED.machine, testbed: "amd" } };
    expect(ratios(emulated).map(({ goal }) => goal)).toEqual([null, null, null, null]);
  });
});

describe("rounds", () => {
  const said: string[] = [];
  const contender = (id: "shm" | "processes", why?: string): Contender => ({
    id,
    kind: id === "shm" ? "path" : "floor",
    tests: ["latency"],
    commands: () => [id],
    refusal: () => why,
    run: (request) => {
      said.push(`${id} ${request.bytes} ${request.ns}`);
      return Promise.resolve(outcome({ total: request.ns + 10 }));
    },
  });

  it("alternate, each measurement after a brief one", async () => {
    const plan: Plan = { ...PLAN, sizes: [8], rounds: 2, durationMs: 1 };
    const { cells } = cellsOf(plan, [contender("processes"), contender("shm")]);
    const all = await measureRounds(plan, cells, () => {});
    expect(said).toEqual([
      "processes 8 0",
      "processes 8 1000000",
      "shm 8 0",
      "shm 8 1000000",
      "shm 8 0",
      "shm 8 1000000",
      "processes 8 0",
      "processes 8 1000000",
    ]);
    expect(all.map(({ id, rounds }) => [id, rounds.length])).toEqual([
      ["processes", 2],
      ["shm", 2],
    ]);
  });

  it("leave out what cannot be, and say why", () => {
    const { cells, refused } = cellsOf({ ...PLAN, pairs: [1, 2] }, [contender("shm", "no cores")], 2);
    expect(cells.flat()).toEqual([]);
    expect(refused).toEqual([
      { path: "shm", pairs: 1, skipped: "no cores" },
      { path: "shm", pairs: 2, skipped: "no cores" },
    ]);
  });

  it("guests poll where each has a core, unless told otherwise", () => {
    expect([1, 2].map((pairs) => waitMode({ wait: "auto" }, pairs, 2))).toEqual(["poll", "interrupt"]);
    expect(waitMode({ wait: "poll" }, 2, 1)).toBe("poll");
  });
});

describe("the table", () => {
  it("has a row for each contender and size", () => {
    const all = rows(RESULT);
    expect(all).toHaveLength(9);
    expect(all[2]).toEqual([
      "shm (VMM-bypass)",
      "1",
      "8 B",
      "138 ns",
      "220 ns",
      "440 ns",
      "36.4",
      "72.7",
      "4,545,455",
      "2.00",
      "1.00",
      "1.00",
    ]);
  });

  it("says what was skipped, and why; and how shm compares", () => {
    expect(skipped(RESULT)).toEqual(["tap: skipped: no bridge", "shm, 2 pairs: skipped: no <core>"]);
    expect(verdicts(RESULT)).toEqual([
      "shm, latency at 8 B: 0.917 times two host processes with the same protection (at most 1.15: met)",
      "shm, latency at 8 B: 1.100 times two host processes that may write all (at most 1.15: met)",
      "shm, bandwidth at 1 MiB: 1.091 times two host processes with the same protection (at least 0.95: met)",
      "shm, bandwidth at 1 MiB: 0.909 times two host processes that may write all (at least 0.95: MISSED)",
    ]);
  });

  it("says how shm compares with the quickest other path, and judges where each guest has a core", () => {
    const [own] = RESULT.series.filter(({ id, test }) => id === "shm" && test === "latency");
    const like = (id: Series["id"], factor: number, wait: Series["wait"]) => {
      const made = series(id, "latency", own?.bytes ?? 0, factor);
      return { ...made, kind: "path" as const, wait };
    };
    const of = (wait: Series["wait"], ...factors: number[]) => {
      const paths = (["tap", "user"] as const).map((id, i) => like(id, factors[i] ?? 0, wait));
      const result = { ...RESULT, series: [like("shm", 1, wait), ...paths] };
      return verdicts(result).filter((line) => line.includes("other path"));
    };
    expect(of("poll", 20, 16)).toEqual([
      "shm, latency at 8 B: 0.0625 times user (passt), the quickest other path (at most 0.1: met)",
    ]);
    expect(of("poll", 8, 16)).toEqual([
      "shm, latency at 8 B: 0.125 times tap, the quickest other path (at most 0.1: MISSED)",
    ]);
    expect(of("interrupt", 8, 16)).toEqual(["shm, latency at 8 B: 0.125 times tap, the quickest other path"]);
  });

  it("writes sizes and times for people", () => {
    expect([8, 1000, 4096, 1 << 20].map(formatSize)).toEqual(["8 B", "1000 B", "4 KiB", "1 MiB"]);
    expect([12.34, 1234, 5.6e6, 2e9].map(formatTime)).toEqual(["12.3 ns", "1.23 µs", "5.60 ms", "2.00 s"]);
  });
});

describe("plots", () => {
  it("have logarithmic axes", () => {
    const svg = latencyPlot(RESULT);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    expect(svg).toContain("a &lt;CPU&gt; &amp; more");
    const path = /<path d="(M[^"]*)" fill="none"[^>]*><title>host processes, shared memory<\/title>/.exec(
      svg,
    )?.[1];
    const places = (path ?? "").match(/[\d.]+/g)?.map(Number) ?? [];
    const [x0 = 0, y0 = 0, x1 = 0, y1 = 0, x2 = 0, y2 = 0] = places;
    expect(places).toHaveLength(6);
    // 8 to 4096 is 2^9, 4096 to 1 MiB is 2^8; latency grows by the same factors.
    expect((x1 - x0) / (x2 - x1)).toBeCloseTo(9 / 8, 2);
    expect((y0 - y1) / (y1 - y2)).toBeCloseTo(9 / 8, 1);
  });

  it("show bandwidth one way and both ways", () => {
    const svg = bandwidthPlot(RESULT);
    expect(svg.match(/<path [^>]*fill="none"/g)).toHaveLength(6);
    expect(svg).toContain("shm (VMM-bypass), both ways");
  });

  it("say so where nothing was measured", () => {
    expect(latencyPlot({ ...RESULT, series: [] })).toContain("nothing was measured");
  });
});

describe("the report", () => {
  it("is complete in itself", () => {
    const html = reportHtml(RESULT);
    expect(html.match(/<svg /g)).toHaveLength(2);
    expect(html).not.toMatch(/\s(src|href)=/);
    expect(html).not.toContain("<script>alert");
    const data = /<script type="application\/json" id="result">(.*?)<\/script>/s.exec(html)?.[1];
    expect(JSON.parse(data ?? "")).toEqual(RESULT);
    expect(html).toContain("no &lt;core&gt;");
    expect(html).toContain("v2m bench net --paths tap,shm");
  });
});

describe("files", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-netbench-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it("are written as a whole, again and again", async () => {
    const out = join(directory, "out");
    for (const text of ["first", "second"]) await writeFiles(out, RESULT, text);
    const names = ["bandwidth.svg", "bench-net.json", "bench-net.txt", "latency.svg", "report.html"];
    expect(readdirSync(out).sort()).toEqual(names);
    expect(readFileSync(join(out, "bench-net.txt"), "utf8")).toBe("second\n");
    expect(JSON.parse(readFileSync(join(out, "bench-net.json"), "utf8"))).toEqual(RESULT);
  });

  it("where they cannot be written, nothing is left", async () => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    await expect(writeFiles(file, RESULT, "")).rejects.toMatchObject({ code: "E_IO" });
    expect(readFileSync(file, "utf8")).toBe("");
  });
});

describe("options of v2m bench net", () => {
  it("have defaults", () => {
    expect(planBenchNet(FLAGS)).toMatchObject({
      paths: ["tap", "vhost", "user", "shm", "rdma", "vfio"],
      guests: "linux",
      durationMs: 1000,
      pairs: [1],
      rounds: 3,
      wait: "auto",
    });
    expect(planBenchNet(FLAGS).sizes).toEqual([8, 64, 512, 4096, 32_768, 262_144, 1 << 20, 4 << 20]);
  });

  it("are understood", () => {
    const flags = { ...FLAGS, paths: "shm,tap", sizes: "1M, 4k,8", duration: "50ms", pairs: "1,4" };
    expect(planBenchNet(flags)).toMatchObject({
      paths: ["tap", "shm"],
      sizes: [8, 4096, 1 << 20],
      durationMs: 50,
      pairs: [1, 4],
    });
  });

  it.each([
    { paths: "token-ring" },
    { paths: "," },
    { sizes: "0" },
    { sizes: "8G" },
    { sizes: "4097K" },
    { sizes: "" },
    { duration: "1ms" },
    { duration: "soon" },
    { pairs: "0" },
    { pairs: "17" },
    { rounds: "0" },
  ])("are checked: %j", (wrong) => {
    expect(() => planBenchNet({ ...FLAGS, ...wrong })).toThrow(expect.objectContaining({ code: "E_USAGE" }));
  });

  it("help has an example", async () => {
    const { code, stdout } = await v2m("bench", "net", "--help");
    expect(code).toBe(0);
    expect(stdout).toContain("v2m bench net --guests payload --paths shm --sizes 8,1M --rounds 20");
  });

  it("a kind of guest that does not exist is refused, with exit code 2", async () => {
    expect((await v2m("bench", "net", "--guests", "minix")).code).toBe(2);
    expect((await v2m("bench", "net", "--paths", "token-ring")).code).toBe(2);
  });
});
