// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net` between Linux guests: every path carries messages, and `shm` costs the fewest exits. */
import { expect, it } from "vitest";
import { medianOf, type NetBenchResult, type TestName } from "../../src/netbench/index.js";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";

suite("v2m bench net between Linux guests", { needs: ["linux-guest", "root"] }, () => {
  it("by interrupts, a message by shm costs fewer exits than by tap, vhost and user", async () => {
    const options = ["--paths", "tap,vhost,user,shm", "--sizes", "8", "--wait", "interrupt"];
    const effort = ["--duration", `${rounds(1500, 5000)}ms`, "--rounds", String(rounds(1, 5))];
    const { code, stdout, stderr } = await v2m("bench", "net", ...options, ...effort, "--json");
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as NetBenchResult;
    expect(result.guests).toMatchObject({ kind: "linux", vcpus: 1 });
    expect(result.paths.filter(({ skipped }) => skipped !== null).map(({ path }) => path)).toEqual([]);
    const exits = (id: string, test: TestName) => {
      const series = result.series.find((of) => of.id === id && of.test === test);
      const found = series === undefined ? null : medianOf(series, (point) => point.exitsPerMessage);
      expect(found, `${id}\n${stderr}`).not.toBeNull();
      return found ?? Number.NaN;
    };
    // One by one: a doorbell, a halt and the clock's, by VFIO. By UIO it would be more than the others'.
    for (const other of ["tap", "vhost", "user"]) {
      expect(exits("shm", "latency"), stderr).toBeLessThan(0.8 * exits(other, "latency"));
    }
    // Messages that follow each other share doorbells. (TCP joins them to segments as it sees fit: no measure for this.)
    for (const test of ["stream", "both"] as const) {
      expect(exits("shm", test), stderr).toBeGreaterThan(0);
      expect(exits("shm", test), stderr).toBeLessThan(1);
      for (const other of ["tap", "vhost", "user"]) expect(exits(other, test)).toBeGreaterThan(0);
    }
    for (const { id, kind, test, rounds: points } of result.series) {
      for (const point of points) {
        expect(point.messages, `${id} ${test}`).toBeGreaterThan(0);
        expect(point.interruptsPerMessage === null, `${id} ${test}`).toBe(kind === "floor");
      }
    }
  });
});
