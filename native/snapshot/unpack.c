/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading compressed memory, which anybody may have written. The index says how much each frame
 * gives, before anything is decompressed, and no frame has room for more; where frames lie follows
 * from their lengths, so none can lie over another one.
 */
#include <errno.h>
#include <sys/stat.h>
#include <zstd.h>

#include "snapshot_packed.h"

struct vh_unpacker {
    int fd;
    struct vh_packed_entry *entries;
    size_t count;
    size_t at; /* the entry that was looked at last; those before it are not asked for again */
    uint64_t offset; /* of its frame */
    bool loaded;     /* its pages are in `pages` */
    ZSTD_DCtx *stream;
    uint8_t *frame;
    uint8_t *pages;
};

static int32_t senseless(struct vmmhpc_error *err, uint64_t value)
{
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, value,
                   "the snapshot is damaged: what it says of its compressed memory makes no sense");
}

static size_t size_of(const struct vh_packed_entry *entry)
{
    return (size_t)__builtin_popcountll(entry->pages) * VH_PAGE;
}

/* By ascending number, within memory, and of lengths that a frame can have. */
static bool entry_sound(const struct vh_packed_entry *entry, const struct vh_packed_entry *before,
                        uint64_t total)
{
    if ((before != NULL && entry->chunk <= before->chunk) || entry->pages == 0 ||
        entry->chunk > total / VH_PACKED_CHUNK) {
        return false;
    }
    const uint64_t last = 63u - (unsigned)__builtin_clzll(entry->pages);
    return entry->chunk * VH_PACKED_PAGES + last < total / VH_PAGE && entry->bytes > 0 &&
           entry->bytes <= ZSTD_compressBound(size_of(entry));
}

static int32_t check_index(const struct vh_unpacker *unpacker, uint64_t frames, uint64_t total,
                           struct vmmhpc_error *err)
{
    uint64_t sum = 0; /* of at most 11 million lengths of 32 bits */
    for (size_t i = 0; i < unpacker->count; i++) {
        const struct vh_packed_entry *entry = &unpacker->entries[i];
        if (!entry_sound(entry, i == 0 ? NULL : entry - 1, total)) {
            return senseless(err, i);
        }
        sum += entry->bytes;
    }
    return sum == frames ? VMMHPC_OK : senseless(err, sum);
}

static int32_t check_length(int fd, const struct vh_snap_packed *about, struct vmmhpc_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "a snapshot's memory is a regular file");
    }
    const uint64_t bytes = (uint64_t)info.st_size;
    if (bytes != about->file_bytes) {
        return vh_fail(err, bytes < about->file_bytes ? VMMHPC_E_TRUNCATED : VMMHPC_E_BAD_IMAGE, 0,
                       bytes,
                       "the snapshot's compressed memory has %llu bytes and should have %llu",
                       (unsigned long long)bytes, (unsigned long long)about->file_bytes);
    }
    return about->index_bytes <= VH_PACKED_INDEX_MAX &&
                   about->index_bytes % sizeof(struct vh_packed_entry) == 0 &&
                   bytes >= sizeof(struct vh_packed_tail) + about->index_bytes
               ? VMMHPC_OK
               : senseless(err, about->index_bytes);
}

static int32_t read_index(struct vh_unpacker *unpacker, const struct vh_snap_packed *about,
                          uint64_t total, struct vmmhpc_error *err)
{
    struct vh_packed_tail tail;
    const size_t bytes = (size_t)about->index_bytes;
    const uint64_t at = about->file_bytes - bytes;
    const uint64_t frames = at - sizeof(tail);
    int32_t status = vh_snap_read_at(unpacker->fd, (uint8_t *)&tail, sizeof(tail), frames, err);
    if (status == VMMHPC_OK && (tail.magic != VH_PACKED_TAIL_MAGIC || tail.bytes != bytes)) {
        status = senseless(err, tail.magic);
    }
    if (status != VMMHPC_OK || bytes == 0) {
        return status != VMMHPC_OK || frames == 0 ? status : senseless(err, frames);
    }
    unpacker->count = bytes / sizeof(*unpacker->entries);
    unpacker->entries = malloc(bytes);
    if (unpacker->entries == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for an index");
    }
    status = vh_snap_read_at(unpacker->fd, (uint8_t *)unpacker->entries, bytes, at, err);
    if (status == VMMHPC_OK && vh_crc32c(0, unpacker->entries, bytes) != about->index_crc) {
        status = vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, about->index_crc,
                         "the snapshot is damaged: the checksum of its index is wrong");
    }
    return status == VMMHPC_OK ? check_index(unpacker, frames, total, err) : status;
}

