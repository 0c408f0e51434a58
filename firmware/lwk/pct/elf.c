/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which segments of a static executable go where (elf(5); System V ABI, "Program Loading"). No
 * field is trusted. Unlike Linux, a segment that is both writable and executable is refused, and so
 * are two segments with different rights on one page.
 */
#include <elf.h>
#include <linux/mman.h>

#include "launch.h"
#include "qk_pct.h"

#define SPAN_MAX (1ull << 40)

static bool refuse(struct text *why, const char *reason)
{
    text_add(why, reason);
    return false;
}

static bool refuse_segment(struct text *why, uint32_t index, const char *reason)
{
    text_add(why, "segment ");
    text_number(why, index, 10);
    text_add(why, " of the executable ");
    return refuse(why, reason);
}

static bool check_header(const Elf64_Ehdr *header, uint64_t bytes, struct text *why)
{
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
        header->e_machine != EM_X86_64) {
        return refuse(why, "the executable is not for x86-64");
    }
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
        return refuse(why, "the ELF file is not an executable");
    }
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phoff > bytes || header->e_phoff % 8 != 0 ||
        header->e_phnum * sizeof(Elf64_Phdr) > bytes - header->e_phoff) {
        return refuse(why, "the executable's program headers are not in the file");
    }
    return true;
}

static uint32_t rights(uint32_t flags)
{
    return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
           ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

static bool add(struct elf_plan *plan, uint32_t index, const Elf64_Phdr *at, uint64_t bytes,
                struct text *why)
{
    uint64_t lowest = plan->movable ? 0 : LWK_APP_LOW;

    if (plan->segments == ELF_SEGMENTS) {
        return refuse_segment(why, index, "is one too many");
    }
    if (at->p_offset > bytes || at->p_filesz > bytes - at->p_offset) {
        return refuse_segment(why, index, "is not in the file: the file was cut short");
    }
    if (at->p_filesz > at->p_memsz) {
        return refuse_segment(why, index, "is larger in the file than in memory");
    }
    if (at->p_vaddr < lowest || at->p_vaddr >= LWK_APP_HIGH ||
        at->p_memsz > LWK_APP_HIGH - at->p_vaddr) {
        return refuse_segment(why, index, "does not lie in the application's addresses");
    }
    if (plan->segments > 0 && round_down(at->p_vaddr, LWK_PAGE) < plan->high) {
        return refuse_segment(why, index, "overlaps the one before, or shares a page with it");
    }
    if ((at->p_flags & (PF_W | PF_X)) == (PF_W | PF_X)) {
        return refuse_segment(why, index, "is both writable and executable");
    }
    if ((at->p_align & (at->p_align - 1)) != 0 || at->p_align > LWK_PAGE_1G) {
        return refuse_segment(why, index, "has an absurd alignment");
    }
    if (plan->segments == 0) {
        plan->low = round_down(at->p_vaddr, LWK_PAGE);
    }
    plan->high = round_up(at->p_vaddr + at->p_memsz, LWK_PAGE);
    plan->align = most(plan->align, at->p_align);
    plan->segment[plan->segments++] = (struct elf_segment){at->p_vaddr, at->p_memsz, at->p_offset,
                                                           at->p_filesz, rights(at->p_flags)};
    return plan->high - plan->low <= SPAN_MAX ||
           refuse_segment(why, index, "is absurdly far from the first");
}

static bool check_entry(const struct elf_plan *plan)
{
    for (uint32_t i = 0; i < plan->segments; i++) {
        const struct elf_segment *at = &plan->segment[i];
        if ((at->prot & PROT_EXEC) != 0 && plan->entry >= at->va &&
            plan->entry - at->va < at->file_bytes) {
            return true;
        }
    }
    return false;
}

/* Where the program headers will be: libc finds its TLS segment by them. */
static uint64_t find_phdr(const struct elf_plan *plan, uint64_t offset, uint64_t bytes)
{
    for (uint32_t i = 0; i < plan->segments; i++) {
        const struct elf_segment *at = &plan->segment[i];
        if (offset >= at->file_offset && offset - at->file_offset <= at->file_bytes &&
            bytes <= at->file_bytes - (offset - at->file_offset)) {
            return at->va + (offset - at->file_offset);
        }
    }
    return 0;
}

bool elf_check(const uint8_t *file, uint64_t bytes, struct elf_plan *plan, struct text *why)
{
    Elf64_Ehdr header;

    *plan = (struct elf_plan){.align = LWK_PAGE};
    if (bytes < sizeof(header) || memcmp(file, ELFMAG, SELFMAG) != 0) {
        return refuse(why, bytes > 2 && file[0] == '#' && file[1] == '!'
                               ? "the executable is a script: give its interpreter"
                               : "the executable is not an ELF file");
    }
    memcpy(&header, file, sizeof(header));
    if (!check_header(&header, bytes, why)) {
        return false;
    }
    plan->movable = header.e_type == ET_DYN;
    plan->entry = header.e_entry;
    plan->phnum = header.e_phnum;
    for (uint32_t i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr at;
        memcpy(&at, file + header.e_phoff + i * sizeof(at), sizeof(at));
        if (at.p_type == PT_INTERP) {
            return refuse(why, "the executable is dynamically linked: only static ones run here "
                               "(link with -static or -static-pie)");
        }
        if (at.p_type == PT_LOAD && at.p_memsz > 0 && !add(plan, i, &at, bytes, why)) {
            return false;
        }
    }
    if (plan->segments == 0) {
        return refuse(why, "the executable has nothing to load");
    }
    if (!check_entry(plan)) {
        return refuse(why, "the executable's entry point is not in its code");
    }
    plan->phdr = find_phdr(plan, header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr));
    return true;
}
