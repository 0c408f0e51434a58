/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window: one stretch of address space, of which KVM knows a few parts. Peers come and go by
 * what is mapped into it, which the guest's page tables follow by themselves: KVM's slots stay as
 * they are.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"

/* Slots behind those of RAM and pmem, for each place on the bus; VFIO's are behind them. */
#define FIRST_SLOT 64u
_Static_assert(FIRST_SLOT + VH_SHM_PARTS * VH_PCI_SLOTS <= 256,
               "vfio/bars.c has those from 256 on");

static bool map(struct vh_shm *shm, uint64_t at, uint64_t bytes, int fd, bool writable)
{
    int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    int kind = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    return mmap(shm->window + at, bytes, prot, MAP_FIXED | kind, fd, 0) != MAP_FAILED;
}

int32_t vh_shm_window_new(struct vh_shm *shm, int area_fd, int common_fd, struct vmmhpc_error *err)
{
    uint64_t used = vh_shm_area(shm, shm->peers);
    uint64_t bytes = VH_PAGE;
    while (bytes < used) {
        bytes *= 2;
    }
    void *start = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, bytes, "no address space for a channel");
    }
    shm->window = start;
    shm->window_bytes = bytes;
    if (!map(shm, 0, VH_SHM_TABLE_BYTES, shm->table_fd, false) ||
        (common_fd >= 0 && !map(shm, VH_SHM_TABLE_BYTES, shm->common_bytes, common_fd, true)) ||
        !map(shm, vh_shm_area(shm, shm->id), shm->area_bytes, area_fd, true)) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, shm->area_bytes,
                       "cannot map the memory of a channel");
    }
    return VMMHPC_OK;
}

void vh_shm_window_free(struct vh_shm *shm)
{
    if (shm->window != NULL) {
        (void)munmap(shm->window, shm->window_bytes);
        shm->window = NULL;
    }
}

void vh_shm_window_put(struct vh_shm *shm, uint32_t peer, int fd)
{
    const uint64_t at = vh_shm_area(shm, peer);
    if (!map(shm, at, shm->area_bytes, fd, false) && fd >= 0) {
        (void)map(shm, at, shm->area_bytes, -1, false); /* nothing rather than what was there */
    }
}

void vh_shm_window_hide_table(struct vh_shm *shm)
{
    (void)map(shm, 0, VH_SHM_TABLE_BYTES, -1, false);
}

/* ------------------------------------------------------------------ KVM */

struct part {
    uint64_t offset; /* in the window */
    uint64_t bytes;
    bool writable;
};

static void parts_of(const struct vh_shm *shm, struct part parts[VH_SHM_PARTS])
{
    const uint64_t first = vh_shm_area(shm, 0);
    const uint64_t own = vh_shm_area(shm, shm->id);
    const uint64_t behind = own + shm->area_bytes;
    parts[0] = (struct part){0, VH_SHM_TABLE_BYTES, false};
    parts[1] = (struct part){VH_SHM_TABLE_BYTES, shm->common_bytes, true};
    parts[2] = (struct part){first, own - first, false};
    parts[3] = (struct part){own, shm->area_bytes, true};
    parts[4] = (struct part){behind, shm->window_bytes - behind, false};
}

/* At the BAR's place, or not at all. */
static bool set_slot(struct vh_shm *shm, uint32_t index, const struct part *part, bool on)
{
    struct vmmhpc *vm = shm->pci.vm;
    struct kvm_userspace_memory_region region = {
        .slot = FIRST_SLOT + VH_SHM_PARTS * shm->pci.slot + index,
        .flags = part->writable ? 0 : KVM_MEM_READONLY,
        .guest_phys_addr = shm->gpa[VH_SHM_BAR_MEMORY] + part->offset,
        .memory_size = on ? part->bytes : 0,
        .userspace_addr = (uint64_t)(uintptr_t)(shm->window + part->offset),
    };
    (void)pthread_mutex_lock(&vm->kvm_lock);
    bool done = vm->vm_fd >= 0 && ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0;
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return done;
}

void vh_shm_window_move(struct vh_shm *shm, uint64_t gpa)
{
    struct part parts[VH_SHM_PARTS];
    parts_of(shm, parts);
    for (uint32_t i = 0; i < VH_SHM_PARTS; i++) {
        if (shm->slots[i]) {
            (void)set_slot(shm, i, &parts[i], false);
            shm->slots[i] = false;
        }
    }
    shm->gpa[VH_SHM_BAR_MEMORY] = gpa;
    for (uint32_t i = 0; gpa != VH_PCI_NOWHERE && i < VH_SHM_PARTS; i++) {
        /* Where KVM refuses there is nobody to tell: the guest reads all ones. */
        shm->slots[i] = parts[i].bytes > 0 && set_slot(shm, i, &parts[i], true);
    }
}

/* A write of this value to the doorbell is a signal to that descriptor, or no longer. */
static void set_bell(struct vh_shm *shm, uint32_t peer, uint32_t vector, bool on)
{
    struct vmmhpc *vm = shm->pci.vm;
    struct kvm_ioeventfd request = {
        .datamatch = (uint64_t)peer << 16 | vector,
        .addr = shm->gpa[VH_SHM_BAR_REGISTERS] + VH_SHM_REG_DOORBELL,
        .len = 4,
        .fd = shm->others[peer].bells[vector],
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    (void)pthread_mutex_lock(&vm->kvm_lock);
    if (vm->vm_fd >= 0) {
        /* Where KVM has no room for it the write comes to us: doorbell() in device.c. */
        (void)ioctl(vm->vm_fd, KVM_IOEVENTFD, &request);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
}

static void set_bells(struct vh_shm *shm, uint32_t peer, bool on)
{
    if (!shm->others[peer].present || shm->gpa[VH_SHM_BAR_REGISTERS] == VH_PCI_NOWHERE) {
        return;
    }
    for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
        set_bell(shm, peer, i, on);
    }
}

void vh_shm_registers_move(struct vh_shm *shm, uint64_t gpa)
{
    for (uint32_t i = 0; i < shm->peers; i++) {
        set_bells(shm, i, false);
    }
    shm->gpa[VH_SHM_BAR_REGISTERS] = gpa;
    for (uint32_t i = 0; i < shm->peers; i++) {
        set_bells(shm, i, true);
    }
}

void vh_shm_bells_put(struct vh_shm *shm, uint32_t peer, const int *bells)
{
    struct vh_shm_other *other = &shm->others[peer];
    if (other->present) {
        set_bells(shm, peer, false);
        vh_shm_close(other->bells, VMMHPC_SHM_VECTORS);
        other->present = false;
    }
    if (bells != NULL) {
        memcpy(other->bells, bells, sizeof(other->bells));
        other->present = true;
        set_bells(shm, peer, true);
    }
}
