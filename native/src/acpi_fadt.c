/* SPDX-License-Identifier: Apache-2.0 */
/* FADT of a hardware-reduced machine (ACPI 6.4, 5.2.9): no SCI, no PM registers, no FACS. */
#include "acpi_tables.h"
#include "layout.h"

#define FADT_BYTES 276u
#define FADT_MINOR_REVISION 4u

#define FLAG_WBINVD (1u << 0)
#define FLAG_PROC_C1 (1u << 2)
#define FLAG_POWER_BUTTON_NOT_FIXED (1u << 4)
#define FLAG_SLEEP_BUTTON_NOT_FIXED (1u << 5)
#define FLAG_RTC_WAKE_NOT_FIXED (1u << 6)
#define FLAG_RESET_REGISTER (1u << 10)
#define FLAG_HEADLESS (1u << 12)
#define FLAG_HW_REDUCED (1u << 20)

/* IAPC_BOOT_ARCH, 5.2.9.3. "8042" (bit 1) and "MSI not supported" (bit 3) stay clear. */
#define ARCH_NO_VGA (1u << 2)
#define ARCH_NO_CMOS_RTC (1u << 5)

#define PROFILE_PERFORMANCE_SERVER 7u

/* Byte offsets in the table. */
enum {
    AT_PROFILE = 45,
    AT_BOOT_ARCH = 109,
    AT_FLAGS = 112,
    AT_RESET_REGISTER = 116,
    AT_RESET_VALUE = 128,
    AT_MINOR_REVISION = 131,
    AT_X_DSDT = 140,
    AT_SLEEP_CONTROL = 244,
    AT_SLEEP_STATUS = 256,
    AT_HYPERVISOR = 268,
};

/* The fields not named here are zero, which says "absent". */
static void zero_to(struct vh_bytes *out, uint32_t start, uint32_t offset)
{
    while (!out->overflow && out->used < start + offset) {
        vh_emit8(out, 0);
    }
}

/* A byte-wide register in I/O space as a generic address structure (5.2.3.2). */
static void put_register(struct vh_bytes *out, uint16_t port)
{
    vh_emit8(out, 1); /* system I/O */
    vh_emit8(out, 8); /* bits wide */
    vh_emit8(out, 0); /* bit offset */
    vh_emit8(out, 1); /* byte access */
    vh_emit64(out, port);
}

void vh_acpi_fadt(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    const uint32_t start = out->used - VH_ACPI_HEADER_BYTES;
    zero_to(out, start, AT_PROFILE);
    vh_emit8(out, PROFILE_PERFORMANCE_SERVER);
    zero_to(out, start, AT_BOOT_ARCH);
    vh_emit16(out, ARCH_NO_VGA | ARCH_NO_CMOS_RTC);
    zero_to(out, start, AT_FLAGS);
    vh_emit32(out, FLAG_WBINVD | FLAG_PROC_C1 | FLAG_POWER_BUTTON_NOT_FIXED |
                       FLAG_SLEEP_BUTTON_NOT_FIXED | FLAG_RTC_WAKE_NOT_FIXED | FLAG_RESET_REGISTER |
                       FLAG_HEADLESS | FLAG_HW_REDUCED);
    zero_to(out, start, AT_RESET_REGISTER);
    put_register(out, VH_RESET_PORT);
    zero_to(out, start, AT_RESET_VALUE);
    vh_emit8(out, VH_RESET_VALUE);
    zero_to(out, start, AT_MINOR_REVISION);
    vh_emit8(out, FADT_MINOR_REVISION);
    zero_to(out, start, AT_X_DSDT); /* the 32-bit DSDT field stays 0: one of them is enough */
    vh_emit64(out, context->dsdt);
    zero_to(out, start, AT_SLEEP_CONTROL);
    put_register(out, VH_SLEEP_CONTROL_PORT);
    zero_to(out, start, AT_SLEEP_STATUS);
    put_register(out, VH_SLEEP_STATUS_PORT);
    zero_to(out, start, AT_HYPERVISOR);
    vh_emit(out, "VMM-HPC", 8);
    zero_to(out, start, FADT_BYTES);
}
