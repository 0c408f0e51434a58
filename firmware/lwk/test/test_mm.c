/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "mm.h"
#include "sim.h"
#include "tap.h"

#define MIB (1ull << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static int64_t map(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags)
{
    return mm_mmap(va, bytes, prot, flags, 0);
}

TEST(mm_maps_zeroed_memory_in_large_pages)
{
    sim_start(64 * MIB, false);
    int64_t va = map(0, 5 * MIB, RW, ANONYMOUS);
    const struct area *area = area_at(&mm.areas, (uint64_t)va);

    CHECK(va > 0);
    CHECK_EQ(va % (2 * MIB), 0);
    CHECK_EQ(area->pa % (2 * MIB), 0);
    CHECK_EQ(*sim_memory((uint64_t)va + 5 * MIB - 1, RW), 0);
    CHECK(sim_consistent());
    CHECK_EQ(mm_munmap((uint64_t)va, 5 * MIB), 0);
    CHECK_EQ(sim_mapped_pages(), 0);
    CHECK_EQ(map(0, 1 * MIB, RW | PROT_EXEC, ANONYMOUS), -EACCES);
    CHECK_EQ(map(0, 65 * MIB, RW, ANONYMOUS), -ENOMEM);
    CHECK_EQ(map(0, 0, RW, ANONYMOUS), -EINVAL);
    CHECK_EQ(map(0, UINT64_MAX, RW, ANONYMOUS), -ENOMEM);
}

TEST(mm_clears_memory_before_reuse)
{
    sim_start(16 * MIB, false);
    for (uint32_t round = 0; round < 3; round++) {
        int64_t va = map(0, 12 * MIB, RW, ANONYMOUS);
        CHECK(va > 0);
        for (uint64_t at = 0; at < 12 * MIB; at += LWK_PAGE) {
            CHECK_EQ(*sim_memory((uint64_t)va + at, RW), 0);
            *sim_memory((uint64_t)va + at, RW) = 0xff;
        }
        CHECK_EQ(mm_munmap((uint64_t)va, 12 * MIB), 0);
    }
}

TEST(mm_does_not_clear_fresh_memory_and_does_reused)
{
    sim_start(32 * MIB, true);
    uint8_t *mark = ram(mm.phys.free[0].pa + 3 * MIB);
    *mark = 0x77; /* to see that it is left alone */
    CHECK_EQ(mm_brk(mm.brk_start + 4 * MIB), mm.brk_start + 4 * MIB);
    CHECK_EQ(*mark, 0x77);
    *sim_memory(mm.brk_start, RW) = 1;
    (void)mm_brk(mm.brk_start);
    CHECK_EQ(mm_brk(mm.brk_start + 16 * MIB), mm.brk_start + 16 * MIB);
    CHECK_EQ(*sim_memory(mm.brk_start, RW), 0);
    CHECK_EQ(*mark, 0); /* half fresh, half not: cleared */
    (void)mm_brk(mm.brk_start);
    for (uint32_t round = 0; round < 20; round++) {
        uint64_t bytes = (1 + sim_random() % 2000) * LWK_PAGE;
        int64_t va = map(0, bytes, RW, ANONYMOUS);
        for (uint64_t at = 0; va > 0 && at < bytes; at += LWK_PAGE) {
            CHECK_EQ(*sim_memory((uint64_t)va + at, RW), 0);
            *sim_memory((uint64_t)va + at, RW) = 0xff;
        }
        if (va > 0 && round % 3 != 0) {
            CHECK_EQ(mm_munmap((uint64_t)va, bytes), 0);
        }
    }
    CHECK(sim_consistent());
}

