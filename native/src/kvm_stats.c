/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's own counters, through KVM_GET_STATS_FD (Linux 5.14). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine.h"

#define STATS_MAX 512u
#define NAME_MAX_BYTES 256u
#define NO_STATISTICS "this host's KVM has no binary statistics (needs Linux 5.14)"

/* The header and the descriptors come from the kernel, but sizes are checked all the same. */
static int32_t read_stats(int fd, struct vmmhpc_kvm_stat *out, uint32_t capacity, uint32_t *count,
                          struct vmmhpc_error *err)
{
    struct kvm_stats_header header;
    if (vh_pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        header.num_desc > STATS_MAX || header.name_size > NAME_MAX_BYTES) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0, "KVM's statistics are not readable");
    }
    struct {
        struct kvm_stats_desc desc;
        char name[NAME_MAX_BYTES];
    } entry;
    size_t entry_bytes = sizeof(entry.desc) + header.name_size;
    *count = header.num_desc;
    for (uint32_t i = 0; i < header.num_desc && i < capacity; i++) {
        memset(&entry, 0, sizeof(entry));
        uint64_t value = 0;
        off_t desc_at = (off_t)header.desc_offset + (off_t)(i * entry_bytes);
        if (vh_pread(fd, &entry, entry_bytes, desc_at) != (ssize_t)entry_bytes) {
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, i, "KVM's statistics cannot be read");
        }
        off_t value_at = (off_t)header.data_offset + (off_t)entry.desc.offset;
        if (vh_pread(fd, &value, sizeof(value), value_at) != (ssize_t)sizeof(value)) {
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, i, "KVM's statistics cannot be read");
        }
        entry.name[NAME_MAX_BYTES - 1] = '\0';
        (void)snprintf(out[i].name, sizeof(out[i].name), "%.47s", entry.name);
        out[i].value = value; /* of a histogram: its first bucket */
    }
    return VMMHPC_OK;
}

static int32_t read_vcpu(const struct vh_vcpu *vcpu, struct vmmhpc_kvm_stat *out, uint32_t capacity,
                         uint32_t *count, struct vmmhpc_error *err)
{
    if (vcpu->stats_fd < 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0, NO_STATISTICS);
    }
    return read_stats(vcpu->stats_fd, out, capacity, count, err);
}

static int32_t read_vm(const struct vmmhpc *vm, struct vmmhpc_kvm_stat *out, uint32_t capacity,
                       uint32_t *count, struct vmmhpc_error *err)
{
    int fd = ioctl(vm->vm_fd, KVM_GET_STATS_FD, 0);
    if (fd < 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0, NO_STATISTICS);
    }
    int32_t status = read_stats(fd, out, capacity, count, err);
    (void)close(fd);
    return status;
}

/* The counters of earlier lives are added, so that a reset does not turn them back. */
static uint64_t base_of(const struct vmmhpc *vm, uint32_t vcpu, const char *name)
{
    for (uint32_t i = 0; i < vm->stat_base_count; i++) {
        const struct vmmhpc_kvm_stat *stat = &vm->stat_base[vcpu * vm->stat_base_count + i];
        if (strncmp(stat->name, name, sizeof(stat->name)) == 0) {
            return stat->value;
        }
    }
    return 0;
}

int32_t vmmhpc_kvm_stats(struct vmmhpc *vm, int32_t vcpu, struct vmmhpc_kvm_stat *out,
                         uint32_t capacity, uint32_t *count, struct vmmhpc_error *err)
{
    if (count == NULL || (out == NULL && capacity > 0) || vcpu >= (int32_t)vm->cpus) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)(int64_t)vcpu, "no such statistics");
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->kvm_stats(vm, vcpu, out, capacity, count, err);
    }
    (void)pthread_mutex_lock(&vm->kvm_lock);
    int32_t status = vcpu < 0 ? read_vm(vm, out, capacity, count, err)
                              : read_vcpu(&vm->vcpus[vcpu], out, capacity, count, err);
    for (uint32_t i = 0; status == VMMHPC_OK && vcpu >= 0 && i < *count && i < capacity; i++) {
        out[i].value += base_of(vm, (uint32_t)vcpu, out[i].name);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

void vh_kvm_stats_save(struct vmmhpc *vm)
{
    uint32_t count = 0;
    struct vmmhpc_kvm_stat none;
    if (read_vcpu(&vm->vcpus[0], &none, 0, &count, NULL) != VMMHPC_OK || count == 0) {
        return;
    }
    struct vmmhpc_kvm_stat *base = calloc((size_t)vm->cpus * count, sizeof(*base));
    if (base == NULL) {
        return; /* counters start at zero again: better than no reset */
    }
    for (uint32_t v = 0; v < vm->cpus; v++) {
        uint32_t got = 0;
        struct vmmhpc_kvm_stat *row = &base[(size_t)v * count];
        if (read_vcpu(&vm->vcpus[v], row, count, &got, NULL) != VMMHPC_OK) {
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            row[i].value += base_of(vm, v, row[i].name);
        }
    }
    free(vm->stat_base);
    vm->stat_base = base;
    vm->stat_base_count = count;
}

int32_t vmmhpc_guest_exits(struct vmmhpc *vm, uint64_t *exits, struct vmmhpc_error *err)
{
    struct vmmhpc_kvm_stat *stats = calloc(STATS_MAX, sizeof(*stats));
    if (stats == NULL || exits == NULL) {
        free(stats);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for statistics");
    }
    uint64_t total = 0;
    int32_t status = VMMHPC_OK;
    for (uint32_t v = 0; status == VMMHPC_OK && v < vm->cpus; v++) {
        uint32_t count = 0;
        status = vmmhpc_kvm_stats(vm, (int32_t)v, stats, STATS_MAX, &count, err);
        for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
            if (strcmp(stats[i].name, "exits") == 0) {
                total += stats[i].value;
            } else if (strcmp(stats[i].name, "irq_exits") == 0) {
                total -= stats[i].value;
            }
        }
    }
    free(stats);
    *exits = total;
    return status;
}
