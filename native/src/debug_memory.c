/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory by linear address. The page tables are walked by hand: KVM_TRANSLATE does not look
 * at pages that SMAP keeps the kernel from (AMD64 manual, volume 2, chapter 5).
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "debug.h"
#include "machine.h"

#define CR0_PG 0x80000000ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_LA57 0x1000ull
#define EFER_LMA 0x400ull
#define PTE_PRESENT 1ull
#define PTE_USER 4ull
#define PTE_LARGE 0x80ull
#define PTE_ADDRESS 0x000ffffffffff000ull

static bool entry_at(const struct vh_memory *memory, uint64_t gpa, uint32_t bytes, uint64_t *entry)
{
    const void *at = vh_memory_at(memory, gpa, bytes);
    *entry = 0;
    if (at != NULL) {
        memcpy(entry, at, bytes);
    }
    return (*entry & PTE_PRESENT) != 0;
}

/* Two levels of 32-bit entries. */
static bool walk32(const struct vh_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
                   uint64_t *gpa, bool *user)
{
    uint64_t entry = 0;
    if (!entry_at(memory, (sregs->cr3 & 0xfffff000) + (address >> 22) * 4, 4, &entry)) {
        return false;
    }
    *user = (entry & PTE_USER) != 0;
    if ((entry & PTE_LARGE) != 0 && (sregs->cr4 & CR4_PSE) != 0) {
        *gpa = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32 | (address & 0x3fffff);
        return true;
    }
    if (!entry_at(memory, (entry & 0xfffff000) + (address >> 12 & 0x3ff) * 4, 4, &entry)) {
        return false;
    }
    *user = *user && (entry & PTE_USER) != 0;
    *gpa = (entry & 0xfffff000) | (address & 0xfff);
    return true;
}

bool vh_debug_walk(const struct vh_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
                   uint64_t *gpa, bool *user)
{
    bool long_mode = (sregs->efer & EFER_LMA) != 0;
    uint32_t levels = !long_mode ? 3 : (sregs->cr4 & CR4_LA57) != 0 ? 5 : 4;
    *user = true;
    if (!long_mode) {
        address &= 0xffffffff;
    } else {
        uint32_t unused = 64 - (12 + 9 * levels);
        if ((uint64_t)((int64_t)(address << unused) >> unused) != address) {
            return false;
        }
    }
    if ((sregs->cr0 & CR0_PG) == 0) {
        *user = false;
        *gpa = address;
        return true;
    }
    if ((sregs->cr4 & CR4_PAE) == 0) {
        return walk32(memory, sregs, address, gpa, user);
    }
    uint64_t table = sregs->cr3 & (long_mode ? PTE_ADDRESS : 0xffffffe0ull);
    for (uint32_t level = levels; level >= 1; level--) {
        uint32_t shift = 12 + 9 * (level - 1);
        bool pdpte = !long_mode && level == 3; /* has no rights and no size */
        uint64_t entry = 0;
        if (!entry_at(memory, table + (address >> shift & 0x1ff) * 8, 8, &entry)) {
            return false;
        }
        *user = *user && (pdpte || (entry & PTE_USER) != 0);
        if (level == 1 || (level <= 3 && !pdpte && (entry & PTE_LARGE) != 0)) {
            uint64_t inside = (1ull << shift) - 1;
            *gpa = (entry & PTE_ADDRESS & ~inside) | (address & inside);
            return true;
        }
        table = entry & PTE_ADDRESS;
    }
    return false;
}

bool vh_debug_find(const struct vh_vcpu *vcpu, uint64_t address, uint64_t *gpa, bool *user)
{
    const struct vmmhpc *vm = vcpu->vm;
    struct kvm_sregs sregs;
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) != 0) {
        return false;
    }
    if (vh_debug_walk(&vm->memory, &sregs, address, gpa, user)) {
        return true;
    }
    /* The kernel's half is the same for all, and may be hidden from one that is in user mode. */
    for (uint32_t i = 0; (address >> 63) != 0 && i < vm->cpus; i++) {
        if (ioctl(vm->vcpus[i].fd, KVM_GET_SREGS, &sregs) == 0 &&
            vh_debug_walk(&vm->memory, &sregs, address, gpa, user)) {
            return true;
        }
    }
    return false;
}

int32_t vmmhpc_debug_translate(struct vmmhpc *vm, uint32_t vcpu, uint64_t address, uint64_t *gpa,
                               struct vmmhpc_error *err)
{
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    bool user = false;
    if (!vh_debug_find(&vm->vcpus[vcpu], address, gpa, &user)) {
        status = vh_fail(err, VMMHPC_E_RANGE, 0, address, "vCPU %u has no page at 0x%llx", vcpu,
                         (unsigned long long)address);
    }
    vh_debug_leave(vm);
    return status;
}

/* What is in memory is not what the guest has there: show the guest's bytes. */
static void hide_patches(const struct vh_debug *debug, uint64_t gpa, uint8_t *data, uint64_t bytes)
{
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        const struct vh_patch *patch = &debug->patches[i];
        if (patch->users > 0 && patch->in && patch->gpa - gpa < bytes) {
            data[patch->gpa - gpa] = patch->original;
        }
    }
}

/* The guest's bytes are these from now on; the traps stay. */
static void keep_patches(struct vh_debug *debug, uint64_t gpa, uint8_t *memory, const uint8_t *data,
                         uint64_t bytes)
{
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        struct vh_patch *patch = &debug->patches[i];
        if (patch->users > 0 && patch->in && patch->gpa - gpa < bytes) {
            patch->original = data[patch->gpa - gpa];
            memory[patch->gpa - gpa] = patch->trap;
        }
    }
}

static int32_t copy(struct vmmhpc *vm, uint32_t vcpu, uint64_t address, uint8_t *to,
                    const uint8_t *from, uint64_t bytes, uint64_t *done, struct vmmhpc_error *err)
{
    uint64_t count = 0;
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_debug *debug = atomic_load(&vm->debug);
    while (count < bytes) {
        uint64_t at = address + count;
        uint64_t piece = VH_PAGE - (at & (VH_PAGE - 1));
        piece = piece < bytes - count ? piece : bytes - count;
        uint64_t gpa = 0;
        bool user = false;
        uint8_t *memory = vh_debug_find(&vm->vcpus[vcpu], at, &gpa, &user)
                              ? vh_memory_at(&vm->memory, gpa, piece)
                              : NULL;
        if (memory == NULL) {
            status = vh_fail(err, VMMHPC_E_RANGE, 0, at, "vCPU %u has no RAM at 0x%llx", vcpu,
                             (unsigned long long)at);
            break;
        }
        if (to != NULL) {
            memcpy(to + count, memory, piece);
            hide_patches(debug, gpa, to + count, piece);
        } else if (from != NULL) {
            memcpy(memory, from + count, piece);
            keep_patches(debug, gpa, memory, from + count, piece);
        }
        count += piece;
    }
    vh_debug_leave(vm);
    if (done != NULL) {
        *done = count;
    }
    return status;
}

int32_t vmmhpc_debug_read(struct vmmhpc *vm, uint32_t vcpu, uint64_t address, void *data,
                          uint64_t bytes, uint64_t *done, struct vmmhpc_error *err)
{
    return copy(vm, vcpu, address, data, NULL, bytes, done, err);
}

int32_t vmmhpc_debug_write(struct vmmhpc *vm, uint32_t vcpu, uint64_t address, const void *data,
                           uint64_t bytes, uint64_t *done, struct vmmhpc_error *err)
{
    return copy(vm, vcpu, address, NULL, data, bytes, done, err);
}
