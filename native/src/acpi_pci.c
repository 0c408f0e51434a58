/* SPDX-License-Identifier: Apache-2.0 */
/* What ACPI says of PCI: where its configuration lies (MCFG), which addresses the root bridge
 * passes on, and which line each slot's interrupt is (PCI Firmware 3.2, 4.1; ACPI 6.4, 6.2.13). */
#include "acpi_aml.h"
#include "acpi_tables.h"
#include "layout.h"

#define SLOTS 32u
#define LINES 4u

/* PCI Firmware 3.2, table 4-2: one segment, bus 0. */
void vh_acpi_mcfg(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    (void)context;
    vh_emit64(out, 0); /* reserved */
    vh_emit64(out, VH_ECAM_GPA);
    vh_emit16(out, 0); /* segment */
    vh_emit8(out, 0);  /* first bus */
    vh_emit8(out, 0);  /* last bus */
    vh_emit32(out, 0);
}

/* Linux believes an MCFG only where the range is reserved as somebody's resource. */
static void emit_ecam(struct vh_bytes *aml)
{
    const uint32_t device = vh_aml_device_begin(aml, "ECAM");
    vh_aml_name(aml, "_HID");
    vh_aml_eisa_id(aml, "PNP0C02"); /* motherboard resources */
    vh_aml_name(aml, "_UID");
    vh_aml_integer(aml, 1);
    vh_aml_name(aml, "_CRS");
    const uint32_t resources = vh_aml_resources_begin(aml);
    vh_aml_resource_memory(aml, VH_ECAM_GPA, VH_ECAM_BYTES);
    vh_aml_resources_end(aml, resources);
    vh_aml_block_end(aml, device);
}

static void emit_windows(struct vh_bytes *aml, const struct vh_acpi_config *config)
{
    vh_aml_name(aml, "_CRS");
    const uint32_t resources = vh_aml_resources_begin(aml);
    vh_aml_resource_bus(aml, 0, 0);
    vh_aml_resource_ports(aml, VH_PCI_PORT, VH_PCI_BYTES);
    vh_aml_resource_window(aml, VH_PCI_WINDOW_GPA, VH_PCI_WINDOW_BYTES);
    vh_aml_resource_window(aml, config->pci_window_gpa, config->pci_window_bytes);
    vh_aml_resources_end(aml, resources);
}

/* Only INTA: every device has one function. */
static void emit_interrupts(struct vh_bytes *aml)
{
    vh_aml_name(aml, "_PRT");
    const uint32_t table = vh_aml_package_begin(aml, SLOTS - 1);
    for (uint32_t slot = 1; slot < SLOTS; slot++) {
        const uint32_t entry = vh_aml_package_begin(aml, 4);
        vh_aml_integer(aml, slot << 16 | 0xffff);
        vh_aml_integer(aml, 0); /* INTA */
        vh_aml_integer(aml, 0); /* a GSI follows */
        vh_aml_integer(aml, VH_PCI_FIRST_GSI + VH_PCI_LINE(slot));
        vh_aml_block_end(aml, entry);
    }
    vh_aml_block_end(aml, table);
}

void vh_acpi_pci(struct vh_bytes *aml, const struct vh_acpi_config *config)
{
    const uint32_t device = vh_aml_device_begin(aml, "PCI0");
    vh_aml_name(aml, "_HID");
    vh_aml_eisa_id(aml, "PNP0A08"); /* PCI Express root bridge */
    vh_aml_name(aml, "_CID");
    vh_aml_eisa_id(aml, "PNP0A03");
    vh_aml_name(aml, "_UID");
    vh_aml_integer(aml, 0);
    vh_aml_name(aml, "_SEG");
    vh_aml_integer(aml, 0);
    vh_aml_name(aml, "_BBN");
    vh_aml_integer(aml, 0);
    emit_windows(aml, config);
    emit_interrupts(aml);
    vh_aml_block_end(aml, device);
    emit_ecam(aml);
}

/* A generic event device (ACPI 6.4, 5.6.9): its interrupt notifies another device. */
static void emit_events(struct vh_bytes *aml, const char *name, uint32_t uid, uint32_t gsi,
                        const char *target)
{
    const uint32_t device = vh_aml_device_begin(aml, name);
    vh_aml_name(aml, "_HID");
    vh_aml_string(aml, "ACPI0013");
    vh_aml_name(aml, "_UID");
    vh_aml_integer(aml, uid);
    vh_aml_name(aml, "_CRS");
    const uint32_t resources = vh_aml_resources_begin(aml);
    vh_aml_resource_interrupt(aml, gsi);
    vh_aml_resources_end(aml, resources);
    const uint32_t method = vh_aml_method_begin(aml, "_EVT", 1);
    vh_aml_notify(aml, target, 0x80);
    vh_aml_block_end(aml, method);
    vh_aml_block_end(aml, device);
}

/*
 * The VM generation ID (Microsoft, "Virtual Machine Generation ID", 2012): ADDR tells where its 16
 * bytes are. A hardware-reduced machine has no GPEs: a generic event device (ACPI 6.4, 5.6.9)
 * passes on that they changed.
 */
void vh_acpi_generation_id(struct vh_bytes *aml, const struct vh_acpi_config *config)
{
    const uint32_t device = vh_aml_device_begin(aml, "VGEN");
    vh_aml_name(aml, "_HID");
    vh_aml_string(aml, "VMMH0001");
    vh_aml_name(aml, "_CID"); /* Linux knows the first of them, Windows the second */
    const uint32_t ids = vh_aml_package_begin(aml, 2);
    vh_aml_string(aml, "VMGENCTR");
    vh_aml_string(aml, "VM_Gen_Counter");
    vh_aml_block_end(aml, ids);
    vh_aml_name(aml, "_DDN");
    vh_aml_string(aml, "VM_Gen_Counter");
    vh_aml_name(aml, "ADDR");
    const uint32_t address = vh_aml_package_begin(aml, 2);
    vh_aml_integer(aml, (uint32_t)config->generation_gpa);
    vh_aml_integer(aml, config->generation_gpa >> 32);
    vh_aml_block_end(aml, address);
    vh_aml_block_end(aml, device);

    emit_events(aml, "GED", 0, VH_GED_GSI, "VGEN");
}

/* ACPI 6.4, 4.8.2.2.1.2 and 5.6.9: a control-method button; 0x80 says that it was pressed. */
void vh_acpi_power_button(struct vh_bytes *aml)
{
    const uint32_t device = vh_aml_device_begin(aml, "PWRB");
    vh_aml_name(aml, "_HID");
    vh_aml_eisa_id(aml, "PNP0C0C");
    vh_aml_block_end(aml, device);
    emit_events(aml, "GEDB", 1, VMMHPC_POWER_BUTTON_GSI, "PWRB");
}
