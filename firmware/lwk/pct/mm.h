/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory policy. All memory is given out when it is asked for, in runs as long as can be, so that
 * the QK maps it by large pages and buffers stay physically contiguous; nothing is paged on demand.
 * Image and brk grow from the heap's bottom upwards, everything else from its top downwards.
 *
 * Functions return 0 or an address, and negative errno on failure, as the system calls do.
 */
#ifndef PCT_MM_H
#define PCT_MM_H

#include <asm/errno.h>
#include <linux/mman.h>

#include "area.h"
#include "qk.h"

struct mm {
    struct phys phys;
    struct areas areas;
    uint64_t heap_bytes;
    uint64_t brk_start;
    uint64_t brk;
    uint64_t ceiling; /* mmap places areas below this */
    uint64_t peak;    /* bytes in use, at most */
};

extern struct mm mm;

/** Take over the heap; the tables come from its top. Fresh: it is zero. False if it is too small
 * for anything. */
bool mm_init(uint64_t heap_pa, uint64_t heap_bytes, bool is_fresh);

/** Contiguous zeroed pages for the PCT itself; NO_MEMORY if there are none. */
uint64_t mm_own_pages(uint64_t bytes);

/**
 * Zeroed memory at [va, va + bytes), where no area may be. `prefer`: try this physical address
 * first, or NO_MEMORY. In several pieces only if there is no run of that length.
 */
int64_t mm_back(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint64_t prefer);

/** The lowest free memory that lies as va does with respect to 2 MiB pages. */
uint64_t mm_lowest(uint64_t va);

/** The end of the highest free run that is not shorter; 0: there is none. */
uint64_t mm_highest(uint64_t bytes);

/** Fill memory of the application whatever its rights; false if some of it is not there. */
bool mm_write(uint64_t va, const void *from, uint64_t bytes);

int64_t mm_discard(uint64_t va, uint64_t bytes);
int64_t mm_mmap(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint32_t area_flags);
/** Map so many bytes of a channel's at pa; unmapping gives nothing back to free memory. area_flags:
 * AREA_READONLY or 0. */
int64_t mm_device(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint32_t area_flags,
                  uint64_t pa);

int64_t mm_munmap(uint64_t va, uint64_t bytes);
int64_t mm_mprotect(uint64_t va, uint64_t bytes, uint64_t prot);
int64_t mm_madvise(uint64_t va, uint64_t bytes, uint64_t advice);
int64_t mm_mremap(uint64_t va, uint64_t bytes, uint64_t new_bytes, uint64_t flags, uint64_t new_va);
uint64_t mm_brk(uint64_t brk);

/** Whether [va, va + bytes) is whole pages of the application's address space. */
bool mm_range(uint64_t va, uint64_t bytes);

/* What mm.c and mremap.c share. */
void mm_release(uint64_t pa, uint64_t bytes);
uint64_t mm_place(uint64_t bytes, uint64_t high);
bool mm_room(uint32_t entries);

/** Free memory that was waiting for yod to finish with it; call after yod did. */
void mm_settle(void);

/** Whether yod may still read or write there; in ship.c, or a test. */
bool ship_pins(uint64_t pa, uint64_t bytes);

#endif
