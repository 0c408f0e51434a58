/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: what is refused, where it lies, and the gate. Large layouts are reserved, not touched.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tap.h"

#define MIB (1024ull * 1024)
#define GIB (1024 * MIB)

static struct vmmhpc_error err = {.size = sizeof(err)};

static struct vmmhpc_memory region(uint64_t bytes)
{
    return (struct vmmhpc_memory){
        .size = sizeof(struct vmmhpc_memory), .bytes = bytes, .numa_node = -1};
}

static uint32_t open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    uint32_t count = 0;

    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static uint64_t offset_of(const struct vh_memory *memory, uint64_t gpa, uint64_t bytes)
{
    const uint8_t *at = vh_memory_at(memory, gpa, bytes);

    return at == NULL ? UINT64_MAX : (uint64_t)(at - (uint8_t *)memory->mappings[0].base);
}

TEST(memory_gate_edges)
{
    struct vmmhpc_memory spec = region(4 * MIB);
    struct vh_memory memory;

    CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
    CHECK_EQ(memory.total, 4 * MIB);
    CHECK_EQ(offset_of(&memory, 0, 0), 0);
    CHECK_EQ(offset_of(&memory, 0, 4 * MIB), 0);
    CHECK_EQ(offset_of(&memory, 4 * MIB - 1, 1), 4 * MIB - 1);
    CHECK_EQ(offset_of(&memory, 4 * MIB - 1, 0), 4 * MIB - 1);
    CHECK(vh_memory_at(&memory, 4 * MIB, 0) == NULL);
    CHECK(vh_memory_at(&memory, 0, 4 * MIB + 1) == NULL);
    CHECK(vh_memory_at(&memory, 4 * MIB - 1, 2) == NULL);
    CHECK(vh_memory_at(&memory, 1, UINT64_MAX) == NULL);             /* the sum is 0 */
    CHECK(vh_memory_at(&memory, 2 * MIB, UINT64_MAX - MIB) == NULL); /* the sum is small */
    CHECK(vh_memory_at(&memory, UINT64_MAX, 1) == NULL);
    CHECK(vh_memory_at(&memory, UINT64_MAX, UINT64_MAX) == NULL);
    CHECK(vh_memory_at(&memory, UINT64_MAX - 4095, 4096) == NULL);
    vh_memory_destroy(&memory);
    CHECK(vh_memory_at(&memory, 0, 0) == NULL);
}

TEST(memory_round_the_hole)
{
    struct vmmhpc_memory spec = region(4 * GIB);
    struct vh_memory memory;

    CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
    CHECK_EQ(memory.slot_count, 2);
    CHECK_EQ(memory.mapping_count, 1);
    CHECK_EQ(memory.slots[0].gpa, 0);
    CHECK_EQ(memory.slots[0].bytes, VMMHPC_HOLE_START);
    CHECK_EQ(memory.slots[1].gpa, VMMHPC_HOLE_END);
    CHECK_EQ(memory.slots[1].bytes, 4 * GIB - VMMHPC_HOLE_START);
    CHECK_EQ(memory.slots[1].host - memory.slots[0].host, VMMHPC_HOLE_START);
    CHECK_EQ(memory.slots[1].fd_offset, VMMHPC_HOLE_START);
    CHECK_EQ(vh_memory_low_end(&memory), VMMHPC_HOLE_START);
    CHECK_EQ(offset_of(&memory, VMMHPC_HOLE_START - 1, 1), VMMHPC_HOLE_START - 1);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_START - 1, 2) == NULL);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_START, 1) == NULL);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_END - 1, 1) == NULL);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_END - 1, 2) == NULL);
    CHECK_EQ(offset_of(&memory, VMMHPC_HOLE_END, 1), VMMHPC_HOLE_START);
    CHECK_EQ(offset_of(&memory, 5 * GIB - 1, 1), 4 * GIB - 1);
    CHECK(vh_memory_at(&memory, 5 * GIB, 1) == NULL);
    CHECK(vh_memory_at(&memory, 0, 4 * GIB) == NULL); /* contiguous for the host only */
    vh_memory_destroy(&memory);
}

