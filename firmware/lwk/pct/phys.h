/* SPDX-License-Identifier: Apache-2.0 */
/* Which memory of the heap is free: a sorted table of ranges. */
#ifndef PCT_PHYS_H
#define PCT_PHYS_H

#include "lib.h"

#define NO_MEMORY UINT64_MAX

struct phys_range {
    uint64_t pa;
    uint64_t bytes;
};

struct phys {
    struct phys_range *free;
    uint32_t count;
    uint32_t max;
    uint64_t bytes; /* free in all */
};

/** The highest free run of that length with pa mod align = phase; NO_MEMORY if there is none. */
uint64_t phys_take_high(struct phys *phys, uint64_t bytes, uint64_t align, uint64_t phase);

/** Exactly this run. */
bool phys_take_at(struct phys *phys, uint64_t pa, uint64_t bytes);

void phys_give(struct phys *phys, uint64_t pa, uint64_t bytes);

/** Length of the longest free run. */
uint64_t phys_longest(const struct phys *phys);

#endif
