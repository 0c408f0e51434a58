/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables for the machine in layout.h, generated and checksummed. */
#ifndef VH_ACPI_H
#define VH_ACPI_H

#include "internal.h"
#include "memory.h"

struct vh_bytes;
struct vh_acpi_context;

/** A table that the XSDT lists: acpi.c puts the header in front of its body. */
struct vh_acpi_table {
    const char *signature;
    uint8_t revision;
    bool pci_only;
    void (*body)(struct vh_bytes *out, const struct vh_acpi_context *context);
};

#define VH_ACPI_FURTHER 3u

struct vh_acpi_config {
    uint32_t cpus;
    const uint32_t *apic_ids; /* one for each vCPU, strictly ascending */
    bool uart;
    bool pci;                /* a root bridge with ECAM; without it the bus is not mentioned */
    uint64_t pci_window_gpa; /* of BARs above 4 GiB */
    uint64_t pci_window_bytes;
    bool power_button;
    uint64_t generation_gpa;             /* of the VM generation ID, or 0 */
    const struct vh_acpi_table *further; /* tables behind those of acpi.c */
    uint32_t further_count;              /* at most VH_ACPI_FURTHER */
    const struct vmmhpc *machine;        /* for them */
};

/**
 * Write RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT and, with PCI, MCFG into [VH_ACPI_GPA,
 * VH_ACPI_END), which the memory map reports as reserved. E_LIMIT where they do not fit (beyond
 * about 4,000 vCPUs), E_INVALID for APIC ids that cannot be, E_RANGE where that range is not RAM.
 */
int32_t vh_acpi_build(struct vh_memory *memory, const struct vh_acpi_config *config, uint64_t *rsdp,
                      struct vmmhpc_error *err);

#endif
