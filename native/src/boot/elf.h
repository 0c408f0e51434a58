/* SPDX-License-Identifier: Apache-2.0 */
/* ELF files as kernels come in them: segments by physical address, notes. */
#ifndef VH_BOOT_ELF_H
#define VH_BOOT_ELF_H

#include "place.h"

#define VH_SEGMENTS_MAX 64u

struct vh_segment {
    uint64_t offset;
    uint64_t file_bytes;
    uint64_t paddr;
    uint64_t vaddr;
    uint64_t mem_bytes; /* >= file_bytes, > 0 */
};

/** A parsed file. All offsets are inside the file; addresses are as it gives them. */
struct vh_elf {
    struct vh_blob file;
    uint64_t entry;
    uint64_t pvh_entry; /* of the Xen note PHYS32_ENTRY */
    bool is_64;
    bool has_pvh;
    bool has_linux;       /* a note by "Linux", or Xen's GUEST_OS "linux" */
    bool has_interpreter; /* a program for a running kernel */
    uint32_t count;
    struct vh_segment segments[VH_SEGMENTS_MAX];
};

bool vh_is_elf(const struct vh_blob *file);

/** Header, segments and notes of an executable for x86. */
int32_t vh_elf_parse(const struct vh_blob *file, struct vh_elf *elf, struct vmmhpc_error *err);

/** Claim all segments, then copy them. */
int32_t vh_elf_load(struct vh_memory *memory, const struct vh_elf *elf, struct vh_claims *claims,
                    struct vmmhpc_error *err);

/** Whether a physical address lies in a segment. */
bool vh_elf_contains(const struct vh_elf *elf, uint64_t physical);

/** Physical address of e_entry, which may be a physical or a virtual address of a segment;
 *  E_BAD_IMAGE where it is neither. */
int32_t vh_elf_entry(const struct vh_elf *elf, uint64_t *physical, struct vmmhpc_error *err);

/* For elf.c: look through one note segment (elfnote.c). */
int32_t vh_elf_notes(struct vh_elf *elf, uint64_t offset, uint64_t bytes, uint64_t alignment,
                     struct vmmhpc_error *err);

#endif
