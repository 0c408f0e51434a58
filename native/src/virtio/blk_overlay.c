/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays: making, opening and checking them. What is in the file is not trusted. */
#include "virtio/blk_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmmhpc_devices.h"

#define PRINT_HEAD 65536u /* of the base, for its fingerprint: its beginning */
#define PRINT_SAMPLE 4096u
#define PRINT_SAMPLES 16u

_Static_assert(sizeof(struct vh_overlay_header) == VH_OVERLAY_HEADER, "docs/reference/overlay.md");

uint64_t vh_overlay_hash(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ byte[i]) * 0x100000001b3ull;
    }
    return hash;
}

uint64_t vh_overlay_encode(const struct vh_overlay *overlay, uint64_t index, uint32_t value)
{
    if (value == VH_OVERLAY_ABSENT) {
        return 0; /* a table begins as a hole */
    }
    uint64_t parts[3] = {overlay->salt, index, value};
    uint64_t check = vh_overlay_hash(VH_OVERLAY_HASH, parts, sizeof(parts));
    return (check >> 32 ^ check) << 32 | value;
}

static uint64_t checksum(const struct vh_overlay_header *header)
{
    return vh_overlay_hash(VH_OVERLAY_HASH, header, offsetof(struct vh_overlay_header, checksum));
}

static uint64_t clusters_of(uint64_t bytes)
{
    return bytes / VH_OVERLAY_CLUSTER + (bytes % VH_OVERLAY_CLUSTER != 0 ? 1 : 0);
}

/* The table is one of whole clusters behind the header's. */
static uint64_t data_offset(uint64_t disk_bytes)
{
    uint64_t table = clusters_of(disk_bytes) * VH_OVERLAY_ENTRY;
    return VH_OVERLAY_CLUSTER + clusters_of(table) * VH_OVERLAY_CLUSTER;
}

/* ------------------------------------------------------------------ the base */

static int sample(struct vh_blk_store *base, uint64_t offset, uint64_t bytes, uint8_t *buffer,
                  uint64_t *hash)
{
    if (bytes > base->bytes - offset) {
        bytes = base->bytes - offset;
    }
    struct iovec iov = {buffer, bytes};
    int failed = base->ops->read(base, (struct vh_blk_buffers){&iov, 1}, offset);
    *hash = vh_overlay_hash(*hash, buffer, bytes);
    return failed;
}

/* Its beginning, where partition tables and file systems name themselves and say when they were
 * last written, and samples from all over it. */
static int fingerprint(struct vh_blk_store *base, uint64_t *print)
{
    uint8_t *buffer = aligned_alloc(VH_PAGE, PRINT_HEAD);
    if (buffer == NULL) {
        return ENOMEM;
    }
    uint64_t hash = VH_OVERLAY_HASH;
    int failed = sample(base, 0, PRINT_HEAD, buffer, &hash);
    for (uint32_t i = 1; i <= PRINT_SAMPLES && failed == 0; i++) {
        uint64_t at = vh_align_down(base->bytes / (PRINT_SAMPLES + 1) * i, PRINT_SAMPLE);
        failed = sample(base, at, PRINT_SAMPLE, buffer, &hash);
    }
    free(buffer);
    *print = hash;
    return failed;
}

