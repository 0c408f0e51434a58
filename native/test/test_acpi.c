/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: checksums, structure, limits and odd configurations. iasl judges them in
 * acpi.test.ts. */
#include "acpi.h"

#include "acpi_aml.h"
#include "reset_stub.h"
#include "rig.h"

#define HEADER 36u
#define CPUS_MAX 8192u

static uint32_t ids[CPUS_MAX];

/* Memory and tables for vCPUs with APIC ids 0, step, 2 * step ... */
static struct rig *build(uint32_t cpus, uint32_t step, int32_t *status)
{
    struct rig *rig = rig_new(2);
    struct vh_acpi_config config = {.cpus = cpus, .apic_ids = ids, .uart = true};
    for (uint32_t i = 0; i < cpus; i++) {
        ids[i] = i * step;
    }
    rig->source.rsdp = 0;
    *status = vh_acpi_build(&rig->memory, &config, &rig->source.rsdp, &rig->err);
    return rig;
}

static uint8_t sum(const struct rig *rig, uint64_t gpa, uint64_t bytes)
{
    uint8_t result = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        result = (uint8_t)(result + rig_read(rig, gpa + i, 1));
    }
    return result;
}

static bool is_table(const struct rig *rig, uint64_t gpa, const char *signature)
{
    const void *table = vh_memory_at(&rig->memory, gpa, 4);
    const uint64_t bytes = rig_read(rig, gpa + 4, 4);
    return table != NULL && memcmp(table, signature, 4) == 0 && bytes >= HEADER &&
           gpa >= VH_ACPI_GPA && gpa + bytes <= VH_ACPI_END && sum(rig, gpa, bytes) == 0;
}

/* GPA of a table that the XSDT names, or 0. */
static uint64_t find(const struct rig *rig, const char *signature)
{
    const uint64_t xsdt = rig_read(rig, rig->source.rsdp + 24, 8);
    const uint64_t bytes = rig_read(rig, xsdt + 4, 4);
    for (uint64_t at = HEADER; at + 8 <= bytes; at += 8) {
        const uint64_t gpa = rig_read(rig, xsdt + at, 8);
        const void *table = vh_memory_at(&rig->memory, gpa, 4);
        if (table != NULL && memcmp(table, signature, 4) == 0) {
            return gpa;
        }
    }
    return 0;
}

/* Walk the MADT; every vCPU must be there once, in order, in the right form. */
static void check_madt(const struct rig *rig, uint64_t madt, uint32_t cpus, uint32_t step)
{
    const uint64_t end = madt + rig_read(rig, madt + 4, 4);
    uint32_t seen = 0;
    uint32_t ioapics = 0;
    uint32_t nmis = 0;
    bool right = true;
    const bool x2apic = (cpus - 1) * step >= 255;
    uint64_t at = madt + 44;
    while (at + 2 <= end && rig_read(rig, at + 1, 1) >= 2) {
        const uint64_t type = rig_read(rig, at, 1);
        const uint64_t id = type == 0 ? rig_read(rig, at + 3, 1) : rig_read(rig, at + 4, 4);
        const uint64_t uid = type == 0 ? rig_read(rig, at + 2, 1) : rig_read(rig, at + 12, 4);
        if (type == 0 || type == 9) {
            right =
                right && uid == seen && id == (uint64_t)seen * step && (type == 0) == (id < 255);
            seen++;
        } else if (type == 1) {
            ioapics++;
            CHECK_EQ(rig_read(rig, at + 4, 4), VH_IOAPIC_GPA);
            CHECK_EQ(rig_read(rig, at + 8, 4), 0);
        } else {
            nmis++;
            CHECK_EQ(type, x2apic ? 10 : 4);
        }
        at += rig_read(rig, at + 1, 1);
    }
    CHECK_EQ(at, end);
    CHECK(right);
    CHECK_EQ(seen, cpus);
    CHECK_EQ(ioapics, 1);
    CHECK_EQ(nmis, 1);
}

