/* SPDX-License-Identifier: Apache-2.0 */
/* The function as the kernel shows it: regions of a descriptor, and interrupts. */
#include <errno.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "device.h"

/* The flags of a region, or 0 where there is none. */
static uint32_t ask_region(int device, uint32_t index, struct vh_vfio_region *region)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = index};
    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) != 0 || info.size == 0) {
        return 0;
    }
    *region = (struct vh_vfio_region){.offset = info.offset,
                                      .bytes = info.size,
                                      .mappable = (info.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0};
    return info.flags;
}

static uint32_t ask_interrupts(int device, uint32_t index)
{
    struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
    const bool usable = ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) == 0 &&
                        (info.flags & VFIO_IRQ_INFO_EVENTFD) != 0;
    return usable ? info.count : 0;
}

int32_t vh_vfio_describe(struct vh_vfio_function *function, struct vmmhpc_error *err)
{
    struct vfio_device_info info = {.argsz = sizeof(info)};
    const int device = function->device;
    const uint32_t both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if (ioctl(device, VFIO_DEVICE_GET_INFO, &info) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(int64_t)device,
                       "descriptor %d is no device of VFIO's", device);
    }
    if ((info.flags & VFIO_DEVICE_FLAGS_PCI) == 0 ||
        (ask_region(device, VFIO_PCI_CONFIG_REGION_INDEX, &function->config) & both) != both ||
        function->config.bytes < VH_PCI_CONFIG_BYTES) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, info.flags, "not a PCI function");
    }
    for (uint32_t i = 0; i < VH_VFIO_BARS; i++) {
        (void)ask_region(device, VFIO_PCI_BAR0_REGION_INDEX + i, &function->bars[i]);
    }
    function->resets = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    function->intx = ask_interrupts(device, VFIO_PCI_INTX_IRQ_INDEX) > 0;
    function->msix_count = ask_interrupts(device, VFIO_PCI_MSIX_IRQ_INDEX);
    return VMMHPC_OK;
}

bool vh_vfio_read(const struct vh_vfio *vfio, const struct vh_vfio_region *region, uint64_t offset,
                  void *data, uint32_t bytes)
{
    return vh_pread(vfio->function.device, data, bytes, (off_t)(region->offset + offset)) ==
           (ssize_t)bytes;
}

bool vh_vfio_write(const struct vh_vfio *vfio, const struct vh_vfio_region *region, uint64_t offset,
                   const void *data, uint32_t bytes)
{
    const struct iovec part = {(void *)(uintptr_t)data, bytes};
    return pwritev(vfio->function.device, &part, 1, (off_t)(region->offset + offset)) ==
           (ssize_t)bytes;
}
