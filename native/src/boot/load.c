/* SPDX-License-Identifier: Apache-2.0 */
/* The way in: recognise an image and hand it to its loader. */
#include "recognise.h"

int32_t vh_boot_load(struct vh_memory *memory, const struct vh_boot_source *source,
                     struct vh_entry *entry, struct vmmhpc_error *err)
{
    uint32_t kind = source->kind;

    if (kind == VMMHPC_IMAGE_AUTO) {
        int32_t status = vh_recognise(&source->kernel, &kind, err);

        if (status != VMMHPC_OK) {
            return status;
        }
    }
    switch (kind) {
    case VMMHPC_IMAGE_BZIMAGE:
        return vh_boot_bzimage(memory, source, entry, err);
    case VMMHPC_IMAGE_ELF_LINUX:
        return vh_boot_elf_linux(memory, source, entry, err);
    case VMMHPC_IMAGE_ELF_PVH:
        return vh_boot_pvh(memory, source, entry, err);
    case VMMHPC_IMAGE_MULTIBOOT:
        return vh_boot_multiboot(memory, source, entry, err);
    case VMMHPC_IMAGE_FLAT16:
    case VMMHPC_IMAGE_FLAT64:
        return vh_boot_flat(memory, source, entry, err);
    default:
        return vh_fail(err, VMMHPC_E_INVALID, 0, kind, "unknown image kind %u", kind);
    }
}
