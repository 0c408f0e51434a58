/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a `state` file, which anybody may have written: every length is checked here, once. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "format.h"

int32_t vh_snap_damaged(struct vmmhpc_error *err, uint32_t type, uint32_t index, const char *what)
{
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, (uint64_t)type << 32 | index,
                   "the snapshot is damaged: %s", what);
}

/* All sections lie one behind the other, and the last one ends with the file. */
static int32_t check_sections(const struct vh_snap_reader *reader, struct vmmhpc_error *err)
{
    size_t at = sizeof(reader->header);
    for (uint32_t i = 0; i < reader->header.sections; i++) {
        struct vh_snap_section section;
        if (reader->bytes - at < sizeof(section)) {
            return vh_snap_damaged(err, 0, i, "it ends before its last section");
        }
        memcpy(&section, reader->data + at, sizeof(section));
        at += sizeof(section);
        if (section.bytes > reader->bytes - at ||
            (8 - section.bytes % 8) % 8 > reader->bytes - at - section.bytes) {
            return vh_snap_damaged(err, section.type, section.index,
                                   "a section is longer than the file");
        }
        at += section.bytes + (8 - section.bytes % 8) % 8;
        if (section.type < VH_SNAP_OPTIONAL && section.type > VH_SNAP_LAST) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, section.type,
                           "the snapshot has a section of type %u, which this version does not "
                           "know",
                           section.type);
        }
    }
    return at == reader->bytes ? VMMHPC_OK
                               : vh_snap_damaged(err, 0, 0, "something follows its last section");
}

int32_t vh_snap_open(struct vh_snap_reader *reader, uint8_t *data, size_t bytes,
                     struct vmmhpc_error *err)
{
    *reader = (struct vh_snap_reader){.data = data, .bytes = bytes};
    struct vh_snap_header *header = &reader->header;
    if (bytes < sizeof(*header)) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, bytes, "the snapshot's state is too short");
    }
    memcpy(header, data, sizeof(*header));
    if (header->magic != VH_SNAP_MAGIC) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->magic, "this is no snapshot's state");
    }
    if (header->major != VMMHPC_SNAPSHOT_MAJOR) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, header->major,
                       "the snapshot is of version %u.%u of the format, this reads version %u",
                       header->major, header->minor, VMMHPC_SNAPSHOT_MAJOR);
    }
    if (header->file_bytes != bytes) {
        return vh_fail(err, header->file_bytes > bytes ? VMMHPC_E_TRUNCATED : VMMHPC_E_BAD_IMAGE, 0,
                       bytes, "the snapshot's state has %llu bytes and should have %llu",
                       (unsigned long long)bytes, (unsigned long long)header->file_bytes);
    }
    struct vh_snap_header clear = *header;
    clear.crc = 0;
    uint32_t crc = vh_crc32c(0, &clear, sizeof(clear));
    crc = vh_crc32c(crc, data + sizeof(clear), bytes - sizeof(clear));
    if (crc != header->crc) {
        return vh_snap_damaged(err, 0, crc, "the checksum of its state is wrong");
    }
    if (header->header_bytes != sizeof(*header) || header->sections > VH_SNAP_SECTIONS) {
        return vh_snap_damaged(err, 0, header->header_bytes, "its header makes no sense");
    }
    return check_sections(reader, err);
}

int32_t vh_snap_open_file(struct vh_snap_reader *reader, int fd, struct vmmhpc_error *err)
{
    struct stat info;
    *reader = (struct vh_snap_reader){.data = NULL};
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "a snapshot's state is a regular file");
    }
    if (info.st_size < (off_t)sizeof(reader->header)) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, (uint64_t)info.st_size,
                       "the snapshot's state is too short");
    }
    if ((uint64_t)info.st_size > VMMHPC_SNAPSHOT_STATE_MAX) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, (uint64_t)info.st_size,
                       "this is no snapshot's state: it is too large");
    }
    size_t bytes = (size_t)info.st_size;
    uint8_t *data = malloc(bytes);
    if (data == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for the state");
    }
    for (size_t done = 0; done < bytes;) {
        ssize_t got = vh_pread(fd, data + done, bytes - done, (off_t)done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            int failed = got < 0 ? errno : EIO;
            free(data);
            return vh_fail(err, VMMHPC_E_IO, failed, done, "cannot read the snapshot's state: %s",
                           vh_errno_text(failed));
        }
        done += (size_t)got;
    }
    return vh_snap_open(reader, data, bytes, err);
}

void vh_snap_close(struct vh_snap_reader *reader)
{
    free(reader->data);
    *reader = (struct vh_snap_reader){.data = NULL};
}

const void *vh_snap_find(const struct vh_snap_reader *reader, uint32_t type, uint32_t index,
                         size_t *bytes)
{
    size_t at = sizeof(reader->header);
    for (uint32_t i = 0; i < reader->header.sections; i++) {
        struct vh_snap_section section;
        memcpy(&section, reader->data + at, sizeof(section));
        at += sizeof(section);
        if (section.type == type && section.index == index) {
            *bytes = section.bytes;
            return reader->data + at;
        }
        at += section.bytes + (8 - section.bytes % 8) % 8;
    }
    *bytes = 0;
    return NULL;
}

int32_t vh_snap_get(const struct vh_snap_reader *reader, uint32_t type, uint32_t index, void *data,
                    size_t bytes, struct vmmhpc_error *err)
{
    size_t found = 0;
    const void *payload = vh_snap_find(reader, type, index, &found);
    if (payload == NULL || found != bytes) {
        return vh_snap_damaged(err, type, index,
                               payload == NULL ? "a section is missing"
                                               : "a section has another length");
    }
    memcpy(data, payload, bytes);
    return VMMHPC_OK;
}
