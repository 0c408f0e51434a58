// SPDX-License-Identifier: Apache-2.0
/** The two back ends that are QEMU: they differ in how vCPUs run. */
import { hostFacts } from "../../../vmm/host.js";

export interface QemuKind {
  readonly type: "Qemu" | "Kvm";
  readonly accelerator: "tcg" | "kvm";
}

export const KINDS: { readonly [T in QemuKind["type"]]: QemuKind } = {
  Qemu: { type: "Qemu", accelerator: "tcg" },
  Kvm: { type: "Kvm", accelerator: "kvm" },
};

/** The program: `V3M_QEMU` if set. */
export function qemuProgram(): string {
  return process.env.V3M_QEMU || "qemu-system-x86_64";
}

/** What guests see as CPU. As libvmmhpc does, XSAVE is hidden where guests' would not work (inside QEMU's TCG). */
export function cpuModel(kind: QemuKind): string {
  if (kind.accelerator === "tcg") return "max";
  return hostFacts().xsave_broken === 0 ? "host" : "host,-xsave";
}
