/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DSDT: the devices that cannot be found by probing, and the sleep state for power-off.
 *
 * There are no processor devices (ACPI0007): topology comes from CPUID and the MADT, and with them
 * newer Linux kernels (6.7+) install the acpi_idle driver for a lone C1 state, which keeps out
 * haltpoll. They belong to CPU hot-plug.
 */
#include "acpi_aml.h"
#include "acpi_tables.h"
#include "layout.h"

/* ACPI 6.4, 7.4.2.6 and 16.1: the first element goes into SLP_TYPx of the sleep control register.
 */
static void emit_power_off(struct vh_bytes *aml)
{
    vh_aml_name(aml, "_S5");
    const uint32_t package = vh_aml_package_begin(aml, 4);
    vh_aml_integer(aml, VH_SLEEP_TYPE_S5);
    vh_aml_integer(aml, 0);
    vh_aml_integer(aml, 0);
    vh_aml_integer(aml, 0);
    vh_aml_block_end(aml, package);
}

static void emit_uart(struct vh_bytes *aml)
{
    const uint32_t device = vh_aml_device_begin(aml, "COM1");
    vh_aml_name(aml, "_HID");
    vh_aml_eisa_id(aml, "PNP0501"); /* 16550A-compatible */
    vh_aml_name(aml, "_UID");
    vh_aml_integer(aml, 1);
    vh_aml_name(aml, "_CRS");
    const uint32_t resources = vh_aml_resources_begin(aml);
    vh_aml_resource_ports(aml, VH_UART_PORT, VH_UART_BYTES);
    vh_aml_resource_interrupt(aml, VH_UART_GSI);
    vh_aml_resources_end(aml, resources);
    vh_aml_block_end(aml, device);
}

void vh_acpi_dsdt(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    emit_power_off(out);
    const uint32_t scope = vh_aml_scope_begin(out, "_SB");
    if (context->config->uart) {
        emit_uart(out);
    }
    if (context->config->pci) {
        vh_acpi_pci(out, context->config);
    }
    if (context->config->generation_gpa != 0) {
        vh_acpi_generation_id(out, context->config);
    }
    if (context->config->power_button) {
        vh_acpi_power_button(out);
    }
    vh_aml_block_end(out, scope);
}