static void check_machine(uint32_t cpus, uint32_t step)
{
    int32_t status;
    struct rig *rig = build(cpus, step, &status);
    if (CHECK_OK(status, &rig->err)) {
        const uint64_t rsdp = rig->source.rsdp;
        CHECK(memcmp(vh_memory_at(&rig->memory, rsdp, 8), "RSD PTR ", 8) == 0);
        CHECK_EQ(rsdp % 16, 0);
        CHECK_EQ(sum(rig, rsdp, 20), 0);
        CHECK_EQ(sum(rig, rsdp, 36), 0);
        CHECK(is_table(rig, rig_read(rig, rsdp + 24, 8), "XSDT"));
        const uint64_t fadt = find(rig, "FACP");
        const uint64_t madt = find(rig, "APIC");
        CHECK(is_table(rig, fadt, "FACP"));
        CHECK_EQ(rig_read(rig, fadt + 4, 4), 276);
        CHECK(is_table(rig, madt, "APIC"));
        CHECK(is_table(rig, rig_read(rig, fadt + 140, 8), "DSDT"));
        check_madt(rig, madt, cpus, step);
    }
    rig_free(rig);
}

TEST(acpi_machines)
{
    static const uint32_t counts[] = {1, 2, 4, 254, 255, 256, 257, 300, 3000};
    for (size_t i = 0; i < VH_COUNT(counts); i++) {
        check_machine(counts[i], 1);
    }
    check_machine(64, 8);
    check_machine(16, 255);
}

/* Up to the last vCPU that fits, and never a byte beyond the range. */
TEST(acpi_limit)
{
    int32_t status = VMMHPC_OK;
    uint32_t fits = 3000;
    uint32_t too_many = CPUS_MAX;
    while (too_many - fits > 1) {
        const uint32_t middle = fits + (too_many - fits) / 2;
        struct rig *rig = build(middle, 1, &status);
        *(status == VMMHPC_OK ? &fits : &too_many) = middle;
        rig_free(rig);
    }
    CHECK(fits > 4000);
    struct rig *rig = build(too_many, 1, &status);
    CHECK_ERROR(status, &rig->err, VMMHPC_E_LIMIT, "do not fit");
    CHECK_EQ(rig->err.value, too_many);
    CHECK_EQ(rig->source.rsdp, 0);
    CHECK_EQ(rig_read(rig, VH_ACPI_END, 8), 0);
    rig_free(rig);
}

TEST(acpi_odd_configurations)
{
    struct rig *rig = rig_new(2);
    struct vh_acpi_config config = {.cpus = 3, .apic_ids = (const uint32_t[]){0, 2, 2}};
    uint64_t rsdp = 0;
    CHECK_ERROR(vh_acpi_build(&rig->memory, &config, &rsdp, &rig->err), &rig->err, VMMHPC_E_INVALID,
                "APIC id 2 of vCPU 2");
    config.apic_ids = (const uint32_t[]){0, 1, UINT32_MAX};
    CHECK_ERROR(vh_acpi_build(&rig->memory, &config, &rsdp, &rig->err), &rig->err, VMMHPC_E_INVALID,
                "APIC id 4294967295");
    config.apic_ids = NULL;
    CHECK_EQ(vh_acpi_build(&rig->memory, &config, &rsdp, NULL), VMMHPC_E_INVALID);
    config = (struct vh_acpi_config){.cpus = 0, .apic_ids = ids};
    CHECK_ERROR(vh_acpi_build(&rig->memory, &config, &rsdp, &rig->err), &rig->err, VMMHPC_E_INVALID,
                "need a vCPU");
    struct vh_memory none = {0};
    config = (struct vh_acpi_config){.cpus = 1, .apic_ids = (const uint32_t[]){0}};
    CHECK_ERROR(vh_acpi_build(&none, &config, &rsdp, &rig->err), &rig->err, VMMHPC_E_RANGE,
                "no RAM");
    CHECK_EQ(rsdp, 0);
    rig_free(rig);
}

