/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed memory from somebody who knows how to compute its checksums. The input either is the
 * file, or changes to a good one: 16 bits of offset, 16 bits of value.
 * What must hold: no access outside of anything (ASan), what is said to be a hole reads as zeroes,
 * and a page that is read is the same for whoever reads only that.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../snapshot/snapshot_packed.h"

#define WHOLE 1u /* in the first byte: the input is the file, and its upper bits the entries */
#define AS_IS 2u /* the frames' checksums stay what they are */
#define TOTAL (5 * VH_PACKED_CHUNK + 3 * VH_PAGE)

static struct {
    uint8_t *data;
    struct vh_snap_packed about;
} good;

/* Chunks with many pages, with few, with none, and the last, which is short. */
static void make_good(void)
{
    const int raw = memfd_create("raw", MFD_CLOEXEC);
    const int fd = memfd_create("packed", MFD_CLOEXEC);
    uint8_t page[VH_PAGE];
    MUST(ftruncate(raw, TOTAL) == 0);
    for (uint64_t at = 0; at < TOTAL; at += VH_PAGE) {
        const uint64_t number = at / VH_PAGE;
        memset(page, (int)(number * 7 + 1), sizeof(page));
        if (number < 40 || number % 50 == 3 || at >= TOTAL - VH_PAGE) {
            MUST(pwrite(raw, page, sizeof(page), (off_t)at) == sizeof(page));
        }
    }
    MUST(vh_pack(raw, TOTAL, fd, false, &good.about, NULL) == VMMHPC_OK);
    good.data = malloc(good.about.file_bytes);
    MUST(good.data != NULL &&
         pread(fd, good.data, good.about.file_bytes, 0) == (ssize_t)good.about.file_bytes);
    (void)close(raw);
    (void)close(fd);
}

/* The checksums fit, as far as there is something that they can be of. */
static void put_right(uint8_t *data, struct vh_snap_packed *about, bool frames)
{
    const uint64_t tail = sizeof(struct vh_packed_tail);
    if (about->file_bytes < about->index_bytes + tail) {
        return;
    }
    uint8_t *index = data + (about->file_bytes - about->index_bytes);
    const uint64_t end = about->file_bytes - about->index_bytes - tail;
    uint64_t offset = 0;
    for (uint64_t at = 0; frames && at < about->index_bytes; at += sizeof(struct vh_packed_entry)) {
        struct vh_packed_entry entry;
        memcpy(&entry, index + at, sizeof(entry));
        if (entry.bytes > end - offset) {
            break;
        }
        entry.crc = vh_crc32c(0, data + offset, entry.bytes);
        offset += entry.bytes;
        memcpy(index + at, &entry, sizeof(entry));
    }
    about->index_crc = vh_crc32c(0, index, about->index_bytes);
}

static bool read_one(int fd, const struct vh_snap_packed *about, uint64_t at, const uint8_t *pages)
{
    struct vh_unpacker *unpacker = NULL;
    uint8_t page[VH_PAGE];
    MUST(vh_unpack_open(&unpacker, fd, about, TOTAL, NULL) == VMMHPC_OK);
    const struct vh_snap_source source = vh_unpack_source(unpacker);
    MUST(source.read(source.self, at, VH_PAGE, page, NULL) == VMMHPC_OK);
    vh_unpack_close(unpacker);
    return memcmp(page, pages + at, VH_PAGE) == 0;
}

static bool unpack(const uint8_t *data, const struct vh_snap_packed *about)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_unpacker *unpacker = NULL;
    const int fd = memfd_create("packed", MFD_CLOEXEC);
    uint8_t *pages = malloc(TOTAL);
    MUST(pages != NULL && pwrite(fd, data, about->file_bytes, 0) == (ssize_t)about->file_bytes);
    int32_t status = vh_unpack_open(&unpacker, fd, about, TOTAL, &err);
    const struct vh_snap_source source = vh_unpack_source(unpacker);
    for (uint64_t at = 0; status == VMMHPC_OK && at < TOTAL; at += 16 * VH_PAGE) {
        const uint64_t bytes = TOTAL - at < 16 * VH_PAGE ? TOTAL - at : 16 * VH_PAGE;
        const bool hole = source.is_hole(source.self, at, bytes);
        status = source.read(source.self, at, bytes, pages + at, &err);
        for (uint64_t i = 0; hole && i < bytes; i += VH_PAGE) {
            MUST(status == VMMHPC_OK && vh_snap_is_zero(pages + at + i));
        }
    }
    MUST(status == VMMHPC_OK || (err.code < 0 && err.text[0] != '\0'));
    vh_unpack_close(unpacker);
    if (status == VMMHPC_OK) {
        MUST(read_one(fd, about, TOTAL - VH_PAGE, pages));
        MUST(read_one(fd, about, 53 * VH_PAGE, pages));
    }
    free(pages);
    (void)close(fd);
    return status == VMMHPC_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (good.data == NULL) {
        make_good();
    }
    if (bytes == 0) {
        return 0;
    }
    const bool whole = (data[0] & WHOLE) != 0;
    struct vh_snap_packed about = good.about;
    if (whole) {
        about.file_bytes = bytes - 1;
        about.index_bytes = (data[0] >> 2) * sizeof(struct vh_packed_entry);
    }
    uint8_t *file = malloc(about.file_bytes + 2);
    MUST(file != NULL);
    memcpy(file, whole ? data + 1 : good.data, about.file_bytes);
    for (size_t at = 1; !whole && at + 4 <= bytes; at += 4) {
        uint16_t change[2];
        memcpy(change, data + at, sizeof(change));
        memcpy(file + change[0] % (about.file_bytes - 1), &change[1], 2);
    }
    put_right(file, &about, (data[0] & AS_IS) == 0);
    fuzz_count(unpack(file, &about));
    free(file);
    return 0;
}
