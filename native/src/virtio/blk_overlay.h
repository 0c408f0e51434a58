/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write overlays: a header, a flat table with an entry for each cluster of the disk, data.
 * The format is described in docs/reference/overlay.md.
 *
 * The table is kept in memory. Data is written at once, to clusters that no entry on disk refers
 * to; entries are written by a flush, after the data was made durable. What the table on disk says
 * is therefore true at any moment.
 */
#ifndef VH_BLK_OVERLAY_H
#define VH_BLK_OVERLAY_H

#include "files.h"
#include "virtio/blk_file.h"

#define VH_OVERLAY_MAGIC "V3MOVRLY"
#define VH_OVERLAY_VERSION 1u
#define VH_OVERLAY_CLUSTER 65536u
#define VH_OVERLAY_HEADER 4096u
#define VH_OVERLAY_ENTRY 8u
#define VH_OVERLAY_MAX (16ull << 40) /* bytes of a disk */
/* Entries: where in the overlay, in clusters; the first two would be the header and the table. */
#define VH_OVERLAY_ABSENT 0u /* as in the base */
#define VH_OVERLAY_ZERO 1u   /* reads as zeroes */
/* Of the table, what is written at once. */
#define VH_OVERLAY_PAGE 4096u
#define VH_OVERLAY_PAGE_ENTRIES (VH_OVERLAY_PAGE / VH_OVERLAY_ENTRY)

struct vh_overlay_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t cluster_bytes;
    uint32_t entry_bytes;
    uint64_t disk_bytes; /* the base's size */
    uint64_t base_print; /* fingerprint of the base */
    uint64_t table_offset;
    uint64_t data_offset;
    uint64_t salt; /* of the entries' check values */
    uint8_t reserved[VH_OVERLAY_HEADER - 72];
    uint64_t checksum; /* of all before it */
};

struct vh_overlay {
    struct vh_blk_store store; /* first */
    struct vh_blk_store *base;
    struct vh_blk_raw *file;
    uint64_t clusters; /* of the disk */
    uint64_t salt;
    uint64_t table_offset;
    uint32_t first;  /* cluster of the file with data */
    uint32_t *table; /* an entry for each cluster of the disk */
    uint64_t *dirty; /* a bit for each page of the table */
    bool any_dirty;
    bool unflushed; /* data was written since the last flush */
    int broken;     /* a flush failed: what the disk has is unknown, for ever */
    /* Clusters of the file: a bit for each that is in use, or was at the last flush. */
    uint64_t *used;
    uint32_t used_words;
    uint32_t end; /* clusters of the file */
    uint32_t hint;
    /* Clusters that will be free once the table is on disk. */
    uint32_t *pending;
    uint32_t pending_count;
    uint32_t pending_room;
    uint8_t *bounce; /* a cluster */
    uint8_t *zeroes; /* likewise, never written */
};

/** FNV-1a, 64 bits, continued from `hash`. */
#define VH_OVERLAY_HASH 0xcbf29ce484222325ull
uint64_t vh_overlay_hash(uint64_t hash, const void *data, size_t bytes);
uint64_t vh_overlay_checksum(const struct vh_overlay_header *header);
/** How many clusters so many bytes take. */
uint64_t vh_overlay_clusters(uint64_t bytes);
/** Where data begins in the overlay of such a disk. */
uint64_t vh_overlay_data_offset(uint64_t disk_bytes);
/** Open the base for reading and take its fingerprint. *base is the caller's to close wherever it
 * is not NULL, even on failure. */
int32_t vh_overlay_open_base(const struct vh_files *files, const char *path, uint32_t flags,
                             struct vh_blk_store **base, uint64_t *print, struct vmmhpc_error *err);

/** What an entry looks like on disk. */
uint64_t vh_overlay_encode(const struct vh_overlay *overlay, uint64_t index, uint32_t value);

/** Mark a cluster of the file as used, or not; false: no memory. */
bool vh_overlay_use(struct vh_overlay *overlay, uint32_t cluster, bool used);
bool vh_overlay_used(const struct vh_overlay *overlay, uint32_t cluster);

extern const struct vh_blk_store_ops vh_overlay_ops;

#endif
