/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of device ranges. */
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "tap.h"

static struct vmmhpc_error err = {.size = sizeof(err)};

static struct {
    uint32_t calls;
    uint32_t vcpu;
    uint64_t offset;
    uint32_t bytes;
    uint32_t direction;
    uint64_t value;
} seen;

static uint64_t handle(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                       uint32_t direction, uint64_t value)
{
    seen.calls++;
    seen.vcpu = vcpu;
    seen.offset = offset;
    seen.bytes = bytes;
    seen.direction = direction;
    seen.value = value;
    return *(uint64_t *)opaque;
}

static uint64_t answer = 0x8877665544332211ull;

static int32_t add_up_to(struct vh_table **table, uint64_t base, uint64_t last, uint32_t id,
                         uint64_t limit)
{
    struct vh_range range = {
        .base = base, .last = last, .handler = handle, .opaque = &answer, .id = id};
    struct vh_table *after = NULL;
    int32_t status = vh_table_with(*table, &range, limit, &after, &err);

    if (status == VMMHPC_OK) {
        free(*table);
        *table = after;
    }
    return status;
}

static int32_t add(struct vh_table **table, uint64_t base, uint64_t last, uint32_t id)
{
    return add_up_to(table, base, last, id, UINT64_MAX);
}

static int32_t drop(struct vh_table **table, uint32_t id)
{
    struct vh_table *after = NULL;
    int32_t status = vh_table_without(*table, id, &after, &err);

    if (status == VMMHPC_OK) {
        free(*table);
        *table = after;
    }
    return status;
}

static uint32_t id_at(const struct vh_table *table, uint64_t address)
{
    const struct vh_range *range = vh_table_find(table, address);

    return range == NULL ? 0 : range->id;
}

static void check_sorted(const struct vh_table *table)
{
    for (uint32_t i = 1; i < table->count; i++) {
        CHECK(table->ranges[i - 1].last < table->ranges[i].base);
    }
}

TEST(dispatch_sorted_insert)
{
    static const uint64_t bases[] = {0x500, 0x100, 0x900, 0x300, 0x0, 0x700, 0xf00};
    struct vh_table *table = NULL;

    for (uint32_t i = 0; i < VH_COUNT(bases); i++) {
        CHECK_OK(add(&table, bases[i], bases[i] + 0xff, i + 1), &err);
        check_sorted(table);
    }
    CHECK_EQ(table->count, VH_COUNT(bases));
    for (uint32_t i = 0; i < VH_COUNT(bases); i++) {
        CHECK_EQ(id_at(table, bases[i]), i + 1);
        CHECK_EQ(id_at(table, bases[i] + 0x80), i + 1);
        CHECK_EQ(id_at(table, bases[i] + 0xff), i + 1);
    }
    CHECK_EQ(id_at(table, 0x200), 0);
    CHECK_EQ(id_at(table, 0x2ff), 0);
    CHECK_EQ(id_at(table, 0x1000), 0);
    CHECK_EQ(id_at(table, UINT64_MAX), 0);
    CHECK_EQ(id_at(NULL, 0), 0);
    free(table);
}

TEST(dispatch_overlaps)
{
    struct vh_table *table = NULL;

    CHECK_OK(add(&table, 0x100, 0x1ff, 1), &err);
    CHECK_OK(add(&table, 0x300, 0x3ff, 2), &err);
    CHECK_ERROR(add(&table, 0x100, 0x1ff, 3), &err, VMMHPC_E_OVERLAP, "overlaps 0x100-0x1ff");
    CHECK_ERROR(add(&table, 0x1ff, 0x2ff, 3), &err, VMMHPC_E_OVERLAP,
                "0x1ff-0x2ff overlaps 0x100-0x1ff");
    CHECK_ERROR(add(&table, 0x0, 0x100, 3), &err, VMMHPC_E_OVERLAP, "overlaps 0x100-0x1ff");
    CHECK_ERROR(add(&table, 0x200, 0x300, 3), &err, VMMHPC_E_OVERLAP, "overlaps 0x300-0x3ff");
    CHECK_ERROR(add(&table, 0x150, 0x150, 3), &err, VMMHPC_E_OVERLAP, "overlaps 0x100-0x1ff");
    CHECK_ERROR(add(&table, 0x0, UINT64_MAX, 3), &err, VMMHPC_E_OVERLAP, "overlaps");
    CHECK_EQ(err.value, 0);
    CHECK_EQ(table->count, 2);
    CHECK_OK(add(&table, 0x200, 0x2ff, 3), &err); /* fits exactly */
    CHECK_OK(add(&table, 0x0, 0xff, 4), &err);
    CHECK_OK(add(&table, 0x400, 0x400, 5), &err);
    check_sorted(table);
    free(table);
}

TEST(dispatch_ends_of_the_space)
{
    struct vh_table *table = NULL;
    struct vh_range nobody = {.base = 1, .last = 2};
    struct vh_table *after = NULL;

    CHECK_OK(add(&table, UINT64_MAX, UINT64_MAX, 1), &err);
    CHECK_OK(add(&table, 0, 0, 2), &err);
    CHECK_EQ(id_at(table, UINT64_MAX), 1);
    CHECK_EQ(id_at(table, UINT64_MAX - 1), 0);
    CHECK_EQ(id_at(table, 0), 2);
    CHECK_ERROR(add(&table, UINT64_MAX - 9, UINT64_MAX, 3), &err, VMMHPC_E_OVERLAP, "overlaps");
    CHECK_ERROR(add(&table, 20, 10, 3), &err, VMMHPC_E_INVALID, "inside its address space");
    CHECK_ERROR(vh_table_with(table, &nobody, UINT64_MAX, &after, &err), &err, VMMHPC_E_INVALID,
                "have a handler");
    CHECK_ERROR(add_up_to(&table, 0xffff, 0x10000, 3, 0xffff), &err, VMMHPC_E_INVALID,
                "inside its address space");
    CHECK_OK(add_up_to(&table, 0xfff8, 0xffff, 3, 0xffff), &err);
    free(table);
}

