/* SPDX-License-Identifier: Apache-2.0 */
/* mremap(): grows in place where it can, or gives the same memory new addresses; it never copies.
 */
#include "mm.h"

/* Map the areas of [va, va + bytes) at new_va too. */
static int64_t alias(uint64_t va, uint64_t bytes, uint64_t new_va)
{
    uint64_t end = va + bytes;

    for (uint64_t at = va; at < end;) {
        const struct area *area = area_at(&mm.areas, at);
        uint64_t stop = least(end, area_end(area));
        if (area_backed(area) &&
            qk_map(new_va + (at - va), area->pa + (at - area->va), stop - at, area->prot) != 0) {
            (void)qk_unmap(new_va, bytes);
            return -ENOMEM;
        }
        at = stop;
    }
    return 0;
}

/* Make the areas themselves follow. */
static void follow(uint64_t va, uint64_t bytes, uint64_t new_va)
{
    while (bytes > 0) {
        struct area area = *area_at(&mm.areas, va);
        uint32_t index = area_from(&mm.areas, va);
        area_remove(&mm.areas, index, index + 1);
        if (area_backed(&area)) {
            (void)qk_unmap(area.va, area.bytes);
        }
        va += area.bytes;
        bytes -= area.bytes;
        area.va = new_va;
        area.flags |= AREA_MOVING;
        new_va += area.bytes;
        (void)area_add(&mm.areas, area);
    }
}

static void arrive(uint64_t va, uint64_t end)
{
    for (uint32_t i = area_from(&mm.areas, va); i < mm.areas.count && mm.areas.area[i].va < end;
         i++) {
        mm.areas.area[i].flags &= ~AREA_MOVING;
    }
    area_join(&mm.areas, va, end);
}

/* More of the same kind after what was the last area. */
static int64_t extend(uint64_t va, uint64_t bytes, const struct area *last, uint64_t last_end,
                      uint32_t flags)
{
    if ((last->flags & AREA_DEVICE) != 0) {
        return -EFAULT;
    }
    if (area_backed(last)) {
        return mm_back(va, bytes, last->prot, last->flags | flags,
                       last->pa + (last_end - last->va));
    }
    struct area more = {va, bytes, NO_MEMORY, PROT_NONE, last->flags | flags};
    return area_add(&mm.areas, more) ? 0 : -ENOMEM;
}

static int64_t move(uint64_t va, uint64_t bytes, uint64_t new_bytes, uint64_t new_va)
{
    uint64_t end = va + bytes;
    uint64_t kept = least(bytes, new_bytes);

    if (!mm_room(4) || !area_split(&mm.areas, va) || !area_split(&mm.areas, end) ||
        !area_split(&mm.areas, va + kept)) {
        return -ENOMEM;
    }
    int64_t failed = alias(va, kept, new_va);
    if (failed == 0 && new_bytes > bytes) {
        const struct area last = *area_at(&mm.areas, end - 1);
        failed = extend(new_va + bytes, new_bytes - bytes, &last, end, AREA_MOVING);
        if (failed != 0) {
            (void)qk_unmap(new_va, kept);
        }
    }
    if (failed != 0) {
        area_join(&mm.areas, va, end);
        return failed;
    }
    follow(va, kept, new_va);
    (void)mm_discard(va + kept, bytes - kept);
    arrive(new_va, new_va + new_bytes);
    return (int64_t)new_va;
}

int64_t mm_mremap(uint64_t va, uint64_t bytes, uint64_t new_bytes, uint64_t flags, uint64_t new_va)
{
    bool fixed = (flags & MREMAP_FIXED) != 0;

    if ((flags & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 || va % LWK_PAGE != 0 ||
        bytes == 0 || bytes > LWK_APP_HIGH || new_bytes == 0 || new_bytes > LWK_APP_HIGH ||
        (fixed && (flags & MREMAP_MAYMOVE) == 0)) {
        return -EINVAL;
    }
    bytes = round_up(bytes, LWK_PAGE);
    new_bytes = round_up(new_bytes, LWK_PAGE);
    if (!mm_range(va, bytes) || !area_all(&mm.areas, va, va + bytes)) {
        return -EFAULT;
    }
    uint64_t end = va + bytes;
    if (fixed) {
        if (!mm_range(new_va, new_bytes) || (new_va < end && va < new_va + new_bytes)) {
            return -EINVAL;
        }
        int64_t failed = mm_discard(new_va, new_bytes);
        return failed != 0 ? failed : move(va, bytes, new_bytes, new_va);
    }
    if (new_bytes <= bytes) {
        int64_t failed = mm_discard(va + new_bytes, bytes - new_bytes);
        return failed != 0 ? failed : (int64_t)va;
    }
    if (mm_range(va, new_bytes) && area_none(&mm.areas, end, va + new_bytes) && mm_room(1)) {
        const struct area last = *area_at(&mm.areas, end - 1);
        if (extend(end, new_bytes - bytes, &last, end, 0) == 0) {
            return (int64_t)va;
        }
    }
    if ((flags & MREMAP_MAYMOVE) == 0) {
        return -ENOMEM;
    }
    new_va = mm_place(new_bytes, mm.ceiling);
    return new_va == 0 ? -ENOMEM : move(va, bytes, new_bytes, new_va);
}
