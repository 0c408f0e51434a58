/* SPDX-License-Identifier: Apache-2.0 */
/* What libvmmhpc-shm calls. */
#include "device_hooks.h"

const struct vh_device_hooks *vmmhpc_device_hooks(void)
{
    static const struct vh_device_hooks hooks = {
        .machine_bytes = sizeof(struct vmmhpc),
        .pci_add = vh_pci_add,
        .pci_capability = vh_pci_capability,
        .msix_control = vh_msix_control,
        .intx_set = vh_intx_set,
        .io_add = vh_io_add,
        .io_watch = vh_io_watch,
    };
    return &hooks;
}
