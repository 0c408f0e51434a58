// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net`: verbs between Linux guests by soft-RoCE, measured by perftest, beside TCP over a tap device. */
import { expect, it } from "vitest";
import type { NetBenchResult } from "../../src/netbench/index.js";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";

suite("v2m bench net with verbs between Linux guests", { needs: ["linux-guest", "root"] }, () => {
  it("perftest's figures are in the same rows as the others", async () => {
    const options = ["--paths", "tap,rdma", "--sizes", "8,4K", "--wait", "interrupt"];
    const effort = ["--duration", `${rounds(1500, 5000)}ms`, "--rounds", String(rounds(1, 3))];
    const { code, stdout, stderr } = await v2m("bench", "net", ...options, ...effort, "--json");
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as NetBenchResult;
    expect(result.paths).toEqual([
      { path: "tap", skipped: null },
      { path: "rdma", skipped: null },
    ]);
    expect(result.guests.kernel).toMatch(/^\d+\.\d+\.\d+-\d+-amd64$/);
    const verbs = result.series.filter(({ id }) => id === "rdma");
    expect(verbs.map(({ test, bytes }) => `${test} ${bytes}`).sort()).toEqual([
      "both 4096",
      "both 8",
      "latency 4096",
      "latency 8",
      "stream 4096",
      "stream 8",
    ]);
    for (const { test, bytes, program, commands, rounds: points } of verbs) {
      const what = `${test} ${bytes}\n${stderr}`;
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
    const latency = verbs.find(({ test, bytes }) => test === "latency" && bytes === 8)?.rounds[0]?.latencyNs;
    const order = [latency?.least, latency?.p50, latency?.p99, latency?.p999, latency?.most];
    expect(order).toEqual(order.toSorted((a, b) => (a ?? 0) - (b ?? 0)));
    expect(latency?.least).toBeGreaterThan(0);
    for (const { program } of result.series.filter(({ id }) => id !== "rdma"))
      expect(program).toBe("netbench");
  });
});