TEST(memory_regions_meet_at_the_hole)
{
    struct vmmhpc_memory specs[] = {region(3 * GIB), region(2 * MIB), region(64 * GIB)};
    struct vh_memory memory;

    CHECK_OK(vh_memory_create(&memory, specs, 3, &err), &err);
    CHECK_EQ(memory.slot_count, 3);
    CHECK_EQ(memory.slots[0].bytes, 3 * GIB);
    CHECK_EQ(memory.slots[1].gpa, VMMHPC_HOLE_END);
    CHECK_EQ(memory.slots[2].gpa, VMMHPC_HOLE_END + 2 * MIB);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_END + 2 * MIB + 64 * GIB - 1, 1) != NULL);
    CHECK(vh_memory_at(&memory, VMMHPC_HOLE_END + 2 * MIB - 1, 2) == NULL); /* two slots */
    vh_memory_destroy(&memory);
}

TEST(memory_sixteen_regions)
{
    struct vmmhpc_memory specs[VMMHPC_MEMORY_MAX + 1];
    struct vh_memory memory;

    for (uint32_t i = 0; i <= VMMHPC_MEMORY_MAX; i++) {
        specs[i] = region(256 * MIB + 4096);
        specs[i].backing = i % 3;
    }
    CHECK_OK(vh_memory_create(&memory, specs, VMMHPC_MEMORY_MAX, &err), &err);
    CHECK_EQ(memory.slot_count, VH_SLOT_MAX); /* one of them crosses the hole */
    CHECK_EQ(vh_memory_low_end(&memory), VMMHPC_HOLE_START);
    for (uint32_t i = 0; i < memory.mapping_count; i++) {
        CHECK_EQ((uintptr_t)memory.mappings[i].base % (2 * MIB), 0);
    }
    uint32_t files = 0;
    for (uint32_t i = 1; i < memory.slot_count; i++) {
        const struct vmmhpc_slot *before = &memory.slots[i - 1];

        CHECK(memory.slots[i].gpa == before->gpa + before->bytes ||
              memory.slots[i].gpa == VMMHPC_HOLE_END);
        files += memory.slots[i].fd >= 0 ? 1 : 0;
    }
    CHECK_EQ(files, 6); /* five regions of memfd, and the twelfth is in two pieces */
    vh_memory_destroy(&memory);
    CHECK_ERROR(vh_memory_create(&memory, specs, VMMHPC_MEMORY_MAX + 1, &err), &err, VMMHPC_E_LIMIT,
                "1 to 16 memory regions, not 17");
    CHECK_EQ(err.value, 17);
}

static void refused(const struct vmmhpc_memory *spec, int32_t code, const char *text)
{
    struct vmmhpc_memory specs[] = {region(2 * MIB), *spec};
    struct vh_memory memory;
    uint32_t files = open_files();

    specs[0].backing = VMMHPC_BACKING_MEMFD; /* what was made before the failure goes again */
    CHECK_ERROR(vh_memory_create(&memory, specs, 2, &err), &err, code, text);
    CHECK_EQ(open_files(), files);
}

TEST(memory_refused)
{
    struct vh_memory memory;
    struct vmmhpc_memory spec = region(VMMHPC_MEMORY_MIN - 4096);

    CHECK_ERROR(vh_memory_create(&memory, NULL, 1, &err), &err, VMMHPC_E_INVALID, "memory regions");
    CHECK_ERROR(vh_memory_create(&memory, &spec, 0, &err), &err, VMMHPC_E_INVALID, "not 0");
    CHECK_ERROR(vh_memory_create(&memory, &spec, 1, &err), &err, VMMHPC_E_INVALID,
                "1020 KiB of memory is too small");
    spec = region(MIB);
    spec.size--;
    refused(&spec, VMMHPC_E_INVALID, "memory region 1: bad structure size");
    spec = region(MIB);
    spec.backing = VMMHPC_BACKING_HUGE_1G + 1;
    refused(&spec, VMMHPC_E_INVALID, "unknown backing");
    spec = region(MIB);
    spec.flags = 2;
    refused(&spec, VMMHPC_E_INVALID, "unknown backing or flags");
    spec = region(0);
    refused(&spec, VMMHPC_E_INVALID, "not a positive multiple");
    spec = region(MIB + 1);
    refused(&spec, VMMHPC_E_INVALID, "not a positive multiple");
    spec = region(3 * MIB);
    spec.backing = VMMHPC_BACKING_HUGE_2M;
    refused(&spec, VMMHPC_E_INVALID, "not a positive multiple");
    spec = region(512 * MIB);
    spec.backing = VMMHPC_BACKING_HUGE_1G;
    refused(&spec, VMMHPC_E_INVALID, "not a positive multiple");
    spec = region((1ull << 46) + 4096);
    refused(&spec, VMMHPC_E_NO_MEMORY, "more than the address space holds");
    spec = region(UINT64_MAX - 4095);
    refused(&spec, VMMHPC_E_NO_MEMORY, "more than the address space holds");
    spec = region(1ull << 46);
    spec.flags = VMMHPC_MEMORY_PREFAULT;
    refused(&spec, VMMHPC_E_NO_MEMORY, "cannot pre-fault 67108864 MiB");
}