TEST(mm_reserves_without_memory)
{
    sim_start(256 * MIB, false);
    uint64_t free = mm.phys.bytes;
    uint64_t va = (uint64_t)map(0, 128 * MIB, PROT_NONE, ANONYMOUS | MAP_NORESERVE);
    uint64_t arena = round_up(va + 1, 64 * MIB);

    CHECK_EQ(mm.phys.bytes, free);
    /* As glibc's new_heap(). */
    CHECK_EQ(mm_munmap(va, arena - va), 0);
    CHECK_EQ(mm_munmap(arena + 64 * MIB, va + 64 * MIB - arena), 0);
    CHECK_EQ(mm_mprotect(arena, 132 * 1024, RW), 0);
    CHECK(sim_memory(arena + 132 * 1024 - 1, RW) != NULL);
    CHECK(sim_memory(arena + 132 * 1024, PROT_READ) == NULL);
    CHECK(free - mm.phys.bytes <= 2 * MIB);
    for (uint64_t at = 132 * 1024; at < 8 * MIB; at += 132 * 1024) {
        CHECK_EQ(mm_mprotect(arena + at, 132 * 1024, RW), 0);
    }
    CHECK(free - mm.phys.bytes <= 10 * MIB);
    CHECK(sim_consistent());
    /* Huge ones too. */
    CHECK(map(0, 1ull << 44, PROT_NONE, ANONYMOUS | MAP_NORESERVE) > 0);
    CHECK_EQ(map(0, 1ull << 47, PROT_NONE, ANONYMOUS | MAP_NORESERVE), -ENOMEM);
    /* Thread stacks with a guard. */
    uint64_t stack = (uint64_t)map(0, 8 * MIB + 4096, PROT_NONE, ANONYMOUS | MAP_STACK);
    CHECK_EQ(mm_mprotect(stack + 4096, 8 * MIB, RW), 0);
    CHECK(sim_memory(stack, PROT_READ) == NULL);
    CHECK((area_at(&mm.areas, stack + 4096)->pa - stack - 4096) % (2 * MIB) == 0);
    CHECK(sim_consistent());
}

TEST(mm_falls_back_to_pieces)
{
    int64_t held[32];

    sim_start(40 * MIB, false);
    for (uint32_t i = 0; i < 32; i++) {
        held[i] = map(0, 1 * MIB, RW, ANONYMOUS);
    }
    for (uint32_t i = 0; i < 32; i += 2) {
        CHECK_EQ(mm_munmap((uint64_t)held[i], 1 * MIB), 0);
    }
    int64_t va = map(0, 20 * MIB, RW, ANONYMOUS);
    CHECK(va > 0);
    CHECK(sim_consistent());
    CHECK_EQ(mm_munmap((uint64_t)va, 20 * MIB), 0);
    CHECK(sim_consistent());
}

TEST(mm_fixed_and_hints)
{
    sim_start(64 * MIB, false);
    uint64_t at = 0x40000000;

    CHECK_EQ(map(at, 4 * MIB, RW, ANONYMOUS), at);
    CHECK(map(at, 4 * MIB, RW, ANONYMOUS) != (int64_t)at);
    CHECK_EQ(map(at, 4096, RW, ANONYMOUS | MAP_FIXED_NOREPLACE), -EEXIST);
    *sim_memory(at + MIB, RW) = 1;
    CHECK_EQ(map(at + MIB, MIB, PROT_READ, ANONYMOUS | MAP_FIXED), at + MIB);
    CHECK_EQ(*sim_memory(at + MIB, PROT_READ), 0);
    CHECK(sim_memory(at + MIB, PROT_WRITE) == NULL);
    CHECK_EQ(map(at + 1, 4096, RW, ANONYMOUS | MAP_FIXED), -EINVAL);
    CHECK_EQ(map(0, 4096, RW, ANONYMOUS | MAP_FIXED), -EPERM);
    CHECK_EQ(map(LWK_APP_HIGH, 4096, RW, ANONYMOUS | MAP_FIXED), -ENOMEM);
    CHECK_EQ(map(0xfffffffffffff000, 8192, RW, ANONYMOUS | MAP_FIXED), -ENOMEM);
    CHECK(map(0, 4096, RW, ANONYMOUS | MAP_32BIT) < 1ll << 31);
    CHECK(sim_consistent());
}

