// SPDX-License-Identifier: Apache-2.0
/** What QEMU's back ends can do. docs/reference/backends.md explains each "no". */
import type { Capability, CapabilityMatrix } from "../../../vmm/backend.js";
import type { QemuKind } from "./kind.js";

const YES: Capability = { supported: "yes" };
const no = (reason: string): Capability => ({ supported: "no", reason });

/** The matrix; it does not depend on the host. */
export function capabilities(kind: QemuKind): CapabilityMatrix {
  return {
    start: YES,
    stop: YES,
    reset: YES,
    pause: YES,
    status: YES,
    console: YES,
    stats: YES,
    events: YES,
    image: YES,
    "image-from-cdrom": YES,
    "image-from-packages": YES,
    snapshot: YES,
    restore: YES,
    fork: no("a machine that QEMU restores has the first one's MAC addresses, and memory of its own"),
    resize: no("not available yet"),
    migrate: no("not available yet"),
    "boot:kernel": YES,
    "boot:disk": YES,
    "boot:cdrom": YES,
    topology: YES,
    pin: YES,
    hugepages: YES,
    "io-pin": YES,
    realtime: YES,
    "without-exits": no("QEMU disables the exits of halt, pause, mwait and C-states together, or none"),
    numa: YES,
    "cache-cores": no("QEMU has one last-level cache for each socket"),
    disks: YES,
    "disk:qcow2": YES,
    "disk:overlay": YES,
    cdrom: YES,
    "nic:TUN/TAP": YES,
    "nic:TUN/TAP+NAT": YES,
    "nic:BRIDGED_TAP": YES,
    "nic:VLAN": YES,
    "nic:user": YES,
    "nic:vhost": YES,
    pmem: YES,
    shm: no("the channel's device is VMM-HPC's own"),
    vfio:
      kind.accelerator === "kvm"
        ? YES
        : no("devices of the host's are for guests that KVM runs: use type Kvm or VMM-HPC"),
    rng: YES,
    balloon: YES,
    vsock: YES,
    "generation-id": YES,
    modules: no(`adaptation modules belong to VMM-HPC; ${kind.type} runs QEMU's own devices`),
  };
}
