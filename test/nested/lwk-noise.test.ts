// SPDX-License-Identifier: Apache-2.0
/**
 * While an application computes, nothing interrupts it: no timer, hardly an exit. Counted as the difference of a
 * longer and a shorter run, so that start and end cancel out. And `v2m noise` measures on the kernel.
 */
import { describe, expect, it } from "vitest";
import { METHODS, programArguments, understand } from "../../src/noise/index.js";
import { program as noise } from "../../src/noise/places.js";
import { suite } from "../support/capabilities.js";
import { FULL, rounds } from "../support/places.js";
import { program, runApp, statusOf } from "../support/yod.js";

const SECONDS = rounds(3, 10);
const MOST_EXITS = 10;

suite("a computing application on the lightweight kernel", { needs: ["lwk"] }, () => {
  it.each([1, 2, 4])("causes at most 10 exits a vCPU and no timer interrupt, %i vCPUs", async (cpus) => {
    const spin = async (seconds: number) => {
      const args = ["spin", String(seconds), String(cpus)];
      const run = await runApp(program("compute.glibc"), args, { cpus });
      expect([statusOf(run), run.stdout]).toEqual([0, `computing\ncomputed ${cpus}\n`]);
      return run.outcome.statistics;
    };
    const brief = await spin(0.5);
    const long = await spin(0.5 + SECONDS);
    expect(long.vcpuExits).toHaveLength(cpus);
    const more = long.vcpuExits?.map((exits, i) => exits - (brief.vcpuExits?.[i] ?? 0)) ?? [];
    for (const exits of more) expect(exits).toBeLessThanOrEqual(MOST_EXITS);
    expect((long.timerInterrupts ?? 1) - (brief.timerInterrupts ?? 0)).toBeLessThanOrEqual(cpus);
  });

  describe("noise", () => {
    it.each(METHODS)("is measured: %s", async (method) => {
      const seconds = FULL ? 5 : 1;
      const parameters = { seconds, thresholdNs: 1000, work: 200_000, intervalNs: 1_000_000 };
      const run = await runApp(noise(), programArguments(method, parameters));
      expect(statusOf(run)).toBe(0);
      const measured = understand(run.stdout);
      expect(measured.method).toBe(method);
      expect(measured.lost).toBeGreaterThanOrEqual(0);
      expect(measured.lost).toBeLessThan(1);
      // Shorter than asked for only if the clock of the guest were wrong.
      expect(measured.seconds).toBeGreaterThan(seconds * 0.9);
    });
  });
});
