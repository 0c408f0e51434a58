/* SPDX-License-Identifier: Apache-2.0 */
/* Compressing memory: after the machine goes on, from the file that was written meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <zstd.h>

#include "snapshot_packed.h"

/* Level 3 makes memory 3 % smaller in twice the time (docs/decisions/0026). */
#define LEVEL 1
#define FIRST_ENTRIES 256u

struct packer {
    int from;
    int to;
    bool take;
    ZSTD_CCtx *stream;
    uint8_t *pages; /* of a chunk, one behind the other */
    uint8_t *frame;
    size_t frame_room;
    uint64_t offset; /* in the new file */
    struct vh_packed_entry *entries;
    size_t count;
    size_t capacity;
};

static int32_t add_entry(struct packer *packer, const struct vh_packed_entry *entry,
                         struct vmmhpc_error *err)
{
    if (packer->count == packer->capacity) {
        size_t capacity = packer->capacity == 0 ? FIRST_ENTRIES : packer->capacity * 2;
        if (packer->capacity * sizeof(*entry) >= VH_PACKED_INDEX_MAX) {
            return vh_fail(err, VMMHPC_E_LIMIT, 0, packer->count,
                           "this is more memory than a compressed snapshot can have");
        }
        struct vh_packed_entry *grown =
            vh_grow(packer->entries, packer->count * sizeof(*entry), capacity * sizeof(*entry));
        if (grown == NULL) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, capacity, "no memory for an index");
        }
        packer->entries = grown;
        packer->capacity = capacity;
    }
    packer->entries[packer->count++] = *entry;
    return VMMHPC_OK;
}

static int32_t write_part(struct packer *packer, const void *data, size_t bytes,
                          struct vmmhpc_error *err)
{
    int failed = vh_snap_write_at(packer->to, data, bytes, packer->offset);
    packer->offset += bytes;
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_IO, failed, packer->offset,
                                 "cannot write compressed memory: %s", vh_errno_text(failed));
}

/* The pages of a chunk that hold something, moved together. */
static uint64_t gather(uint8_t *pages, size_t bytes)
{
    uint64_t found = 0;
    size_t kept = 0;
    for (size_t at = 0; at < bytes; at += VH_PAGE) {
        if (vh_snap_is_zero(pages + at)) {
            continue;
        }
        if (kept != at) {
            memcpy(pages + kept, pages + at, VH_PAGE);
        }
        kept += VH_PAGE;
        found |= 1ull << (at / VH_PAGE);
    }
    return found;
}

static int32_t pack_chunk(struct packer *packer, uint64_t at, size_t bytes,
                          struct vmmhpc_error *err)
{
    if (vh_snap_is_hole(packer->from, at, bytes)) {
        return VMMHPC_OK;
    }
    int32_t status = vh_snap_read_at(packer->from, packer->pages, bytes, at, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_packed_entry entry = {.chunk = at / VH_PACKED_CHUNK,
                                    .pages = gather(packer->pages, bytes)};
    if (entry.pages == 0) {
        return VMMHPC_OK;
    }
    size_t size = (size_t)__builtin_popcountll(entry.pages) * VH_PAGE;
    size_t made =
        ZSTD_compress2(packer->stream, packer->frame, packer->frame_room, packer->pages, size);
    if (ZSTD_isError(made) != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, at, "cannot compress memory: %s",
                       ZSTD_getErrorName(made));
    }
    entry.bytes = (uint32_t)made;
    entry.crc = vh_crc32c(0, packer->frame, made);
    status = add_entry(packer, &entry, err);
    if (status == VMMHPC_OK) {
        status = write_part(packer, packer->frame, made, err);
    }
    if (status == VMMHPC_OK && packer->take) {
        /* Where the file system cannot, it takes the room until the end. */
        (void)fallocate(packer->from, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                        (off_t)bytes);
    }
    return status;
}

