/* SPDX-License-Identifier: Apache-2.0 */
/* Claims on guest memory, and the copies that follow them. */
#include "place.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void vh_claims_init(struct vh_claims *claims, const struct vh_memory *memory)
{
    claims->limit = vh_memory_low_end(memory);
    claims->kernel_start = 0;
    claims->kernel_end = 0;
    claims->count = 0;
}

static const struct vh_claim *first_overlap(const struct vh_claims *claims, uint64_t start,
                                            uint64_t end)
{
    for (uint32_t i = 0; i < claims->count; i++) {
        const struct vh_claim *claim = &claims->list[i];

        if (start < claim->end && claim->start < end) {
            return claim;
        }
    }
    return NULL;
}

int32_t vh_claim(struct vh_claims *claims, uint64_t start, uint64_t bytes, const char *what,
                 struct vmmhpc_error *err)
{
    struct vh_claim claim = {.start = start};
    const struct vh_claim *other;

    (void)snprintf(claim.what, sizeof(claim.what), "%s", what);
    if (!vh_add(start, bytes, &claim.end)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, start,
                       "%s: 0x%" PRIx64 " + 0x%" PRIx64 " wraps round the address space",
                       claim.what, start, bytes);
    }
    if (claim.end > claims->limit) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, claim.end,
                       "%s needs RAM up to 0x%" PRIx64
                       " (%llu MiB), but below the 4 GiB hole it ends at 0x%" PRIx64
                       " (%llu MiB): give the machine more memory",
                       claim.what, claim.end, (claim.end - 1) / VH_MIB + 1, claims->limit,
                       claims->limit / VH_MIB);
    }
    if (bytes == 0) {
        return VMMHPC_OK;
    }
    other = first_overlap(claims, start, claim.end);
    if (other != NULL) {
        return vh_fail(err, VMMHPC_E_OVERLAP, 0, start,
                       "%s (0x%" PRIx64 " ... 0x%" PRIx64 ") overlaps %s (0x%" PRIx64
                       " ... 0x%" PRIx64 ")",
                       claim.what, start, claim.end, other->what, other->start, other->end);
    }
    if (claims->count == VH_CLAIMS_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, claims->count, "%s is one range too many",
                       claim.what);
    }
    claims->list[claims->count++] = claim;
    return VMMHPC_OK;
}

