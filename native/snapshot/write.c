/* SPDX-License-Identifier: Apache-2.0 */
/* Making a `state` file. */
#include <errno.h>
#include <sys/uio.h>

#include "format.h"

#define FIRST_CAPACITY ((size_t)64 * 1024)

void vh_snap_put(struct vh_snap_writer *writer, const void *data, size_t bytes)
{
    if (writer->failed || bytes == 0) {
        return;
    }
    if (bytes > VMMHPC_SNAPSHOT_STATE_MAX - writer->bytes) {
        writer->failed = true;
        return;
    }
    if (writer->bytes + bytes > writer->capacity) {
        size_t capacity = writer->capacity == 0 ? FIRST_CAPACITY : writer->capacity;
        while (capacity < writer->bytes + bytes) {
            capacity *= 2;
        }
        uint8_t *grown = vh_grow(writer->data, writer->bytes, capacity);
        if (grown == NULL) {
            writer->failed = true;
            return;
        }
        writer->data = grown;
        writer->capacity = capacity;
    }
    memcpy(writer->data + writer->bytes, data, bytes);
    writer->bytes += bytes;
}

void vh_snap_begin(struct vh_snap_writer *writer, uint32_t type, uint32_t index)
{
    if (writer->bytes == 0) {
        const struct vh_snap_header none = {.magic = 0};
        vh_snap_put(writer, &none, sizeof(none));
    }
    writer->section = writer->bytes;
    writer->sections++;
    const struct vh_snap_section section = {.type = type, .index = index};
    vh_snap_put(writer, &section, sizeof(section));
}

void vh_snap_end(struct vh_snap_writer *writer)
{
    if (writer->failed) {
        return;
    }
    struct vh_snap_section section;
    uint8_t *at = writer->data + writer->section;
    memcpy(&section, at, sizeof(section));
    section.bytes = writer->bytes - writer->section - sizeof(section);
    memcpy(at, &section, sizeof(section));
    static const uint8_t padding[8];
    vh_snap_put(writer, padding, (8 - section.bytes % 8) % 8);
}

void vh_snap_section(struct vh_snap_writer *writer, uint32_t type, uint32_t index, const void *data,
                     size_t bytes)
{
    vh_snap_begin(writer, type, index);
    vh_snap_put(writer, data, bytes);
    vh_snap_end(writer);
}

int32_t vh_snap_finish(struct vh_snap_writer *writer, const struct vh_snap_header *header, int fd,
                       struct vmmhpc_error *err)
{
    if (writer->failed || writer->sections > VH_SNAP_SECTIONS || writer->data == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, writer->bytes, "no memory for the state");
    }
    struct vh_snap_header full = *header;
    full.magic = VH_SNAP_MAGIC;
    full.major = VMMHPC_SNAPSHOT_MAJOR;
    full.minor = VMMHPC_SNAPSHOT_MINOR;
    full.header_bytes = sizeof(full);
    full.file_bytes = writer->bytes;
    full.sections = writer->sections;
    full.crc = 0;
    full.reserved = 0;
    memcpy(writer->data, &full, sizeof(full));
    full.crc = vh_crc32c(0, writer->data, writer->bytes);
    memcpy(writer->data, &full, sizeof(full));
    int failed = vh_snap_write_at(fd, writer->data, writer->bytes, 0);
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_IO, failed, writer->bytes,
                                 "cannot write the snapshot's state: %s", vh_errno_text(failed));
}

int vh_snap_write_at(int fd, const void *data, size_t bytes, uint64_t offset)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        struct iovec part = {(void *)(uintptr_t)at, bytes};
        ssize_t written = pwritev(fd, &part, 1, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : ENOSPC;
        }
        at += written;
        offset += (uint64_t)written;
        bytes -= (size_t)written;
    }
    return 0;
}
