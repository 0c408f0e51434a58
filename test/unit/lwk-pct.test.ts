// SPDX-License-Identifier: Apache-2.0
/** The PCT's policy on the host, behind a simulated QK (firmware/lwk/test). Built by `make test`. */
import { describe } from "vitest";
import { testsInC } from "../support/c-tests.js";

describe("the PCT in C", () => {
  testsInC("firmware/build/lwk-test/pct-tests");
});
