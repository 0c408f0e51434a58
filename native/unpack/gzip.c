/* SPDX-License-Identifier: Apache-2.0 */
/* gzip (RFC 1952) by zlib. */
#include "unpack.h"

#include <stdlib.h>
#include <zlib.h>

#define GZIP_ONLY (15 + 16) /* the largest window, and a gzip header */

static int32_t inflate_all(z_stream *stream, struct vu_sink *sink, uint8_t *chunk,
                           struct vmmhpc_error *err)
{
    int result = Z_OK;

    while (result != Z_STREAM_END) {
        int32_t status;

        stream->next_out = chunk;
        stream->avail_out = (uInt)VU_CHUNK;
        result = inflate(stream, Z_NO_FLUSH);
        if (result == Z_BUF_ERROR) { /* no progress: the input is used up */
            return vu_fail_truncated(sink, "gzip", err);
        }
        if (result == Z_MEM_ERROR) {
            return vu_fail_memory("gzip", err);
        }
        if (result != Z_OK && result != Z_STREAM_END) {
            return vu_fail_damaged(sink, "gzip", err);
        }
        status = vu_sink_write(sink, chunk, VU_CHUNK - stream->avail_out, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

int32_t vu_gzip(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err)
{
    z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)input->data,
                       .avail_in = (uInt)input->bytes};
    uint8_t *chunk = malloc(VU_CHUNK);
    int32_t status;

    if (chunk == NULL || inflateInit2(&stream, GZIP_ONLY) != Z_OK) {
        free(chunk);
        return vu_fail_memory("gzip", err);
    }
    status = inflate_all(&stream, sink, chunk, err);
    (void)inflateEnd(&stream);
    free(chunk);
    return status;
}
