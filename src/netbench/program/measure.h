/* SPDX-License-Identifier: Apache-2.0 */
/* The measurements, for any stream. Needs no C library: payloads have none. */
#ifndef NETBENCH_MEASURE_H
#define NETBENCH_MEASURE_H

#include "stream.h"

enum test {
    TEST_END = 0,
    TEST_LATENCY = 1, /* ping-pong: each round trip is timed */
    TEST_STREAM = 2,  /* messages one way, then one back */
    TEST_BOTH = 3,    /* messages both ways at once */
};

enum {
    EXACT = 256,    /* ticks up to this have a bucket each */
    MANTISSA = 128, /* buckets for each power of two above: 0.8 % */
    POWERS = 40,
    BUCKETS = EXACT + POWERS * MANTISSA,
};

#define RESULT_MAGIC 0x3168636e6562746eu /* "ntbench1" */

struct request {
    uint64_t test;
    uint64_t bytes; /* of each message */
    uint64_t ticks; /* of the TSC, about: so long it takes; 0: as few messages as can be */
    void *out;      /* `bytes` to send */
    void *in;       /* and to receive into */
};

/* What the leading side measured. src/netbench/payload.ts knows this layout, too. */
struct result {
    uint64_t magic; /* when all is there */
    int64_t error;  /* 0 or -errno */
    uint64_t count; /* round trips, or messages one way */
    uint64_t ticks; /* that these took */
    uint64_t
        total; /* messages in either direction since the beginning, warm-up and control included */
    /* Of round trips, in ticks. */
    uint64_t shortest, p50, p99, p999, longest;
    uint32_t histogram[BUCKETS];
};

/* 0 or -errno. */
int64_t lead(struct stream *stream, const struct request *request, struct result *result);
/* Do what the leading side says, until its end. `bytes`: the most that `out` and `in` hold. */
int64_t follow(struct stream *stream, void *out, void *in, uint64_t bytes);

#endif
