/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the device can reach: guest memory at the guest's addresses, by VFIO's type 1 IOMMU, and
 * nothing else. A mapping pins its pages, so one must not outlive what is behind it: a reset, which
 * gives RAM back, takes all away first, and they come again when the guest lets the device loose.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include "device.h"
#include "virtio/pci_transport.h"

#define VIRTIO_BALLOON 0x10450000u /* its device id: virtio 1.2, 5.5.1 and 4.1.2.1 */

static bool mapped(const struct vh_vfio *vfio, uint64_t gpa)
{
    for (uint32_t i = 0; i < vfio->mapping_count; i++) {
        if (vfio->mappings[i].gpa == gpa) {
            return true;
        }
    }
    return false;
}

static int32_t map(struct vh_vfio *vfio, uint64_t gpa, uint64_t bytes, uint64_t host,
                   bool read_only, struct vmmhpc_error *err)
{
    struct vfio_iommu_type1_dma_map request = {
        .argsz = sizeof(request),
        .flags = VFIO_DMA_MAP_FLAG_READ | (read_only ? 0 : VFIO_DMA_MAP_FLAG_WRITE),
        .vaddr = host,
        .iova = gpa,
        .size = bytes,
    };
    if (mapped(vfio, gpa)) {
        return VMMHPC_OK;
    }
    if (vfio->mapping_count == VH_VFIO_MAPPINGS) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_VFIO_MAPPINGS, "too many memory regions");
    }
    if (ioctl(vfio->function.container, VFIO_IOMMU_MAP_DMA, &request) != 0) {
        const int failed = errno;
        return vh_fail(err, failed == ENOMEM ? VMMHPC_E_NO_MEMORY : VMMHPC_E_SYSCALL, failed, bytes,
                       "cannot pin %llu MiB of guest memory for a device: %s%s",
                       (unsigned long long)(bytes >> 20), vh_errno_text(failed),
                       failed == ENOMEM ? " (is RLIMIT_MEMLOCK too low?)" : "");
    }
    vfio->mappings[vfio->mapping_count++] = (struct vh_vfio_mapping){gpa, bytes};
    return VMMHPC_OK;
}

static bool has_balloon(const struct vmmhpc *vm)
{
    for (uint32_t slot = 1; slot < vm->pci.count; slot++) {
        if (vm->pci.devices[slot]->vendor_device == (VIRTIO_BALLOON | VH_VIRTIO_VENDOR)) {
            return true;
        }
    }
    return false;
}

int32_t vh_vfio_dma_map(struct vh_vfio *vfio, struct vmmhpc_error *err)
{
    const struct vmmhpc *vm = vfio->pci.vm;
    if (has_balloon(vm)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, vfio->pci.slot,
                       "a machine with a device of the host's cannot have a balloon: the device "
                       "may write to memory that the guest gave back");
    }
    int32_t status = VMMHPC_OK;
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->memory.slot_count; i++) {
        const struct vmmhpc_slot *slot = &vm->memory.slots[i];
        status = map(vfio, slot->gpa, slot->bytes, slot->host, false, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->extra_memory_count; i++) {
        const struct vh_extra_memory *extra = &vm->extra_memory[i];
        /* Files need not be such as can be pinned: the device does without. */
        (void)map(vfio, extra->gpa, extra->bytes, (uint64_t)(uintptr_t)extra->host,
                  extra->read_only, NULL);
    }
    return status;
}

void vh_vfio_dma_unmap(struct vh_vfio *vfio)
{
    while (vfio->mapping_count > 0) {
        const struct vh_vfio_mapping *mapping = &vfio->mappings[--vfio->mapping_count];
        struct vfio_iommu_type1_dma_unmap request = {
            .argsz = sizeof(request), .iova = mapping->gpa, .size = mapping->bytes};
        (void)ioctl(vfio->function.container, VFIO_IOMMU_UNMAP_DMA, &request);
    }
}
