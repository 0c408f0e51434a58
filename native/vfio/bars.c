/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BARs: the guest places them, KVM maps what the kernel lets us map of them, and the rest comes
 * here: BARs smaller than a page, and the pages that hold MSI-X's table and pending bits.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "device.h"
#include "layout.h"

/* Slots behind those of RAM, pmem and channels (shm/window.c). */
#define FIRST_SLOT 256u

#define BAR_IO 0x1u
#define BAR_TYPE 0x6u
#define BAR_TYPE_64 0x4u
#define BAR_PREFETCHABLE 0x8u

static uint8_t *reg(struct vh_vfio *vfio, uint32_t bar)
{
    return vfio->pci.config + VH_PCI_BAR0 + (size_t)4 * bar;
}

static size_t reg_bytes(const struct vh_vfio_bar *bar)
{
    return (bar->flags & BAR_TYPE) == BAR_TYPE_64 ? 8 : 4;
}

/* ------------------------------------------------------------------ mapping */

static int32_t map_piece(struct vh_vfio *vfio, uint32_t bar, uint64_t from, uint64_t to,
                         struct vmmhpc_error *err)
{
    const struct vh_vfio_region *region = &vfio->function.bars[bar];
    if (from >= to) {
        return VMMHPC_OK;
    }
    void *host = mmap(NULL, to - from, PROT_READ | PROT_WRITE, MAP_SHARED, vfio->function.device,
                      (off_t)(region->offset + from));
    if (host == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, bar, "cannot map BAR %u of the device: %s",
                       bar, vh_errno_text(errno));
    }
    vfio->pieces[vfio->piece_count++] =
        (struct vh_vfio_piece){.bar = bar, .offset = from, .bytes = to - from, .host = host};
    return VMMHPC_OK;
}

/* All pages of a BAR but those that are trapped. */
static int32_t map_bar(struct vh_vfio *vfio, uint32_t bar, struct vmmhpc_error *err)
{
    const uint64_t bytes = vfio->bars[bar].bytes;
    uint64_t from = 0;
    int32_t status = VMMHPC_OK;
    while (status == VMMHPC_OK && from < bytes) {
        uint64_t to = bytes; /* where the next trap begins */
        uint64_t next = bytes;
        for (uint32_t i = 0; i < VH_VFIO_TRAPS; i++) {
            const struct vh_vfio_trap *trap = &vfio->traps[i];
            const uint64_t begin = vh_align_down(trap->offset, VH_PAGE);
            uint64_t end = 0;
            if (trap->bar == bar && trap->bytes > 0 &&
                vh_align_up(trap->offset + trap->bytes, VH_PAGE, &end) && end > from &&
                begin < to) {
                to = begin;
                next = end;
            }
        }
        status = map_piece(vfio, bar, from, to, err);
        from = next;
    }
    return status;
}

/* bytes 0: take the slot away. */
static void set_slot(struct vh_vfio *vfio, uint32_t index, uint64_t gpa, bool on)
{
    struct vmmhpc *vm = vfio->pci.vm;
    struct vh_vfio_piece *piece = &vfio->pieces[index];
    struct kvm_userspace_memory_region region = {
        .slot = FIRST_SLOT + VH_VFIO_PIECES * (vfio->pci.slot - 1) + index,
        .guest_phys_addr = gpa + piece->offset,
        .memory_size = on ? piece->bytes : 0,
        .userspace_addr = (uint64_t)(uintptr_t)piece->host,
    };
    (void)pthread_mutex_lock(&vm->kvm_lock);
    const bool done = vm->vm_fd >= 0 && ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0;
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    /* Where KVM refuses it (two BARs in one place) each access comes to us. */
    piece->in_slot = on && done;
}

static void move(struct vh_vfio *vfio, uint32_t bar, uint64_t gpa)
{
    vfio->bars[bar].gpa = gpa;
    for (uint32_t i = 0; i < vfio->piece_count; i++) {
        if (vfio->pieces[i].bar == bar && vfio->pieces[i].in_slot) {
            set_slot(vfio, i, 0, false);
        }
        if (vfio->pieces[i].bar == bar && gpa != VH_PCI_NOWHERE) {
            set_slot(vfio, i, gpa, true);
        }
    }
}

/* ------------------------------------------------------------------ registers */

static int32_t place(struct vh_vfio *vfio, struct vh_vfio_bar *bar, struct vmmhpc_error *err)
{
    struct vh_pci_bus *bus = &vfio->pci.vm->pci;
    const bool low = reg_bytes(bar) == 4;
    uint64_t *next = low ? &bus->next_low_bar : &bus->next_bar;
    const uint64_t base = low ? VH_PCI_WINDOW_GPA : 0;
    /* A small one has its page for itself. */
    const uint64_t bytes = bar->bytes < VH_PAGE ? VH_PAGE : bar->bytes;
    uint64_t at = 0;
    if (!vh_align_up(*next, bytes, &at) ||
        !vfio->core->pci_may_decode(vfio->pci.vm, base + at, bytes)) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, bar->bytes, "no room for a BAR of %llu bytes",
                       (unsigned long long)bar->bytes);
    }
    bar->home = base + at;
    *next = at + bytes;
    return VMMHPC_OK;
}

