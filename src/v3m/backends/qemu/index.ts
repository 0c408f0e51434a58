// SPDX-License-Identifier: Apache-2.0
/** The back ends that are QEMU: `Qemu` emulates the CPU, `Kvm` lets KVM run it. */
import type { BackendFactory, BackendHost } from "../../../vmm/backend.js";
import type { VmDefinition } from "../../definition/types.js";
import { QemuBackend } from "./backend.js";
import { KVM, type QemuKind, TCG } from "./kind.js";

const factory = (kind: QemuKind): BackendFactory<VmDefinition> => ({
  type: kind.type,
  create: (host: BackendHost<VmDefinition>) => new QemuBackend(kind, host),
});

/** QEMU with its own emulation of CPUs (TCG): runs everywhere, slowly. */
export const qemuBackend: BackendFactory<VmDefinition> = factory(TCG);

/** QEMU with KVM. */
export const kvmBackend: BackendFactory<VmDefinition> = factory(KVM);

export { QemuBackend } from "./backend.js";
export { Qmp, QmpError, type QmpEvent, type QmpOptions } from "./qmp.js";
