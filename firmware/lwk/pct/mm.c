/* SPDX-License-Identifier: Apache-2.0 */
#include "mm.h"

#define OWN_ENTRIES 128u /* free runs beside those that areas lie between */
#define DEFERRED 64u     /* at most one for each slot */

struct mm mm;

/* Unmapped while yod still had the addresses: given back when it is through. */
static struct phys_range deferred[DEFERRED];
static uint32_t deferred_count;

/* Memory that is known to be clear, as nobody has written to it yet. */
static struct phys_range fresh;

bool mm_init(uint64_t heap_pa, uint64_t heap_bytes, bool is_fresh)
{
    uint64_t entries = least(most(heap_bytes >> 16, 2048), 32768);
    uint64_t area_bytes = round_up(entries * sizeof(struct area), LWK_PAGE);
    uint64_t free_bytes = round_up((entries + OWN_ENTRIES) * sizeof(struct phys_range), LWK_PAGE);

    heap_bytes = round_down(heap_bytes, LWK_PAGE);
    if (heap_bytes < 2 * (area_bytes + free_bytes)) {
        return false;
    }
    uint64_t top = heap_pa + heap_bytes - area_bytes - free_bytes;
    mm = (struct mm){.heap_bytes = heap_bytes, .ceiling = LWK_APP_HIGH};
    mm.areas.area = ram(top);
    mm.areas.max = (uint32_t)entries;
    mm.phys.free = ram(top + area_bytes);
    mm.phys.max = (uint32_t)entries + OWN_ENTRIES;
    deferred_count = 0;
    fresh = (struct phys_range){heap_pa, is_fresh ? top - heap_pa : 0};
    phys_give(&mm.phys, heap_pa, top - heap_pa);
    return true;
}

/* Clear memory that was taken, unless it never had been before: writing there would make the host
 * find pages for what the application may never touch. */
static void clear(uint64_t pa, uint64_t bytes)
{
    uint64_t end = pa + bytes;
    uint64_t fresh_end = fresh.pa + fresh.bytes;

    if (pa < fresh.pa || end > fresh_end) {
        memset(ram(pa), 0, bytes);
    }
    if (end <= fresh.pa || pa >= fresh_end) {
        return;
    }
    /* The longer of the parts below and above stays fresh. */
    uint64_t below = pa > fresh.pa ? pa - fresh.pa : 0;
    uint64_t above = fresh_end > end ? fresh_end - end : 0;
    fresh = below >= above ? (struct phys_range){fresh.pa, below} : (struct phys_range){end, above};
}

uint64_t mm_own_pages(uint64_t bytes)
{
    uint64_t pa = phys_take_high(&mm.phys, round_up(bytes, LWK_PAGE), LWK_PAGE, 0);

    if (pa != NO_MEMORY) {
        clear(pa, round_up(bytes, LWK_PAGE));
    }
    return pa;
}

bool mm_range(uint64_t va, uint64_t bytes)
{
    return va % LWK_PAGE == 0 && bytes % LWK_PAGE == 0 && va >= LWK_APP_LOW && va < LWK_APP_HIGH &&
           bytes <= LWK_APP_HIGH - va;
}

bool mm_room(uint32_t entries)
{
    return mm.areas.max - mm.areas.count >= entries;
}

void mm_release(uint64_t pa, uint64_t bytes)
{
    if (!ship_pins(pa, bytes)) {
        phys_give(&mm.phys, pa, bytes);
        return;
    }
    if (deferred_count < DEFERRED) {
        deferred[deferred_count++] = (struct phys_range){pa, bytes};
    }
}

void mm_settle(void)
{
    for (uint32_t i = deferred_count; i-- > 0;) {
        if (!ship_pins(deferred[i].pa, deferred[i].bytes)) {
            phys_give(&mm.phys, deferred[i].pa, deferred[i].bytes);
            deferred[i] = deferred[--deferred_count];
        }
    }
}

