/* SPDX-License-Identifier: Apache-2.0 */
/* The MSRs that KVM says are a vCPU's state. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "snapshot.h"

#define MSR_TSC 0x10u /* VH_SNAP_TSC has it, of one moment for all vCPUs */
#define MSRS_MAX 4096u

/* Their numbers, without the TSC; the caller frees *list. */
static int32_t numbers(const struct vmmhpc *vm, struct kvm_msr_list **list,
                       struct vmmhpc_error *err)
{
    struct kvm_msr_list *found = calloc(1, sizeof(*found) + MSRS_MAX * sizeof(uint32_t));
    if (found == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, MSRS_MAX, "no memory for MSRs");
    }
    found->nmsrs = MSRS_MAX;
    if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, found) != 0 || found->nmsrs > MSRS_MAX) {
        int failed = errno;
        free(found);
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, failed, 0, "KVM does not tell its MSRs");
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < found->nmsrs; i++) {
        if (found->indices[i] != MSR_TSC) {
            found->indices[kept++] = found->indices[i];
        }
    }
    found->nmsrs = kept;
    *list = found;
    return VMMHPC_OK;
}

static struct kvm_msrs *new_msrs(uint32_t count)
{
    return calloc(1, sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry));
}

/* KVM stops at the first that it refuses, and says how many were done. It lists some that this
 * guest's CPU does not have: they are left out. */
static uint32_t read_msrs(const struct vh_vcpu *vcpu, const struct kvm_msr_list *list,
                          struct kvm_msrs *msrs)
{
    uint32_t kept = 0;
    for (uint32_t next = 0; next < list->nmsrs;) {
        for (uint32_t i = next; i < list->nmsrs; i++) {
            msrs->entries[kept + i - next] = (struct kvm_msr_entry){.index = list->indices[i]};
        }
        /* The header in front of the entries that are left. */
        struct kvm_msrs *rest =
            kept == 0 ? msrs : (struct kvm_msrs *)(void *)(&msrs->entries[kept]) - 1;
        const struct kvm_msrs before = *rest;
        rest->nmsrs = list->nmsrs - next;
        rest->pad = 0;
        int done = ioctl(vcpu->fd, KVM_GET_MSRS, rest);
        memcpy(rest, &before, sizeof(before));
        if (done < 0) {
            break;
        }
        kept += (uint32_t)done;
        next += (uint32_t)done + 1;
    }
    return kept;
}

int32_t vh_snap_save_msrs(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err)
{
    struct kvm_msr_list *list = NULL;
    int32_t status = numbers(vcpu->vm, &list, err);
    if (status != VMMHPC_OK || list == NULL) {
        return status;
    }
    struct kvm_msrs *msrs = new_msrs(list->nmsrs);
    if (msrs == NULL) {
        status = vh_fail(err, VMMHPC_E_NO_MEMORY, 0, list->nmsrs, "no memory for MSRs");
    } else {
        uint32_t count = read_msrs(vcpu, list, msrs);
        vh_snap_section(writer, VH_SNAP_MSRS, vcpu->index, msrs->entries,
                        count * sizeof(msrs->entries[0]));
    }
    free(msrs);
    free(list);
    return status;
}

/* One that cannot be set is no loss where it has that value anyhow. */
static int32_t load_one(const struct vh_vcpu *vcpu, const struct kvm_msr_entry *entry,
                        struct vmmhpc_error *err)
{
    struct {
        struct kvm_msrs header;
        struct kvm_msr_entry entry;
    } one = {.header = {.nmsrs = 1}, .entry = *entry};
    if (ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1) {
        return VMMHPC_OK;
    }
    one.entry.data = ~entry->data;
    if (entry->data == 0 ||
        (ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1 && one.entry.data == entry->data)) {
        return VMMHPC_OK;
    }
    return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, entry->index,
                   "KVM does not take MSR 0x%x of vCPU %u (0x%llx)", entry->index, vcpu->index,
                   (unsigned long long)entry->data);
}

int32_t vh_snap_load_msrs(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err)
{
    size_t bytes = 0;
    const struct kvm_msr_entry *entries = vh_snap_find(reader, VH_SNAP_MSRS, vcpu->index, &bytes);
    size_t count = bytes / sizeof(*entries);
    if (entries == NULL || bytes % sizeof(*entries) != 0 || count > MSRS_MAX) {
        return vh_snap_damaged(err, VH_SNAP_MSRS, vcpu->index, "its MSRs make no sense");
    }
    int32_t status = VMMHPC_OK;
    for (size_t i = 0; status == VMMHPC_OK && i < count; i++) {
        if (entries[i].index != MSR_TSC) {
            status = load_one(vcpu, &entries[i], err);
        }
    }
    return status;
}
