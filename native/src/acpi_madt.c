/* SPDX-License-Identifier: Apache-2.0 */
/* MADT (ACPI 6.4, 5.2.12): the processors and the interrupt controllers. */
#include "acpi_tables.h"
#include "layout.h"

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9, MADT_X2APIC_NMI = 10 };

#define LAPIC_ENABLED 1u
#define LAPIC_IDS 255u  /* APIC ids below this use the older structures */
#define NMI_LINT 1u     /* the LINT pin, as on any PC */
#define NMI_CONFORMS 0u /* polarity and trigger as the NMI delivery mode has them */

/* The UID of a processor is its vCPU number. Where it must fit 8 bits it does: ids ascend, so a
 * vCPU's number is at most its APIC id. */
static void put_processor(struct vh_bytes *out, uint32_t uid, uint32_t apic_id)
{
    if (apic_id < LAPIC_IDS) {
        vh_emit8(out, MADT_LAPIC);
        vh_emit8(out, 8);
        vh_emit8(out, uid);
        vh_emit8(out, apic_id);
        vh_emit32(out, LAPIC_ENABLED);
    } else {
        vh_emit8(out, MADT_X2APIC);
        vh_emit8(out, 16);
        vh_emit16(out, 0);
        vh_emit32(out, apic_id);
        vh_emit32(out, LAPIC_ENABLED);
        vh_emit32(out, uid);
    }
}

static void put_ioapic(struct vh_bytes *out)
{
    vh_emit8(out, MADT_IOAPIC);
    vh_emit8(out, 12);
    vh_emit8(out, 0); /* id, as KVM's IOAPIC has it */
    vh_emit8(out, 0);
    vh_emit32(out, VH_IOAPIC_GPA);
    vh_emit32(out, 0); /* its first GSI */
}

/* One entry for all processors; with any id from 255 on, the x2APIC form speaks for all of them
 * (5.2.12.13). */
static void put_nmi(struct vh_bytes *out, bool x2apic)
{
    if (x2apic) {
        vh_emit8(out, MADT_X2APIC_NMI);
        vh_emit8(out, 12);
        vh_emit16(out, NMI_CONFORMS);
        vh_emit32(out, UINT32_MAX);
        vh_emit8(out, NMI_LINT);
        vh_emit_int(out, 0, 3);
    } else {
        vh_emit8(out, MADT_LAPIC_NMI);
        vh_emit8(out, 6);
        vh_emit8(out, UINT8_MAX);
        vh_emit16(out, NMI_CONFORMS);
        vh_emit8(out, NMI_LINT);
    }
}

void vh_acpi_madt(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    const struct vh_acpi_config *config = context->config;
    vh_emit32(out, VH_LAPIC_GPA);
    vh_emit32(out, 0); /* no PCAT_COMPAT: there are no 8259s to mask */
    for (uint32_t i = 0; i < config->cpus; i++) {
        put_processor(out, i, config->apic_ids[i]);
    }
    put_ioapic(out);
    put_nmi(out, config->apic_ids[config->cpus - 1] >= LAPIC_IDS);
}
