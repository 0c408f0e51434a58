/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every used run belongs to an area, and two free ranges have a used run between them: with more
 * entries than there can be areas, this table never overflows. Were it to, memory would be lost and
 * nothing else.
 */
#include "phys.h"

static void put(struct phys *phys, uint32_t index, uint64_t pa, uint64_t bytes)
{
    if (bytes == 0 || phys->count == phys->max) {
        return;
    }
    memmove(&phys->free[index + 1], &phys->free[index],
            (phys->count - index) * sizeof(phys->free[0]));
    phys->free[index] = (struct phys_range){pa, bytes};
    phys->count++;
}

static void drop(struct phys *phys, uint32_t index)
{
    phys->count--;
    memmove(&phys->free[index], &phys->free[index + 1],
            (phys->count - index) * sizeof(phys->free[0]));
}

/* Index of the first range that ends above pa. */
static uint32_t from(const struct phys *phys, uint64_t pa)
{
    uint32_t low = 0;
    uint32_t high = phys->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (phys->free[middle].pa + phys->free[middle].bytes <= pa) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void take(struct phys *phys, uint32_t index, uint64_t pa, uint64_t bytes)
{
    struct phys_range *range = &phys->free[index];
    uint64_t end = range->pa + range->bytes;

    phys->bytes -= bytes;
    range->bytes = pa - range->pa;
    if (range->bytes == 0) {
        *range = (struct phys_range){pa + bytes, end - pa - bytes};
        if (range->bytes == 0) {
            drop(phys, index);
        }
    } else {
        put(phys, index + 1, pa + bytes, end - pa - bytes);
    }
}

uint64_t phys_take_high(struct phys *phys, uint64_t bytes, uint64_t align, uint64_t phase)
{
    for (uint32_t i = phys->count; i-- > 0;) {
        const struct phys_range *range = &phys->free[i];
        if (bytes > range->bytes) {
            continue;
        }
        uint64_t highest = range->pa + range->bytes - bytes;
        uint64_t back = (highest - phase) & (align - 1);
        if (back <= highest - range->pa) {
            take(phys, i, highest - back, bytes);
            return highest - back;
        }
    }
    return NO_MEMORY;
}

bool phys_take_at(struct phys *phys, uint64_t pa, uint64_t bytes)
{
    uint32_t i = from(phys, pa);

    if (i == phys->count || phys->free[i].pa > pa ||
        phys->free[i].pa + phys->free[i].bytes - pa < bytes) {
        return false;
    }
    take(phys, i, pa, bytes);
    return true;
}

void phys_give(struct phys *phys, uint64_t pa, uint64_t bytes)
{
    uint32_t i = from(phys, pa);
    bool below = i > 0 && phys->free[i - 1].pa + phys->free[i - 1].bytes == pa;
    bool above = i < phys->count && phys->free[i].pa == pa + bytes;

    phys->bytes += bytes;
    if (below && above) {
        phys->free[i - 1].bytes += bytes + phys->free[i].bytes;
        drop(phys, i);
    } else if (below) {
        phys->free[i - 1].bytes += bytes;
    } else if (above) {
        phys->free[i].pa = pa;
        phys->free[i].bytes += bytes;
    } else {
        put(phys, i, pa, bytes);
    }
}

uint64_t phys_longest(const struct phys *phys)
{
    uint64_t longest = 0;

    for (uint32_t i = 0; i < phys->count; i++) {
        longest = most(longest, phys->free[i].bytes);
    }
    return longest;
}
