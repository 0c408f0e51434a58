/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM. The file is as long as RAM, and pages of zeroes are holes in it. Restoring maps it,
 * private to the machine: the kernel reads a page when the guest first touches it, and copies it
 * when it is first written.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "snapshot.h"

#define RUN_BYTES VH_MIB /* written in one go, at most */
#define NUMA_NODE_MAX 1024

/* Eight words at a time: what is not zero mostly shows in the first ones. */
static bool is_zero(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < VH_PAGE / 8; i += 8) {
        if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] |
             words[i + 6] | words[i + 7]) != 0) {
            return false;
        }
    }
    return true;
}

static void add_page(struct vh_snap_region *region, uint64_t number, const uint8_t *page)
{
    region->crc = vh_crc32c(region->crc, &number, sizeof(number));
    region->crc = vh_crc32c(region->crc, page, VH_PAGE);
    region->data_bytes += VH_PAGE;
}

/* ------------------------------------------------------------------ saving */

static int save_region(const struct vh_mapping *mapping, int fd, uint64_t offset,
                       struct vh_snap_region *region)
{
    const uint8_t *base = mapping->base;
    uint64_t run = 0; /* bytes before `at` that are still to be written */
    int failed = 0;
    *region = (struct vh_snap_region){.bytes = mapping->bytes};
    for (uint64_t at = 0; failed == 0 && at < mapping->bytes; at += VH_PAGE) {
        bool data = !is_zero(base + at);
        if (data) {
            add_page(region, at / VH_PAGE, base + at);
            run += VH_PAGE;
        }
        if (run > 0 && (!data || run == RUN_BYTES)) {
            uint64_t end = data ? at + VH_PAGE : at;
            failed = vh_snap_write_at(fd, base + end - run, run, offset + end - run);
            run = 0;
        }
    }
    if (failed == 0 && run > 0) {
        failed =
            vh_snap_write_at(fd, base + mapping->bytes - run, run, offset + mapping->bytes - run);
    }
    return failed;
}

int32_t vh_snap_save_memory(const struct vmmhpc *vm, int fd, struct vh_snap_writer *writer,
                            struct vmmhpc_error *err)
{
    const struct vh_memory *memory = &vm->memory;
    uint64_t offset = 0;
    int failed = 0;
    vh_snap_begin(writer, VH_SNAP_MEMORY, 0);
    for (uint32_t i = 0; failed == 0 && i < memory->mapping_count; i++) {
        struct vh_snap_region region;
        failed = save_region(&memory->mappings[i], fd, offset, &region);
        vh_snap_put(writer, &region, sizeof(region));
        offset += memory->mappings[i].bytes;
    }
    vh_snap_end(writer);
    if (failed == 0) { /* as long as RAM, whatever is in it; without a further system call */
        const struct vh_mapping *last = &memory->mappings[memory->mapping_count - 1];
        failed = vh_snap_write_at(fd, (uint8_t *)last->base + last->bytes - VH_PAGE, VH_PAGE,
                                  offset - VH_PAGE);
    }
    return failed == 0
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_IO, failed, offset,
                         "cannot write guest memory to the snapshot: %s", vh_errno_text(failed));
}

/* ------------------------------------------------------------------ loading */

int32_t vh_snap_regions(const struct vh_snap_reader *reader, const struct vh_snap_region **regions,
                        uint32_t *count, struct vmmhpc_error *err)
{
    size_t bytes = 0;
    uint64_t total = 0;
    const struct vh_snap_region *list = vh_snap_find(reader, VH_SNAP_MEMORY, 0, &bytes);
    if (list == NULL || bytes == 0 || bytes % sizeof(*list) != 0 ||
        bytes / sizeof(*list) > VMMHPC_MEMORY_MAX) {
        return vh_snap_damaged(err, VH_SNAP_MEMORY, 0, "what it says of memory makes no sense");
    }
    for (size_t i = 0; i < bytes / sizeof(*list); i++) {
        if (list[i].bytes == 0 || list[i].bytes % VH_PAGE != 0 || list[i].bytes > 1ull << 46 ||
            list[i].data_bytes > list[i].bytes || !vh_add(total, list[i].bytes, &total)) {
            return vh_snap_damaged(err, VH_SNAP_MEMORY, 0, "what it says of memory makes no sense");
        }
    }
    *regions = list;
    *count = (uint32_t)(bytes / sizeof(*list));
    return VMMHPC_OK;
}

/* A file that is too short would be noticed by the guest, as SIGBUS in this process. */
static int32_t check_file(int fd, const struct vh_snap_region *regions, uint32_t count,
                          struct vmmhpc_error *err)
{
    struct stat info;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += regions[i].bytes;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "a snapshot's memory is a regular file");
    }
    if ((uint64_t)info.st_size != total) {
        return vh_fail(
            err, (uint64_t)info.st_size < total ? VMMHPC_E_TRUNCATED : VMMHPC_E_BAD_IMAGE, 0,
            (uint64_t)info.st_size, "the snapshot's memory has %llu bytes and should have %llu",
            (unsigned long long)info.st_size, (unsigned long long)total);
    }
    return VMMHPC_OK;
}

