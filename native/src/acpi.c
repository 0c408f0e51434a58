/* SPDX-License-Identifier: Apache-2.0 */
/* Places the tables: RSDP first, where a scan for it finds it too, then the tables, the XSDT last.
 */
#include "acpi.h"

#include "acpi_tables.h"
#include "layout.h"

#define RSDP_BYTES 36u
#define RSDP_V1_BYTES 20u /* what its first checksum covers */
#define TABLE_ALIGNMENT 64u

#define OEM_ID "V3MHPC"         /* 6 characters */
#define OEM_TABLE_ID "VMMHPC  " /* 8 characters */
#define CREATOR_ID "V3M "       /* 4 characters */

_Static_assert(VH_ACPI_GPA % 16 == 0 && VH_ACPI_GPA >= 0xe0000 && VH_ACPI_GPA < VH_HIGH_RAM_START,
               "the RSDP lies where a scan looks for it (ACPI 6.4, 5.2.5.1)");

/* Tables that the XSDT lists, in this order. */
static const struct vh_acpi_table tables[] = {
    {"FACP", 6, false, vh_acpi_fadt},
    {"APIC", 5, false, vh_acpi_madt},
    {"MCFG", 1, true, vh_acpi_mcfg},
};

/* The byte that makes all of them sum up to 0. */
static uint8_t checksum(const uint8_t *data, uint32_t bytes)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    return (uint8_t)-sum;
}

/* System description table header, 5.2.6. Returns where the table starts. */
static uint32_t table_begin(struct vh_bytes *out, const char *signature, uint8_t revision)
{
    vh_emit_align(out, TABLE_ALIGNMENT);
    const uint32_t start = out->used;
    vh_emit(out, signature, 4);
    vh_emit32(out, 0); /* length: table_end() */
    vh_emit8(out, revision);
    vh_emit8(out, 0); /* checksum: table_end() */
    vh_emit(out, OEM_ID, 6);
    vh_emit(out, OEM_TABLE_ID, 8);
    vh_emit32(out, 1); /* OEM revision */
    vh_emit(out, CREATOR_ID, 4);
    vh_emit32(out, 1); /* creator revision */
    return start;
}

static void table_end(struct vh_bytes *out, uint32_t start)
{
    if (out->overflow) {
        return;
    }
    uint8_t *table = out->data + start;
    const uint32_t length = out->used - start;
    struct vh_bytes field = {.data = table + 4, .capacity = 4};
    vh_emit32(&field, length);
    table[9] = checksum(table, length);
}

/* 5.2.5.3, revision 2; there is no RSDT. `out` has the room: it holds the tables already. */
static void put_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    struct vh_bytes out = {.data = rsdp, .capacity = RSDP_BYTES};
    vh_emit(&out, "RSD PTR ", 8);
    vh_emit8(&out, 0); /* checksum */
    vh_emit(&out, OEM_ID, 6);
    vh_emit8(&out, 2);
    vh_emit32(&out, 0);
    vh_emit32(&out, RSDP_BYTES);
    vh_emit64(&out, xsdt);
    vh_emit32(&out, 0); /* extended checksum, reserved */
    rsdp[8] = checksum(rsdp, RSDP_V1_BYTES);
    rsdp[32] = checksum(rsdp, RSDP_BYTES);
}

static int32_t check(const struct vh_acpi_config *config, struct vmmhpc_error *err)
{
    if (config->cpus == 0 || config->apic_ids == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->cpus, "ACPI tables need a vCPU");
    }
    for (uint32_t i = 0; i < config->cpus; i++) {
        const uint32_t id = config->apic_ids[i];
        if (id == UINT32_MAX || (i > 0 && id <= config->apic_ids[i - 1])) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, id,
                           "APIC id %u of vCPU %u is not above its predecessor's, or is reserved",
                           id, i);
        }
    }
    return VMMHPC_OK;
}

int32_t vh_acpi_build(struct vh_memory *memory, const struct vh_acpi_config *config, uint64_t *rsdp,
                      struct vmmhpc_error *err)
{
    const int32_t status = check(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_bytes out = {.capacity = VH_ACPI_END - VH_ACPI_GPA};
    out.data = vh_memory_at(memory, VH_ACPI_GPA, out.capacity);
    if (out.data == NULL) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, VH_ACPI_GPA, "no RAM where the ACPI tables go");
    }
    vh_emit64(&out, 0); /* the first lines are the RSDP's: put_rsdp() */
    struct vh_acpi_context context = {.config = config};

    uint32_t start = table_begin(&out, "DSDT", 2); /* revision 2: integers of 64 bits */
    vh_acpi_dsdt(&out, &context);
    table_end(&out, start);
    context.dsdt = VH_ACPI_GPA + start;

    uint64_t entries[VH_COUNT(tables) + VH_ACPI_FURTHER];
    size_t count = 0;
    for (size_t i = 0; i < VH_COUNT(tables) + config->further_count; i++) {
        const struct vh_acpi_table *table =
            i < VH_COUNT(tables) ? &tables[i] : &config->further[i - VH_COUNT(tables)];
        if (table->pci_only && !config->pci) {
            continue;
        }
        start = table_begin(&out, table->signature, table->revision);
        table->body(&out, &context);
        table_end(&out, start);
        entries[count++] = VH_ACPI_GPA + start;
    }

    start = table_begin(&out, "XSDT", 1);
    for (size_t i = 0; i < count; i++) {
        vh_emit64(&out, entries[i]);
    }
    table_end(&out, start);
    if (out.overflow) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, config->cpus,
                       "ACPI tables for %u vCPUs do not fit in %u KiB", config->cpus,
                       out.capacity / 1024);
    }
    put_rsdp(out.data, VH_ACPI_GPA + start);
    *rsdp = VH_ACPI_GPA;
    return VMMHPC_OK;
}
