/* SPDX-License-Identifier: Apache-2.0 */
/* I/O dispatch: one sorted table of ranges for each space, searched by bisection. A table is never
 * changed once published: adding or removing a range makes a new one, so readers take no lock. */
#ifndef VH_DISPATCH_H
#define VH_DISPATCH_H

#include "internal.h"

#define VH_RANGE_MAX 4096u

struct vh_range {
    uint64_t base;
    uint64_t last; /* inclusive, so that a range may end at the top of the space */
    vmmhpc_handler handler;
    void *opaque;
    void *owned; /* freed with the device, or NULL */
    uint32_t id;
};

struct vh_table {
    struct vh_table *next_retired; /* for whoever publishes tables: replaced, but maybe in use */
    uint64_t retired_at;
    uint32_t count;
    struct vh_range ranges[]; /* sorted by base, not overlapping */
};

struct vh_access {
    uint32_t vcpu;
    uint32_t bytes; /* 1, 2, 4 or 8 */
    uint32_t direction;
    uint64_t address;
    uint64_t value;
};

/** A new table with one range more (before may be NULL); the caller frees both. */
int32_t vh_table_with(const struct vh_table *before, const struct vh_range *range, uint64_t limit,
                      struct vh_table **after, struct vmmhpc_error *err);

/** A new table without the range `id`; E_INVALID where there is none. */
int32_t vh_table_without(const struct vh_table *before, uint32_t id, struct vh_table **after,
                         struct vmmhpc_error *err);

/** The range that holds address, or NULL. table may be NULL. */
const struct vh_range *vh_table_find(const struct vh_table *table, uint64_t address);

/**
 * Perform an access. *result is the value read: all ones where nothing claims the address, cut to
 * the access width. False where nothing claims it, or where it crosses the end of the range.
 */
bool vh_dispatch(const struct vh_table *table, const struct vh_access *access, uint64_t *result);

/** All ones in the low `bytes` bytes. */
static inline uint64_t vh_ones(uint32_t bytes)
{
    return bytes >= 8 ? UINT64_MAX : (1ull << (8 * bytes)) - 1;
}

#endif
