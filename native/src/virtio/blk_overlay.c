/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays: opening and checking them. What is in the file is not trusted. */
#include "virtio/blk_overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmmhpc_devices.h"

_Static_assert(sizeof(struct vh_overlay_header) == VH_OVERLAY_HEADER, "docs/reference/overlay.md");

uint64_t vh_overlay_encode(const struct vh_overlay *overlay, uint64_t index, uint32_t value)
{
    if (value == VH_OVERLAY_ABSENT) {
        return 0; /* a table begins as a hole */
    }
    uint64_t parts[3] = {overlay->salt, index, value};
    uint64_t check = vh_overlay_hash(VH_OVERLAY_HASH, parts, sizeof(parts));
    return (check >> 32 ^ check) << 32 | value;
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
    if (header->checksum != vh_overlay_checksum(header)) {
        return damaged(err, path, header->checksum, "the header's checksum is wrong");
    }
    if (header->header_bytes != VH_OVERLAY_HEADER || header->cluster_bytes != VH_OVERLAY_CLUSTER ||
        header->entry_bytes != VH_OVERLAY_ENTRY || header->table_offset != VH_OVERLAY_CLUSTER ||
        header->disk_bytes == 0 || header->disk_bytes % 512 != 0 ||
        header->disk_bytes > VH_OVERLAY_MAX ||
        header->data_offset != vh_overlay_data_offset(header->disk_bytes)) {
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
    overlay->clusters = vh_overlay_clusters(header->disk_bytes);
    overlay->salt = header->salt;
    overlay->table_offset = header->table_offset;
    overlay->first = (uint32_t)(header->data_offset / VH_OVERLAY_CLUSTER);
    overlay->hint = overlay->first;
    uint64_t end = vh_overlay_clusters(file->bytes);
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

static int32_t open_overlay(const struct vh_files *files, struct vh_overlay *overlay,
                            const char *path, const char *base_path, uint32_t flags,
                            struct vmmhpc_error *err)
{
    uint64_t print = 0;
    overlay->bounce = aligned_alloc(VH_PAGE, VH_OVERLAY_CLUSTER);
    overlay->zeroes = aligned_alloc(VH_PAGE, VH_OVERLAY_CLUSTER);
    if (overlay->bounce == NULL || overlay->zeroes == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
    }
    memset(overlay->zeroes, 0, VH_OVERLAY_CLUSTER);
    int32_t status = vh_overlay_open_base(files, base_path, flags, &overlay->base, &print, err);
    if (status == VMMHPC_OK) {
        status = vh_blk_raw_open(files, path, flags, &overlay->file, err);
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

int32_t vh_blk_overlay_open(const struct vh_files *files, const char *path, const char *base_path,
                            uint32_t flags, struct vh_blk_store **store, struct vmmhpc_error *err)
{
    struct vh_overlay *overlay = calloc(1, sizeof(*overlay));
    if (overlay == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for an overlay");
    }
    overlay->store.ops = &vh_overlay_ops;
    overlay->store.read_only = (flags & VMMHPC_BLK_READ_ONLY) != 0;
    int32_t status = open_overlay(files, overlay, path, base_path, flags, err);
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