/* A run for the start of [va, va + bytes), as long as can be; its length in *got. */
static uint64_t take(uint64_t va, uint64_t bytes, uint64_t prefer, uint64_t *got)
{
    static const uint64_t aligns[] = {LWK_PAGE_1G, LWK_PAGE_2M, LWK_PAGE};

    /* Large pages need memory that lies as its addresses do. */
    *got = bytes;
    if (prefer != NO_MEMORY && (bytes < LWK_PAGE_2M || (prefer ^ va) % LWK_PAGE_2M == 0) &&
        phys_take_at(&mm.phys, prefer, bytes)) {
        return prefer;
    }
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t pa = NO_MEMORY;
        if (bytes >= aligns[i]) {
            pa = phys_take_high(&mm.phys, bytes, aligns[i], va % aligns[i]);
        }
        if (pa != NO_MEMORY) {
            return pa;
        }
    }
    *got = least(bytes, phys_longest(&mm.phys));
    return *got == 0 ? NO_MEMORY : phys_take_high(&mm.phys, *got, LWK_PAGE, 0);
}

int64_t mm_back(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint64_t prefer)
{
    uint64_t done = 0;

    if (bytes > mm.phys.bytes) {
        return -ENOMEM;
    }
    while (done < bytes) {
        uint64_t got = 0;
        uint64_t pa = mm_room(1) ? take(va + done, bytes - done, prefer, &got) : NO_MEMORY;
        if (pa == NO_MEMORY) {
            break;
        }
        clear(pa, got);
        if (qk_map(va + done, pa, got, prot) != 0) {
            (void)qk_unmap(va + done, got);
            phys_give(&mm.phys, pa, got);
            break;
        }
        (void)area_add(&mm.areas, (struct area){va + done, got, pa, prot, flags});
        prefer = pa + got;
        done += got;
    }
    if (done < bytes) {
        (void)mm_discard(va, done);
        return -ENOMEM;
    }
    mm.peak = most(mm.peak, mm.heap_bytes - mm.phys.bytes);
    return 0;
}

uint64_t mm_lowest(uint64_t va)
{
    return mm.phys.count == 0 ? NO_MEMORY
                              : mm.phys.free[0].pa + ((va - mm.phys.free[0].pa) % LWK_PAGE_2M);
}

uint64_t mm_highest(uint64_t bytes)
{
    for (uint32_t i = mm.phys.count; i-- > 0;) {
        if (mm.phys.free[i].bytes >= bytes) {
            return mm.phys.free[i].pa + mm.phys.free[i].bytes;
        }
    }
    return 0;
}

/* The memory that follows the area just below va. */
static uint64_t beyond(uint64_t va)
{
    const struct area *below = area_at(&mm.areas, va - 1);

    return below != NULL && area_backed(below) ? below->pa + below->bytes : NO_MEMORY;
}

bool mm_write(uint64_t va, const void *from, uint64_t bytes)
{
    const uint8_t *source = from;

    while (bytes > 0) {
        const struct area *area = area_at(&mm.areas, va);
        if (area == NULL || !area_backed(area)) {
            return false;
        }
        uint64_t piece = least(bytes, area_end(area) - va);
        memcpy(ram(area->pa + (va - area->va)), source, piece);
        va += piece;
        source += piece;
        bytes -= piece;
    }
    return true;
}

/* munmap() of a checked range. */
int64_t mm_discard(uint64_t va, uint64_t bytes)
{
    uint64_t end = va + bytes;

    if (bytes == 0) {
        return 0;
    }
    if (!area_split(&mm.areas, va) || !area_split(&mm.areas, end)) {
        return -ENOMEM;
    }
    uint32_t first = area_from(&mm.areas, va);
    uint32_t last = first;
    for (; last < mm.areas.count && mm.areas.area[last].va < end; last++) {
        const struct area *area = &mm.areas.area[last];
        if (area_backed(area)) {
            (void)qk_unmap(area->va, area->bytes);
            if ((area->flags & AREA_DEVICE) == 0) {
                mm_release(area->pa, area->bytes);
            }
        }
    }
    area_remove(&mm.areas, first, last);
    return 0;
}

int64_t mm_munmap(uint64_t va, uint64_t bytes)
{
    if (bytes == 0 || bytes > LWK_APP_HIGH || !mm_range(va, round_up(bytes, LWK_PAGE))) {
        return -EINVAL;
    }
    return mm_discard(va, round_up(bytes, LWK_PAGE));
}

