/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics page: its layout, for readers in this process and in others. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "machine.h"
#include "tap.h"

static struct vmmhpc_error err = {.size = sizeof(err)};

static struct vmmhpc *machine_with(uint32_t cpus)
{
    struct vmmhpc *vm = calloc(1, sizeof(*vm));

    vm->cpus = cpus;
    vm->vcpus = calloc(cpus, sizeof(*vm->vcpus));
    vm->stats_fd = -1;
    return vm;
}

static void discard(struct vmmhpc *vm)
{
    vh_stats_destroy(vm);
    CHECK(vm->stats == NULL);
    CHECK_EQ(vm->stats_fd, -1);
    vh_stats_destroy(vm); /* may be called again */
    free(vm->vcpus);
    free(vm);
}

TEST(stats_layout)
{
    static const uint32_t counts[] = {1, 2, 3, 300};

    for (size_t i = 0; i < VH_COUNT(counts); i++) {
        struct vmmhpc *vm = machine_with(counts[i]);
        uint64_t bytes = 0;
        struct stat info;

        CHECK_OK(vh_stats_create(vm, &err), &err);
        const struct vmmhpc_stats_page *page = vmmhpc_stats(vm, &bytes);
        CHECK_EQ(page->magic, VMMHPC_STATS_MAGIC);
        CHECK_EQ(page->version, 1);
        CHECK_EQ(page->vcpus, counts[i]);
        CHECK_EQ(page->exits, VMMHPC_STATS_EXITS);
        CHECK_EQ(page->buckets, VMMHPC_STATS_BUCKETS);
        CHECK_EQ(page->start_ns | page->first_run_ns | page->resets | page->console_out, 0);
        CHECK(page->vcpu_offset >= sizeof(*page));
        CHECK(page->vcpu_stride >= sizeof(struct vmmhpc_vcpu_stats));
        CHECK_EQ(page->vcpu_offset % VH_PAGE, 0);
        CHECK_EQ(page->vcpu_stride % VH_PAGE, 0); /* no two writers share a cache line */
        CHECK_EQ(bytes, page->vcpu_offset + (uint64_t)counts[i] * page->vcpu_stride);
        CHECK_EQ(fstat(vmmhpc_stats_fd(vm), &info), 0);
        CHECK_EQ(info.st_size, bytes);
        for (uint32_t v = 0; v < counts[i]; v++) {
            CHECK_EQ((uint64_t)((const uint8_t *)vm->vcpus[v].stats - (const uint8_t *)page),
                     page->vcpu_offset + (uint64_t)v * page->vcpu_stride);
            CHECK_EQ(vm->vcpus[v].stats->runs, 0);
        }
        CHECK(vmmhpc_stats(vm, NULL) == page);
        discard(vm);
    }
}

TEST(stats_seen_by_another_process)
{
    struct vmmhpc *vm = machine_with(2);

    CHECK_OK(vh_stats_create(vm, &err), &err);
    const uint8_t *other =
        mmap(NULL, vm->stats_bytes, PROT_READ, MAP_SHARED, vmmhpc_stats_fd(vm), 0);
    CHECK(other != MAP_FAILED);
    const struct vmmhpc_stats_page *page = (const struct vmmhpc_stats_page *)other;
    const struct vmmhpc_vcpu_stats *second =
        (const struct vmmhpc_vcpu_stats *)(other + page->vcpu_offset + page->vcpu_stride);
    CHECK_EQ(page->magic, VMMHPC_STATS_MAGIC);
    vm->vcpus[1].stats->exits[VMMHPC_STATS_EXITS - 1].histogram[VMMHPC_STATS_BUCKETS - 1] = 42;
    CHECK_EQ(second->exits[VMMHPC_STATS_EXITS - 1].histogram[VMMHPC_STATS_BUCKETS - 1], 42);
    (void)munmap((void *)(uintptr_t)other, vm->stats_bytes);
    discard(vm);
}

TEST(stats_structures_have_no_holes)
{
    CHECK_EQ(sizeof(struct vmmhpc_exit_stats), 8 * (2 + VMMHPC_STATS_BUCKETS));
    CHECK_EQ(sizeof(struct vmmhpc_vcpu_stats),
             8 * 16 + VMMHPC_STATS_EXITS * sizeof(struct vmmhpc_exit_stats));
    CHECK_EQ(offsetof(struct vmmhpc_vcpu_stats, exits) % 64, 0);
    CHECK(sizeof(struct vmmhpc_stats_page) <= VH_PAGE);
}