/* What is shared with others cannot be private to us: its pages are copied. */
static int32_t copy_region(const struct vh_mapping *mapping, int fd, uint64_t offset,
                           struct vmmhpc_error *err)
{
    const uint64_t end = offset + mapping->bytes;
    uint64_t at = offset;
    while (at < end) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= end) {
            if (data >= 0 || errno == ENXIO) {
                return VMMHPC_OK; /* zeroes to the end, as the new machine's */
            }
            data = (off_t)at; /* a file system without holes */
        }
        off_t hole = lseek(fd, data, SEEK_HOLE);
        at = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        for (uint64_t from = (uint64_t)data; from < at;) {
            ssize_t got =
                vh_pread(fd, (uint8_t *)mapping->base + (from - offset), at - from, (off_t)from);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return vh_fail(err, VMMHPC_E_IO, got < 0 ? errno : EIO, from,
                               "cannot read the snapshot's memory");
            }
            from += (uint64_t)got;
        }
    }
    return VMMHPC_OK;
}

static int32_t map_region(const struct vh_mapping *mapping, int fd, uint64_t offset,
                          struct vmmhpc_error *err)
{
    if (mmap(mapping->base, mapping->bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_IO, errno, mapping->bytes,
                       "cannot map the snapshot's memory: %s", vh_errno_text(errno));
    }
    (void)madvise(mapping->base, mapping->bytes, MADV_DONTFORK);
    (void)madvise(mapping->base, mapping->bytes, MADV_DONTDUMP);
    if (mapping->numa_node >= 0 && mapping->numa_node < NUMA_NODE_MAX) {
        /* It was bound when it was made, so this succeeds. */
        unsigned long mask[NUMA_NODE_MAX / (8 * sizeof(unsigned long))] = {0};
        const unsigned bits = 8 * sizeof(unsigned long);
        mask[(unsigned)mapping->numa_node / bits] |= 1ul << ((unsigned)mapping->numa_node % bits);
        (void)syscall(SYS_mbind, mapping->base, mapping->bytes, MPOL_BIND, mask, NUMA_NODE_MAX, 0);
    }
    return VMMHPC_OK;
}

int32_t vh_snap_load_memory(struct vmmhpc *vm, int fd, const struct vh_snap_reader *reader,
                            struct vmmhpc_error *err)
{
    struct vh_memory *memory = &vm->memory;
    const struct vh_snap_region *regions = NULL;
    uint32_t count = 0;
    int32_t status = vh_snap_regions(reader, &regions, &count, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (count != memory->mapping_count) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, count,
                       "the snapshot has %u memory regions, the machine %u", count,
                       memory->mapping_count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (regions[i].bytes != memory->mappings[i].bytes) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, regions[i].bytes,
                           "memory region %u has %llu MiB in the snapshot, %llu MiB in the machine",
                           i, (unsigned long long)(regions[i].bytes >> 20),
                           (unsigned long long)(memory->mappings[i].bytes >> 20));
        }
    }
    status = check_file(fd, regions, count, err);
    uint64_t offset = 0;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        const struct vh_mapping *mapping = &memory->mappings[i];
        if (mapping->fd >= 0) {
            status = copy_region(mapping, fd, offset, err);
        } else {
            memory->restored = true;
            status = map_region(mapping, fd, offset, err);
        }
        offset += mapping->bytes;
    }
    return status;
}

/* ------------------------------------------------------------------ verifying */

/* Read, not mapped: what cannot be read is an error then, and not SIGBUS. */
static int32_t read_window(int fd, uint8_t *buffer, uint64_t bytes, uint64_t offset,
                           struct vmmhpc_error *err)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = vh_pread(fd, buffer + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return vh_fail(err, VMMHPC_E_IO, got < 0 ? errno : EIO, offset + done,
                           "cannot read the snapshot's memory");
        }
        done += (uint64_t)got;
    }
    return VMMHPC_OK;
}

static int32_t verify_region(int fd, uint64_t offset, const struct vh_snap_region *expected,
                             uint32_t index, struct vmmhpc_error *err)
{
    struct vh_snap_region found = {.bytes = expected->bytes};
    uint8_t *buffer = malloc(RUN_BYTES);
    if (buffer == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, RUN_BYTES, "no memory to read a snapshot");
    }
    int32_t status = VMMHPC_OK;
    for (uint64_t from = 0; status == VMMHPC_OK && from < expected->bytes; from += RUN_BYTES) {
        uint64_t bytes = expected->bytes - from < RUN_BYTES ? expected->bytes - from : RUN_BYTES;
        off_t data = lseek(fd, (off_t)(offset + from), SEEK_DATA);
        if (data >= (off_t)(offset + from + bytes) || (data < 0 && errno == ENXIO)) {
            continue; /* a hole */
        }
        status = read_window(fd, buffer, bytes, offset + from, err);
        for (uint64_t at = 0; status == VMMHPC_OK && at < bytes; at += VH_PAGE) {
            if (!is_zero(buffer + at)) {
                add_page(&found, (from + at) / VH_PAGE, buffer + at);
            }
        }
    }
    free(buffer);
    if (status == VMMHPC_OK &&
        (found.crc != expected->crc || found.data_bytes != expected->data_bytes)) {
        status =
            vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, index,
                    "the snapshot is damaged: the checksum of memory region %u is wrong", index);
    }
    return status;
}

int32_t vh_snap_verify_memory(int fd, const struct vh_snap_reader *reader, struct vmmhpc_error *err)
{
    const struct vh_snap_region *regions = NULL;
    uint32_t count = 0;
    int32_t status = vh_snap_regions(reader, &regions, &count, err);
    if (status == VMMHPC_OK) {
        status = check_file(fd, regions, count, err);
    }
    uint64_t offset = 0;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        status = verify_region(fd, offset, &regions[i], i, err);
        offset += regions[i].bytes;
    }
    return status;
}
