/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that only the start needed goes back. Hundreds of monitors share a computer, and each is
 * idle but for its vCPUs: what a monitor keeps is in docs/reference/monitor.md.
 */
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/monitor.h"

#define PAGE_MASK (~(uintptr_t)(VH_PAGE - 1))

/* Code and constants are pages of the program's file: those that run again come back from the page
 * cache, and one copy serves all monitors. */
static void drop_program(void)
{
    const Elf64_Phdr *head =
        (const Elf64_Phdr *)getauxval(AT_PHDR); // NOLINT(performance-no-int-to-ptr)
    uint64_t count = getauxval(AT_PHNUM);
    uintptr_t base = 0;
    for (uint64_t i = 0; head != NULL && i < count; i++) {
        if (head[i].p_type == PT_PHDR) {
            base = (uintptr_t)head - head[i].p_vaddr; /* of a position-independent program */
        }
    }
    for (uint64_t i = 0; head != NULL && i < count; i++) {
        if (head[i].p_type == PT_LOAD && (head[i].p_flags & PF_W) == 0) {
            uintptr_t start = (base + head[i].p_vaddr) & PAGE_MASK;
            uintptr_t end = base + head[i].p_vaddr + head[i].p_memsz;
            (void)madvise((void *)start, end - start,
                          MADV_DONTNEED); // NOLINT(performance-no-int-to-ptr)
        }
    }
}

/* Setting up went deeper than serving does. */
static void drop_stack(void)
{
    const size_t depth = (size_t)64 * 1024;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0) & PAGE_MASK;
    (void)madvise((void *)(here - depth), depth - VH_PAGE, // NOLINT(performance-no-int-to-ptr)
                  MADV_DONTNEED);
}

void vh_footprint_trim(const struct vh_monitor *monitor)
{
    (void)madvise(monitor->in, VH_WIRE_PAYLOAD, MADV_DONTNEED);
    (void)madvise(monitor->out, VH_WIRE_PAYLOAD, MADV_DONTNEED);
    drop_stack();
    drop_program();
}
