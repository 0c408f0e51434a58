/* SPDX-License-Identifier: Apache-2.0 */
/* The processors and the IOAPIC by ACPI's MADT (ACPI 6.4, 5.2.5 to 5.2.12). Tables below 4 GiB
 * only: they are read while these are mapped one to one. */
#include "qk.h"

struct cpu cpus[MAX_CPUS];
uint32_t cpu_count;

struct rsdp {
    char signature[8];
    uint8_t checksum, oem[6], revision;
    uint32_t rsdt, bytes;
    uint64_t xsdt;
} __attribute__((packed));

struct table {
    char signature[4];
    uint32_t bytes;
    uint8_t rest[28];
};

struct madt {
    struct table header;
    uint32_t lapic, flags;
    uint8_t entries[];
};
#define MADT_PIC 1u /* there are 8259s */

struct madt_entry {
    uint8_t type, bytes;
    union {
        struct {
            uint8_t uid, id;
            uint32_t flags;
        } __attribute__((packed)) lapic;
        struct {
            uint16_t reserved;
            uint32_t id, flags, uid;
        } __attribute__((packed)) x2apic;
        struct {
            uint8_t id, reserved;
            uint32_t address, gsi;
        } __attribute__((packed)) ioapic;
    };
} __attribute__((packed));
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_X2APIC = 9 };
#define MADT_ENABLED 1u

/* 5.2.5.1: where a PC's firmware leaves it. */
static const struct rsdp *find_rsdp(void)
{
    for (uint64_t at = 0xe0000; at < VH_HIGH_RAM_START; at += 16) {
        if (memcmp((const void *)at, "RSD PTR ", 8) == 0) {
            return (const void *)at;
        }
    }
    return NULL;
}

static const struct madt *find_madt(const struct rsdp *rsdp)
{
    bool wide = rsdp->revision >= 2 && rsdp->xsdt != 0;
    uint64_t root = wide ? rsdp->xsdt : rsdp->rsdt;
    const struct table *table = (const void *)root;
    uint32_t entry = wide ? 8 : 4;

    if (root == 0 || root >= 4 * LWK_PAGE_1G - LWK_PAGE) {
        return NULL;
    }
    for (uint64_t at = root + sizeof(*table); at + entry <= root + table->bytes; at += entry) {
        uint64_t pa = 0;
        memcpy(&pa, (const void *)at, entry);
        if (pa < 4 * LWK_PAGE_1G - LWK_PAGE && memcmp((const void *)pa, "APIC", 4) == 0) {
            return (const void *)pa;
        }
    }
    return NULL;
}

static void add_cpu(uint32_t id, uint32_t flags)
{
    if ((flags & MADT_ENABLED) != 0 && cpu_count < MAX_CPUS) {
        cpus[cpu_count++].apic_id = id;
    }
}

void acpi_parse(void)
{
    const struct rsdp *rsdp = machine.rsdp != 0 ? (const void *)machine.rsdp : find_rsdp();
    const struct madt *madt = rsdp != NULL ? find_madt(rsdp) : NULL;
    uint32_t self = apic_id();

    if (madt != NULL) {
        const uint8_t *end = (const uint8_t *)madt + madt->header.bytes;
        machine.pic = (madt->flags & MADT_PIC) != 0;
        for (const uint8_t *at = madt->entries; at + 2 <= end && at[1] >= 2; at += at[1]) {
            const struct madt_entry *e = (const void *)at;
            if (e->type == MADT_LAPIC) {
                add_cpu(e->lapic.id, e->lapic.flags);
            } else if (e->type == MADT_X2APIC) {
                add_cpu(e->x2apic.id, e->x2apic.flags);
            } else if (e->type == MADT_IOAPIC && e->ioapic.gsi <= YOD_GSI) {
                machine.ioapic = e->ioapic.address;
                machine.ioapic_gsi = e->ioapic.gsi;
            }
        }
    }
    /* The boot CPU is number 0, wherever the table has it. */
    for (uint32_t i = 0; i < cpu_count; i++) {
        if (cpus[i].apic_id == self) {
            cpus[i].apic_id = cpus[0].apic_id;
            cpus[0].apic_id = self;
            return;
        }
    }
    cpu_count = 1;
    cpus[0].apic_id = self;
}
