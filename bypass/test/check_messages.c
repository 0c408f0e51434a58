// SPDX-License-Identifier: Apache-2.0
/* Messages between peers that behave. */
#include "check.h"

#include <unistd.h>

/* More messages than a ring has slots, of all short sizes, both ways at once. */
void check_ring(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    uint32_t other = (self + 1) % peers;
    int32_t before = (int32_t)((self + peers - 1) % peers);
    uint8_t out[400];
    uint8_t in[400];
    for (uint64_t i = 0; i < 5000; i++) {
        struct bypass_request request;
        struct bypass_status status;
        uint64_t length = i % sizeof(out);
        check_fill(out, length, i * 64 + self);
        CHECK_CODE(BYPASS_OK, bypass_isend(bypass, other, i, out, length, 0, &request));
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, before, i, 0, in, sizeof(in), &status));
        CHECK(status.length == length && status.tag == i && status.peer == before);
        CHECK(check_filled(in, length, i * 64 + (uint32_t)before));
        CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &request, BYPASS_FOREVER));
    }
}

/* Peer 0 sends; peer 1 receives in another order than that. */
void check_tags(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    struct bypass_request wanted[3];
    struct bypass_status status;
    uint32_t value = 0;
    CHECK(peers == 2);
    if (self == 0) {
        for (uint32_t i = 0; i < 10; i++) {
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, 100 + i / 2, &i, sizeof(i)));
        }
        check_barrier(bypass);
        for (uint32_t i = 0; i < 3; i++) {
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, 0x10 + i, &i, sizeof(i)));
        }
        check_barrier(bypass);
        return;
    }
    CHECK_CODE(BYPASS_OK, bypass_probe(bypass, 0, 104, 0, BYPASS_FOREVER, &status));
    CHECK(status.length == sizeof(value) && status.tag == 104);
    CHECK_CODE(BYPASS_PENDING, bypass_probe(bypass, 0, 99, 0, 0, &status));
    for (uint32_t tag = 104; tag >= 100; tag--) {
        /* Of equal tags, the order is that of sending. */
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, 0, tag, 0, &value, sizeof(value), NULL));
        CHECK(value == (tag - 100) * 2);
        CHECK_CODE(BYPASS_OK,
                   bypass_recv(bypass, BYPASS_ANY_PEER, tag, 0, &value, sizeof(value), &status));
        CHECK(value == (tag - 100) * 2 + 1 && status.peer == 0);
    }
    /* Receives before their messages; the first that matches gets it. */
    uint32_t values[3] = {9, 9, 9};
    CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, 0, 0x11, 0, &values[0], 4, &wanted[0]));
    CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, -1, 0x10, 0xf, &values[1], 4, &wanted[1]));
    CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, 0, 0, UINT64_MAX >> 1, &values[2], 4, &wanted[2]));
    check_barrier(bypass);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &wanted[i], 20 * SECOND));
    }
    CHECK(values[0] == 1 && values[1] == 0 && values[2] == 2);
    /* A receive that is taken back. */
    CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, 0, 7, 0, &value, 4, &wanted[0]));
    CHECK_CODE(BYPASS_PENDING, bypass_test(bypass, &wanted[0]));
    CHECK_CODE(BYPASS_E_TIMEOUT, bypass_wait(bypass, &wanted[0], 2000));
    CHECK_CODE(BYPASS_OK, bypass_cancel(bypass, &wanted[0]));
    CHECK_CODE(BYPASS_E_INVALID, bypass_test(bypass, &wanted[0]));
    check_barrier(bypass);
}

/* Nobody asks for 2 MB of messages at first: the sender has to wait when what is kept is full. */
void check_unexpected(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    enum { COUNT = 2000, BYTES = 1000 };
    uint8_t data[BYTES];
    struct bypass_stats stats;
    CHECK(peers == 2);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (self == 0) {
            check_fill(data, BYTES, i);
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, i, data, BYTES));
        } else {
            if (i == 0) {
                for (int turn = 0; turn < 100; turn++) {
                    usleep(1000);
                    bypass_progress(bypass);
                }
                bypass_stats(bypass, &stats);
                CHECK(stats.unexpected_messages > 50 && stats.unexpected_messages < 70);
            }
            CHECK_CODE(BYPASS_OK, bypass_recv(bypass, 0, i, 0, data, BYTES, NULL));
            CHECK(check_filled(data, BYTES, i));
        }
    }
    bypass_stats(bypass, &stats);
    CHECK(stats.stalls > 0);
}

