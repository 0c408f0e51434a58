/* SPDX-License-Identifier: Apache-2.0 */
/* One writer of a table's body each; acpi.c puts the header in front and the checksum in it. */
#ifndef VH_ACPI_TABLES_H
#define VH_ACPI_TABLES_H

#include "acpi.h"
#include "acpi_bytes.h"

#define VH_ACPI_HEADER_BYTES 36u

struct vh_acpi_context {
    const struct vh_acpi_config *config;
    uint64_t dsdt; /* GPA; known to all tables after the DSDT */
};

void vh_acpi_dsdt(struct vh_bytes *out, const struct vh_acpi_context *context);
void vh_acpi_fadt(struct vh_bytes *out, const struct vh_acpi_context *context);
void vh_acpi_mcfg(struct vh_bytes *out, const struct vh_acpi_context *context);
/** Parts of the DSDT's \_SB. */
void vh_acpi_pci(struct vh_bytes *aml, const struct vh_acpi_config *config);
void vh_acpi_generation_id(struct vh_bytes *aml, const struct vh_acpi_config *config);
void vh_acpi_power_button(struct vh_bytes *aml);
void vh_acpi_madt(struct vh_bytes *out, const struct vh_acpi_context *context);

#endif
