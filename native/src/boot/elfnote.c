/* SPDX-License-Identifier: Apache-2.0 */
/* ELF notes: Xen's PHYS32_ENTRY makes a PVH kernel, notes by "Linux" tell a Linux kernel. */
#include "elf.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

/* Xen public/elfnote.h. */
#define XEN_GUEST_OS 6u
#define XEN_PHYS32_ENTRY 18u

struct note {
    uint32_t type;
    struct vh_blob name;
    struct vh_blob descriptor;
};

static bool is(const struct vh_blob *blob, const char *text)
{
    uint64_t bytes = strlen(text) + 1;

    return blob->bytes == bytes && memcmp(blob->data, text, bytes) == 0;
}

static int32_t use(struct vh_elf *elf, const struct note *note, struct vmmhpc_error *err)
{
    uint64_t entry = 0;

    if (is(&note->name, "Linux")) {
        elf->has_linux = true;
    }
    if (!is(&note->name, "Xen")) {
        return VMMHPC_OK;
    }
    if (note->type == XEN_GUEST_OS && is(&note->descriptor, "linux")) {
        elf->has_linux = true;
    }
    if (note->type != XEN_PHYS32_ENTRY || elf->has_pvh) {
        return VMMHPC_OK;
    }
    if (note->descriptor.bytes != 4 && note->descriptor.bytes != 8) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, note->descriptor.bytes,
                       "the PVH entry note has %" PRIu64 " bytes instead of 4 or 8",
                       note->descriptor.bytes);
    }
    memcpy(&entry, note->descriptor.data, note->descriptor.bytes); /* both are little-endian */
    elf->pvh_entry = entry;
    elf->has_pvh = true;
    return VMMHPC_OK;
}

int32_t vh_elf_notes(struct vh_elf *elf, uint64_t offset, uint64_t bytes, uint64_t alignment,
                     struct vmmhpc_error *err)
{
    /* Name and descriptor are padded to 4, or to 8 where the segment says so. */
    const uint64_t unit = alignment == 8 ? 8 : 4;
    const uint8_t *data = elf->file.data + offset;
    uint64_t at = 0;

    /* All sizes are 32-bit, so these 64-bit sums cannot wrap. */
    while (bytes - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr header;
        struct note note;
        uint64_t descriptor;
        uint64_t next;
        int32_t status;

        memcpy(&header, data + at, sizeof(header));
        (void)vh_align_up(sizeof(header) + (uint64_t)header.n_namesz, unit, &descriptor);
        if (descriptor + header.n_descsz > bytes - at) {
            return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, offset + at,
                           "the ELF note at 0x%" PRIx64 " runs past the end of its segment",
                           offset + at);
        }
        note.type = header.n_type;
        note.name = (struct vh_blob){data + at + sizeof(header), header.n_namesz};
        note.descriptor = (struct vh_blob){data + at + descriptor, header.n_descsz};
        status = use(elf, &note, err);
        if (status != VMMHPC_OK) {
            return status;
        }
        (void)vh_align_up(descriptor + header.n_descsz, unit, &next);
        if (next > bytes - at) {
            break; /* the last note's padding may be missing */
        }
        at += next;
    }
    return VMMHPC_OK;
}
