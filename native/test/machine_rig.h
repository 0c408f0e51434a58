/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without KVM: RAM, PCI bus and dispatch tables, for tests of devices as a guest sees
 * them. Interrupts end in eventfds that nobody reads but the test. */
#ifndef MACHINE_RIG_H
#define MACHINE_RIG_H

#include "machine.h"
#include "virtio/virtio.h"

struct vmmhpc *machine_rig_new(uint64_t mib);
void machine_rig_free(struct vmmhpc *vm);

/** What a guest's access to memory outside RAM does. */
uint64_t machine_rig_mmio(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint32_t direction,
                          uint64_t value);

/** A little-endian number. */
uint64_t machine_rig_load(const uint8_t *from, uint32_t bytes);
/** An ACPI table that the XSDT names, or NULL. */
const uint8_t *machine_rig_table(const struct vmmhpc *vm, uint64_t rsdp, const char *signature);

/** Serve the devices' descriptors that are ready, as the I/O thread would. */
void machine_rig_serve(struct vmmhpc *vm);

/** A virtio device with one queue and 8 bytes of configuration that gives every chain back with its
 *  readable part copied to the writable one. Owned by the machine. */
struct vh_virtio *machine_rig_echo(struct vmmhpc *vm);

#endif
