/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays: reading, writing, and bringing the table to disk in a safe order. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/blk_overlay.h"

/* Pieces of a request that lie in one cluster, and what surrounds them there. */
#define PIECES 260u
#define CLUSTER ((uint64_t)VH_OVERLAY_CLUSTER)

static int io(struct vh_blk_store *store, bool write, struct iovec *iov, uint32_t count,
              uint64_t offset)
{
    struct vh_blk_buffers buffers = {iov, count};
    return write ? store->ops->write(store, buffers, offset)
                 : store->ops->read(store, buffers, offset);
}

/* The next `bytes` into out[0 ... PIECES); the count, or 0 where they are too many. */
static uint32_t split(struct vh_blk_buffers *from, uint64_t bytes, struct iovec *out, uint32_t room)
{
    uint32_t count = 0;
    while (bytes > 0 && from->count > 0) {
        uint64_t piece = from->iov[0].iov_len < bytes ? from->iov[0].iov_len : bytes;
        if (count == room) {
            return 0;
        }
        out[count++] = (struct iovec){from->iov[0].iov_base, piece};
        vh_blk_advance(from, piece);
        bytes -= piece;
    }
    return count;
}

static bool has_data(uint32_t value)
{
    return value > VH_OVERLAY_ZERO;
}

/* ------------------------------------------------------------------ clusters of the file */

bool vh_overlay_used(const struct vh_overlay *overlay, uint32_t cluster)
{
    return cluster / 64 < overlay->used_words &&
           (overlay->used[cluster / 64] >> cluster % 64 & 1) != 0;
}

