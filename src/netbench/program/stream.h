/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the measurements are written on: bytes in order between two that know how many come. One
 * implementation for each way that bytes can take (channel.c, tcp.c).
 */
#ifndef NETBENCH_STREAM_H
#define NETBENCH_STREAM_H

#include <stdint.h>

enum { STREAM_READ = 1, STREAM_WRITE = 2 };

struct stream {
    /* Send as many of `bytes` (at least 1) as go without waiting: their number, 0, or -errno. */
    int64_t (*put)(struct stream *stream, const void *data, uint64_t bytes);
    /* Receive likewise. The other side's end is -ECONNRESET. */
    int64_t (*get)(struct stream *stream, void *data, uint64_t bytes);
    /* Return when a direction in `want` (STREAM_*) may go on, or earlier. 0 or -errno. */
    int64_t (*wait)(struct stream *stream, uint32_t want);
};

#endif
