/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap(2) of files: memory with a copy of the file's bytes. That is what a private mapping is, if
 * the file does not change meanwhile. A shared one that could be written to would need a page
 * cache: ENODEV.
 */
#include "ship.h"

/* Put the next read into the slot; false if the area is gone, or nothing is left to read. */
static bool ship_piece(struct job *job)
{
    const struct file_map *map = &job->map;
    uint64_t va = map->va + map->done;
    const struct area *area = map->done < map->bytes ? area_at(&mm.areas, va) : NULL;

    if (area == NULL || !area_backed(area)) {
        return false;
    }
    uint64_t piece = least(map->bytes - map->done, area_end(area) - va);
    piece = least(piece, 1u << 30);
    job_call(job, __NR_pread64);
    job_value(job, 0, map->fd);
    job_memory(job, 1, area->pa + (va - area->va), piece);
    job_value(job, 2, piece);
    job_value(job, 3, map->offset + map->done);
    return true;
}

static int64_t piece_done(struct job *job, int64_t result)
{
    struct file_map *map = &job->map;

    if (result == -EINTR) {
        return PENDING; /* once more: mmap() is not interrupted */
    }
    if (result < 0) {
        (void)mm_discard(map->va, round_up(map->bytes, LWK_PAGE));
        return result == -EBADF || result == -EACCES || result == -EIO ? result : -ENODEV;
    }
    map->done += least((uint64_t)result, map->bytes - map->done);
    if (result > 0 && ship_piece(job)) {
        return PENDING;
    }
    if (map->prot == PROT_NONE) {
        (void)mm_mprotect(map->va, map->bytes, PROT_NONE);
    }
    return (int64_t)map->va;
}

int64_t file_map_prepare(struct job *job, const struct pct_event *event)
{
    const uint64_t *args = event->args;
    uint32_t prot = (uint32_t)args[2] & (PROT_READ | PROT_WRITE | PROT_EXEC);
    uint32_t flags = (uint32_t)args[3] & ~(uint32_t)MAP_HUGETLB;
    bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;

    if (args[5] % LWK_PAGE != 0 || (int64_t)args[5] < 0 || args[1] > INT64_MAX - args[5]) {
        return -EINVAL;
    }
    if (shared && (prot & PROT_WRITE) != 0) {
        return -ENODEV;
    }
    int64_t va = mm_mmap(args[0], args[1], prot == PROT_NONE ? PROT_READ : prot, flags,
                         shared ? AREA_FILE | AREA_READONLY : AREA_FILE);
    if (va < 0) {
        return va;
    }
    job->map = (struct file_map){.va = (uint64_t)va,
                                 .bytes = args[1],
                                 .offset = args[5],
                                 .fd = (uint32_t)args[4],
                                 .prot = prot};
    job->step = piece_done;
    return ship_piece(job) ? PENDING : -ENOMEM;
}