TEST(memory_numa_node)
{
    static const int32_t bad[] = {-2, 1024, INT32_MAX, INT32_MIN, 1000};
    struct vmmhpc_memory spec = region(2 * MIB);
    struct vh_memory memory;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        spec.numa_node = bad[i];
        refused(&spec, VMMHPC_E_INVALID, "NUMA node");
    }
    spec.numa_node = 0;
    CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
    vh_memory_destroy(&memory);
}

static bool all_zero(const struct vh_memory *memory, uint64_t bytes)
{
    const uint8_t *at = vh_memory_at(memory, 0, bytes);
    uint8_t any = 0;

    for (uint64_t i = 0; i < bytes; i++) {
        any |= at[i];
    }
    return any == 0;
}

TEST(memory_backings_and_clear)
{
    for (uint32_t backing = VMMHPC_BACKING_ANON; backing <= VMMHPC_BACKING_MEMFD; backing++) {
        struct vmmhpc_memory spec = region(4 * MIB);
        struct vh_memory memory;

        spec.backing = backing;
        spec.flags = VMMHPC_MEMORY_PREFAULT;
        CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
        CHECK_EQ((uintptr_t)memory.mappings[0].base % (2 * MIB), 0);
        CHECK(all_zero(&memory, 4 * MIB));
        memset(vh_memory_at(&memory, 0, 4 * MIB), 0xa5, 4 * MIB);
        CHECK_OK(vh_memory_clear(&memory, &err), &err);
        CHECK(all_zero(&memory, 4 * MIB));
        *(uint8_t *)vh_memory_at(&memory, 4 * MIB - 1, 1) = 1;
        CHECK(!all_zero(&memory, 4 * MIB));
        vh_memory_destroy(&memory);
    }
}

TEST(memory_huge_pages)
{
    struct vmmhpc_memory spec = region(1024 * GIB); /* nobody has reserved this many */
    struct vh_memory memory;
    uint32_t files = open_files();

    spec.backing = VMMHPC_BACKING_HUGE_2M;
    CHECK_ERROR(vh_memory_create(&memory, &spec, 1, &err), &err, VMMHPC_E_NO_MEMORY,
                "not enough free huge pages of 2 MiB for 1048576 MiB");
    spec.backing = VMMHPC_BACKING_HUGE_1G;
    CHECK_ERROR(vh_memory_create(&memory, &spec, 1, &err), &err, VMMHPC_E_NO_MEMORY,
                "not enough free huge pages of 1024 MiB");
    CHECK_EQ(open_files(), files);
}

TEST(memory_write)
{
    struct vmmhpc_memory spec = region(2 * MIB);
    struct vh_memory memory;

    CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
    CHECK_OK(vh_memory_write(&memory, 2 * MIB - 4, "abcd", 4, "the text", &err), &err);
    CHECK_EQ(memcmp(vh_memory_at(&memory, 2 * MIB - 4, 4), "abcd", 4), 0);
    CHECK_OK(vh_memory_write(&memory, UINT64_MAX, NULL, 0, "nothing", &err), &err);
    CHECK_ERROR(vh_memory_write(&memory, 2 * MIB - 3, "abcd", 4, "the text", &err), &err,
                VMMHPC_E_NO_ROOM, "the text does not fit: 1 KiB at 0x1ffffd is not all RAM");
    CHECK_EQ(err.value, 2 * MIB - 3);
    CHECK_ERROR(vh_memory_write(&memory, 0, "a", UINT64_MAX, "the text", &err), &err,
                VMMHPC_E_NO_ROOM, "the text does not fit");
    vh_memory_destroy(&memory);
}
