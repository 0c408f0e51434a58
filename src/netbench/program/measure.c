/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include "ticks.h"

#include <errno.h>

/* What the leading side says before each run of a test. */
struct order {
    uint64_t test, bytes, count;
};

enum { BATCH = 4 };

static int64_t send(struct stream *s, const void *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        int64_t n = s->put(s, (const uint8_t *)data + done, bytes - done);
        if (n == 0) {
            n = s->wait(s, STREAM_WRITE);
            if (n == 0) {
                continue;
            }
        }
        if (n < 0) {
            return n;
        }
        done += (uint64_t)n;
    }
    return 0;
}

static int64_t receive(struct stream *s, void *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        int64_t n = s->get(s, (uint8_t *)data + done, bytes - done);
        if (n == 0) {
            n = s->wait(s, STREAM_READ);
            if (n == 0) {
                continue;
            }
        }
        if (n < 0) {
            return n;
        }
        done += (uint64_t)n;
    }
    return 0;
}

static uint32_t bucket_of(uint64_t ticks)
{
    if (ticks < EXACT) {
        return (uint32_t)ticks;
    }
    const uint32_t power = 63 - (uint32_t)__builtin_clzll(ticks); /* at least 8 */
    const uint32_t bucket =
        EXACT + (power - 8) * MANTISSA + (uint32_t)(ticks >> (power - 7)) % MANTISSA;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The middle of a bucket. */
static uint64_t ticks_of(uint32_t bucket)
{
    if (bucket < EXACT) {
        return bucket;
    }
    const uint32_t power = 8 + (bucket - EXACT) / MANTISSA;
    const uint64_t width = UINT64_C(1) << (power - 7);
    return (UINT64_C(1) << power) + (bucket - EXACT) % MANTISSA * width + width / 2;
}

/* What so many thousandths of the round trips do not exceed, the share rounded up to a whole one.
 */
static uint64_t percentile(const struct result *result, uint64_t thousandths)
{
    uint64_t left = (result->count * thousandths + 999) / 1000;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        if (result->histogram[i] >= left) {
            return ticks_of(i);
        }
        left -= result->histogram[i];
    }
    return result->longest;
}

static int64_t ping(struct stream *s, const struct request *r, uint64_t count,
                    struct result *result)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t begin = ticks_now();
        int64_t rc = send(s, r->out, r->bytes);
        if (rc == 0) {
            rc = receive(s, r->in, r->bytes);
        }
        if (rc != 0) {
            return rc;
        }
        const uint64_t took = ticks_now() - begin;
        result->histogram[bucket_of(took)]++;
        result->shortest = took < result->shortest ? took : result->shortest;
        result->longest = took > result->longest ? took : result->longest;
    }
    return 0;
}

static int64_t pong(struct stream *s, void *out, void *in, const struct order *order)
{
    int64_t rc = 0;
    for (uint64_t i = 0; rc == 0 && i < order->count; i++) {
        rc = receive(s, in, order->bytes);
        if (rc == 0) {
            rc = send(s, out, order->bytes);
        }
    }
    return rc;
}

/* A direction of a stream of messages. */
struct flow {
    uint64_t messages; /* left */
    uint64_t done;     /* bytes of the one at hand */
};

static int64_t flow_on(struct flow *flow, uint64_t bytes, int64_t moved)
{
    if (moved > 0) {
        flow->done += (uint64_t)moved;
        if (flow->done == bytes) {
            flow->done = 0;
            flow->messages--;
        }
    }
    return moved;
}

