// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net`: verbs between Linux guests by soft-RoCE, measured by perftest. */
import { expect, it } from "vitest";
import type { NetBenchResult } from "../../src/netbench/index.js";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";

suite("v2m bench net with verbs between Linux guests", { needs: ["linux-guest", "root"] }, () => {
  it("perftest's figures are in the same rows as the others", async () => {
    const options = ["--paths", "rdma", "--sizes", "8", "--wait", "interrupt"];
    const effort = ["--duration", `${rounds(800, 5000)}ms`, "--rounds", String(rounds(1, 3))];
    const { code, stdout, stderr } = await v2m("bench", "net", ...options, ...effort, "--json");
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as NetBenchResult;
    expect(result.paths).toEqual([{ path: "rdma", skipped: null }]);
    expect(result.guests.kernel).toMatch(/^\d+\.\d+\.\d+-\d+-amd64$/);
    const verbs = result.series.filter(({ id }) => id === "rdma");
    expect(verbs.map(({ test }) => test)).toEqual(["latency", "stream", "both"]);
    for (const { test, program, commands, rounds: points } of verbs) {
      const what = `${test}\n${stderr}`;
      expect(program).toMatch(/^perftest \d/);
      expect(commands.join("\n")).toContain(`${test === "latency" ? "ib_send_lat" : "ib_send_bw"} `);
      for (const point of points) {
        expect(point.messages, what).toBeGreaterThan(0);
        expect(point.messagesPerSecond, what).toBeGreaterThan(0);
        expect(point.exitsPerMessage, what).toBeGreaterThan(0);
        expect(point.interruptsPerMessage, what).toBeGreaterThan(0);
        expect(point.cpuNsPerByte, what).not.toBeNull();
      }
    }
    const latency = verbs.find(({ test }) => test === "latency")?.rounds[0]?.latencyNs;
    const order = [latency?.least, latency?.p50, latency?.p99, latency?.p999, latency?.most];
    expect(order).toEqual(order.toSorted((a, b) => (a ?? 0) - (b ?? 0)));
    expect(latency?.least).toBeGreaterThan(0);
    for (const { program } of result.series.filter(({ id }) => id !== "rdma"))
      expect(program).toBe("netbench");
  });
});
