/* SPDX-License-Identifier: Apache-2.0 */
/* boot_params and the entry state (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). */
#include "linux.h"

#include <string.h>

_Static_assert(sizeof(struct boot_params) == VH_PAGE, "boot_params is the zero page");

static void fill_e820(const struct vh_memory *memory, struct boot_params *params)
{
    struct vh_map_entry map[VH_MAP_MAX];
    uint32_t count = vh_memory_map(memory, map);

    _Static_assert(VH_MAP_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the map fits in boot_params");
    for (uint32_t i = 0; i < count; i++) {
        params->e820_table[i].addr = map[i].start;
        params->e820_table[i].size = map[i].bytes;
        params->e820_table[i].type = map[i].type;
    }
    params->e820_entries = (uint8_t)count;
}

int32_t vh_linux_finish(struct vh_memory *memory, const struct vh_boot_source *source,
                        struct vh_claims *claims, struct boot_params *params,
                        struct vh_entry *entry, struct vmmhpc_error *err)
{
    struct setup_header *header = &params->hdr;
    /* cmdline_size is without the NUL; before 2.06 it did not exist and the limit was 255. */
    uint64_t cmdline_max = header->cmdline_size != 0 ? header->cmdline_size : 255;
    uint64_t initrd;
    int32_t status;

    status =
        vh_put_initrd(memory, source, claims, (uint64_t)header->initrd_addr_max + 1, &initrd, err);
    if (status == VMMHPC_OK) {
        status = vh_put_cmdline(memory, source, cmdline_max, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put_gdt(memory, true, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put_page_tables(memory, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    header->type_of_loader = 0xff; /* no assigned identifier */
    header->loadflags &= (uint8_t) ~(KEEP_SEGMENTS | CAN_USE_HEAP);
    header->vid_mode = 0xffff; /* "normal" */
    header->ramdisk_image = (uint32_t)initrd;
    header->ramdisk_size = (uint32_t)source->initrd.bytes;
    header->cmd_line_ptr = (uint32_t)VH_CMDLINE_GPA;
    header->setup_data = 0; /* a pointer that only a loader may set */
    params->acpi_rsdp_addr = source->rsdp;
    fill_e820(memory, params);

    entry->mode = VH_MODE_LONG64;
    entry->rsi = VH_BOOT_PARAMS_GPA;
    entry->rsp = VH_STACK_GPA;
    return vh_put(memory, VH_BOOT_PARAMS_GPA, params, sizeof(*params), "boot_params", err);
}
