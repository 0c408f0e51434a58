/* SPDX-License-Identifier: Apache-2.0 */
#include "packed.h"

#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "vmmhpc_unpack.h"

#define PAYLOAD_OFFSET 0x300u /* from the start of the code: behind the 64-bit entry */
#define CAPACITY (IMAGE_MAX - IMAGE_CODE_OFFSET - PAYLOAD_OFFSET - 4)

uint64_t packed_kernel(uint8_t *kernel, uint64_t capacity, uint64_t extra)
{
    struct image *image = calloc(1, sizeof(*image));
    uint64_t bytes;

    image_elf64(image);
    image_linux_note(image);
    bytes = image->bytes + extra;
    if (bytes > capacity) {
        abort();
    }
    memcpy(kernel, image->data, image->bytes);
    for (uint64_t i = image->bytes; i < bytes; i++) {
        kernel[i] = (uint8_t)(i >> 14); /* pages of zeros, then of ones ... */
    }
    free(image);
    return bytes;
}

void packed_store(struct image *image, const uint8_t *payload, uint32_t bytes, uint32_t announced,
                  bool append_size)
{
    const uint32_t start = IMAGE_CODE_OFFSET + PAYLOAD_OFFSET;

    image_bzimage(image);
    memcpy(image->data + start, payload, bytes);
    if (append_size) {
        image_set(image, start + bytes, announced, 4);
        bytes += 4;
    }
    image_set(image, 0x248, PAYLOAD_OFFSET, 4);
    image_set(image, 0x24c, bytes, 4);
    if (start + bytes > image->bytes) {
        image->bytes = (start + bytes + 15) & ~15u;
        image_set(image, 0x1f4, (image->bytes - IMAGE_CODE_OFFSET) / 16, 4);
    }
}

static void lz4_magic(uint8_t *out)
{
    static const uint8_t magic[4] = {0x02, 0x21, 0x4c, 0x18};

    memcpy(out, magic, sizeof(magic));
}

static uint32_t pack_lz4(const uint8_t *kernel, uint64_t bytes, uint8_t *out)
{
    const uint32_t block = 8u << 20u;
    uint32_t done = 4;

    lz4_magic(out);
    for (uint64_t at = 0; at < bytes; at += block) {
        uint64_t piece = bytes - at < block ? bytes - at : block;
        int count = LZ4_compress_default((const char *)kernel + at, (char *)out + done + 4,
                                         (int)piece, (int)(CAPACITY - done - 4));

        if (count <= 0) {
            abort();
        }
        memcpy(out + done, &count, 4);
        done += 4 + (uint32_t)count;
    }
    return done;
}

static uint32_t pack_gzip(const uint8_t *kernel, uint64_t bytes, uint8_t *out)
{
    z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)kernel,
                       .avail_in = (uInt)bytes,
                       .next_out = out,
                       .avail_out = CAPACITY};

    if (deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
        deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        abort();
    }
    (void)deflateEnd(&stream);
    return CAPACITY - stream.avail_out;
}

/* As scripts/xz_wrap.sh packs a kernel: the x86 branch filter before LZMA2, CRC32. */
static uint32_t pack_xz(const uint8_t *kernel, uint64_t bytes, uint8_t *out)
{
    lzma_options_lzma options;
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t done = 0;

    if (lzma_lzma_preset(&options, 6) ||
        lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, kernel, bytes, out, &done,
                                  CAPACITY) != LZMA_OK) {
        abort();
    }
    return (uint32_t)done;
}

bool packed_image(struct image *image, uint32_t format, uint64_t extra)
{
    uint64_t capacity = extra + 0x4000;
    uint8_t *kernel = malloc(capacity);
    uint8_t *out = malloc(IMAGE_MAX);
    uint64_t bytes = packed_kernel(kernel, capacity, extra);
    uint32_t packed = 0;

    switch (format) {
    case VMMHPC_PAYLOAD_ELF:
        packed = (uint32_t)bytes;
        memcpy(out, kernel, bytes);
        break;
    case VMMHPC_PAYLOAD_LZ4:
        packed = pack_lz4(kernel, bytes, out);
        break;
    case VMMHPC_PAYLOAD_GZIP:
        packed = pack_gzip(kernel, bytes, out);
        break;
    case VMMHPC_PAYLOAD_XZ:
        packed = pack_xz(kernel, bytes, out);
        break;
    case VMMHPC_PAYLOAD_ZSTD:
        packed = (uint32_t)ZSTD_compress(out, CAPACITY, kernel, bytes, 3);
        break;
    default:
        break;
    }
    if (packed != 0) {
        packed_store(image, out, packed, (uint32_t)bytes,
                     format != VMMHPC_PAYLOAD_GZIP && format != VMMHPC_PAYLOAD_ELF);
    }
    free(kernel);
    free(out);
    return packed != 0;
}
