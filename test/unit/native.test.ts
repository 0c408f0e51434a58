// SPDX-License-Identifier: Apache-2.0
/** The unit tests of the libraries in C (native/test). Built by `make test`; alone: make -C native asan. */
import { beforeAll, describe } from "vitest";
import { ensureKernel } from "../../harness/kernels.js";
import { NEEDS_VSOCK, testsInC } from "../support/c-tests.js";

describe("libvmmhpc in C", () => {
  let kernel: string;
  beforeAll(async () => {
    kernel = (await ensureKernel("cloud")).bzImage;
  }, 300_000);

  testsInC(
    "native/build/asan/unit-tests",
    () => ({ V3M_TEST_KERNEL: kernel }),
    (name) => !NEEDS_VSOCK.test(name),
  );
});