static int32_t open_base(const char *path, uint32_t flags, struct vh_blk_store **base,
                         uint64_t *print, struct vmmhpc_error *err)
{
    struct vh_blk_raw *raw = NULL;
    int32_t status =
        vh_blk_raw_open(path, (flags & VMMHPC_BLK_DIRECT) | VMMHPC_BLK_READ_ONLY, &raw, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    *base = &raw->store;
    if (raw->store.bytes > VH_OVERLAY_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, raw->store.bytes,
                       "base %.150s is larger than an overlay can be", path);
    }
    int failed = fingerprint(&raw->store, print);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot read base %.150s", path);
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ creating */

static int store_header(int fd, const char *path, const struct vh_overlay_header *header)
{
    /* The header last: without it there is no overlay. */
    if (ftruncate(fd, (off_t)header->data_offset) != 0 || fsync(fd) != 0) {
        return errno;
    }
    ssize_t written = pwrite(fd, header, sizeof(*header), 0);
    if (written != (ssize_t)sizeof(*header)) {
        return written < 0 ? errno : ENOSPC;
    }
    if (fsync(fd) != 0) {
        return errno;
    }
    /* And the file's name. */
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    int parent = directory == NULL ? -1 : open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = parent < 0 || fsync(parent) != 0 ? errno : 0;
    if (parent >= 0) {
        (void)close(parent);
    }
    free(directory);
    return failed == EINVAL ? 0 : failed; /* a file system that has nothing to sync */
}

/* Its contents would be taken for a disk's. */
static int32_t refuse_overlay(struct vh_blk_store *base, const char *path, struct vmmhpc_error *err)
{
    uint8_t sector[512];
    struct iovec iov = {sector, sizeof(sector)};
    int failed = base->ops->read(base, (struct vh_blk_buffers){&iov, 1}, 0);
    if (failed == 0 && memcmp(sector, VH_OVERLAY_MAGIC, strlen(VH_OVERLAY_MAGIC)) == 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "base %.150s is itself an overlay", path);
    }
    return VMMHPC_OK;
}

static int32_t create(const char *path, const struct vh_overlay_header *header,
                      struct vmmhpc_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        int failed = errno;
        return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, failed, 0,
                       "cannot create overlay %.150s", path);
    }
    int failed = store_header(fd, path, header);
    (void)close(fd);
    if (failed != 0) {
        (void)unlink(path);
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot write overlay %.150s", path);
    }
    return VMMHPC_OK;
}

static int32_t prepare(struct vh_overlay_header *header, const char *base_path,
                       struct vmmhpc_error *err)
{
    struct vh_blk_store *base = NULL;
    int32_t status = open_base(base_path, 0, &base, &header->base_print, err);
    if (base == NULL) {
        return status;
    }
    if (status == VMMHPC_OK) {
        status = refuse_overlay(base, base_path, err);
    }
    memcpy(header->magic, VH_OVERLAY_MAGIC, sizeof(header->magic));
    header->version = VH_OVERLAY_VERSION;
    header->header_bytes = VH_OVERLAY_HEADER;
    header->cluster_bytes = VH_OVERLAY_CLUSTER;
    header->entry_bytes = VH_OVERLAY_ENTRY;
    header->disk_bytes = base->bytes;
    header->table_offset = VH_OVERLAY_CLUSTER;
    header->data_offset = data_offset(base->bytes);
    (void)getrandom(&header->salt, sizeof(header->salt), 0);
    header->checksum = checksum(header);
    base->ops->close(base);
    return status;
}

int32_t vmmhpc_overlay_create(const char *path, const char *base_path, struct vmmhpc_error *err)
{
    if (path == NULL || base_path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "an overlay needs a path and a base");
    }
    struct vh_overlay_header *header = calloc(1, sizeof(*header));
    if (header == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
    }
    int32_t status = prepare(header, base_path, err);
    if (status == VMMHPC_OK) {
        status = create(path, header, err);
    }
    free(header);
    return status;
}

/* ------------------------------------------------------------------ opening */

static int32_t damaged(struct vmmhpc_error *err, const char *path, uint64_t value, const char *what)
{
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, value, "overlay %.120s is damaged: %s", path, what);
}

