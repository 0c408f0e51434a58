/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ELF32 and ELF64 (System V ABI, "Program Loading"); no field is trusted. */
#include "elf.h"

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool vh_is_elf(const struct vh_blob *file)
{
    return file->bytes >= SELFMAG && memcmp(file->data, ELFMAG, SELFMAG) == 0;
}

/* The header widened to 64 bits. */
static int32_t read_header(struct vh_elf *elf, Elf64_Ehdr *wide, struct vmmhpc_error *err)
{
    const struct vh_blob *file = &elf->file;
    Elf32_Ehdr narrow;

    if (!vh_is_elf(file)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "not an ELF file");
    }
    if (file->bytes < sizeof(*wide)) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, file->bytes,
                       "the ELF file ends at byte %" PRIu64 ", inside its header", file->bytes);
    }
    if (file->data[EI_DATA] != ELFDATA2LSB) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, file->data[EI_DATA],
                       "the ELF file is big-endian: not for x86");
    }
    elf->is_64 = file->data[EI_CLASS] == ELFCLASS64;
    if (elf->is_64) {
        memcpy(wide, file->data, sizeof(*wide));
        return VMMHPC_OK;
    }
    if (file->data[EI_CLASS] != ELFCLASS32) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, file->data[EI_CLASS],
                       "the ELF class is %u, neither 32-bit nor 64-bit", file->data[EI_CLASS]);
    }
    memcpy(&narrow, file->data, sizeof(narrow));
    *wide = (Elf64_Ehdr){.e_type = narrow.e_type,
                         .e_machine = narrow.e_machine,
                         .e_version = narrow.e_version,
                         .e_entry = narrow.e_entry,
                         .e_phoff = narrow.e_phoff,
                         .e_phentsize = narrow.e_phentsize,
                         .e_phnum = narrow.e_phnum};
    return VMMHPC_OK;
}

static int32_t check_header(const struct vh_elf *elf, const Elf64_Ehdr *header,
                            struct vmmhpc_error *err)
{
    uint64_t entry_bytes = elf->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    uint64_t table_bytes = header->e_phnum * entry_bytes;
    uint64_t table_end;

    if (header->e_machine != (elf->is_64 ? EM_X86_64 : EM_386)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->e_machine,
                       "the ELF file is for machine %u, not for x86", header->e_machine);
    }
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->e_type,
                       "the ELF file is of type %u: an object file or a core dump, not a kernel",
                       header->e_type);
    }
    if (header->e_version != EV_CURRENT) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->e_version, "unknown ELF version %u",
                       header->e_version);
    }
    if (header->e_phnum == 0 || header->e_phnum == PN_XNUM) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->e_phnum,
                       "the ELF file has %s program headers",
                       header->e_phnum == 0 ? "no" : "too many");
    }
    if (header->e_phentsize != entry_bytes) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->e_phentsize,
                       "the ELF program headers have %u bytes each instead of %" PRIu64,
                       header->e_phentsize, entry_bytes);
    }
    if (!vh_add(header->e_phoff, table_bytes, &table_end) || table_end > elf->file.bytes) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, header->e_phoff,
                       "the ELF program headers at 0x%" PRIx64
                       " lie beyond the end of the file (%" PRIu64 " bytes)",
                       (uint64_t)header->e_phoff, elf->file.bytes);
    }
    return VMMHPC_OK;
}

/* Program header i, widened; check_header() has put the table inside the file. */
static Elf64_Phdr program_header(const struct vh_elf *elf, const Elf64_Ehdr *header, uint32_t i)
{
    const uint8_t *at = elf->file.data + header->e_phoff + (uint64_t)i * header->e_phentsize;
    Elf64_Phdr wide;
    Elf32_Phdr narrow;

    if (elf->is_64) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, at, sizeof(narrow));
    return (Elf64_Phdr){.p_type = narrow.p_type,
                        .p_offset = narrow.p_offset,
                        .p_vaddr = narrow.p_vaddr,
                        .p_paddr = narrow.p_paddr,
                        .p_filesz = narrow.p_filesz,
                        .p_memsz = narrow.p_memsz,
                        .p_align = narrow.p_align};
}

