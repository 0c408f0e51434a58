// SPDX-License-Identifier: Apache-2.0
/** What VMM-HPC can do. docs/reference/backends.md explains each "no". */
import type { Capability, CapabilityMatrix } from "../../../vmm/backend.js";

const YES: Capability = { supported: "yes" };
const no = (reason: string): Capability => ({ supported: "no", reason });

export const CAPABILITIES: CapabilityMatrix = {
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
  fork: YES,
  resize: no("not available yet"),
  migrate: no("not available yet"),
  "boot:kernel": YES,
  "boot:disk": YES,
  "boot:cdrom": no("it has no firmware that could: boot a kernel, or from a disk"),
  topology: YES,
  pin: YES,
  hugepages: YES,
  disks: YES,
  "disk:qcow2": no("disks are raw: qemu-img convert makes one of a qcow2 image"),
  "disk:overlay": YES,
  cdrom: YES,
  "nic:TUN/TAP": YES,
  "nic:TUN/TAP+NAT": YES,
  "nic:BRIDGED_TAP": YES,
  "nic:VLAN": YES,
  "nic:user": YES,
  "nic:vhost": YES,
  pmem: YES,
  shm: YES,
  vfio: YES,
  rng: YES,
  balloon: YES,
  vsock: YES,
  "generation-id": YES,
  modules: YES,
};
