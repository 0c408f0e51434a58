// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net` between Linux guests that have a network card of the emulated machine's each. */
import { afterAll, expect, it } from "vitest";
import type { NetBenchResult } from "../../src/netbench/index.js";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";
import { bind, CARDS } from "../support/vfio.js";

const NEEDS = ["linux-guest", "root", "spare-cards"] as const;
const EFFORT = ["--sizes", "8", "--duration", `${rounds(500, 5000)}ms`, "--rounds", String(rounds(1, 3))];

suite("v2m bench net through network cards of the host's", { needs: NEEDS }, () => {
  afterAll(async () => {
    for (const { address } of [CARDS.e1000e, CARDS.virtio]) await bind(address, undefined);
  });

  it("two guests talk through the functions that were named", async () => {
    const functions = ["--vfio", `${CARDS.e1000e.address},${CARDS.virtio.address}`];
    const options = ["--paths", "vfio", "--json"];
    const { code, stdout, stderr } = await v2m("bench", "net", ...options, ...functions, ...EFFORT);
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as NetBenchResult;
    expect(result.paths).toEqual([{ path: "vfio", skipped: null }]);
    const own = result.series.filter(({ id }) => id === "vfio");
    expect(own.map(({ test }) => test)).toEqual(["latency", "stream", "both"]);
    for (const { test, rounds: points } of own) {
      for (const point of points) {
        const what = `${test}\n${stderr}`;
        expect(point.messages, what).toBeGreaterThan(0);
        expect(point.messagesPerSecond, what).toBeGreaterThan(0);
        expect(point.exitsPerMessage, what).toBeGreaterThan(0);
        expect(point.interruptsPerMessage, what).toBeGreaterThan(0);
      }
    }
  });

  it("says why not, where there is no such function", async () => {
    const { code, stderr } = await v2m(
      "bench",
      "net",
      "--paths",
      "vfio",
      "--vfio",
      "00:1d.1,00:1d.2",
      ...EFFORT,
    );
    expect(code).toBe(4);
    expect(stderr).toMatch(
      /^v2m: no path can be measured here: vfio: there is no PCI function 0000:00:1d\.1 \(.*\) \[E_UNSUPPORTED\]$/m,
    );
  });
});