TEST(acpi_no_uart)
{
    struct rig *rig = rig_new(2);
    const struct vh_acpi_config config = {.cpus = 1, .apic_ids = (const uint32_t[]){0}};
    CHECK_OK(vh_acpi_build(&rig->memory, &config, &rig->source.rsdp, &rig->err), &rig->err);
    const uint64_t dsdt = rig_read(rig, find(rig, "FACP") + 140, 8);
    CHECK(is_table(rig, dsdt, "DSDT"));
    const uint64_t bytes = rig_read(rig, dsdt + 4, 4);
    CHECK(memmem(vh_memory_at(&rig->memory, dsdt, bytes), bytes, "COM1", 4) == NULL);
    rig_free(rig);
}

/* PkgLength grows by a byte at 2^6, 2^12 and 2^20 (ACPI 6.4, 20.2.4). */
TEST(acpi_aml_block_lengths)
{
    static const struct {
        uint32_t body;  /* bytes in the block, without its length */
        uint32_t bytes; /* of the length */
        uint32_t encoded;
    } cases[] = {
        {1, 1, 0x02},
        {62, 1, 0x3f},
        {63, 2, 0x0441},
        {4093, 2, 0xff4f},
        {4094, 3, 0x010081},
        {(1 << 20) - 4, 3, 0xffff8f},
        {(1 << 20) - 3, 4, 0x010000c1},
    };
    static uint8_t data[2u << 20];
    for (size_t i = 0; i < VH_COUNT(cases); i++) {
        struct vh_bytes aml = {.data = data, .capacity = sizeof(data)};
        const uint32_t position = vh_aml_package_begin(&aml, 0xee);
        aml.used += cases[i].body - 1;
        vh_aml_block_end(&aml, position);
        uint32_t encoded = 0;
        memcpy(&encoded, data + 1, cases[i].bytes);
        CHECK_EQ(encoded, cases[i].encoded);
        CHECK_EQ(data[1 + cases[i].bytes], 0xee);
        CHECK_EQ(aml.used, 1 + cases[i].bytes + cases[i].body);
    }
}

static bool emits(const struct vh_bytes *aml, const char *bytes, uint32_t count)
{
    return !aml->overflow && aml->used == count && memcmp(aml->data, bytes, count) == 0;
}

TEST(acpi_aml_objects)
{
    uint8_t data[32];
    const struct vh_bytes empty = {.data = data, .capacity = sizeof(data)};
    struct vh_bytes aml = empty;
    vh_aml_path(&aml, "_S5");
    CHECK(emits(&aml, "_S5_", 4));
    aml = empty;
    vh_aml_path(&aml, "\\_SB.PCI0");
    CHECK(emits(&aml, "\\\x2e_SB_PCI0", 10));
    aml = empty;
    vh_aml_path(&aml, "A.B.CPUS");
    CHECK(emits(&aml,
                "\x2f\x03"
                "A___B___CPUS",
                14));
    aml = empty;
    vh_aml_eisa_id(&aml, "PNP0A08");
    CHECK(emits(&aml, "\x0c\x41\xd0\x0a\x08", 5));
    aml = empty;
    vh_aml_integer(&aml, 0);
    vh_aml_integer(&aml, 1);
    vh_aml_integer(&aml, 0xff);
    vh_aml_integer(&aml, 0x100);
    vh_aml_integer(&aml, 0x10000);
    CHECK(emits(&aml, "\x00\x01\x0a\xff\x0b\x00\x01\x0c\x00\x00\x01\x00", 12));
    aml = empty;
    vh_aml_integer(&aml, 1ull << 32);
    CHECK(emits(&aml, "\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 9));
}

/* A full buffer is left as it is from then on, whatever is emitted. */
TEST(acpi_bytes_overflow)
{
    uint8_t data[8] = {0};
    struct vh_bytes out = {.data = data, .capacity = 4};
    vh_emit32(&out, 0x04030201);
    CHECK(!out.overflow);
    vh_emit_insert(&out, 0, "x", 1);
    CHECK(out.overflow);
    vh_emit8(&out, 5);
    vh_emit_align(&out, 64);
    CHECK_EQ(out.used, 4);
    CHECK(memcmp(data, "\x01\x02\x03\x04\x00\x00\x00\x00", 8) == 0);
}

TEST(reset_stub_disassembles)
{
    CHECK(memcmp(vh_reset_stub, "\xfa\xba\xf9\x0c\xb0\x06\xee\xf4\xeb\xfd", 10) == 0);
}
