/* SPDX-License-Identifier: Apache-2.0 */
/* I/O dispatch against the simplest model there is: an unsorted list. Each 20 bytes are one step.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "dispatch.h"

#define STEP ((size_t)20)
#define MODEL_MAX 32u

struct model {
    struct vh_range ranges[MODEL_MAX];
    uint32_t count;
};

/* What the handler saw, and what it answers: a function of the device's number. */
static struct {
    uint32_t calls;
    uint64_t offset;
    uint64_t value;
} seen;

static uint64_t handle(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                       uint32_t direction, uint64_t value)
{
    const uint64_t *number = opaque;

    (void)vcpu;
    (void)bytes;
    (void)direction;
    seen.calls++;
    seen.offset = offset;
    seen.value = value;
    return *number * 0x0101010101010101ull;
}

static uint64_t numbers[256]; /* what devices answer, and their opaque */

static bool overlaps(const struct model *model, const struct vh_range *range)
{
    for (uint32_t i = 0; i < model->count; i++) {
        if (model->ranges[i].base <= range->last && range->base <= model->ranges[i].last) {
            return true;
        }
    }
    return false;
}

static void add(struct model *model, struct vh_table **table, const struct vh_range *range,
                uint64_t limit)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_table *next = NULL;
    int32_t expected = VMMHPC_OK;

    if (range->last < range->base || range->last > limit) {
        expected = VMMHPC_E_INVALID;
    } else if (overlaps(model, range)) {
        expected = VMMHPC_E_OVERLAP;
    } else if (model->count == MODEL_MAX) {
        return;
    }
    MUST(vh_table_with(*table, range, limit, &next, &err) == expected);
    if (expected == VMMHPC_OK) {
        model->ranges[model->count++] = *range;
        free(*table);
        *table = next;
    }
}

static void drop(struct model *model, struct vh_table **table, uint32_t id)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_table *next = NULL;
    uint32_t at = 0;
    int32_t status = vh_table_without(*table, id, &next, &err);

    while (at < model->count && model->ranges[at].id != id) {
        at++;
    }
    MUST(status == (at < model->count ? VMMHPC_OK : VMMHPC_E_INVALID));
    if (status == VMMHPC_OK) {
        model->ranges[at] = model->ranges[--model->count];
        free(*table);
        *table = next;
    }
}

static bool access(const struct model *model, const struct vh_table *table,
                   const struct vh_access *access)
{
    uint64_t last = access->address + (access->bytes - 1);
    uint64_t result = 0;
    bool claimed;

    memset(&seen, 0, sizeof(seen));
    claimed = vh_dispatch(table, access, &result);
    for (uint32_t i = 0; i < model->count; i++) {
        const struct vh_range *range = &model->ranges[i];

        if (access->address >= range->base && last >= access->address && last <= range->last) {
            MUST(claimed && seen.calls == 1);
            MUST(seen.offset == access->address - range->base && seen.value == access->value);
            MUST(range->opaque == &numbers[range->id / STEP]);
            MUST(result == ((range->id / STEP * 0x0101010101010101ull) & vh_ones(access->bytes)));
            return true;
        }
    }
    MUST(!claimed && seen.calls == 0 && result == vh_ones(access->bytes));
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct model model = {0};
    struct vh_table *table = NULL;
    bool hit = false;

    for (size_t at = 0; bytes - at >= STEP && at < 200 * STEP; at += STEP) {
        uint8_t id = data[at + 1];
        uint64_t address;
        uint64_t value;

        memcpy(&address, data + at + 2, 8);
        memcpy(&value, data + at + 10, 8);
        numbers[at / STEP] = at / STEP;
        if ((data[at] & 3u) == 0) {
            struct vh_range range = {.base = address,
                                     .last = address + (value & 0xffff),
                                     .handler = handle,
                                     .opaque = &numbers[at / STEP],
                                     .id = (uint32_t)at};

            add(&model, &table, &range, (data[at] & 4u) != 0 ? 0xffff : UINT64_MAX);
        } else if ((data[at] & 3u) == 1) {
            drop(&model, &table, id * (uint32_t)STEP);
        } else {
            struct vh_access one = {.bytes = 1u << (id & 3u),
                                    .direction = (id >> 2u) & 1u,
                                    .address = address,
                                    .value = value};

            hit |= access(&model, table, &one);
        }
    }
    free(table);
    fuzz_count(hit);
    return 0;
}
