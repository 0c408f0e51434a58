/* SPDX-License-Identifier: Apache-2.0 */
/* Flat images: raw bytes at an address, entered at the first one. For tiny guests. */
#include "place.h"

#include <inttypes.h>
#include <string.h>

int32_t vh_boot_flat(struct vh_memory *memory, const struct vh_boot_source *source,
                     struct vh_entry *entry, struct vmmhpc_error *err)
{
    const bool real = source->kind == VMMHPC_IMAGE_FLAT16;
    const bool has_cmdline = source->cmdline[0] != '\0';
    const uint64_t start = source->load_address;
    const uint64_t bytes = source->kernel.bytes;
    uint32_t low = (real ? 0 : VH_LOW_TABLES) | (has_cmdline ? VH_LOW_CMDLINE : 0);
    struct vh_claims claims;
    int32_t status;

    *entry = (struct vh_entry){.kind = source->kind};
    vh_claims_init(&claims, memory);
    if (bytes == 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "the flat image is empty");
    }
    if (source->initrd.bytes != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, source->initrd.bytes,
                       "a flat image takes no initrd");
    }
    if (real && (start >= VH_HIGH_RAM_START || bytes > VH_HIGH_RAM_START - start)) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, start,
                       "a 16-bit image of %" PRIu64 " bytes at 0x%" PRIx64
                       " does not end below 1 MiB",
                       bytes, start);
    }
    status = vh_claim_low(&claims, low, err);
    if (status == VMMHPC_OK && source->rsdp != 0) {
        status =
            vh_claim(&claims, VH_ACPI_GPA, VH_HIGH_RAM_START - VH_ACPI_GPA, "the ACPI tables", err);
    }
    if (status == VMMHPC_OK) {
        status = vh_claim(&claims, start, bytes, "the flat image", err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put(memory, start, source->kernel.data, bytes, "the flat image", err);
    }
    if (status == VMMHPC_OK && has_cmdline) {
        status = vh_put_cmdline(memory, source, UINT64_MAX, err);
    }
    if (status == VMMHPC_OK && !real) {
        status = vh_put_gdt(memory, true, err);
    }
    if (status == VMMHPC_OK && !real) {
        status = vh_put_page_tables(memory, err);
    }
    entry->mode = real ? VH_MODE_REAL16 : VH_MODE_LONG64;
    entry->rip = start;
    entry->rsp = VH_STACK_GPA;
    entry->rsi = has_cmdline ? VH_CMDLINE_GPA : 0;
    return status;
}