/* Where to put so many bytes; 0: nowhere. */
uint64_t mm_place(uint64_t bytes, uint64_t high)
{
    static const uint64_t aligns[] = {LWK_PAGE_1G, LWK_PAGE_2M, LWK_PAGE};
    uint64_t va = 0;

    for (uint32_t i = 0; i < 3 && va == 0; i++) {
        if (bytes >= aligns[i]) {
            va = area_gap(&mm.areas, bytes, aligns[i], LWK_APP_LOW, high);
        }
    }
    return va;
}

/* Address for an mmap(), with room made for MAP_FIXED. */
static int64_t choose(uint64_t hint, uint64_t bytes, uint32_t flags)
{
    bool fits = mm_range(hint, bytes);
    bool free = fits && area_none(&mm.areas, hint, hint + bytes);

    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) {
        if (hint % LWK_PAGE != 0) {
            return -EINVAL;
        }
        if (!fits) {
            return hint < LWK_APP_LOW ? -EPERM : -ENOMEM;
        }
        if (!free && (flags & MAP_FIXED_NOREPLACE) != 0) {
            return -EEXIST;
        }
        int64_t failed = mm_discard(hint, bytes);
        return failed != 0 ? failed : (int64_t)hint;
    }
    if (free) {
        return (int64_t)hint;
    }
    uint64_t va = mm_place(bytes, (flags & MAP_32BIT) != 0 ? 1ull << 31 : mm.ceiling);
    return va == 0 ? -ENOMEM : (int64_t)va;
}

static bool rights(uint64_t prot)
{
    return (prot & (PROT_WRITE | PROT_EXEC)) != (PROT_WRITE | PROT_EXEC);
}

int64_t mm_mmap(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint32_t area_flags)
{
    uint64_t unit = (flags & MAP_HUGETLB) != 0 ? LWK_PAGE_2M : LWK_PAGE;

    if (bytes == 0) {
        return -EINVAL;
    }
    if (bytes > LWK_APP_HIGH) {
        return -ENOMEM;
    }
    if (!rights(prot)) {
        return -EACCES;
    }
    bytes = round_up(bytes, unit);
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == 0) {
        va = round_down(va, unit);
    }
    /* Refused before MAP_FIXED destroys anything: what will not fit, and a full table. */
    if (!mm_room(4) || (prot != PROT_NONE && bytes > mm.heap_bytes)) {
        return -ENOMEM;
    }
    int64_t at = choose(va, bytes, flags);
    if (at < 0) {
        return at;
    }
    if (prot == PROT_NONE) {
        struct area reserved = {(uint64_t)at, bytes, NO_MEMORY, PROT_NONE, area_flags};
        return area_add(&mm.areas, reserved) ? at : -ENOMEM;
    }
    int64_t failed = mm_back((uint64_t)at, bytes, prot, area_flags, beyond((uint64_t)at));
    return failed != 0 ? failed : at;
}

int64_t mm_device(uint64_t va, uint64_t bytes, uint32_t prot, uint32_t flags, uint32_t area_flags,
                  uint64_t pa)
{
    int64_t at = mm_room(4) ? choose(va, bytes, flags) : -ENOMEM;

    if (at < 0) {
        return at;
    }
    if (qk_map((uint64_t)at, pa, bytes, prot) != 0) {
        return -ENOMEM;
    }
    (void)area_add(&mm.areas,
                   (struct area){(uint64_t)at, bytes, pa, prot, area_flags | AREA_DEVICE});
    return at;
}

/*
 * Give a part of a reservation memory, without rights yet. glibc's malloc makes its arenas
 * accessible by a few pages at a time: those that follow get their memory with the first, up to a
 * large page while there is plenty, so that an arena is made of long runs.
 */
static int64_t commit(uint64_t va, uint64_t bytes)
{
    const struct area reserved = *area_at(&mm.areas, va);
    uint64_t unit = LWK_PAGE_2M;

    while (unit > LWK_PAGE && unit > mm.phys.bytes / 64) {
        unit /= 2;
    }
    uint64_t wanted = least(round_up(va + bytes, unit), area_end(&reserved)) - va;
    if (!mm_room(4)) {
        return -ENOMEM;
    }
    int64_t failed = mm_discard(va, wanted);
    if (failed != 0) {
        return failed;
    }
    failed = mm_back(va, wanted, PROT_NONE, reserved.flags, beyond(va));
    if (failed != 0) {
        struct area rest = reserved;
        rest.va = va;
        rest.bytes = wanted;
        (void)area_add(&mm.areas, rest);
        if (wanted > bytes) {
            (void)mm_discard(va, bytes);
            failed = mm_back(va, bytes, PROT_NONE, reserved.flags, beyond(va));
            if (failed != 0) {
                rest.bytes = bytes;
                (void)area_add(&mm.areas, rest);
            }
        }
    }
    return failed;
}