int32_t vh_vfio_bars_new(struct vh_vfio *vfio, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    uint32_t shown = 0;
    for (uint32_t i = 0; status == VMMHPC_OK && i < VH_VFIO_BARS; i++) {
        struct vh_vfio_bar *bar = &vfio->bars[i];
        const struct vh_vfio_region *region = &vfio->function.bars[i];
        uint32_t value = 0;
        if (region->bytes == 0 || (region->bytes & (region->bytes - 1)) != 0 ||
            !vh_vfio_read(vfio, &vfio->function.config, VH_PCI_BAR0 + 4ull * i, &value, 4) ||
            (value & BAR_IO) != 0) {
            continue; /* ports are not handed on: no driver of this century needs them */
        }
        *bar = (struct vh_vfio_bar){.bytes = region->bytes,
                                    .gpa = VH_PCI_NOWHERE,
                                    .flags = value & (BAR_TYPE | BAR_PREFETCHABLE)};
        if (reg_bytes(bar) == 8 && i + 1 == VH_VFIO_BARS) {
            bar->flags &= ~BAR_TYPE; /* no room for its other half */
        }
        status = place(vfio, bar, err);
        const uint64_t mask = ~(bar->bytes - 1);
        memcpy(vfio->pci.writable + VH_PCI_BAR0 + (size_t)4 * i, &mask, reg_bytes(bar));
        if (status == VMMHPC_OK && region->mappable && bar->bytes >= VH_PAGE) {
            status = map_bar(vfio, i, err);
        }
        shown++;
        i += reg_bytes(bar) == 8 ? 1 : 0;
    }
    if (status == VMMHPC_OK && shown == 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0, "the device has no registers in memory");
    }
    return status;
}

void vh_vfio_bars_free(struct vh_vfio *vfio)
{
    for (uint32_t i = 0; i < vfio->piece_count; i++) {
        (void)munmap(vfio->pieces[i].host, vfio->pieces[i].bytes);
    }
    vfio->piece_count = 0;
}

void vh_vfio_bars_home(struct vh_vfio *vfio)
{
    for (uint32_t i = 0; i < VH_VFIO_BARS; i++) {
        const struct vh_vfio_bar *bar = &vfio->bars[i];
        const uint64_t value = bar->home | bar->flags;
        if (bar->bytes > 0) {
            memcpy(reg(vfio, i), &value, reg_bytes(bar));
        }
    }
}

void vh_vfio_bars_update(struct vh_vfio *vfio)
{
    for (uint32_t i = 0; i < VH_VFIO_BARS; i++) {
        const struct vh_vfio_bar *bar = &vfio->bars[i];
        uint64_t gpa = 0;
        if (bar->bytes == 0) {
            continue;
        }
        memcpy(&gpa, reg(vfio, i), reg_bytes(bar));
        gpa &= ~(uint64_t)(BAR_TYPE | BAR_PREFETCHABLE | BAR_IO);
        if ((vfio->command & VH_PCI_COMMAND_MEMORY) == 0 ||
            !vfio->core->pci_may_decode(vfio->pci.vm, gpa, bar->bytes)) {
            gpa = VH_PCI_NOWHERE;
        }
        if (gpa != bar->gpa) {
            move(vfio, i, gpa);
        }
    }
}

/* ------------------------------------------------------------------ accesses */

bool vh_vfio_decodes(struct vh_pci_device *device, uint64_t gpa, uint32_t bytes, uint32_t *bar,
                     uint64_t *offset)
{
    const struct vh_vfio *vfio = vh_vfio_of(device);
    for (uint32_t i = 0; i < VH_VFIO_BARS; i++) {
        const struct vh_vfio_bar *at = &vfio->bars[i];
        if (at->bytes >= bytes && at->gpa != VH_PCI_NOWHERE && gpa >= at->gpa &&
            gpa - at->gpa <= at->bytes - bytes) {
            *bar = i;
            *offset = gpa - at->gpa;
            return true;
        }
    }
    return false;
}

uint64_t vh_vfio_bar_access(struct vh_pci_device *device, uint32_t bar, uint64_t offset,
                            uint32_t bytes, uint32_t direction, uint64_t value)
{
    struct vh_vfio *vfio = vh_vfio_of(device);
    const struct vh_vfio_region *region = &vfio->function.bars[bar];
    for (uint32_t i = 0; i < VH_VFIO_TRAPS; i++) {
        const struct vh_vfio_trap *trap = &vfio->traps[i];
        if (trap->bar == bar && offset >= trap->offset && offset - trap->offset < trap->bytes) {
            return vfio->core->msix_access(
                device, offset - trap->offset + (i == VH_VFIO_PENDING ? VH_MSIX_PENDING : 0), bytes,
                direction, value);
        }
    }
    if (direction == VMMHPC_ACCESS_WRITE) {
        (void)vh_vfio_write(vfio, region, offset, &value, bytes);
        return 0;
    }
    uint64_t result = 0;
    return vh_vfio_read(vfio, region, offset, &result, bytes) ? result : UINT64_MAX;
}