static int32_t check_header(struct vh_overlay *overlay, const char *path,
                            const struct vh_overlay_header *header, struct vmmhpc_error *err)
{
    if (memcmp(header->magic, VH_OVERLAY_MAGIC, sizeof(header->magic)) != 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "%.150s is not an overlay", path);
    }
    if (header->version != VH_OVERLAY_VERSION) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, header->version,
                       "overlay %.120s has version %u; this library knows %u", path,
                       header->version, VH_OVERLAY_VERSION);
    }
    if (header->checksum != checksum(header)) {
        return damaged(err, path, header->checksum, "the header's checksum is wrong");
    }
    if (header->header_bytes != VH_OVERLAY_HEADER || header->cluster_bytes != VH_OVERLAY_CLUSTER ||
        header->entry_bytes != VH_OVERLAY_ENTRY || header->table_offset != VH_OVERLAY_CLUSTER ||
        header->disk_bytes == 0 || header->disk_bytes % 512 != 0 ||
        header->disk_bytes > VH_OVERLAY_MAX ||
        header->data_offset != data_offset(header->disk_bytes)) {
        return damaged(err, path, 0, "the header makes no sense");
    }
    if (overlay->file->store.bytes < header->data_offset) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, overlay->file->store.bytes,
                       "overlay %.150s ends within its table", path);
    }
    return VMMHPC_OK;
}

static int32_t read_header(struct vh_overlay *overlay, const char *path, uint64_t base_print,
                           struct vmmhpc_error *err)
{
    struct vh_overlay_header *header = (struct vh_overlay_header *)(void *)overlay->bounce;
    struct vh_blk_store *file = &overlay->file->store;
    struct iovec iov = {header, sizeof(*header)};
    if (file->bytes < sizeof(*header)) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, file->bytes,
                       "%.150s is too short for an overlay", path);
    }
    int failed = file->ops->read(file, (struct vh_blk_buffers){&iov, 1}, 0);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot read overlay %.150s", path);
    }
    int32_t status = check_header(overlay, path, header, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (header->disk_bytes != overlay->base->bytes || header->base_print != base_print) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, overlay->base->bytes,
                       "overlay %.150s was made for another base, or its base was changed", path);
    }
    overlay->clusters = clusters_of(header->disk_bytes);
    overlay->salt = header->salt;
    overlay->table_offset = header->table_offset;
    overlay->first = (uint32_t)(header->data_offset / VH_OVERLAY_CLUSTER);
    overlay->hint = overlay->first;
    uint64_t end = clusters_of(file->bytes);
    if (end > UINT32_MAX) {
        return damaged(err, path, end, "it is too long");
    }
    overlay->end = (uint32_t)end;
    return VMMHPC_OK;
}

/* Each entry is checked by itself, lies in the file, and no two refer to the same cluster. */
static int32_t check_entry(struct vh_overlay *overlay, const char *path, uint64_t index,
                           uint64_t entry, struct vmmhpc_error *err)
{
    uint32_t value = (uint32_t)entry;
    if (entry != vh_overlay_encode(overlay, index, value)) {
        return damaged(err, path, index, "a table entry's check value is wrong");
    }
    if (value > VH_OVERLAY_ZERO) {
        if (value < overlay->first ||
            ((uint64_t)value + 1) * VH_OVERLAY_CLUSTER > overlay->file->store.bytes) {
            return damaged(err, path, index, "a table entry refers to no data");
        }
        if (vh_overlay_used(overlay, value)) {
            return damaged(err, path, index, "two table entries refer to the same data");
        }
        if (!vh_overlay_use(overlay, value, true)) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
        }
    }
    overlay->table[index] = value;
    return VMMHPC_OK;
}

/* Entries [index, +count) from the file. */
static int32_t read_entries(struct vh_overlay *overlay, const char *path, uint64_t index,
                            uint64_t count, struct vmmhpc_error *err)
{
    struct vh_blk_store *file = &overlay->file->store;
    struct iovec iov = {overlay->bounce, count * VH_OVERLAY_ENTRY};
    int failed = file->ops->read(file, (struct vh_blk_buffers){&iov, 1},
                                 overlay->table_offset + index * VH_OVERLAY_ENTRY);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot read overlay %.150s", path);
    }
    int32_t status = VMMHPC_OK;
    for (uint64_t i = 0; i < count && status == VMMHPC_OK; i++) {
        uint64_t entry = 0;
        memcpy(&entry, overlay->bounce + i * VH_OVERLAY_ENTRY, sizeof(entry));
        if (entry != 0) {
            status = check_entry(overlay, path, index + i, entry, err);
        }
    }
    return status;
}

