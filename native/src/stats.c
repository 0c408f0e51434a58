/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics page: shared memory that the vCPU threads write and anybody reads without a lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

int32_t vh_stats_create(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    /* Whole pages for each vCPU: no two threads write the same cache line. */
    uint64_t stride = 0;
    (void)vh_align_up(sizeof(struct vmmhpc_vcpu_stats), VH_PAGE, &stride);
    vm->stats_bytes = VH_PAGE + vm->cpus * stride;
    vm->stats_fd = memfd_create("vmmhpc-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (vm->stats_fd < 0 || ftruncate(vm->stats_fd, (off_t)vm->stats_bytes) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, vm->stats_bytes,
                       "cannot create the statistics page");
    }
    /* Others map it, and may count on its size. */
    (void)fcntl(vm->stats_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    void *page = mmap(NULL, vm->stats_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->stats_fd, 0);
    if (page == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, vm->stats_bytes,
                       "cannot map the statistics page");
    }
    vm->stats = page;
    *vm->stats = (struct vmmhpc_stats_page){
        .magic = VMMHPC_STATS_MAGIC,
        .version = 1,
        .vcpus = vm->cpus,
        .vcpu_offset = (uint32_t)VH_PAGE,
        .vcpu_stride = (uint32_t)stride,
        .exits = VMMHPC_STATS_EXITS,
        .buckets = VMMHPC_STATS_BUCKETS,
    };
    for (uint32_t i = 0; i < vm->cpus; i++) {
        vm->vcpus[i].stats = (struct vmmhpc_vcpu_stats *)((uint8_t *)page + VH_PAGE + i * stride);
    }
    return VMMHPC_OK;
}

void vh_stats_destroy(struct vmmhpc *vm)
{
    if (vm->stats != NULL) {
        (void)munmap(vm->stats, vm->stats_bytes);
        vm->stats = NULL;
    }
    if (vm->stats_fd >= 0) {
        (void)close(vm->stats_fd);
        vm->stats_fd = -1;
    }
}

const struct vmmhpc_stats_page *vmmhpc_stats(const struct vmmhpc *vm, uint64_t *bytes)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->stats((struct vmmhpc *)(uintptr_t)vm,
                                      bytes); /* mapped at the first call */
    }
    if (bytes != NULL) {
        *bytes = vm->stats_bytes;
    }
    return vm->stats;
}

int32_t vmmhpc_stats_fd(const struct vmmhpc *vm)
{
    return vm->remote != NULL ? vm->remote->ops->stats_fd((struct vmmhpc *)(uintptr_t)vm)
                              : vm->stats_fd;
}
