// SPDX-License-Identifier: Apache-2.0
/** `v2m noise` without guests: what its program prints, what is made of it, the options, the plot. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  METHODS,
  type Measurement,
  medians,
  type NoiseResult,
  noisePlot,
  programArguments,
  rows,
  series,
  understand,
  verdicts,
} from "../../src/noise/index.js";
import { program } from "../../src/noise/places.js";
import { histogram } from "../../src/noise/plot.js";
import { planNoise } from "../../src/v2m/noise.js";

/** As the program prints it: 1 s at 2 ticks a nanosecond. */
function text(method: string, values: Record<string, number>, samples: readonly [number, number][]): string {
  const lines = Object.entries({ ns: 1e9, ticks: 2e9, ...values }).map(([name, value]) => `${name} ${value}`);
  const listed = samples.map(([delta, length]) => `${delta.toString(36)} ${length.toString(36)}`);
  return [`noise 1 ${method}`, ...lines, `samples ${samples.length}`, ...listed, "end", ""].join("\r\n");
}

const FLAGS = { duration: "5", rounds: "3", threshold: "1000", interval: "1000" };

describe("what the program measured", () => {
  it("selfish: detours, their share of the time, in nanoseconds", () => {
    const values = { count: 2, total: 20e6, shortest: 40, longest: 16e6, p001: 4e6, p999: 16e6 };
    const measured = understand(
      text("selfish", values, [
        [2000, 4e6],
        [1e9, 16e6],
      ]),
    );
    expect(measured).toEqual({
      method: "selfish",
      seconds: 1,
      count: 2,
      lost: 0.01,
      p999Ns: 8e6,
      maxNs: 8e6,
      detours: [
        [1000, 2e6],
        [500_001_000, 8e6],
      ],
    });
  });

  it("fwq: what each quantum takes longer than the shortest", () => {
    const values = { count: 3, total: 7000, shortest: 2000, longest: 3000, p001: 2000, p999: 3000 };
    const measured = understand(
      text("fwq", values, [
        [0, 2000],
        [2000, 2000],
        [2000, 3000],
      ]),
    );
    expect(measured.lost).toBeCloseTo(1000 / 7000, 12);
    expect(measured).toMatchObject({ p999Ns: 500, maxNs: 500 });
    expect(measured.detours).toEqual([
      [0, 0],
      [1000, 0],
      [2000, 500],
    ]);
  });

  it("ftq: what each interval holds less than the fullest, as time", () => {
    const values = {
      count: 4,
      total: 390,
      shortest: 90,
      longest: 100,
      p001: 90,
      p999: 100,
      ns: 4e6,
      ticks: 8e6,
    };
    const measured = understand(
      text("ftq", values, [
        [0, 100],
        [2e6, 100],
        [2e6, 90],
        [2e6, 100],
      ]),
    );
    expect(measured.lost).toBeCloseTo(0.025, 12);
    expect(measured.maxNs).toBeCloseTo(100_000, 6);
    expect(measured.detours.map(([, ns]) => Math.round(ns))).toEqual([0, 0, 100_000, 0]);
  });

  it.each([
    "",
    "noise 1 other\nend\n",
    "noise 1 selfish\ncount 1\n",
    "noise 1 selfish\nns 1\nticks 2\ncount 1\ntotal 1\nsamples 2\n1 1\nend\n",
    "noise 1 selfish\nsamples 1\n1 ?\nend\n",
    "noise 1 fwq\nns 1\nticks 2\ncount 0\ntotal 0\nsamples 0\nend\n",
  ])("refuses output that is garbled: %j", (garbled) => {
    expect(() => understand(garbled)).toThrow(expect.objectContaining({ code: "E_NOISE" }));
  });

  it.each(METHODS)("the program itself: %s", (method) => {
    if (!existsSync(program())) throw new Error("make build builds it");
    const parameters = { seconds: 0.1, thresholdNs: 1000, work: 20_000, intervalNs: 1_000_000 };
    const measured = understand(
      execFileSync(program(), programArguments(method, parameters), { encoding: "utf8" }),
    );
    expect(measured.method).toBe(method);
    expect(measured.seconds).toBeGreaterThan(0.05);
    expect(measured.lost).toBeGreaterThanOrEqual(0);
    expect(measured.lost).toBeLessThan(1);
    expect(measured.maxNs).toBeGreaterThanOrEqual(measured.p999Ns);
    for (const [at, length] of measured.detours) {
      expect(at).toBeGreaterThanOrEqual(0);
      expect(length).toBeGreaterThanOrEqual(0);
    }
  });
});

function measurement(lost: number): Measurement {
  return {
    method: "fwq",
    seconds: 1,
    lost,
    p999Ns: lost * 1e6,
    maxNs: lost * 2e6,
    count: 1000,
    detours: [[1.4, 2000.6]],
  };
}

function result(): NoiseResult {
  return {
    schema: "v3m-noise/1",
    date: "2026-11-24T00:00:00.000Z",
    cpu: "a <CPU> & more",
    kernel: "6.1",
    testbed: "amd",
    parameters: { seconds: 1, thresholdNs: 1000, work: 1, intervalNs: 1e6 },
    rounds: 3,
    memoryMiB: 128,
    series: [
      series("linux", "fwq", [0.02, 0.5, 0.01].map(measurement)),
      series("lwk", "fwq", [0.001, 0.0001, 0.003].map(measurement)),
    ],
  };
}

describe("the result", () => {
  it("compares medians, and keeps the detours of the median round", () => {
    const [linux] = result().series;
    if (linux === undefined) throw new Error("no series");
    expect(medians(linux)).toMatchObject({ lost: 0.02, perSecond: 1000 });
    expect(linux.detours).toEqual([[1, 2001]]);
    expect(() => series("host", "ftq", [])).toThrow(RangeError);
  });

  it("says where less time is lost", () => {
    expect(verdicts(result())).toEqual([{ method: "fwq", lwk: 0.001, linux: 0.02, below: true }]);
  });

  it("is a table", () => {
    const cells = rows(result(), (ns) => `${ns} ns`);
    expect(cells[1]).toEqual([
      "fixed work quantum (FWQ)",
      "Linux guest",
      "2.00 %",
      "20000 ns",
      "40000 ns",
      "1000",
    ]);
    expect(cells).toHaveLength(3);
  });

  it("is drawn: time line and histogram, well-formed", () => {
    const svg = noisePlot(result());
    expect(svg).toContain("a &lt;CPU&gt; &amp; more");
    expect(svg.match(/<path /g)?.length).toBeGreaterThan(4);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    const [linux] = result().series;
    expect(linux && histogram(linux).reduce((sum, count) => sum + count, 0)).toBe(1);
  });
});

describe("options of v2m noise", () => {
  it("default to all places and methods", () => {
    expect(planNoise(FLAGS)).toEqual({
      where: ["host", "linux", "lwk"],
      methods: ["selfish", "fwq", "ftq"],
      rounds: 3,
      seconds: 5,
      thresholdNs: 1000,
      intervalNs: 1_000_000,
    });
    expect(planNoise({ ...FLAGS, where: ["lwk", "host"], method: ["ftq"] })).toMatchObject({
      where: ["host", "lwk"],
      methods: ["ftq"],
    });
  });

  it.each([
    { where: ["moon"] },
    { method: ["guess"] },
    { duration: "never" },
    { duration: "1h" },
    { rounds: "0" },
    { threshold: "-1" },
    { interval: "1" },
  ])("are checked: %j", (wrong) => {
    expect(() => planNoise({ ...FLAGS, ...wrong })).toThrow(expect.objectContaining({ code: "E_USAGE" }));
  });
});