int32_t vh_claim_low(struct vh_claims *claims, uint32_t which, struct vmmhpc_error *err)
{
    static const struct {
        uint32_t which;
        uint64_t start;
        uint64_t end;
        const char *what;
    } low[] = {
        {VH_LOW_TABLES, VH_GDT_GPA, VH_GDT_GPA + 32, "the GDT"},
        {VH_LOW_START_INFO, VH_START_INFO_GPA, VH_START_INFO_GPA + VH_PAGE, "the start info"},
        {VH_LOW_BOOT_PARAMS, VH_BOOT_PARAMS_GPA, VH_BOOT_PARAMS_GPA + VH_PAGE, "boot_params"},
        {VH_LOW_TABLES, VH_PAGE_TABLES_GPA - VH_PAGE, VH_PAGE_TABLES_GPA, "the initial stack"},
        {VH_LOW_TABLES, VH_PAGE_TABLES_GPA, VH_PAGE_TABLES_GPA + 6 * VH_PAGE,
         "the initial page tables"},
        {VH_LOW_CMDLINE, VH_CMDLINE_GPA, VH_CMDLINE_GPA + VH_CMDLINE_MAX, "the command line"},
        {VH_LOW_ROM, VH_LOW_RAM_END, VH_HIGH_RAM_START, "the reserved area below 1 MiB"},
    };

    for (size_t i = 0; i < VH_COUNT(low); i++) {
        int32_t status;

        if ((which & low[i].which) == 0) {
            continue;
        }
        status = vh_claim(claims, low[i].start, low[i].end - low[i].start, low[i].what, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

/* The longest run of whole zero pages (or, if zero is false, of others) at the start of data. */
static uint64_t run_length(const uint8_t *data, uint64_t bytes, bool zero)
{
    uint64_t length = 0;

    while (length < bytes) {
        uint64_t piece = bytes - length < VH_PAGE ? bytes - length : VH_PAGE;
        const uint8_t *at = data + length;

        /* Each byte is the one before it, and the first is zero. */
        if ((at[0] == 0 && memcmp(at, at + 1, piece - 1) == 0) != zero) {
            break;
        }
        length += piece;
    }
    return length;
}

/* Bytes that one slot holds from gpa on, at most `bytes`; 0 where gpa is not RAM. */
static uint64_t slot_room(const struct vh_memory *memory, uint64_t gpa, uint64_t bytes)
{
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];

        if (gpa >= slot->gpa && gpa - slot->gpa < slot->bytes) {
            uint64_t room = slot->bytes - (gpa - slot->gpa);

            return room < bytes ? room : bytes;
        }
    }
    return 0;
}

int32_t vh_put(struct vh_memory *memory, uint64_t gpa, const void *data, uint64_t bytes,
               const char *what, struct vmmhpc_error *err)
{
    const uint8_t *from = data;

    while (bytes > 0) {
        uint64_t piece = run_length(from, bytes, true);

        if (piece == 0) {
            uint64_t room = slot_room(memory, gpa, bytes);
            int32_t status;

            /* Not RAM at all: let the gate say so. */
            piece = room == 0 ? bytes : run_length(from, room, false);
            if (piece == 0) {
                piece = room; /* a slot ends inside a page of data whose start is zero */
            }
            status = vh_memory_write(memory, gpa, from, piece, what, err);
            if (status != VMMHPC_OK) {
                return status;
            }
        }
        from += piece;
        gpa += piece;
        bytes -= piece;
    }
    return VMMHPC_OK;
}

int32_t vh_put_cmdline(struct vh_memory *memory, const struct vh_boot_source *source, uint64_t max,
                       struct vmmhpc_error *err)
{
    uint64_t length = strlen(source->cmdline);

    if (max > VH_CMDLINE_MAX - 1) {
        max = VH_CMDLINE_MAX - 1;
    }
    if (length > max) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, length,
                       "the command line has %" PRIu64 " characters; this kernel takes %" PRIu64,
                       length, max);
    }
    return vh_put(memory, VH_CMDLINE_GPA, source->cmdline, length + 1, "the command line", err);
}

int32_t vh_put_initrd(struct vh_memory *memory, const struct vh_boot_source *source,
                      struct vh_claims *claims, uint64_t max_end, uint64_t *gpa,
                      struct vmmhpc_error *err)
{
    uint64_t bytes = source->initrd.bytes;
    uint64_t end = claims->limit < max_end ? claims->limit : max_end;
    int32_t status;

    *gpa = 0;
    if (bytes == 0) {
        return VMMHPC_OK;
    }
    for (;;) {
        const struct vh_claim *other;
        uint64_t start;

        if (end < VH_HIGH_RAM_START || end - VH_HIGH_RAM_START < bytes) {
            return vh_fail(err, VMMHPC_E_NO_ROOM, 0, bytes,
                           "the initrd of %" PRIu64
                           " bytes does not fit beside the kernel in RAM that ends at 0x%" PRIx64
                           ": give the machine more memory",
                           bytes, claims->limit);
        }
        start = vh_align_down(end - bytes, VH_PAGE);
        other = first_overlap(claims, start, start + bytes);
        /* Below what is in the way; lower each time, so this ends. */
        if (other != NULL) {
            end = other->start;
        } else if (start < claims->kernel_end && claims->kernel_start < start + bytes) {
            end = claims->kernel_start;
        } else {
            *gpa = start;
            break;
        }
    }
    status = vh_claim(claims, *gpa, bytes, "the initrd", err);
    if (status != VMMHPC_OK) {
        return status;
    }
    return vh_put(memory, *gpa, source->initrd.data, bytes, "the initrd", err);
}
