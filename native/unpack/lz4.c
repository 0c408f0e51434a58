/* SPDX-License-Identifier: Apache-2.0 */
/* The legacy LZ4 frame (lz4_Frame_format.md, "Legacy frame"), as `lz4 -l` writes it. */
#include "unpack.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x184c2102u
#define BLOCK_BYTES 0x800000 /* every block unpacks to at most 8 MiB */

static int32_t unpack_blocks(const struct vu_input *input, struct vu_sink *sink, char *block,
                             struct vmmhpc_error *err)
{
    uint64_t at = 0;

    while (sink->done < sink->expected) {
        uint32_t bytes;
        int count;
        int32_t status;

        if (input->bytes - at < sizeof(bytes)) {
            return vu_fail_truncated(sink, "LZ4", err);
        }
        memcpy(&bytes, input->data + at, sizeof(bytes));
        at += sizeof(bytes);
        if (bytes == MAGIC) {
            continue; /* a frame follows a frame */
        }
        if (bytes == 0 || bytes > (uint32_t)LZ4_COMPRESSBOUND(BLOCK_BYTES)) {
            return vu_fail_damaged(sink, "LZ4", err);
        }
        if (bytes > input->bytes - at) {
            return vu_fail_truncated(sink, "LZ4", err);
        }
        count = LZ4_decompress_safe((const char *)input->data + at, block, (int)bytes, BLOCK_BYTES);
        if (count <= 0) {
            return vu_fail_damaged(sink, "LZ4", err);
        }
        at += bytes;
        status = vu_sink_write(sink, (const uint8_t *)block, (uint64_t)count, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

int32_t vu_lz4(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err)
{
    char *block = malloc(BLOCK_BYTES);
    int32_t status;

    if (block == NULL) {
        return vu_fail_memory("LZ4", err);
    }
    status = unpack_blocks(input, sink, block, err);
    free(block);
    return status;
}
