/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: its layout round the hole below 4 GiB, its backing, and the one checked gate to it. */
#ifndef VH_MEMORY_H
#define VH_MEMORY_H

#include "internal.h"

/* A region that crosses the hole becomes two slots, so one more than the regions. */
#define VH_SLOT_MAX (VMMHPC_MEMORY_MAX + 1u)

struct vh_mapping {
    void *base; /* what mmap returned, aligned to 2 MiB (1 GiB for such pages) */
    uint64_t bytes;
    int fd;            /* memfd, or -1 */
    int32_t numa_node; /* or -1 */
};

struct vh_memory {
    struct vmmhpc_slot slots[VH_SLOT_MAX]; /* sorted by gpa */
    uint32_t slot_count;
    struct vh_mapping mappings[VMMHPC_MEMORY_MAX];
    uint32_t mapping_count;
    uint64_t total;
    bool restored; /* private mappings are of a snapshot's file: a page given back reads as it was
                      there, not as zero */
};

/** Reserve and map RAM; needs no KVM. On failure nothing is left behind. */
int32_t vh_memory_create(struct vh_memory *memory, const struct vmmhpc_memory *specs,
                         uint32_t count, struct vmmhpc_error *err);
void vh_memory_destroy(struct vh_memory *memory);

/** Make all of RAM read as zero again (after a reset), giving private pages back to the host. */
int32_t vh_memory_clear(struct vh_memory *memory, struct vmmhpc_error *err);

/** The gate: host address of [gpa, gpa + bytes), all in one slot, or NULL. bytes may be 0. */
void *vh_memory_at(const struct vh_memory *memory, uint64_t gpa, uint64_t bytes);

/** Copy into guest RAM through the gate; E_NO_ROOM with `what` in the text where it is not RAM. */
int32_t vh_memory_write(struct vh_memory *memory, uint64_t gpa, const void *data, uint64_t bytes,
                        const char *what, struct vmmhpc_error *err);

/** End of all RAM (exclusive), the hole behind what lies below 4 GiB included. */
uint64_t vh_memory_end(const struct vh_memory *memory);

/** End of the RAM below the hole (exclusive). */
uint64_t vh_memory_low_end(const struct vh_memory *memory);

#endif
