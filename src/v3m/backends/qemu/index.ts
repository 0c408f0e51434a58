// SPDX-License-Identifier: Apache-2.0
/** The back ends that are QEMU: `Qemu` emulates the CPU, `Kvm` lets KVM run it. */
import type { V3mBackendFactory } from "../../registry.js";

const factory = (type: "Qemu" | "Kvm"): V3mBackendFactory => ({
  type,
  create: async (host) => {
    const [{ QemuBackend }, { KINDS }] = await Promise.all([import("./backend.js"), import("./kind.js")]);
    return new QemuBackend(KINDS[type], host);
  },
});

/** QEMU with its own emulation of CPUs (TCG): runs everywhere, slowly. */
export const qemuBackend: V3mBackendFactory = factory("Qemu");

/** QEMU with KVM. */
export const kvmBackend: V3mBackendFactory = factory("Kvm");