/* mprotect() of the part of one area with memory. */
static int64_t change(uint64_t va, uint64_t end, uint32_t prot)
{
    if (!area_split(&mm.areas, va) || !area_split(&mm.areas, end)) {
        return -ENOMEM;
    }
    int64_t failed = qk_protect(va, end - va, prot);
    if (failed == 0) {
        area_at(&mm.areas, va)->prot = prot;
    }
    area_join(&mm.areas, va, end);
    return failed;
}

int64_t mm_mprotect(uint64_t va, uint64_t bytes, uint64_t prot)
{
    const uint64_t known = PROT_READ | PROT_WRITE | PROT_EXEC;

    if (va % LWK_PAGE != 0 || (prot & ~known) != 0) {
        return -EINVAL;
    }
    if (bytes == 0) {
        return 0;
    }
    if (bytes > LWK_APP_HIGH || !mm_range(va, round_up(bytes, LWK_PAGE))) {
        return -ENOMEM;
    }
    if (!rights(prot)) {
        return -EACCES;
    }
    uint64_t end = va + round_up(bytes, LWK_PAGE);
    if (!area_all(&mm.areas, va, end)) {
        return -ENOMEM;
    }
    while (va < end) {
        const struct area *area = area_at(&mm.areas, va);
        uint64_t stop = least(end, area_end(area));
        int64_t failed = 0;
        if (((area->flags & AREA_READONLY) != 0 && (prot & PROT_WRITE) != 0) ||
            ((area->flags & AREA_DEVICE) != 0 && (prot & PROT_EXEC) != 0)) {
            return -EACCES;
        }
        if (!area_backed(area) && prot != PROT_NONE) {
            failed = commit(va, stop - va);
            stop = va; /* now change its rights */
        } else if (area->prot != prot) {
            failed = change(va, stop, (uint32_t)prot);
        }
        if (failed != 0) {
            return failed;
        }
        va = stop;
    }
    return 0;
}

int64_t mm_madvise(uint64_t va, uint64_t bytes, uint64_t advice)
{
    if (va % LWK_PAGE != 0 || advice > MADV_COLLAPSE || advice == MADV_REMOVE) {
        return -EINVAL;
    }
    if (bytes == 0) {
        return 0;
    }
    if (bytes > LWK_APP_HIGH || !mm_range(va, round_up(bytes, LWK_PAGE))) {
        return -ENOMEM;
    }
    uint64_t end = va + round_up(bytes, LWK_PAGE);
    if (!area_all(&mm.areas, va, end)) {
        return -ENOMEM;
    }
    for (; advice == MADV_DONTNEED && va < end;) {
        const struct area *area = area_at(&mm.areas, va);
        uint64_t stop = least(end, area_end(area));
        if ((area->flags & (AREA_FILE | AREA_DEVICE)) != 0) {
            return -EINVAL; /* the file would have to be read again */
        }
        if (area_backed(area)) {
            memset(ram(area->pa + (va - area->va)), 0, stop - va);
        }
        va = stop;
    }
    return 0;
}

uint64_t mm_brk(uint64_t brk)
{
    uint64_t old_end = round_up(mm.brk, LWK_PAGE);

    if (brk < mm.brk_start || brk > mm.ceiling) {
        return mm.brk;
    }
    uint64_t new_end = round_up(brk, LWK_PAGE);
    if (new_end < old_end) {
        if (mm_discard(new_end, old_end - new_end) != 0) {
            return mm.brk;
        }
    } else if (new_end > old_end) {
        uint64_t prefer = beyond(old_end);
        prefer = prefer == NO_MEMORY ? mm_lowest(old_end) : prefer;
        if (!area_none(&mm.areas, old_end, new_end) ||
            mm_back(old_end, new_end - old_end, PROT_READ | PROT_WRITE, 0, prefer) != 0) {
            return mm.brk;
        }
    }
    mm.brk = brk;
    return brk;
}
