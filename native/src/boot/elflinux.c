/* SPDX-License-Identifier: Apache-2.0 */
/* Linux vmlinux by the 64-bit boot protocol: what its own decompressor would jump to. */
#include "elf.h"
#include "linux.h"

#include <string.h>

/* The setup header is in the bzImage only, so say what every kernel since 3.8 says. */
static void synthesise_header(struct setup_header *header)
{
    header->setup_sects = 4;
    header->root_flags = 1; /* root read-only unless the command line says rw */
    header->boot_flag = 0xaa55;
    header->header = 0x53726448; /* "HdrS" */
    header->version = 0x020f;
    header->loadflags = LOADED_HIGH;
    header->initrd_addr_max = 0x7fffffff;
    header->kernel_alignment = 0x200000;
    header->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
    header->cmdline_size = 2047; /* COMMAND_LINE_SIZE - 1 */
}

int32_t vh_boot_elf_linux(struct vh_memory *memory, const struct vh_boot_source *source,
                          struct vh_entry *entry, struct vmmhpc_error *err)
{
    struct boot_params params;
    struct vh_claims claims;
    struct vh_elf elf;
    int32_t status;

    memset(&params, 0, sizeof(params));
    *entry = (struct vh_entry){.kind = VMMHPC_IMAGE_ELF_LINUX};
    vh_claims_init(&claims, memory);
    status = vh_elf_parse(&source->kernel, &elf, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (!elf.is_64) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "a 32-bit ELF file cannot be entered by Linux's 64-bit boot protocol");
    }
    status = vh_elf_entry(&elf, &entry->rip, err);
    if (status == VMMHPC_OK) {
        status = vh_claim_low(&claims, VH_LINUX_LOW, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_elf_load(memory, &elf, &claims, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    synthesise_header(&params.hdr);
    params.hdr.code32_start = (uint32_t)entry->rip;
    return vh_linux_finish(memory, source, &claims, &params, entry, err);
}
