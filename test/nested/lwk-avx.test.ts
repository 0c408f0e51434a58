// SPDX-License-Identifier: Apache-2.0
/**
 * AVX2 on the lightweight kernel: right results, also where threads preempt each other on one vCPU. Runs where a
 * guest has AVX: not in the emulated AMD machine, whose guests have no XSAVE. AVX-512 is not tested: no machine here
 * has it for guests.
 */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { SLOW } from "../support/machines.js";
import { runBoth } from "../support/native-run.js";
import { program } from "../support/yod.js";

const ROUNDS = SLOW ? "20000" : "2000000";

suite("AVX2 on the lightweight kernel", { needs: ["lwk", "avx2"] }, () => {
  it.each([
    ["glibc", 1],
    ["musl", 2],
  ] as const)("six threads keep sums in vector registers (%s, %i vCPUs)", async (variant, cpus) => {
    const { native, lwk } = await runBoth(program(`avx2.${variant}`), ["6", ROUNDS], { cpus });
    expect(native.status).toBe(0);
    expect(lwk).toEqual(native);
  });
});