TEST(mm_brk_is_contiguous)
{
    sim_start(64 * MIB, false);
    uint64_t start = mm.brk_start;

    CHECK_EQ(mm_brk(0), start);
    CHECK_EQ(mm_brk(start + 100), start + 100);
    for (uint64_t at = start; at < start + 16 * MIB; at += 132 * 1024) {
        CHECK_EQ(mm_brk(at), at);
    }
    CHECK_EQ(mm.areas.count, 1);
    *sim_memory(start + MIB, RW) = 1;
    CHECK_EQ(mm_brk(start + 4096), start + 4096);
    CHECK_EQ(mm_brk(start + 2 * MIB), start + 2 * MIB);
    CHECK_EQ(*sim_memory(start + MIB, RW), 0);
    CHECK_EQ(mm_brk(start + 100 * MIB), start + 2 * MIB);
    CHECK_EQ(mm_brk(UINT64_MAX), start + 2 * MIB);
    CHECK(sim_consistent());
}

TEST(mm_mremap_keeps_contents)
{
    sim_start(64 * MIB, false);
    uint64_t va = (uint64_t)map(0, 3 * MIB, RW, ANONYMOUS);

    *sim_memory(va, RW) = 1;
    *sim_memory(va + 3 * MIB - 1, RW) = 3;
    CHECK_EQ(mm_mremap(va, 3 * MIB, 2 * MIB, 0, 0), va);
    CHECK(sim_memory(va + 2 * MIB, PROT_READ) == NULL);
    *sim_memory(va + 2 * MIB - 1, RW) = 2;
    CHECK_EQ(mm_mremap(va, 2 * MIB, 3 * MIB, 0, 0), va); /* in place */
    CHECK_EQ(*sim_memory(va + 3 * MIB - 1, RW), 0);
    CHECK_EQ(map(va + 3 * MIB, 4096, RW, ANONYMOUS | MAP_FIXED), va + 3 * MIB);
    CHECK_EQ(mm_mremap(va, 3 * MIB, 20 * MIB, 0, 0), -ENOMEM);
    uint64_t moved = (uint64_t)mm_mremap(va, 3 * MIB, 20 * MIB, MREMAP_MAYMOVE, 0);
    CHECK(moved != va && sim_memory(va, PROT_READ) == NULL);
    CHECK_EQ(*sim_memory(moved, RW), 1);
    CHECK_EQ(*sim_memory(moved + 2 * MIB - 1, RW), 2);
    CHECK_EQ(*sim_memory(moved + 20 * MIB - 1, RW), 0);
    uint64_t there = 0x50000000;
    CHECK_EQ(mm_mremap(moved, 20 * MIB, 1 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, there), there);
    CHECK_EQ(*sim_memory(there, RW), 1);
    CHECK(sim_memory(moved + 2 * MIB, PROT_READ) == NULL);
    CHECK_EQ(mm_mremap(there, 0, MIB, MREMAP_MAYMOVE, 0), -EINVAL);
    CHECK_EQ(mm_mremap(there + 4 * MIB, 4096, 8192, 0, 0), -EFAULT);
    CHECK_EQ(mm_mremap(there, MIB, 70 * MIB, MREMAP_MAYMOVE, 0), -ENOMEM);
    CHECK_EQ(*sim_memory(there, RW), 1);
    CHECK(sim_consistent());
}

TEST(mm_madvise)
{
    sim_start(64 * MIB, false);
    uint64_t va = (uint64_t)map(0, 3 * MIB, RW, ANONYMOUS);

    *sim_memory(va + MIB, RW) = 1;
    *sim_memory(va + 2 * MIB, RW) = 1;
    CHECK_EQ(mm_madvise(va + MIB, 4096, MADV_DONTNEED), 0);
    CHECK_EQ(*sim_memory(va + MIB, RW), 0);
    CHECK_EQ(*sim_memory(va + 2 * MIB, RW), 1);
    CHECK_EQ(mm_madvise(va, 4 * MIB, MADV_DONTNEED), -ENOMEM);
    CHECK_EQ(mm_madvise(va, MIB, MADV_HUGEPAGE), 0);
    CHECK_EQ(mm_madvise(va, MIB, 1000), -EINVAL);
}

TEST(mm_survives_refusals)
{
    sim_start(64 * MIB, false);
    for (uint32_t n = 1; n < 8; n++) {
        sim_refuse_map = n;
        for (uint32_t i = 0; i < 4; i++) {
            int64_t va = map(0, 3 * MIB, PROT_NONE, ANONYMOUS);
            (void)mm_mprotect((uint64_t)va + 4096, MIB, RW);
            (void)mm_mremap((uint64_t)va, 3 * MIB, 6 * MIB, MREMAP_MAYMOVE, 0);
            (void)map(0, MIB, RW, ANONYMOUS);
        }
        CHECK(sim_consistent());
    }
}