static void send_and_receive(struct bypass *bypass, uint32_t self, uint8_t *data, uint64_t length,
                             uint32_t flags)
{
    struct bypass_request request;
    struct bypass_status status;
    if (self == 0) {
        check_fill(data, length, length);
        CHECK_CODE(BYPASS_OK, bypass_isend(bypass, 1, length, data, length, flags, &request));
        CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &request, BYPASS_FOREVER));
        memset(data, 0, length);
    } else {
        if (length % 2 != 0) {
            usleep(2000); /* sometimes the message is first, sometimes the receive */
        }
        memset(data, 0, length);
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, 0, length, 0, data, length, &status));
        CHECK(status.length == length && check_filled(data, length, length));
    }
}

void check_large(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    static const uint64_t SIZES[] = {48,    49,     4095,    8191,    8192,    8193,   65535,
                                     65536, 100001, 1048576, 3000001, 4194304, 8388609};
    enum { HEAP = 1 << 20 };
    struct bypass_stats stats;
    uint8_t *data = malloc(9 << 20);
    uint8_t *shared = bypass_alloc(bypass, HEAP);
    CHECK(peers == 2 && data != NULL && shared != NULL);
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
        send_and_receive(bypass, self, data, SIZES[i], 0);
        send_and_receive(bypass, self, data, SIZES[i] / 2, BYPASS_SYNCHRONOUS);
        if (SIZES[i] <= HEAP) {
            send_and_receive(bypass, self, shared, SIZES[i], 0);
        }
    }
    send_and_receive(bypass, self, data, 0, BYPASS_SYNCHRONOUS);
    bypass_stats(bypass, &stats);
    CHECK(self != 0 || (stats.zero_copy >= 4 && stats.rendezvous > 20));
    /* Longer than its receive. */
    static const uint64_t LONG[] = {20, 4000, 500000};
    for (size_t i = 0; i < 3; i++) {
        if (self == 0) {
            check_fill(data, LONG[i], 5);
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, 1, data, LONG[i]));
        } else {
            struct bypass_status status;
            memset(data, 0, LONG[i]);
            CHECK_CODE(BYPASS_E_TRUNCATED, bypass_recv(bypass, 0, 1, 0, data, 11, &status));
            CHECK(status.length == LONG[i] && check_filled(data, 11, 5) && data[11] == 0);
        }
    }
    check_barrier(bypass);
    bypass_free(bypass, shared);
    free(data);
}

/* A peer that has nothing to do sleeps, and a message wakes it. */
void check_sleep(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    struct bypass_stats stats;
    uint8_t *data = calloc(1, 300000);
    CHECK(peers == 2 && data != NULL);
    for (int i = 0; i < 20; i++) {
        if (self == 0) {
            usleep(10000);
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, 1, data, i % 2 == 0 ? 8 : 300000));
        } else {
            CHECK_CODE(BYPASS_OK, bypass_recv(bypass, 0, 1, 0, data, 300000, NULL));
        }
    }
    bypass_stats(bypass, &stats);
    CHECK(self == 0 ? stats.doorbells >= 20 : stats.sleeps >= 20);
    /* Looking was in vain, so less is looked. */
    CHECK(self == 0 || bypass->looks < bypass->spins);
    free(data);
}

/* All to all, of random sizes, with receives from whoever comes first. */
void check_crowd(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    enum { ROUNDS = 40, MOST = 60000 };
    struct bypass_request *requests = calloc(peers, sizeof(*requests));
    uint8_t *out = malloc((size_t)MOST * peers);
    uint8_t *in = malloc(MOST);
    CHECK(requests != NULL && out != NULL && in != NULL);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint32_t peer = 0; peer < peers; peer++) {
            uint64_t seed = round * 4096 + self * 64 + peer;
            uint64_t length = check_random(&seed) % (round % 3 == 0 ? 60 : MOST);
            check_fill(out + (size_t)peer * MOST, length, length);
            CHECK_CODE(BYPASS_OK, bypass_isend(bypass, peer, round, out + (size_t)peer * MOST,
                                               length, 0, &requests[peer]));
        }
        for (uint32_t i = 0; i < peers; i++) {
            struct bypass_status status;
            CHECK_CODE(BYPASS_OK,
                       bypass_recv(bypass, BYPASS_ANY_PEER, round, 0, in, MOST, &status));
            uint64_t seed = round * 4096 + (uint32_t)status.peer * 64 + self;
            CHECK(status.length == check_random(&seed) % (round % 3 == 0 ? 60 : MOST));
            CHECK(check_filled(in, status.length, status.length));
        }
        for (uint32_t peer = 0; peer < peers; peer++) {
            CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &requests[peer], BYPASS_FOREVER));
        }
    }
    free(requests);
    free(out);
    free(in);
}
