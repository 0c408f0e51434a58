/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between libvmmhpc and libvmmhpc-shm and -vfio, whose devices are on the PCI bus of
 * struct vmmhpc itself. What they have to call is in one table, so that programs without carry no
 * more. */
#ifndef VH_DEVICE_HOOKS_H
#define VH_DEVICE_HOOKS_H

#include "machine.h"

struct vh_device_hooks {
    size_t machine_bytes; /* sizeof(struct vmmhpc): both libraries have to be of one build */
    /** Each as the function of its name. */
    int32_t (*pci_add)(struct vmmhpc *vm, struct vh_pci_device *device, struct vmmhpc_error *err);
    uint32_t (*pci_capability)(struct vh_pci_device *device, uint8_t id, uint32_t bytes);
    bool (*pci_may_decode)(const struct vmmhpc *vm, uint64_t gpa, uint64_t bytes);
    void (*msix_control)(struct vh_pci_device *device);
    uint64_t (*msix_access)(struct vh_pci_device *device, uint64_t offset, uint32_t bytes,
                            uint32_t direction, uint64_t value);
    int32_t (*irqfd_bind)(struct vmmhpc *vm, int fd, int resample_fd, uint32_t gsi,
                          struct vmmhpc_error *err);
    void (*irqfd_unbind)(struct vmmhpc *vm, int fd, uint32_t gsi);
    void (*intx_set)(struct vh_pci_device *device, bool asserted);
    int32_t (*io_add)(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events,
                      struct vmmhpc_error *err);
    void (*io_watch)(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events);
};

VMMHPC_API const struct vh_device_hooks *vmmhpc_device_hooks(void);

#endif
