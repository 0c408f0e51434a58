/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length). */
#include "unpack.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define SETUP_SECTS 0x1f1u
#define MAGIC 0x202u
#define VERSION 0x206u
#define PAYLOAD_OFFSET 0x248u
#define PAYLOAD_LENGTH 0x24cu
#define HEADER_END 0x250u
#define SECTOR 512u

static uint32_t read32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t recognise(const uint8_t *data, uint64_t bytes)
{
    static const struct {
        uint32_t format;
        uint32_t bytes;
        uint8_t magic[8];
    } known[] = {
        {VMMHPC_PAYLOAD_ELF, 4, {0x7f, 'E', 'L', 'F'}},
        {VMMHPC_PAYLOAD_LZ4, 4, {0x02, 0x21, 0x4c, 0x18}},
        {VMMHPC_PAYLOAD_GZIP, 3, {0x1f, 0x8b, 8}},
        {VMMHPC_PAYLOAD_XZ, 6, {0xfd, '7', 'z', 'X', 'Z', 0}},
        {VMMHPC_PAYLOAD_ZSTD, 4, {0x28, 0xb5, 0x2f, 0xfd}},
        {VMMHPC_PAYLOAD_LZMA, 3, {0x5d, 0, 0}},
        {VMMHPC_PAYLOAD_BZIP2, 3, {'B', 'Z', 'h'}},
        {VMMHPC_PAYLOAD_LZO, 5, {0x89, 'L', 'Z', 'O', 0}},
    };

    for (size_t i = 0; i < VH_COUNT(known); i++) {
        if (bytes >= known[i].bytes && memcmp(data, known[i].magic, known[i].bytes) == 0) {
            return known[i].format;
        }
    }
    return VMMHPC_PAYLOAD_UNKNOWN;
}

static int32_t find_payload(const uint8_t *image, uint64_t bytes, struct vmmhpc_payload_info *info,
                            struct vmmhpc_error *err)
{
    uint64_t sectors;
    uint64_t length;

    if (bytes < HEADER_END || memcmp(image + MAGIC, "HdrS", 4) != 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "not a bzImage: no \"HdrS\" at 0x202");
    }
    if ((read32(image + VERSION) & 0xffffu) < 0x208) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, read32(image + VERSION) & 0xffffu,
                       "the bzImage does not say where its payload is: boot protocol older than "
                       "2.08 (Linux 2.6.26)");
    }
    sectors = image[SETUP_SECTS] != 0 ? image[SETUP_SECTS] : 4;
    /* Sums of 32-bit values in 64 bits: no wrap. */
    info->offset = (sectors + 1) * SECTOR + read32(image + PAYLOAD_OFFSET);
    length = read32(image + PAYLOAD_LENGTH);
    if (info->offset + length > bytes) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, info->offset + length,
                       "the bzImage is truncated: its payload ends at byte %" PRIu64
                       ", the file has %" PRIu64,
                       info->offset + length, bytes);
    }
    info->format = recognise(image + info->offset, length);
    if (info->format == VMMHPC_PAYLOAD_ELF) {
        info->packed_bytes = length;
        info->bytes = length;
        return VMMHPC_OK;
    }
    if (info->format == VMMHPC_PAYLOAD_UNKNOWN || length <= 8) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, info->offset,
                       "the payload of the bzImage has no known compression");
    }
    /* The last word is the unpacked size: gzip's own trailer, else appended by the kernel's build.
     */
    info->packed_bytes = info->format == VMMHPC_PAYLOAD_GZIP ? length : length - 4;
    info->bytes = read32(image + info->offset + length - 4);
    return VMMHPC_OK;
}

int32_t vmmhpc_unpack_probe(const void *image, uint64_t image_bytes,
                            struct vmmhpc_payload_info *info, struct vmmhpc_error *err)
{
    struct vmmhpc_payload_info found = {.size = sizeof(found)};
    int32_t status;

    if (image == NULL || info == NULL || info->size < sizeof(*info)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "vmmhpc_unpack_probe: image or info missing");
    }
    status = find_payload(image, image_bytes, &found, err);
    if (status == VMMHPC_OK) {
        *info = found;
    }
    return status;
}

static int32_t decode(uint32_t format, const struct vu_input *input, struct vu_sink *sink,
                      struct vmmhpc_error *err)
{
    switch (format) {
    case VMMHPC_PAYLOAD_ELF:
        return vu_sink_write(sink, input->data, input->bytes, err);
    case VMMHPC_PAYLOAD_LZ4:
        return vu_lz4(input, sink, err);
    case VMMHPC_PAYLOAD_GZIP:
        return vu_gzip(input, sink, err);
    case VMMHPC_PAYLOAD_XZ:
        return vu_xz(input, sink, err);
    case VMMHPC_PAYLOAD_ZSTD:
        return vu_zstd(input, sink, err);
    default:
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, format,
                       "the kernel is packed with %s, which is not unpacked here: boot the bzImage "
                       "as it is",
                       format == VMMHPC_PAYLOAD_LZMA    ? "LZMA"
                       : format == VMMHPC_PAYLOAD_BZIP2 ? "bzip2"
                                                        : "LZO");
    }
}

int32_t vmmhpc_unpack(const void *image, uint64_t image_bytes, int32_t out_fd, uint64_t max_bytes,
                      struct vmmhpc_payload_info *info, struct vmmhpc_error *err)
{
    struct vmmhpc_payload_info found = {.size = sizeof(found)};
    struct vu_sink sink = {.fd = out_fd};
    struct vu_input input;
    int32_t status = vmmhpc_unpack_probe(image, image_bytes, &found, err);

    if (status != VMMHPC_OK) {
        return status;
    }
    if (info != NULL && info->size >= sizeof(*info)) {
        *info = found;
    }
    if (found.bytes > max_bytes) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, found.bytes,
                       "the kernel announces %" PRIu64
                       " bytes once unpacked; the limit is %" PRIu64,
                       found.bytes, max_bytes);
    }
    if (found.bytes < 64) { /* an ELF header */
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, found.bytes,
                       "the kernel announces %" PRIu64 " bytes once unpacked: no ELF file",
                       found.bytes);
    }
    sink.expected = found.bytes;
    input.data = (const uint8_t *)image + found.offset;
    input.bytes = found.packed_bytes;
    status = decode(found.format, &input, &sink, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (sink.done != sink.expected) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, sink.done,
                       "the kernel unpacks to %" PRIu64 " bytes instead of the %" PRIu64
                       " that it announces",
                       sink.done, sink.expected);
    }
    if (ftruncate(out_fd, (off_t)sink.done) != 0) { /* the file may end in a hole */
        return vh_fail(err, VMMHPC_E_IO, errno, sink.done, "cannot size the unpacked kernel");
    }
    return VMMHPC_OK;
}
