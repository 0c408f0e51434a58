/* SPDX-License-Identifier: Apache-2.0 */
/* NUMA nodes as ACPI tells of them: SRAT (ACPI 6.4, 5.2.16) and SLIT (5.2.17). */
#include "acpi_tables.h"
#include "place.h"

enum { SRAT_LAPIC = 0, SRAT_MEMORY = 1, SRAT_X2APIC = 2 };

#define SRAT_ENABLED 1u
#define LAPIC_IDS 255u /* as in the MADT: ids below this use the older structure */

static void put_processor(struct vh_bytes *out, uint32_t apic_id, uint32_t node)
{
    if (apic_id < LAPIC_IDS) {
        vh_emit8(out, SRAT_LAPIC);
        vh_emit8(out, 16);
        vh_emit8(out, node);
        vh_emit8(out, apic_id);
        vh_emit32(out, SRAT_ENABLED);
        vh_emit8(out, 0);               /* SAPIC EID */
        vh_emit_int(out, node >> 8, 3); /* the other bits of the node */
        vh_emit32(out, 0);              /* clock domain */
    } else {
        vh_emit8(out, SRAT_X2APIC);
        vh_emit8(out, 24);
        vh_emit16(out, 0);
        vh_emit32(out, node);
        vh_emit32(out, apic_id);
        vh_emit32(out, SRAT_ENABLED);
        vh_emit32(out, 0); /* clock domain */
        vh_emit32(out, 0);
    }
}

static void put_memory(struct vh_bytes *out, const struct vmmhpc_slot *slot, uint32_t node)
{
    vh_emit8(out, SRAT_MEMORY);
    vh_emit8(out, 40);
    vh_emit32(out, node);
    vh_emit16(out, 0);
    vh_emit64(out, slot->gpa);
    vh_emit64(out, slot->bytes);
    vh_emit32(out, 0);
    vh_emit32(out, SRAT_ENABLED);
    vh_emit64(out, 0);
}

/* The region that a slot is a part of. */
static uint32_t region_of(const struct vh_memory *memory, const struct vmmhpc_slot *slot)
{
    uint32_t region = 0;
    while (slot->host - (uint64_t)(uintptr_t)memory->mappings[region].base >=
           memory->mappings[region].bytes) {
        region++;
    }
    return region;
}

static void srat(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    const struct vmmhpc *vm = context->config->machine;
    const struct vh_place *place = vh_place_of(vm);
    vh_emit32(out, 1); /* reserved, 1 for those who know it from older versions */
    vh_emit64(out, 0);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        put_processor(out, vm->apic_ids[i], place->vcpu_nodes[i]);
    }
    for (uint32_t i = 0; i < vm->memory.slot_count; i++) {
        const struct vmmhpc_slot *slot = &vm->memory.slots[i];
        put_memory(out, slot, place->memory_nodes[region_of(&vm->memory, slot)]);
    }
}

static void slit(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    const struct vh_place *place = vh_place_of(context->config->machine);
    vh_emit64(out, place->nodes);
    vh_emit(out, place->distances, place->nodes * place->nodes);
}

const struct vh_acpi_table vh_place_tables[VH_PLACE_TABLES] = {
    {"SRAT", 3, false, srat},
    {"SLIT", 1, false, slit},
};
