/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays: making them, and what is common to making and opening: layout, checksums, the base. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "virtio/blk_overlay.h"
#include "vmmhpc_devices.h"

#define PRINT_HEAD 65536u /* of the base, for its fingerprint: its beginning */
#define PRINT_SAMPLE 4096u
#define PRINT_SAMPLES 16u

uint64_t vh_overlay_hash(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ byte[i]) * 0x100000001b3ull;
    }
    return hash;
}

uint64_t vh_overlay_checksum(const struct vh_overlay_header *header)
{
    return vh_overlay_hash(VH_OVERLAY_HASH, header, offsetof(struct vh_overlay_header, checksum));
}

uint64_t vh_overlay_clusters(uint64_t bytes)
{
    return bytes / VH_OVERLAY_CLUSTER + (bytes % VH_OVERLAY_CLUSTER != 0 ? 1 : 0);
}

/* The table is one of whole clusters behind the header's. */
uint64_t vh_overlay_data_offset(uint64_t disk_bytes)
{
    uint64_t table = vh_overlay_clusters(disk_bytes) * VH_OVERLAY_ENTRY;
    return VH_OVERLAY_CLUSTER + vh_overlay_clusters(table) * VH_OVERLAY_CLUSTER;
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

int32_t vh_overlay_open_base(const struct vh_files *files, const char *path, uint32_t flags,
                             struct vh_blk_store **base, uint64_t *print, struct vmmhpc_error *err)
{
    struct vh_blk_raw *raw = NULL;
    int32_t status =
        vh_blk_raw_open(files, path, (flags & VMMHPC_BLK_DIRECT) | VMMHPC_BLK_READ_ONLY, &raw, err);
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
    int32_t status = vh_overlay_open_base(NULL, base_path, 0, &base, &header->base_print, err);
    if (base == NULL) {
        return status;
    }
    if (status == VMMHPC_OK) {
        status = refuse_overlay(base, base_path, err);
    }
    if (status == VMMHPC_OK && getrandom(&header->salt, sizeof(header->salt), 0) < 0) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no random numbers for an overlay");
    }
    memcpy(header->magic, VH_OVERLAY_MAGIC, sizeof(header->magic));
    header->version = VH_OVERLAY_VERSION;
    header->header_bytes = VH_OVERLAY_HEADER;
    header->cluster_bytes = VH_OVERLAY_CLUSTER;
    header->entry_bytes = VH_OVERLAY_ENTRY;
    header->disk_bytes = base->bytes;
    header->table_offset = VH_OVERLAY_CLUSTER;
    header->data_offset = vh_overlay_data_offset(base->bytes);
    header->checksum = vh_overlay_checksum(header);
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
