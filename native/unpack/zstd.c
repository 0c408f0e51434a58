/* SPDX-License-Identifier: Apache-2.0 */
/* Zstandard (RFC 8878) by libzstd; kernels are packed with windows of up to 128 MiB. */
#include "unpack.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define WINDOW_LOG_MAX 27

static int32_t explain(const struct vu_sink *sink, size_t result, struct vmmhpc_error *err)
{
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_memory_allocation:
        return vu_fail_memory("zstd", err);
    case ZSTD_error_frameParameter_windowTooLarge:
        return vh_fail(err, VMMHPC_E_LIMIT, 0, 0,
                       "the zstd data in the bzImage want a window of more than %u MiB",
                       1u << (WINDOW_LOG_MAX - 20u));
    default:
        return vu_fail_damaged(sink, "zstd", err);
    }
}

static int32_t decompress_all(ZSTD_DStream *stream, const struct vu_input *input,
                              struct vu_sink *sink, uint8_t *chunk, struct vmmhpc_error *err)
{
    ZSTD_inBuffer in = {.src = input->data, .size = input->bytes};
    size_t result;

    do {
        ZSTD_outBuffer out = {.dst = chunk, .size = VU_CHUNK};
        size_t before = in.pos;
        int32_t status;

        result = ZSTD_decompressStream(stream, &out, &in);
        if (ZSTD_isError(result) != 0) {
            return explain(sink, result, err);
        }
        status = vu_sink_write(sink, chunk, out.pos, err);
        if (status != VMMHPC_OK) {
            return status;
        }
        if (result != 0 && out.pos == 0 && in.pos == before) {
            return vu_fail_truncated(sink, "zstd", err);
        }
    } while (result != 0);
    return VMMHPC_OK;
}

int32_t vu_zstd(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err)
{
    ZSTD_DStream *stream = ZSTD_createDStream();
    uint8_t *chunk = malloc(VU_CHUNK);
    int32_t status;

    if (stream == NULL || chunk == NULL) {
        status = vu_fail_memory("zstd", err);
    } else {
        (void)ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        status = decompress_all(stream, input, sink, chunk, err);
    }
    free(chunk);
    (void)ZSTD_freeDStream(stream);
    return status;
}