/* Messages in the given directions at once, until all have passed. */
static int64_t flows(struct stream *s, const struct request *r, struct flow out, struct flow in)
{
    while (out.messages != 0 || in.messages != 0) {
        int64_t sent = 0;
        int64_t received = 0;
        if (out.messages != 0) {
            const uint8_t *data = r->out;
            sent = flow_on(&out, r->bytes, s->put(s, data + out.done, r->bytes - out.done));
        }
        if (in.messages != 0) {
            uint8_t *data = r->in;
            received = flow_on(&in, r->bytes, s->get(s, data + in.done, r->bytes - in.done));
        }
        int64_t rc = sent < 0 ? sent : received < 0 ? received : 0;
        if (rc == 0 && sent == 0 && received == 0) {
            rc = s->wait(s, (out.messages != 0 ? STREAM_WRITE : 0u) |
                                (in.messages != 0 ? STREAM_READ : 0u));
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* One run of a test, by the clock. */
static int64_t run(struct stream *s, const struct request *r, uint64_t count, struct result *result)
{
    const struct order order = {.test = r->test, .bytes = r->bytes, .count = count};
    const struct flow all = {.messages = count};
    const struct flow none = {0};
    uint64_t word = 0;
    int64_t rc = send(s, &order, sizeof(order));
    if (rc == 0) {
        rc = receive(s, &word, sizeof(word)); /* it is ready */
    }
    const uint64_t begin = ticks_now();
    if (rc == 0 && r->test == TEST_LATENCY) {
        rc = ping(s, r, count, result);
    } else if (rc == 0) {
        rc = flows(s, r, all, r->test == TEST_BOTH ? all : none);
        if (rc == 0) {
            rc = receive(s, &word, sizeof(word)); /* it has everything */
        }
    }
    result->count += count;
    result->ticks += ticks_now() - begin;
    result->total +=
        2 + (r->test == TEST_STREAM ? count + 1 : 2 * count + (r->test == TEST_BOTH ? 1 : 0));
    return rc;
}

static void forget(struct result *result)
{
    result->count = 0;
    result->ticks = 0;
    result->shortest = UINT64_MAX;
    result->longest = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        result->histogram[i] = 0;
    }
}

int64_t lead(struct stream *s, const struct request *r, struct result *result)
{
    result->total = result->p50 = result->p99 = result->p999 = 0;
    forget(result);
    uint64_t count = BATCH;
    int64_t rc = run(s, r, count, result); /* warms up, and is not counted */
    forget(result);
    /* Batch after batch until the time is over: larger ones as long as they are short, but no
     * hiccup of the first ones decides how many there are. */
    do {
        const uint64_t before = result->ticks;
        rc = rc == 0 ? run(s, r, count, result) : rc;
        count = result->ticks - before < r->ticks / 16 ? 2 * count : count;
    } while (rc == 0 && result->ticks < r->ticks);
    if (rc == 0) {
        const struct order end = {.test = TEST_END};
        uint64_t word = 0;
        rc = send(s, &end, sizeof(end));
        /* Who leaves at once takes the last message along: it has to be answered. */
        rc = rc == 0 ? receive(s, &word, sizeof(word)) : rc;
    }
    if (rc == 0 && r->test == TEST_LATENCY) {
        result->p50 = percentile(result, 500);
        result->p99 = percentile(result, 990);
        result->p999 = percentile(result, 999);
    }
    result->error = rc;
    __atomic_store_n(&result->magic, RESULT_MAGIC, __ATOMIC_RELEASE);
    return rc;
}

int64_t follow(struct stream *s, void *out, void *in, uint64_t bytes)
{
    for (;;) {
        struct order order;
        const uint64_t word = 1;
        int64_t rc = receive(s, &order, sizeof(order));
        if (rc != 0) {
            return rc;
        }
        if (order.test == TEST_END) {
            return send(s, &word, sizeof(word));
        }
        if (order.bytes == 0 || order.bytes > bytes || order.test > TEST_BOTH) {
            return -EPROTO;
        }
        const struct request r = {.bytes = order.bytes, .out = out, .in = in};
        const struct flow all = {.messages = order.count};
        const struct flow none = {0};
        rc = send(s, &word, sizeof(word));
        if (rc == 0 && order.test == TEST_LATENCY) {
            rc = pong(s, out, in, &order);
        } else if (rc == 0) {
            rc = flows(s, &r, order.test == TEST_BOTH ? all : none, all);
            if (rc == 0) {
                rc = send(s, &word, sizeof(word));
            }
        }
        if (rc != 0) {
            return rc;
        }
    }
}