bool vh_overlay_use(struct vh_overlay *overlay, uint32_t cluster, bool used)
{
    uint32_t word = cluster / 64;
    if (word >= overlay->used_words) {
        uint32_t words = word + word / 2 + 16;
        uint64_t *grown =
            vh_grow(overlay->used, overlay->used_words * sizeof(*grown), words * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        memset(grown + overlay->used_words, 0, (words - overlay->used_words) * sizeof(*grown));
        overlay->used = grown;
        overlay->used_words = words;
    }
    uint64_t bit = 1ull << cluster % 64;
    overlay->used[word] = used ? overlay->used[word] | bit : overlay->used[word] & ~bit;
    return true;
}

/* A cluster that no entry refers to, neither here nor on disk; 0: there is none. */
static uint32_t allocate(struct vh_overlay *overlay)
{
    uint32_t cluster = overlay->hint;
    while (cluster < overlay->end && vh_overlay_used(overlay, cluster)) {
        cluster++;
    }
    if (cluster == UINT32_MAX || !vh_overlay_use(overlay, cluster, true)) {
        return 0;
    }
    overlay->hint = cluster + 1;
    if (cluster >= overlay->end) {
        overlay->end = cluster + 1;
    }
    return cluster;
}

static void give_back(struct vh_overlay *overlay, uint32_t cluster)
{
    (void)vh_overlay_use(overlay, cluster, false);
    if (cluster < overlay->hint) {
        overlay->hint = cluster;
    }
}

/* The entry on disk still refers to it: it is free after the next flush. Without memory for that it
 * is free when the overlay is opened the next time. */
static void give_back_later(struct vh_overlay *overlay, uint32_t cluster)
{
    if (overlay->pending_count == overlay->pending_room) {
        uint32_t room = overlay->pending_room * 2 + 64;
        uint32_t *grown = vh_grow(overlay->pending, overlay->pending_room * sizeof(*grown),
                                  room * sizeof(*grown));
        if (grown == NULL) {
            return;
        }
        overlay->pending = grown;
        overlay->pending_room = room;
    }
    overlay->pending[overlay->pending_count++] = cluster;
}

static void set_entry(struct vh_overlay *overlay, uint64_t index, uint32_t value)
{
    uint64_t page = index / VH_OVERLAY_PAGE_ENTRIES;
    if (has_data(overlay->table[index])) {
        give_back_later(overlay, overlay->table[index]);
    }
    overlay->table[index] = value;
    overlay->dirty[page / 64] |= 1ull << page % 64;
    overlay->any_dirty = true;
}

/* ------------------------------------------------------------------ reading */

/* Whether the next cluster continues what the one before it is read from. */
static bool continues(uint32_t before, uint32_t next)
{
    return has_data(before) ? next == before + 1 : next == before;
}

/* Bytes from `offset` on, at most `bytes`, that come from one place. */
static uint64_t run_length(const struct vh_overlay *overlay, uint64_t offset, uint64_t bytes)
{
    uint64_t index = offset / CLUSTER;
    uint64_t length = CLUSTER - offset % CLUSTER;
    while (length < bytes && continues(overlay->table[index], overlay->table[index + 1])) {
        index++;
        length += CLUSTER;
    }
    return length < bytes ? length : bytes;
}

static int read_run(struct vh_overlay *overlay, struct iovec *iov, uint32_t count, uint64_t offset)
{
    uint32_t value = overlay->table[offset / CLUSTER];
    if (value == VH_OVERLAY_ABSENT) {
        return io(overlay->base, false, iov, count, offset);
    }
    if (has_data(value)) {
        return io(&overlay->file->store, false, iov, count, value * CLUSTER + offset % CLUSTER);
    }
    for (uint32_t i = 0; i < count; i++) {
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    }
    return 0;
}

static int overlay_read(struct vh_blk_store *store, struct vh_blk_buffers to, uint64_t offset)
{
    struct vh_overlay *overlay = (struct vh_overlay *)store;
    struct iovec iov[PIECES];
    uint64_t bytes = vh_blk_total(&to);
    int failed = 0;
    while (bytes > 0 && failed == 0) {
        uint64_t run = run_length(overlay, offset, bytes);
        uint32_t count = split(&to, run, iov, PIECES);
        failed = count == 0 ? EIO : read_run(overlay, iov, count, offset);
        offset += run;
        bytes -= run;
    }
    return failed;
}

/* ------------------------------------------------------------------ writing */

/* What a cluster has at [from, to) before it is written, into the bounce buffer at the same place.
 */
static int fill(struct vh_overlay *overlay, uint64_t index, uint64_t from, uint64_t to)
{
    uint64_t start = index * CLUSTER;
    uint64_t end = overlay->store.bytes - start < to ? overlay->store.bytes - start : to;
    memset(overlay->bounce + from, 0, to - from);
    if (overlay->table[index] == VH_OVERLAY_ZERO || end <= from) {
        return 0;
    }
    struct iovec iov = {overlay->bounce + from, end - from};
    return io(overlay->base, false, &iov, 1, start + from);
}

/* The first write to a cluster: all of it goes to a new place. iov has room in front and behind. */
static int write_new(struct vh_overlay *overlay, struct iovec *iov, uint32_t count, uint64_t offset,
                     uint64_t bytes)
{
    uint64_t index = offset / CLUSTER;
    uint64_t from = offset % CLUSTER;
    uint64_t to = from + bytes;
    int failed = fill(overlay, index, 0, from);
    if (failed == 0) {
        failed = fill(overlay, index, to, CLUSTER);
    }
    uint32_t cluster = failed == 0 ? allocate(overlay) : 0;
    if (cluster == 0) {
        return failed != 0 ? failed : ENOSPC;
    }
    iov[0] = (struct iovec){overlay->bounce, from};
    iov[count + 1] = (struct iovec){overlay->bounce + to, CLUSTER - to};
    failed = io(&overlay->file->store, true, from > 0 ? iov : iov + 1,
                count + (from > 0 ? 1 : 0) + (to < CLUSTER ? 1 : 0), cluster * CLUSTER);
    if (failed != 0) {
        give_back(overlay, cluster);
        return failed;
    }
    set_entry(overlay, index, cluster);
    return 0;
}

static int overlay_write(struct vh_blk_store *store, struct vh_blk_buffers data, uint64_t offset)
{
    struct vh_overlay *overlay = (struct vh_overlay *)store;
    struct iovec iov[PIECES + 2];
    uint64_t bytes = vh_blk_total(&data);
    int failed = 0;
    overlay->unflushed = true;
    while (bytes > 0 && failed == 0) {
        uint32_t value = overlay->table[offset / CLUSTER];
        uint64_t piece = CLUSTER - offset % CLUSTER;
        if (has_data(value)) {
            piece = run_length(overlay, offset, bytes);
        } else if (piece > bytes) {
            piece = bytes;
        }
        uint32_t count = split(&data, piece, iov + 1, PIECES);
        if (count == 0) {
            failed = EIO;
        } else if (has_data(value)) {
            failed =
                io(&overlay->file->store, true, iov + 1, count, value * CLUSTER + offset % CLUSTER);
        } else {
            failed = write_new(overlay, iov, count, offset, piece);
        }
        offset += piece;
        bytes -= piece;
    }
    return failed;
}

/* ------------------------------------------------------------------ discard and zero */

static int write_zeroes(struct vh_overlay *overlay, uint64_t offset, uint64_t bytes)
{
    struct iovec iov = {overlay->zeroes, bytes};
    if (overlay->table[offset / CLUSTER] == VH_OVERLAY_ZERO) {
        return 0;
    }
    return overlay_write(&overlay->store, (struct vh_blk_buffers){&iov, 1}, offset);
}

/* Whole clusters by their entries. Of others a discard keeps what they have. */
static int clear(struct vh_overlay *overlay, uint64_t offset, uint64_t bytes, bool discard)
{
    int failed = 0;
    while (bytes > 0 && failed == 0) {
        uint64_t index = offset / CLUSTER;
        uint64_t piece = CLUSTER - offset % CLUSTER < bytes ? CLUSTER - offset % CLUSTER : bytes;
        bool whole =
            offset % CLUSTER == 0 && (piece == CLUSTER || offset + piece == overlay->store.bytes);
        if (!whole) {
            failed = discard ? 0 : write_zeroes(overlay, offset, piece);
        } else if (has_data(overlay->table[index]) ||
                   (!discard && overlay->table[index] == VH_OVERLAY_ABSENT)) {
            set_entry(overlay, index, VH_OVERLAY_ZERO);
        }
        offset += piece;
        bytes -= piece;
    }
    return failed;
}

static int overlay_discard(struct vh_blk_store *store, uint64_t offset, uint64_t bytes)
{
    return clear((struct vh_overlay *)store, offset, bytes, true);
}

static int overlay_zero(struct vh_blk_store *store, uint64_t offset, uint64_t bytes, bool unmap)
{
    (void)unmap; /* in an overlay no room is set aside anyway */
    return clear((struct vh_overlay *)store, offset, bytes, false);
}

/* ------------------------------------------------------------------ flush */

static int write_page(struct vh_overlay *overlay, uint64_t page)
{
    uint64_t first = page * VH_OVERLAY_PAGE_ENTRIES;
    for (uint64_t i = 0; i < VH_OVERLAY_PAGE_ENTRIES; i++) {
        uint64_t entry = first + i < overlay->clusters
                             ? vh_overlay_encode(overlay, first + i, overlay->table[first + i])
                             : 0;
        memcpy(overlay->bounce + i * VH_OVERLAY_ENTRY, &entry, sizeof(entry));
    }
    struct iovec iov = {overlay->bounce, VH_OVERLAY_PAGE};
    return io(&overlay->file->store, true, &iov, 1, overlay->table_offset + page * VH_OVERLAY_PAGE);
}

static int write_table(struct vh_overlay *overlay)
{
    uint64_t words = (overlay->clusters / VH_OVERLAY_PAGE_ENTRIES + 1) / 64 + 1;
    for (uint64_t i = 0; i < words; i++) {
        while (overlay->dirty[i] != 0) {
            uint64_t page = i * 64 + (uint64_t)__builtin_ctzll(overlay->dirty[i]);
            int failed = write_page(overlay, page);
            if (failed != 0) {
                return failed; /* it is still dirty: the next flush tries again */
            }
            overlay->dirty[i] &= overlay->dirty[i] - 1;
        }
    }
    overlay->any_dirty = false;
    return 0;
}

/* A failed sync may have dropped what was to be written: from then on nothing is certain, and a
 * later success would say nothing about it. */
static int sync_file(struct vh_overlay *overlay)
{
    int failed = overlay->file->store.ops->flush(&overlay->file->store);
    if (failed != 0) {
        overlay->broken = failed;
    }
    return failed;
}

/* Nothing refers to these clusters any more, not even on disk. */
static void release_pending(struct vh_overlay *overlay)
{
    for (uint32_t i = 0; i < overlay->pending_count; i++) {
        (void)fallocate(overlay->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)(overlay->pending[i] * CLUSTER), (off_t)CLUSTER);
        give_back(overlay, overlay->pending[i]);
    }
    overlay->pending_count = 0;
}

