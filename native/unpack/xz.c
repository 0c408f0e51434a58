/* SPDX-License-Identifier: Apache-2.0 */
/* xz by liblzma, which also undoes the x86 branch filter that kernels use. */
#include "unpack.h"

#include <lzma.h>
#include <stdlib.h>

static int32_t decode_all(lzma_stream *stream, struct vu_sink *sink, uint8_t *chunk,
                          struct vmmhpc_error *err)
{
    lzma_ret result = LZMA_OK;

    while (result != LZMA_STREAM_END) {
        int32_t status;

        stream->next_out = chunk;
        stream->avail_out = VU_CHUNK;
        result = lzma_code(stream, LZMA_RUN);
        switch (result) {
        case LZMA_OK:
        case LZMA_STREAM_END:
            break;
        case LZMA_BUF_ERROR: /* no progress: the input is used up */
            return vu_fail_truncated(sink, "xz", err);
        case LZMA_MEM_ERROR:
            return vu_fail_memory("xz", err);
        case LZMA_MEMLIMIT_ERROR:
            return vh_fail(err, VMMHPC_E_LIMIT, 0, lzma_memusage(stream),
                           "the xz data in the bzImage want more than %llu MiB to be unpacked",
                           VU_MEMORY_MAX / VH_MIB);
        default:
            return vu_fail_damaged(sink, "xz", err);
        }
        status = vu_sink_write(sink, chunk, VU_CHUNK - stream->avail_out, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

int32_t vu_xz(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    uint8_t *chunk = malloc(VU_CHUNK);
    int32_t status;

    if (chunk == NULL || lzma_stream_decoder(&stream, VU_MEMORY_MAX, 0) != LZMA_OK) {
        free(chunk);
        return vu_fail_memory("xz", err);
    }
    stream.next_in = input->data;
    stream.avail_in = input->bytes;
    status = decode_all(&stream, sink, chunk, err);
    lzma_end(&stream);
    free(chunk);
    return status;
}
