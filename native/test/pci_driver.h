/* SPDX-License-Identifier: Apache-2.0 */
/* A driver for the device in slot 1 of a machine_rig: accesses, and one queue in use. */
#ifndef PCI_DRIVER_H
#define PCI_DRIVER_H

#include "machine_rig.h"

enum {
    DRIVER_COMMON = 0x0000,
    DRIVER_ISR = 0x1000,
    DRIVER_DEVICE = 0x2000,
    DRIVER_NOTIFY = 0x3000
};
#define DRIVER_RING 0x100000ull
#define DRIVER_BUFFER 0x140000ull

/** Where configuration space is; reads and writes of memory outside RAM. */
uint64_t driver_config(uint32_t slot, uint32_t offset);
uint64_t driver_in(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes);
void driver_out(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint64_t value);

/** The first capability of an id behind `after` (0: from the start), or 0. */
uint32_t driver_capability(struct vmmhpc *vm, uint32_t id, uint32_t after);
/** Where register 0x10 + 4 * index has its BAR. */
uint64_t driver_bar(struct vmmhpc *vm, uint32_t index);

/** Negotiate all that is offered and set queue 0 up, with MSI-X vector 1 where `msix`. BAR 0's
 *  address. */
uint64_t driver_bring_up(struct vmmhpc *vm, bool msix);
/** Four bytes to read ("ping") and four to write, as the index-th use of the ring. */
void driver_offer(struct vmmhpc *vm, uint16_t index);

#endif
