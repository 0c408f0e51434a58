/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

uint32_t vfio_rig_peek(const struct vfio_rig *rig, uint64_t at, uint32_t bytes)
{
    uint32_t value = 0;
    if (pread(rig->file, &value, bytes, (off_t)at) != (ssize_t)bytes) {
        abort();
    }
    return value;
}

void vfio_rig_poke(const struct vfio_rig *rig, uint64_t at, uint32_t bytes, uint32_t value)
{
    if (pwrite(rig->file, &value, bytes, (off_t)at) != (ssize_t)bytes) {
        abort();
    }
}

struct vfio_rig vfio_rig_new(void)
{
    static const struct {
        uint32_t at, bytes, value;
    } content[] = {
        {0x00, 4, 0x10d38086},
        {0x04, 4, 0x00100000},
        {0x08, 4, 0x02000003},
        {0x0c, 4, 0x00800010}, /* "more functions" */
        {0x10, 4, 0xfeb00000},
        {0x14, 4, 0xfeb10000},
        {0x18, 4, 0x0000c001}, /* ports */
        {0x20, 4, 0x0000000c},
        {0x24, 4, 0x00000010}, /* 64 bits, prefetchable */
        {0x2c, 4, 0x11001af4},
        {0x30, 4, 0xfeb40000},
        {0x34, 1, VFIO_RIG_POWER},
        {0x3c, 2, 0x020b},
        {VFIO_RIG_POWER, 2, VFIO_RIG_MSI << 8 | 0x01},
        {VFIO_RIG_MSI, 2, VFIO_RIG_VENDOR << 8 | 0x05},
        {VFIO_RIG_VENDOR, 4, 0xaa100009 | VFIO_RIG_MSIX << 8},
        {VFIO_RIG_MSIX, 4, (VFIO_RIG_VECTORS - 1) << 16 | VFIO_RIG_EXPRESS << 8 | 0x11},
        {VFIO_RIG_MSIX + 4, 4, VFIO_RIG_TABLE | 4},
        {VFIO_RIG_MSIX + 8, 4, VFIO_RIG_PENDING | 4},
        {VFIO_RIG_EXPRESS, 4, 0x00020010},
        {VFIO_RIG_EXPRESS + 4, 4, 0x10008000},
        {VFIO_RIG_EXPRESS + 8, 4, 0x00002810},
    };
    struct vfio_rig rig = {.vm = machine_rig_new(1), .file = memfd_create("function", MFD_CLOEXEC)};
    if (rig.file < 0 || ftruncate(rig.file, VFIO_RIG_BYTES) != 0) {
        abort();
    }
    for (size_t i = 0; i < VH_COUNT(content); i++) {
        vfio_rig_poke(&rig, content[i].at, content[i].bytes, content[i].value);
    }
    return rig;
}

int32_t vfio_rig_add(struct vfio_rig *rig, struct vmmhpc_error *err)
{
    struct vh_vfio *vfio = vh_vfio_new(vmmhpc_device_hooks());
    if (vfio == NULL) {
        abort();
    }
    vfio->function.device = fcntl(rig->file, F_DUPFD_CLOEXEC, 0);
    vfio->function.intx = true;
    vfio->function.msix_count = VFIO_RIG_VECTORS;
    vfio->function.config = (struct vh_vfio_region){0, 0x1000, false};
    vfio->function.bars[0] = (struct vh_vfio_region){VFIO_RIG_BAR0, 0x4000, true};
    vfio->function.bars[1] = (struct vh_vfio_region){VFIO_RIG_BAR1, 0x100, true};
    vfio->function.bars[2] = (struct vh_vfio_region){0x3000, 0x20, false};
    vfio->function.bars[4] = (struct vh_vfio_region){VFIO_RIG_BAR4, 0x8000, true};
    const int32_t status = vh_vfio_add(rig->vm, vfio, err);
    if (rig->vm->pci.count == 1) {
        vh_vfio_free(vfio); /* the bus has not got it */
    } else if (status == VMMHPC_OK) {
        rig->vfio = vfio;
    }
    return status;
}

void vfio_rig_free(struct vfio_rig *rig)
{
    machine_rig_free(rig->vm);
    (void)close(rig->file);
}