TEST(mm_table_of_areas_is_bounded)
{
    sim_start(16 * MIB, false);
    uint64_t at = 0x100000000;
    uint32_t count = 0;

    while (map(at, 4096, PROT_NONE, ANONYMOUS | MAP_FIXED) == (int64_t)at && count < 100000) {
        at += 8192;
        count++;
    }
    CHECK(count > 1000 && count < 100000);
    CHECK_EQ(map(0, 4096, RW, ANONYMOUS), -ENOMEM);
    CHECK_EQ(mm_munmap(0x100000000, 1ull << 32), 0);
    CHECK(map(0, 4096, RW, ANONYMOUS) > 0);
    CHECK(sim_consistent());
}

static uint64_t some_address(void)
{
    static const uint64_t bases[] = {0,          0x10000,        0x10000000,
                                     0x40000000, 0x7ffffff00000, LWK_APP_HIGH};
    uint64_t base = bases[sim_random() % 6] + (sim_random() % 8192) * LWK_PAGE;

    switch (sim_random() % 16) {
    case 0:
        return sim_random();
    case 1:
        return base + sim_random() % LWK_PAGE;
    case 2:
    case 3:
    case 4:
    case 5:
        if (mm.areas.count > 0) {
            const struct area *area = &mm.areas.area[sim_random() % mm.areas.count];
            return area->va + round_down(sim_random() % area->bytes, LWK_PAGE);
        }
        return base;
    default:
        return base;
    }
}

static uint64_t some_length(void)
{
    switch (sim_random() % 8) {
    case 0:
        return sim_random();
    case 1:
        return sim_random() % (40 * MIB);
    case 2:
        return 0 - sim_random() % 65536;
    default:
        return sim_random() % (1 * MIB);
    }
}

/* Whatever is asked for, tables and memory agree, and fresh memory is clear. */
static void anything(bool is_fresh)
{
    uint32_t rounds = sim_rounds(20000);

    sim_start(48 * MIB, is_fresh);
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t va = some_address();
        uint64_t bytes = some_length();
        int64_t got;
        switch (sim_random() % 8) {
        case 0:
        case 1:
            got = map(va, bytes, sim_random() % 8, (uint32_t)sim_random() & ~(uint32_t)MAP_HUGETLB);
            if (got > 0 && sim_memory((uint64_t)got, RW) != NULL) {
                CHECK_EQ(*sim_memory((uint64_t)got, RW), 0);
                uint64_t last = (uint64_t)got + round_up(bytes, LWK_PAGE) - LWK_PAGE;
                uint64_t middle = (uint64_t)got + round_down(bytes / 2, LWK_PAGE);
                CHECK_EQ(*sim_memory(last, RW), 0);
                CHECK_EQ(*sim_memory(middle, RW), 0);
                for (uint64_t at = (uint64_t)got; at <= last; at += LWK_PAGE) {
                    *sim_memory(at, RW) = 0x5a;
                }
            }
            break;
        case 2:
            (void)mm_munmap(va, bytes);
            break;
        case 3:
        case 4:
            (void)mm_mprotect(va, bytes, sim_random() % 9);
            break;
        case 5:
            (void)mm_mremap(va, bytes, some_length(), sim_random() % 5, some_address());
            break;
        case 6:
            (void)mm_brk(va);
            break;
        default:
            (void)mm_madvise(va, bytes, sim_random() % 30);
            break;
        }
        if (i % 64 == 0 && !CHECK(sim_consistent())) {
            return;
        }
    }
    CHECK_EQ(mm_munmap(LWK_APP_LOW, LWK_APP_HIGH - LWK_APP_LOW), 0);
    CHECK_EQ(sim_mapped_pages(), 0);
    CHECK_EQ(mm.phys.count, 1); /* all memory is free, in one piece */
}

TEST(mm_survives_anything)
{
    anything(false);
}

TEST(mm_survives_anything_on_a_new_machine)
{
    anything(true);
}
