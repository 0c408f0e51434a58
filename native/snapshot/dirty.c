/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's log of the pages that vCPUs write. What devices write from here is not in it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "snapshot.h"

static int32_t check(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no machine");
    }
    return vm->remote == NULL ? VMMHPC_OK
                              : vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                                        "pages that are written are not logged in a monitor");
}

static uint64_t log_pages(uint64_t *words, uint64_t pages)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < (pages + 63) / 64; i++) {
        count += (uint64_t)__builtin_popcountll(words[i]);
    }
    return count;
}

static int32_t failed(const char *what, uint64_t gpa, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_SYSCALL, errno, gpa, "KVM does not %s: %s", what,
                   vh_errno_text(errno));
}

int32_t vmmhpc_dirty_log_start(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = check(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&vm->kvm_lock);
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->memory.slot_count; i++) {
        const struct vmmhpc_slot *slot = &vm->memory.slots[i];
        struct kvm_userspace_memory_region region = {
            .slot = i,
            .flags = KVM_MEM_LOG_DIRTY_PAGES,
            .guest_phys_addr = slot->gpa,
            .memory_size = slot->bytes,
            .userspace_addr = slot->host,
        };
        if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
            status = failed("log pages that are written", slot->gpa, err);
        }
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

int32_t vmmhpc_dirty_log_count(struct vmmhpc *vm, uint64_t *pages, struct vmmhpc_error *err)
{
    int32_t status = check(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (pages == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "nowhere to put the number of pages");
    }
    *pages = 0;
    (void)pthread_mutex_lock(&vm->kvm_lock);
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->memory.slot_count; i++) {
        const uint64_t count = vm->memory.slots[i].bytes / VH_PAGE;
        uint64_t *words = calloc((count + 63) / 64, sizeof(*words));
        struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = words};
        if (words == NULL) {
            status = vh_fail(err, VMMHPC_E_NO_MEMORY, 0, count, "no memory for a log of pages");
        } else if (ioctl(vm->vm_fd, KVM_GET_DIRTY_LOG, &log) != 0) {
            status = failed("have a log of pages", vm->memory.slots[i].gpa, err);
        } else {
            *pages += log_pages(words, count);
        }
        free(words);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}