int32_t vh_unpack_open(struct vh_unpacker **unpacker, int fd, const struct vh_snap_packed *about,
                       uint64_t total, struct vmmhpc_error *err)
{
    *unpacker = NULL;
    int32_t status = check_length(fd, about, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_unpacker *made = calloc(1, sizeof(*made));
    if (made != NULL) {
        made->fd = fd;
        made->stream = ZSTD_createDCtx();
        made->frame = malloc(ZSTD_compressBound(VH_PACKED_CHUNK));
        made->pages = malloc(VH_PACKED_CHUNK);
    }
    if (made == NULL || made->stream == NULL || made->frame == NULL || made->pages == NULL) {
        status = vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_PACKED_CHUNK, "no memory to decompress");
    } else {
        status = read_index(made, about, total, err);
    }
    if (status != VMMHPC_OK) {
        vh_unpack_close(made);
        return status;
    }
    *unpacker = made;
    return VMMHPC_OK;
}

void vh_unpack_close(struct vh_unpacker *unpacker)
{
    if (unpacker != NULL) {
        (void)ZSTD_freeDCtx(unpacker->stream);
        free(unpacker->frame);
        free(unpacker->pages);
        free(unpacker->entries);
        free(unpacker);
    }
}

/* One frame of today's format, which gives exactly what the index says. libzstd may know formats
 * of before its first version, too; nobody writes those. */
static bool frame_sound(const uint8_t *frame, size_t bytes, size_t size)
{
    uint32_t magic = 0;
    if (bytes < sizeof(magic)) {
        return false;
    }
    memcpy(&magic, frame, sizeof(magic));
    return magic == ZSTD_MAGICNUMBER && ZSTD_getFrameContentSize(frame, bytes) == size &&
           ZSTD_findFrameCompressedSize(frame, bytes) == bytes;
}

static int32_t load(struct vh_unpacker *unpacker, struct vmmhpc_error *err)
{
    const struct vh_packed_entry *entry = &unpacker->entries[unpacker->at];
    if (unpacker->loaded) {
        return VMMHPC_OK;
    }
    int32_t status =
        vh_snap_read_at(unpacker->fd, unpacker->frame, entry->bytes, unpacker->offset, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (vh_crc32c(0, unpacker->frame, entry->bytes) != entry->crc) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, entry->chunk,
                       "the snapshot is damaged: the checksum of its compressed memory is wrong");
    }
    const size_t size = size_of(entry);
    if (!frame_sound(unpacker->frame, entry->bytes, size) ||
        ZSTD_decompressDCtx(unpacker->stream, unpacker->pages, size, unpacker->frame,
                            entry->bytes) != size) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, entry->chunk,
                       "the snapshot is damaged: its memory cannot be decompressed");
    }
    unpacker->loaded = true;
    return VMMHPC_OK;
}

/* The entry of a chunk, or of the first one behind it that has pages; NULL: there is none. */
static const struct vh_packed_entry *entry_at(struct vh_unpacker *unpacker, uint64_t chunk)
{
    while (unpacker->at < unpacker->count && unpacker->entries[unpacker->at].chunk < chunk) {
        unpacker->offset += unpacker->entries[unpacker->at].bytes;
        unpacker->at++;
        unpacker->loaded = false;
    }
    return unpacker->at < unpacker->count ? &unpacker->entries[unpacker->at] : NULL;
}

static bool is_hole(void *self, uint64_t offset, uint64_t bytes)
{
    const struct vh_packed_entry *entry = entry_at(self, offset / VH_PACKED_CHUNK);
    return entry == NULL || entry->chunk * VH_PACKED_CHUNK >= offset + bytes;
}

/* A page of the chunk that is loaded. */
static const uint8_t *page_of(const struct vh_unpacker *unpacker, uint64_t pages, uint64_t number)
{
    const uint64_t bit = 1ull << number;
    return (pages & bit) == 0
               ? NULL
               : unpacker->pages + (size_t)__builtin_popcountll(pages & (bit - 1)) * VH_PAGE;
}

static int32_t read_pages(void *self, uint64_t offset, uint64_t bytes, uint8_t *to,
                          struct vmmhpc_error *err)
{
    struct vh_unpacker *unpacker = self;
    for (const uint64_t end = offset + bytes; offset < end; offset += VH_PAGE, to += VH_PAGE) {
        const uint64_t chunk = offset / VH_PACKED_CHUNK;
        const struct vh_packed_entry *entry = entry_at(unpacker, chunk);
        const uint8_t *page = NULL;
        if (entry != NULL && entry->chunk == chunk) {
            int32_t status = load(unpacker, err);
            if (status != VMMHPC_OK) {
                return status;
            }
            page = page_of(unpacker, entry->pages, offset / VH_PAGE % VH_PACKED_PAGES);
        }
        if (page != NULL) {
            memcpy(to, page, VH_PAGE);
        } else {
            memset(to, 0, VH_PAGE);
        }
    }
    return VMMHPC_OK;
}

struct vh_snap_source vh_unpack_source(struct vh_unpacker *unpacker)
{
    return (struct vh_snap_source){.self = unpacker, .is_hole = is_hole, .read = read_pages};
}
