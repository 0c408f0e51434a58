// SPDX-License-Identifier: Apache-2.0
/** libbypass beside a hostile peer: bypass/fuzz/fuzz_peer.c under libFuzzer, for some seconds. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { bypassBuild } from "../support/bypass.js";
import { expectFuzzed, FUZZ_SECONDS, fuzz, type Target } from "../support/fuzz.js";

const target: Target = {
  covers: { "receive.c": 80, "send.c": 80, "ring.c": 90, "link.c": 85, "onesided.c": 75, "progress.c": 75 },
  maxLength: 4096,
};

it(
  "a hostile peer gets at nothing but its own area, and stops nobody",
  async () => {
    const result = await fuzz(bypassBuild("fuzz/fuzz_peer"), target, join(packageRoot(), "bypass/"));
    expectFuzzed("peer", target, result);
    expect(result.inputs).toBeGreaterThan(100);
  },
  FUZZ_SECONDS * 1000 + 120_000,
);