static int32_t pack_all(struct packer *packer, uint64_t total, struct vh_snap_packed *made,
                        struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (uint64_t at = 0; status == VMMHPC_OK && at < total; at += VH_PACKED_CHUNK) {
        size_t bytes = total - at < VH_PACKED_CHUNK ? (size_t)(total - at) : VH_PACKED_CHUNK;
        status = pack_chunk(packer, at, bytes, err);
    }
    const size_t index = packer->count * sizeof(*packer->entries);
    const struct vh_packed_tail tail = {.magic = VH_PACKED_TAIL_MAGIC, .bytes = (uint32_t)index};
    if (status == VMMHPC_OK) {
        status = write_part(packer, &tail, sizeof(tail), err);
    }
    if (status == VMMHPC_OK && index > 0) {
        status = write_part(packer, packer->entries, index, err);
    }
    *made = (struct vh_snap_packed){.file_bytes = packer->offset,
                                    .index_bytes = index,
                                    .index_crc = vh_crc32c(0, packer->entries, index),
                                    .codec = VMMHPC_SNAPSHOT_ZSTD};
    return status;
}

int32_t vh_pack(int from, uint64_t total, int to, bool take, struct vh_snap_packed *made,
                struct vmmhpc_error *err)
{
    struct packer packer = {.from = from, .to = to, .take = take};
    packer.frame_room = ZSTD_compressBound(VH_PACKED_CHUNK);
    packer.stream = ZSTD_createCCtx();
    packer.pages = malloc(VH_PACKED_CHUNK);
    packer.frame = malloc(packer.frame_room);
    int32_t status = VMMHPC_OK;
    if (packer.stream == NULL || packer.pages == NULL || packer.frame == NULL) {
        status = vh_fail(err, VMMHPC_E_NO_MEMORY, 0, packer.frame_room, "no memory to compress");
    } else {
        (void)ZSTD_CCtx_setParameter(packer.stream, ZSTD_c_compressionLevel, LEVEL);
        status = pack_all(&packer, total, made, err);
    }
    free(packer.entries);
    free(packer.frame);
    free(packer.pages);
    (void)ZSTD_freeCCtx(packer.stream);
    return status;
}

/* ------------------------------------------------------------------ the state */

/* The same state, and how its own memory is compressed. */
static int32_t write_state(const struct vh_snap_reader *reader, uint32_t layers,
                           const struct vh_snap_packed *own, int fd, struct vmmhpc_error *err)
{
    struct vh_snap_packed all[VH_SNAPSHOT_LAYERS];
    struct vh_snap_writer writer = {.data = NULL, .sections = reader->header.sections};
    size_t bytes = 0;
    vh_snap_put(&writer, reader->data, reader->bytes);
    const uint8_t *there = vh_snap_find(reader, VH_SNAP_PACKED, 0, &bytes);
    if (there == NULL) {
        memset(all, 0, sizeof(all));
        all[0] = *own;
        vh_snap_section(&writer, VH_SNAP_PACKED, 0, all, layers * sizeof(all[0]));
    } else if (!writer.failed) {
        memcpy(writer.data + (there - reader->data), own, sizeof(*own));
    }
    int32_t status = vh_snap_finish(&writer, &reader->header, fd, err);
    free(writer.data);
    return status;
}

/* What is to be compressed, checked. */
static int32_t check_own(const struct vh_snap_reader *reader, int memory_fd, uint32_t *layers,
                         uint64_t *total, struct vmmhpc_error *err)
{
    struct vh_snap_layers found;
    struct vh_snap_packed packed[VH_SNAPSHOT_LAYERS];
    int32_t status = vh_snap_layers(reader, &found, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_packed(reader, found.count, packed, err);
    }
    if (status == VMMHPC_OK && packed[0].codec != VMMHPC_SNAPSHOT_PLAIN) {
        status = vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the snapshot is compressed already");
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_total(reader, total, err);
    }
    *layers = found.count;
    return status == VMMHPC_OK ? vh_snap_check_file(memory_fd, *total, err) : status;
}

int32_t vh_snap_compress(const struct vh_snap_pair *from, const struct vh_snap_pair *to, bool take,
                         struct vmmhpc_error *err)
{
    struct vh_snap_reader reader;
    struct vh_snap_packed made;
    uint32_t layers = 0;
    uint64_t total = 0;
    int32_t status = vh_snap_open_file(&reader, from->state_fd, err);
    if (status == VMMHPC_OK) {
        status = check_own(&reader, from->memory_fd, &layers, &total, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_pack(from->memory_fd, total, to->memory_fd, take, &made, err);
    }
    if (status == VMMHPC_OK) {
        status = write_state(&reader, layers, &made, to->state_fd, err);
    }
    vh_snap_close(&reader);
    return status;
}
