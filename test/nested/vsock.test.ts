// SPDX-License-Identifier: Apache-2.0
/** Sockets between the host and a driver, through the host's vhost-vsock: the tests in C of native/test. */

import { NEEDS_VSOCK, testsInC } from "../support/c-tests.js";
import { suite } from "../support/capabilities.js";

suite("virtio-vsock in C", { needs: ["vhost-vsock"] }, () => {
  testsInC(
    "native/build/asan/unit-tests",
    () => ({}),
    (name) => NEEDS_VSOCK.test(name),
  );
});