static int32_t add_segment(struct vh_elf *elf, const Elf64_Phdr *header, uint32_t index,
                           struct vmmhpc_error *err)
{
    if (header->p_filesz > header->p_memsz) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->p_filesz,
                       "ELF segment %u has 0x%" PRIx64 " bytes in the file but 0x%" PRIx64
                       " in memory",
                       index, (uint64_t)header->p_filesz, (uint64_t)header->p_memsz);
    }
    if (header->p_memsz == 0) {
        return VMMHPC_OK;
    }
    if (elf->count == VH_SEGMENTS_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, index, "the ELF file has more than %u segments",
                       VH_SEGMENTS_MAX);
    }
    elf->segments[elf->count++] = (struct vh_segment){.offset = header->p_offset,
                                                      .file_bytes = header->p_filesz,
                                                      .paddr = header->p_paddr,
                                                      .vaddr = header->p_vaddr,
                                                      .mem_bytes = header->p_memsz};
    return VMMHPC_OK;
}

int32_t vh_elf_parse(const struct vh_blob *file, struct vh_elf *elf, struct vmmhpc_error *err)
{
    Elf64_Ehdr header = {0};
    int32_t status;

    memset(elf, 0, sizeof(*elf));
    elf->file = *file;
    status = read_header(elf, &header, err);
    if (status == VMMHPC_OK) {
        status = check_header(elf, &header, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    elf->entry = header.e_entry;
    for (uint32_t i = 0; i < header.e_phnum && status == VMMHPC_OK; i++) {
        Elf64_Phdr program = program_header(elf, &header, i);
        uint64_t end;

        if (program.p_type == PT_INTERP) {
            elf->has_interpreter = true;
        }
        if (program.p_type != PT_LOAD && program.p_type != PT_NOTE) {
            continue;
        }
        if (!vh_add(program.p_offset, program.p_filesz, &end) || end > file->bytes) {
            return vh_fail(err, VMMHPC_E_TRUNCATED, 0, program.p_offset,
                           "ELF segment %u (0x%" PRIx64 " bytes at 0x%" PRIx64
                           ") lies beyond the end of the file (%" PRIu64 " bytes)",
                           i, (uint64_t)program.p_filesz, (uint64_t)program.p_offset, file->bytes);
        }
        if (program.p_type == PT_LOAD) {
            status = add_segment(elf, &program, i, err);
        } else {
            status = vh_elf_notes(elf, program.p_offset, program.p_filesz, program.p_align, err);
        }
    }
    if (status == VMMHPC_OK && elf->count == 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "the ELF file has nothing to load");
    }
    return status;
}

int32_t vh_elf_load(struct vh_memory *memory, const struct vh_elf *elf, struct vh_claims *claims,
                    struct vmmhpc_error *err)
{
    /* Claim everything before anything is written: a bad file leaves RAM as it was. */
    claims->kernel_start = UINT64_MAX;
    for (uint32_t i = 0; i < elf->count; i++) {
        const struct vh_segment *segment = &elf->segments[i];
        char what[32];
        int32_t status;

        (void)snprintf(what, sizeof(what), "loadable ELF segment %u", i);
        status = vh_claim(claims, segment->paddr, segment->mem_bytes, what, err);
        if (status != VMMHPC_OK) {
            return status;
        }
        if (segment->paddr < claims->kernel_start) {
            claims->kernel_start = segment->paddr;
        }
        if (segment->paddr + segment->mem_bytes > claims->kernel_end) {
            claims->kernel_end = segment->paddr + segment->mem_bytes;
        }
    }
    for (uint32_t i = 0; i < elf->count; i++) {
        const struct vh_segment *segment = &elf->segments[i];
        int32_t status = vh_put(memory, segment->paddr, elf->file.data + segment->offset,
                                segment->file_bytes, "an ELF segment", err);

        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

bool vh_elf_contains(const struct vh_elf *elf, uint64_t physical)
{
    for (uint32_t i = 0; i < elf->count; i++) {
        const struct vh_segment *segment = &elf->segments[i];

        if (physical >= segment->paddr && physical - segment->paddr < segment->mem_bytes) {
            return true;
        }
    }
    return false;
}

int32_t vh_elf_entry(const struct vh_elf *elf, uint64_t *physical, struct vmmhpc_error *err)
{
    if (vh_elf_contains(elf, elf->entry)) {
        *physical = elf->entry;
        return VMMHPC_OK;
    }
    for (uint32_t i = 0; i < elf->count; i++) {
        const struct vh_segment *segment = &elf->segments[i];

        if (elf->entry >= segment->vaddr && elf->entry - segment->vaddr < segment->mem_bytes) {
            *physical = segment->paddr + (elf->entry - segment->vaddr);
            return VMMHPC_OK;
        }
    }
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, elf->entry,
                   "the entry point 0x%" PRIx64 " lies in no segment of the ELF file", elf->entry);
}
