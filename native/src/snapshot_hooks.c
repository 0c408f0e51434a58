/* SPDX-License-Identifier: Apache-2.0 */
/* What libvmmhpc-snapshot calls. */
#include "snapshot_hooks.h"

const struct vh_snapshot_hooks *vmmhpc_snapshot_hooks(void)
{
    static const struct vh_snapshot_hooks hooks = {
        .machine_bytes = sizeof(struct vmmhpc),
        .virtio_start = vh_virtio_start,
        .virtio_may_ack = vh_virtio_may_ack,
        .config_write = vh_pci_config_write,
        .msix_control = vh_msix_control,
        .intx_set = vh_intx_set,
        .generation_write = vh_generation_write,
    };
    return &hooks;
}
