/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between libvmmhpc and libvmmhpc-snapshot, which works on struct vmmhpc itself. What it
 * has to call is in one table, so that programs without snapshots carry no more than that. */
#ifndef VH_SNAPSHOT_HOOKS_H
#define VH_SNAPSHOT_HOOKS_H

#include "machine.h"
#include "virtio/virtio.h"

struct vh_snapshot_hooks {
    size_t machine_bytes; /* sizeof(struct vmmhpc): both libraries have to be of one build */
    /** Each as the function of its name. */
    int32_t (*virtio_start)(struct vh_virtio *device, struct vh_memory *memory,
                            struct vmmhpc_error *err);
    bool (*virtio_may_ack)(const struct vh_virtio *device, uint64_t features);
    void (*config_write)(struct vh_pci_bus *bus, uint32_t slot, uint32_t offset, uint32_t bytes,
                         uint32_t value);
    void (*msix_control)(struct vh_pci_device *device);
    void (*intx_set)(struct vh_pci_device *device, bool asserted);
    int32_t (*generation_write)(struct vmmhpc *vm, struct vmmhpc_error *err);
};

VMMHPC_API const struct vh_snapshot_hooks *vmmhpc_snapshot_hooks(void);

#endif
