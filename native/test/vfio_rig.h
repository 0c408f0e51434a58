/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI function that is a file in memory, handed on to a machine_rig: what the guest does to it
 * can be read there. It has no IOMMU and sends no interrupts. */
#ifndef VFIO_RIG_H
#define VFIO_RIG_H

#include "machine_rig.h"
#include "vfio/device.h"

/* Where its parts are in the file: configuration space first. */
#define VFIO_RIG_BYTES 0x20000u
#define VFIO_RIG_BAR0 0x4000u /* 16 KiB of 32 bits */
#define VFIO_RIG_BAR1 0x2000u /* 256 bytes */
#define VFIO_RIG_BAR4 0x8000u /* 32 KiB of 64 bits: MSI-X's table at 0x1000, its bits at 0x3000 */
#define VFIO_RIG_TABLE 0x1000u
#define VFIO_RIG_PENDING 0x3000u
#define VFIO_RIG_VECTORS 5u

/* Capabilities, in the order of its list. */
enum {
    VFIO_RIG_POWER = 0x40,
    VFIO_RIG_MSI = 0x50,
    VFIO_RIG_VENDOR = 0x60, /* 16 bytes */
    VFIO_RIG_MSIX = 0x70,
    VFIO_RIG_EXPRESS = 0x80,
};

struct vfio_rig {
    struct vmmhpc *vm;
    struct vh_vfio *vfio; /* NULL: nothing is handed on */
    int file;
};

/** The file, and a machine without it. */
struct vfio_rig vfio_rig_new(void);
/** Hand it on: the function in slot 1. */
int32_t vfio_rig_add(struct vfio_rig *rig, struct vmmhpc_error *err);
void vfio_rig_free(struct vfio_rig *rig);

/** What is in the file; writes to it. */
uint32_t vfio_rig_peek(const struct vfio_rig *rig, uint64_t at, uint32_t bytes);
void vfio_rig_poke(const struct vfio_rig *rig, uint64_t at, uint32_t bytes, uint32_t value);

#endif
