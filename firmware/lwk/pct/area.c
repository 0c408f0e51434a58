/* SPDX-License-Identifier: Apache-2.0 */
#include "area.h"

uint32_t area_from(const struct areas *areas, uint64_t va)
{
    uint32_t low = 0;
    uint32_t high = areas->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (area_end(&areas->area[middle]) <= va) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct area *area_at(const struct areas *areas, uint64_t va)
{
    uint32_t i = area_from(areas, va);

    return i < areas->count && areas->area[i].va <= va ? &areas->area[i] : NULL;
}

static bool insert(struct areas *areas, uint32_t index, struct area area)
{
    if (areas->count == areas->max) {
        return false;
    }
    memmove(&areas->area[index + 1], &areas->area[index],
            (areas->count - index) * sizeof(areas->area[0]));
    areas->area[index] = area;
    areas->count++;
    return true;
}

void area_remove(struct areas *areas, uint32_t first, uint32_t last)
{
    memmove(&areas->area[first], &areas->area[last],
            (areas->count - last) * sizeof(areas->area[0]));
    areas->count -= last - first;
}

bool area_split(struct areas *areas, uint64_t va)
{
    uint32_t i = area_from(areas, va);

    if (i == areas->count || areas->area[i].va >= va) {
        return true;
    }
    struct area upper = areas->area[i];
    uint64_t below = va - upper.va;
    upper.va = va;
    upper.bytes -= below;
    if (area_backed(&upper)) {
        upper.pa += below;
    }
    if (!insert(areas, i + 1, upper)) {
        return false;
    }
    areas->area[i].bytes = below;
    return true;
}

static bool joins(const struct area *lower, const struct area *upper)
{
    return area_end(lower) == upper->va && lower->prot == upper->prot &&
           lower->flags == upper->flags && area_backed(lower) == area_backed(upper) &&
           (!area_backed(lower) || lower->pa + lower->bytes == upper->pa);
}

void area_join(struct areas *areas, uint64_t va, uint64_t end)
{
    uint32_t i = area_from(areas, va);

    i = i > 0 ? i - 1 : 0;
    while (i + 1 < areas->count && areas->area[i].va < end) {
        if (joins(&areas->area[i], &areas->area[i + 1])) {
            areas->area[i].bytes += areas->area[i + 1].bytes;
            area_remove(areas, i + 1, i + 2);
        } else {
            i++;
        }
    }
}

bool area_add(struct areas *areas, struct area area)
{
    uint32_t i = area_from(areas, area.va);

    if (i > 0 && joins(&areas->area[i - 1], &area)) {
        areas->area[i - 1].bytes += area.bytes;
    } else if (!insert(areas, i, area)) {
        return false;
    }
    area_join(areas, area.va, area.va + area.bytes);
    return true;
}

bool area_none(const struct areas *areas, uint64_t va, uint64_t end)
{
    uint32_t i = area_from(areas, va);

    return i == areas->count || areas->area[i].va >= end;
}

bool area_all(const struct areas *areas, uint64_t va, uint64_t end)
{
    for (uint32_t i = area_from(areas, va); va < end; i++) {
        if (i == areas->count || areas->area[i].va > va) {
            return false;
        }
        va = area_end(&areas->area[i]);
    }
    return true;
}

uint64_t area_gap(const struct areas *areas, uint64_t bytes, uint64_t align, uint64_t low,
                  uint64_t high)
{
    uint32_t i = area_from(areas, high);

    if (i < areas->count && areas->area[i].va < high) {
        high = areas->area[i].va;
    }
    for (;;) {
        uint64_t bottom = i > 0 ? most(low, area_end(&areas->area[i - 1])) : low;
        if (high > bottom && high - bottom >= bytes) {
            uint64_t va = round_down(high - bytes, align);
            if (va >= bottom) {
                return va;
            }
        }
        if (i == 0 || areas->area[i - 1].va <= low) {
            return 0;
        }
        high = areas->area[--i].va;
    }
}
