/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc-vfio: a PCI function of the host's, handed on to a machine. Its registers are mapped
 * into the guest, its interrupts go there by irqfd, and its DMA through the host's IOMMU to guest
 * RAM and nowhere else. docs/reference/vfio.md has what the guest sees of it.
 */
#ifndef VMMHPC_VFIO_H
#define VMMHPC_VFIO_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A PCI function that was opened for one machine. */
struct vmmhpc_vfio {
    uint32_t size;     /* sizeof(struct vmmhpc_vfio) */
    int32_t container; /* of /dev/vfio/vfio, with a type 1 IOMMU */
    int32_t group;     /* of /dev/vfio/N, in that container */
    int32_t device;    /* of the function */
};

/**
 * Open a PCI function by its address ("0000:00:04.0"); the caller closes *out by
 * vmmhpc_vfio_close(). All of its IOMMU group has to be bound to vfio-pci, or to no driver.
 * E_INVALID: no such function. E_UNSUPPORTED: the host has no IOMMU that is on, or no VFIO.
 * E_STATE: the function is not bound to vfio-pci, or others of its group are bound to another
 * driver, or somebody uses it. E_PERMISSION: this user may not.
 */
VMMHPC_API int32_t vmmhpc_vfio_open(const char *address, struct vmmhpc_vfio *out,
                                    struct vmmhpc_error *err);
/** The function is the host's again once no machine has it. NULL is allowed. */
VMMHPC_API void vmmhpc_vfio_close(struct vmmhpc_vfio *vfio);

/**
 * Add it to a machine: between vmmhpc_create() and vmmhpc_load(). The descriptors are duplicated.
 * All guest RAM is pinned from now on. *id (may be NULL) is its PCI slot.
 * E_NO_MEMORY: the RAM cannot be pinned (RLIMIT_MEMLOCK). E_INVALID: the machine has a balloon,
 * which would give away memory that the function may write to. E_UNSUPPORTED: not a PCI function
 * with memory registers.
 */
VMMHPC_API int32_t vmmhpc_add_vfio(struct vmmhpc *vm, const struct vmmhpc_vfio *vfio, uint32_t *id,
                                   struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif
