/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map: one builder for e820, PVH and multiboot. */
#include "place.h"

static void append(struct vh_map_entry *map, uint32_t *count, uint64_t start, uint64_t end,
                   uint32_t type)
{
    struct vh_map_entry *last = *count > 0 ? &map[*count - 1] : NULL;

    if (start >= end) {
        return;
    }
    if (last != NULL && last->type == type && last->start + last->bytes == start) {
        last->bytes += end - start;
        return;
    }
    map[*count] = (struct vh_map_entry){.start = start, .bytes = end - start, .type = type};
    (*count)++;
}

uint32_t vh_memory_map(const struct vh_memory *memory, struct vh_map_entry map[VH_MAP_MAX])
{
    uint32_t count = 0;

    /* Between the two: nothing is said, as on a PC with its video memory. */
    append(map, &count, 0, VH_LOW_RAM_END, VH_MAP_RAM);
    append(map, &count, VH_ACPI_GPA, VH_HIGH_RAM_START, VH_MAP_RESERVED);
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];
        uint64_t start = slot->gpa > VH_HIGH_RAM_START ? slot->gpa : VH_HIGH_RAM_START;

        append(map, &count, start, slot->gpa + slot->bytes, VH_MAP_RAM);
    }
    return count;
}
