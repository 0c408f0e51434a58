/* SPDX-License-Identifier: Apache-2.0 */
/* What all loaders share: which guest addresses are taken, where things go, the memory map. */
#ifndef VH_BOOT_PLACE_H
#define VH_BOOT_PLACE_H

#include "../layout.h"
#include "boot.h"

#define VH_CLAIMS_MAX 80u

/** A range of guest memory that something occupies at entry. */
struct vh_claim {
    uint64_t start;
    uint64_t end;
    char what[32];
};

/** All of them; no two overlap and each lies in the RAM below the hole. */
struct vh_claims {
    uint64_t limit;        /* end of low RAM */
    uint64_t kernel_start; /* the initrd also stays out of gaps between the kernel's segments: */
    uint64_t kernel_end;   /* Linux takes all from its first to its last byte as its own */
    uint32_t count;
    struct vh_claim list[VH_CLAIMS_MAX];
};

void vh_claims_init(struct vh_claims *claims, const struct vh_memory *memory);

/** Claim [start, start + bytes): E_BAD_IMAGE where it wraps, E_NO_ROOM outside RAM, E_OVERLAP. */
int32_t vh_claim(struct vh_claims *claims, uint64_t start, uint64_t bytes, const char *what,
                 struct vmmhpc_error *err);

/* Structures of ours below 1 MiB, for vh_claim_low(). */
#define VH_LOW_TABLES 1u      /* GDT, stack and page tables of the 64-bit entry */
#define VH_LOW_BOOT_PARAMS 2u /* Linux boot_params */
#define VH_LOW_START_INFO 4u  /* PVH start info or multiboot info */
#define VH_LOW_CMDLINE 8u
#define VH_LOW_ROM 16u /* 0x9fc00 ... 1 MiB: not RAM for the guest */

int32_t vh_claim_low(struct vh_claims *claims, uint32_t which, struct vmmhpc_error *err);

/**
 * Copy into guest RAM, which reads as zero while a guest is loaded: whole pages of zeros are not
 * touched. Crosses from slot to slot where they follow each other.
 */
int32_t vh_put(struct vh_memory *memory, uint64_t gpa, const void *data, uint64_t bytes,
               const char *what, struct vmmhpc_error *err);

/** The command line at VH_CMDLINE_GPA; max: characters without the NUL that the guest takes. */
int32_t vh_put_cmdline(struct vh_memory *memory, const struct vh_boot_source *source, uint64_t max,
                       struct vmmhpc_error *err);

/** The initrd, page-aligned, as high as it goes below max_end and clear of all claims. *gpa is 0
 *  where there is none. */
int32_t vh_put_initrd(struct vh_memory *memory, const struct vh_boot_source *source,
                      struct vh_claims *claims, uint64_t max_end, uint64_t *gpa,
                      struct vmmhpc_error *err);

/* Address range types (ACPI 6.4, table 15.2), the same numbers in e820, PVH and multiboot. */
#define VH_MAP_RAM 1u
#define VH_MAP_RESERVED 2u
#define VH_MAP_MAX (VH_SLOT_MAX + 2u)

struct vh_map_entry {
    uint64_t start;
    uint64_t bytes;
    uint32_t type;
};

/** The memory map that every guest is given, ascending. Returns the number of entries. */
uint32_t vh_memory_map(const struct vh_memory *memory, struct vh_map_entry map[VH_MAP_MAX]);

/** GDT at VH_GDT_GPA (null, null, code, data), code being 64-bit or 32-bit. */
int32_t vh_put_gdt(struct vh_memory *memory, bool long_mode, struct vmmhpc_error *err);

/** Four-level tables at VH_PAGE_TABLES_GPA: the first 4 GiB identity-mapped by 2 MiB pages. */
int32_t vh_put_page_tables(struct vh_memory *memory, struct vmmhpc_error *err);

#endif