static bool access(const struct vh_table *table, uint64_t address, uint32_t bytes, uint64_t *result)
{
    struct vh_access one = {.vcpu = 7,
                            .bytes = bytes,
                            .direction = VMMHPC_ACCESS_WRITE,
                            .address = address,
                            .value = 0x55};

    memset(&seen, 0, sizeof(seen));
    return vh_dispatch(table, &one, result);
}

TEST(dispatch_access)
{
    struct vh_table *table = NULL;
    uint64_t result = 0;

    CHECK_OK(add(&table, 0x100, 0x10f, 1), &err);
    CHECK_OK(add(&table, 0x110, 0x11f, 2), &err);
    CHECK_OK(add(&table, UINT64_MAX - 3, UINT64_MAX, 3), &err);
    for (uint32_t bytes = 1; bytes <= 8; bytes *= 2) {
        CHECK(access(table, 0x104, bytes, &result));
        CHECK_EQ(result, answer & vh_ones(bytes));
        CHECK_EQ(seen.offset, 4);
        CHECK_EQ(seen.bytes, bytes);
        CHECK_EQ(seen.vcpu, 7);
        CHECK_EQ(seen.value, 0x55);
        CHECK_EQ(seen.direction, VMMHPC_ACCESS_WRITE);
        /* Nothing claims it: all ones of its width, and nobody is called. */
        CHECK(!access(table, 0x120, bytes, &result));
        CHECK_EQ(result, vh_ones(bytes));
        CHECK_EQ(seen.calls, 0);
        CHECK(access(table, 0x110 - bytes, bytes, &result)); /* ends where the range does */
        CHECK_EQ(seen.offset, 16 - bytes);
    }
    CHECK(!access(table, 0x10f, 2, &result)); /* crosses into the neighbour */
    CHECK_EQ(result, 0xffff);
    CHECK(!access(table, 0x11d, 4, &result)); /* crosses into nothing */
    CHECK(!access(table, 0xff, 2, &result));  /* comes from nothing */
    CHECK_EQ(seen.calls, 0);
    CHECK(access(table, UINT64_MAX - 3, 4, &result));
    CHECK(!access(table, UINT64_MAX - 3, 8, &result)); /* wraps round */
    CHECK(!access(table, UINT64_MAX, 2, &result));
    CHECK(access(table, UINT64_MAX, 1, &result));
    CHECK(!access(NULL, 0, 8, &result));
    CHECK_EQ(result, UINT64_MAX);
    free(table);
}

TEST(dispatch_remove)
{
    struct vh_table *table = NULL;

    CHECK_ERROR(drop(&table, 1), &err, VMMHPC_E_INVALID, "there is no device 1");
    CHECK_OK(add(&table, 0x10, 0x1f, 1), &err);
    CHECK_OK(add(&table, 0x20, 0x2f, 2), &err);
    CHECK_OK(add(&table, 0x30, 0x3f, 3), &err);
    CHECK_OK(drop(&table, 2), &err);
    CHECK_EQ(id_at(table, 0x1f), 1);
    CHECK_EQ(id_at(table, 0x20), 0);
    CHECK_EQ(id_at(table, 0x30), 3);
    CHECK_ERROR(drop(&table, 2), &err, VMMHPC_E_INVALID, "there is no device 2");
    CHECK_EQ(err.value, 2);
    CHECK_OK(add(&table, 0x18 + 8, 0x2f, 4), &err);
    CHECK_OK(drop(&table, 1), &err);
    CHECK_OK(drop(&table, 3), &err);
    CHECK_OK(drop(&table, 4), &err);
    CHECK_EQ(table->count, 0);
    CHECK_EQ(id_at(table, 0x20), 0);
    CHECK_OK(add(&table, 0, UINT64_MAX, 5), &err); /* all of it */
    CHECK_EQ(id_at(table, 0x1234567), 5);
    free(table);
}

TEST(dispatch_many)
{
    struct vh_table *table = NULL;
    uint32_t order = 1;

    /* 2^16 ports in ranges of 16, in an order that is none. */
    for (uint32_t i = 0; i < VH_RANGE_MAX; i++) {
        order = order * 1664525u + 1013904223u;
        uint32_t slot = (i * 2731u + 17u) % VH_RANGE_MAX; /* odd, so every slot comes once */

        CHECK_OK(add_up_to(&table, slot * 16ull, slot * 16ull + (order >> 28), slot + 1, 0xffff),
                 &err);
    }
    CHECK_EQ(table->count, VH_RANGE_MAX);
    check_sorted(table);
    CHECK_ERROR(add(&table, 0x10000, 0x10000, 1), &err, VMMHPC_E_LIMIT, "more than 4096");
    for (uint32_t slot = 0; slot < VH_RANGE_MAX; slot++) {
        CHECK_EQ(id_at(table, slot * 16ull), slot + 1);
    }
    CHECK_OK(drop(&table, 77), &err);
    CHECK_OK(add(&table, 0x10000, 0x10000, 9999), &err);
    free(table);
}
