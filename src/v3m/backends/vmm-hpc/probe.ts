// SPDX-License-Identifier: Apache-2.0
/** Whether this host runs monitors, and Linux in them. */
import { existsSync } from "node:fs";
import { native } from "../../../ffi/index.js";
import { monitorPath } from "../../../ffi/monitor.js";
import type { Probe } from "../../../vmm/backend.js";
import { hostFacts, virtualization } from "../../../vmm/host.js";
import { CAPABILITIES } from "./capabilities.js";

const HINTS: Readonly<Record<string, string>> = {
  none: "v2m doctor says why; type Qemu needs no KVM",
  pvm: "tiny guests run; for Linux use type Qemu, or npx v2m-testbed",
};

export function probeVmmHpc(): Probe {
  const version = native.machine.version();
  const found = {
    type: "VMM-HPC",
    version: `libvmmhpc ${version >>> 16}.${version & 0xffff}`,
    capabilities: CAPABILITIES,
  } as const;
  if (!existsSync(monitorPath())) {
    return { ...found, usable: false, reason: `there is no ${monitorPath()}`, hint: "make build" };
  }
  const kind = virtualization(hostFacts());
  if (kind === "hardware") {
    return { ...found, usable: true };
  }
  const reason =
    kind === "pvm"
      ? "there is no virtualization hardware behind /dev/kvm: kernels do not run on it"
      : "/dev/kvm cannot be used";
  return { ...found, usable: kind === "pvm", reason, hint: HINTS[kind] ?? HINTS.none ?? "" };
}