static int overlay_flush(struct vh_blk_store *store)
{
    struct vh_overlay *overlay = (struct vh_overlay *)store;
    if (overlay->broken != 0) {
        return overlay->broken;
    }
    if (overlay->unflushed) {
        int failed = sync_file(overlay); /* data first */
        if (failed != 0) {
            return failed;
        }
        overlay->unflushed = false;
    }
    if (overlay->any_dirty) {
        int failed = write_table(overlay);
        if (failed == 0) {
            failed = sync_file(overlay);
        }
        if (failed != 0) {
            return failed;
        }
    }
    release_pending(overlay);
    return 0;
}

static void overlay_close(struct vh_blk_store *store)
{
    struct vh_overlay *overlay = (struct vh_overlay *)store;
    if (overlay->table != NULL && !overlay->store.read_only) {
        (void)overlay_flush(store);
    }
    if (overlay->file != NULL) {
        overlay->file->store.ops->close(&overlay->file->store);
    }
    if (overlay->base != NULL) {
        overlay->base->ops->close(overlay->base);
    }
    free(overlay->table);
    free(overlay->dirty);
    free(overlay->used);
    free(overlay->pending);
    free(overlay->bounce);
    free(overlay->zeroes);
    free(overlay);
}

const struct vh_blk_store_ops vh_overlay_ops = {overlay_read,    overlay_write, overlay_flush,
                                                overlay_discard, overlay_zero,  overlay_close};
