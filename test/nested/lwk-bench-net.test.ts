// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net` between guests of the lightweight kernel, waiting by interrupt: they share a CPU here. */
import { expect, it } from "vitest";
import { medianOf, type NetBenchResult } from "../../src/netbench/index.js";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";

suite("v2m bench net between guests of the lightweight kernel", { needs: ["lwk"] }, () => {
  it("measures shm, and says why not tap", async () => {
    const effort = ["--sizes", "8", "--duration", `${rounds(500, 3000)}ms`, "--rounds", "1"];
    const options = ["--guests", "lwk", "--paths", "tap,shm", "--wait", "interrupt", "--json"];
    const { code, stdout, stderr } = await v2m("bench", "net", ...options, ...effort);
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as NetBenchResult;
    expect(result.paths).toEqual([
      { path: "tap", skipped: "the lightweight kernel has no network" },
      { path: "shm", skipped: null },
    ]);
    const own = result.series.filter(({ id }) => id === "shm");
    expect(own.map(({ test }) => test)).toEqual(["latency", "stream", "both"]);
    for (const series of own) {
      expect(medianOf(series, (point) => point.messagesPerSecond)).toBeGreaterThan(0);
      expect(medianOf(series, (point) => point.exitsPerMessage)).not.toBeNull();
    }
  });
});
