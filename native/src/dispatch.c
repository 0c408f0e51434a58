/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch.h"

#include <stdlib.h>
#include <string.h>

static struct vh_table *table_new(uint32_t count)
{
    return calloc(1, sizeof(struct vh_table) + count * sizeof(struct vh_range));
}

/* Index of the first range whose base is above address. */
static uint32_t upper_bound(const struct vh_table *table, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = table->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (table->ranges[middle].base <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int32_t vh_table_with(const struct vh_table *before, const struct vh_range *range, uint64_t limit,
                      struct vh_table **after, struct vmmhpc_error *err)
{
    uint32_t count = before == NULL ? 0 : before->count;
    if (range->last < range->base || range->last > limit || range->handler == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, range->base,
                       "a device range must be inside its address space and have a handler");
    }
    if (count >= VH_RANGE_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, count, "more than %u device ranges", VH_RANGE_MAX);
    }
    uint32_t at = before == NULL ? 0 : upper_bound(before, range->base);
    const struct vh_range *other = NULL;
    if (at > 0 && before->ranges[at - 1].last >= range->base) {
        other = &before->ranges[at - 1];
    } else if (at < count && before->ranges[at].base <= range->last) {
        other = &before->ranges[at];
    }
    if (other != NULL) {
        return vh_fail(err, VMMHPC_E_OVERLAP, 0, range->base,
                       "device range 0x%llx-0x%llx overlaps 0x%llx-0x%llx",
                       (unsigned long long)range->base, (unsigned long long)range->last,
                       (unsigned long long)other->base, (unsigned long long)other->last);
    }
    struct vh_table *table = table_new(count + 1);
    if (table == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, count, "no memory for a device range");
    }
    table->count = count + 1;
    if (before != NULL) {
        memcpy(table->ranges, before->ranges, at * sizeof(*range));
        memcpy(table->ranges + at + 1, before->ranges + at, (count - at) * sizeof(*range));
    }
    table->ranges[at] = *range;
    *after = table;
    return VMMHPC_OK;
}

int32_t vh_table_without(const struct vh_table *before, uint32_t id, struct vh_table **after,
                         struct vmmhpc_error *err)
{
    uint32_t count = before == NULL ? 0 : before->count;
    uint32_t at = 0;
    while (at < count && before->ranges[at].id != id) {
        at++;
    }
    if (at == count) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, id, "there is no device %u", id);
    }
    struct vh_table *table = table_new(count - 1);
    if (table == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, count, "no memory for the device table");
    }
    table->count = count - 1;
    memcpy(table->ranges, before->ranges, at * sizeof(struct vh_range));
    memcpy(table->ranges + at, before->ranges + at + 1, (count - at - 1) * sizeof(struct vh_range));
    *after = table;
    return VMMHPC_OK;
}

const struct vh_range *vh_table_find(const struct vh_table *table, uint64_t address)
{
    if (table == NULL) {
        return NULL;
    }
    uint32_t at = upper_bound(table, address);
    if (at == 0 || table->ranges[at - 1].last < address) {
        return NULL;
    }
    return &table->ranges[at - 1];
}

bool vh_dispatch(const struct vh_table *table, const struct vh_access *access, uint64_t *result)
{
    *result = vh_ones(access->bytes);
    const struct vh_range *range = vh_table_find(table, access->address);
    if (range == NULL || range->last - access->address < access->bytes - 1) {
        return false;
    }
    uint64_t value = range->handler(range->opaque, access->vcpu, access->address - range->base,
                                    access->bytes, access->direction, access->value);
    *result &= value;
    return true;
}
