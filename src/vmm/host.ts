// SPDX-License-Identifier: Apache-2.0
/** Facts about the host, through libvmmhpc. */
import type { Host } from "../ffi/index.js";
import * as native from "../ffi/machine.js";

/** What this host offers. Works without /dev/kvm, and then says why. */
export function hostFacts(kvmPath?: string): Host {
  return native.hostInfo(kvmPath);
}
