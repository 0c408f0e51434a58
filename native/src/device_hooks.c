/* SPDX-License-Identifier: Apache-2.0 */
/* What libvmmhpc-shm and libvmmhpc-vfio call. */
#include "device_hooks.h"

#include "kvm_irq.h"

const struct vh_device_hooks *vmmhpc_device_hooks(void)
{
    static const struct vh_device_hooks hooks = {
        .machine_bytes = sizeof(struct vmmhpc),
        .pci_add = vh_pci_add,
        .pci_capability = vh_pci_capability,
        .pci_may_decode = vh_pci_may_decode,
        .msix_control = vh_msix_control,
        .msix_access = vh_msix_access,
        .irqfd_bind = vh_irqfd_bind,
        .irqfd_unbind = vh_irqfd_unbind,
        .intx_set = vh_intx_set,
        .io_add = vh_io_add,
        .io_watch = vh_io_watch,
    };
    return &hooks;
}
