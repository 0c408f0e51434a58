/* SPDX-License-Identifier: Apache-2.0 */
/* What the application's addresses stand for: a sorted table of areas that do not overlap. */
#ifndef PCT_AREA_H
#define PCT_AREA_H

#include "phys.h"

#define AREA_FILE 1u     /* a copy of a file */
#define AREA_READONLY 2u /* never to become writable: a shared mapping of a file */

#define AREA_MOVING 4u /* not to be joined with others while mremap() is at work */
#define AREA_DEVICE 8u /* a channel's: not RAM, never executable */

/** Linear: va + n is memory at pa + n. An area without memory has pa = NO_MEMORY and no rights. */
struct area {
    uint64_t va;
    uint64_t bytes;
    uint64_t pa;
    uint32_t prot;
    uint32_t flags;
};

struct areas {
    struct area *area;
    uint32_t count;
    uint32_t max;
};

/** Index of the first area that ends above va. */
uint32_t area_from(const struct areas *areas, uint64_t va);

/** The area with va in it; NULL if there is none. */
struct area *area_at(const struct areas *areas, uint64_t va);

/** Make va a boundary; false if the table is full. */
bool area_split(struct areas *areas, uint64_t va);

/** Add an area where there is none, and join it with its neighbours; false if the table is full. */
bool area_add(struct areas *areas, struct area area);

/** Remove the areas with indices from first to last - 1. */
void area_remove(struct areas *areas, uint32_t first, uint32_t last);

/** Join what can be joined from the area before va to the area at `end`. */
void area_join(struct areas *areas, uint64_t va, uint64_t end);

/** Whether no area, and whether areas without a gap, cover [va, end). */
bool area_none(const struct areas *areas, uint64_t va, uint64_t end);
bool area_all(const struct areas *areas, uint64_t va, uint64_t end);

/** The highest aligned address of a gap of that length in [low, high); 0 if there is none. */
uint64_t area_gap(const struct areas *areas, uint64_t bytes, uint64_t align, uint64_t low,
                  uint64_t high);

static inline uint64_t area_end(const struct area *area)
{
    return area->va + area->bytes;
}

static inline bool area_backed(const struct area *area)
{
    return area->pa != NO_MEMORY;
}

#endif