/* Holes of the table are passed over: a large disk's table is mostly one. */
static int32_t read_table(struct vh_overlay *overlay, const char *path, struct vmmhpc_error *err)
{
    const uint64_t chunk = VH_OVERLAY_CLUSTER / VH_OVERLAY_ENTRY;
    uint64_t index = 0;
    while (index < overlay->clusters) {
        off_t at = (off_t)(overlay->table_offset + index * VH_OVERLAY_ENTRY);
        off_t data = lseek(overlay->file->fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break; /* no more */
        }
        if (data > at) {
            index = (uint64_t)(data - (off_t)overlay->table_offset) / VH_OVERLAY_ENTRY;
            if (index >= overlay->clusters) {
                break;
            }
        }
        uint64_t count = chunk < overlay->clusters - index ? chunk : overlay->clusters - index;
        int32_t status = read_entries(overlay, path, index, count, err);
        if (status != VMMHPC_OK) {
            return status;
        }
        index += count;
    }
    return VMMHPC_OK;
}

static int32_t make_tables(struct vh_overlay *overlay, struct vmmhpc_error *err)
{
    uint64_t pages = overlay->clusters / VH_OVERLAY_PAGE_ENTRIES + 1;
    overlay->table = calloc(overlay->clusters, sizeof(*overlay->table));
    overlay->dirty = calloc(pages / 64 + 1, sizeof(*overlay->dirty));
    if (overlay->table == NULL || overlay->dirty == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, overlay->clusters,
                       "no memory for an overlay's table");
    }
    return VMMHPC_OK;
}

static int32_t open_overlay(struct vh_overlay *overlay, const char *path, const char *base_path,
                            uint32_t flags, struct vmmhpc_error *err)
{
    uint64_t print = 0;
    overlay->bounce = aligned_alloc(VH_PAGE, VH_OVERLAY_CLUSTER);
    overlay->zeroes = aligned_alloc(VH_PAGE, VH_OVERLAY_CLUSTER);
    if (overlay->bounce == NULL || overlay->zeroes == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
    }
    memset(overlay->zeroes, 0, VH_OVERLAY_CLUSTER);
    int32_t status = open_base(base_path, flags, &overlay->base, &print, err);
    if (status == VMMHPC_OK) {
        status = vh_blk_raw_open(path, flags, &overlay->file, err);
    }
    if (status == VMMHPC_OK && overlay->file->device) {
        status = vh_fail(err, VMMHPC_E_INVALID, 0, 0, "overlay %.150s is a block device", path);
    }
    if (status == VMMHPC_OK) {
        status = read_header(overlay, path, print, err);
    }
    if (status == VMMHPC_OK) {
        status = make_tables(overlay, err);
    }
    return status == VMMHPC_OK ? read_table(overlay, path, err) : status;
}

int32_t vh_blk_overlay_open(const char *path, const char *base_path, uint32_t flags,
                            struct vh_blk_store **store, struct vmmhpc_error *err)
{
    struct vh_overlay *overlay = calloc(1, sizeof(*overlay));
    if (overlay == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
    }
    overlay->store.ops = &vh_overlay_ops;
    overlay->store.read_only = (flags & VMMHPC_BLK_READ_ONLY) != 0;
    int32_t status = open_overlay(overlay, path, base_path, flags, err);
    if (status != VMMHPC_OK || overlay->file == NULL || overlay->base == NULL) {
        overlay->store.ops->close(&overlay->store);
        return status;
    }
    const struct vh_blk_store *file = &overlay->file->store;
    const struct vh_blk_store *base = overlay->base;
    overlay->store.bytes = base->bytes;
    overlay->store.block_bytes =
        file->block_bytes > base->block_bytes ? file->block_bytes : base->block_bytes;
    overlay->store.physical_bytes = 4096;
    overlay->store.optimal_bytes = VH_OVERLAY_CLUSTER;
    overlay->store.can_discard = !overlay->store.read_only;
    *store = &overlay->store;
    return VMMHPC_OK;
}
