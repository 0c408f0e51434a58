/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between libvmmhpc and libvmmhpc-shm, whose device is on the PCI bus of struct vmmhpc
 * itself. What it has to call is in one table, so that programs without it carry no more. */
#ifndef VH_DEVICE_HOOKS_H
#define VH_DEVICE_HOOKS_H

#include "machine.h"

struct vh_device_hooks {
    size_t machine_bytes; /* sizeof(struct vmmhpc): both libraries have to be of one build */
    /** Each as the function of its name. */
    int32_t (*pci_add)(struct vmmhpc *vm, struct vh_pci_device *device, struct vmmhpc_error *err);
    uint32_t (*pci_capability)(struct vh_pci_device *device, uint8_t id, uint32_t bytes);
    void (*msix_control)(struct vh_pci_device *device);
    void (*intx_set)(struct vh_pci_device *device, bool asserted);
    int32_t (*io_add)(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events,
                      struct vmmhpc_error *err);
    void (*io_watch)(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events);
};

VMMHPC_API const struct vh_device_hooks *vmmhpc_device_hooks(void);

#endif
