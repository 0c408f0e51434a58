// SPDX-License-Identifier: Apache-2.0
/** Facts about the host, through libvmmhpc. */
import { existsSync } from "node:fs";
import type { Host } from "../ffi/index.js";
import * as native from "../ffi/machine.js";

/** How `/dev/kvm` can be used: with virtualization hardware (or an emulation of it), without (PVM), or not. */
export type Virtualization = "hardware" | "pvm" | "none";

/** What this host offers. Works without /dev/kvm, and then says why. */
export function hostFacts(kvmPath?: string): Host {
  return native.hostInfo(kvmPath);
}

/** What stands behind /dev/kvm: kernels run with `hardware` only. */
export function virtualization(host: Host): Virtualization {
  if (host.kvm_status !== 0) return "none";
  const hardware = (host.has_vmx !== 0 || host.has_svm !== 0) && !existsSync("/sys/module/kvm_pvm");
  return hardware ? "hardware" : "pvm";
}
