// SPDX-License-Identifier: Apache-2.0
/* Peers that die, come back, talk nonsense or too much: others get an error, and go on. */
#include "check.h"

#include <signal.h>
#include <unistd.h>

enum { BIG = 3 << 20 };

static int32_t is_gone(int32_t code)
{
    return code == BYPASS_E_PEER_GONE || code == BYPASS_E_PROTOCOL;
}

/* Peer 1 is killed while all others have something to do with it. */
void check_killed(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    struct bypass_request send;
    struct bypass_request receive;
    uint8_t *data = calloc(1, BIG);
    uint8_t *more = calloc(1, BIG);
    uint32_t value = 0;
    CHECK(peers == 4 && data != NULL && more != NULL);
    if (self == 1) {
        /* In the middle of a long message from each. */
        struct bypass_request each[4];
        for (int32_t peer = 0; peer < 4; peer++) {
            if (peer != 1) {
                CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, peer, 1, 0, data, BIG, &each[peer]));
            }
        }
        while (each[0].offset == 0 || each[2].offset == 0 || each[3].offset == 0) {
            bypass_progress(bypass);
        }
        raise(SIGKILL);
    }
    CHECK_CODE(BYPASS_OK, bypass_isend(bypass, 1, 1, data, BIG, 0, &send));
    CHECK_CODE(BYPASS_OK, bypass_irecv(bypass, 1, 2, 0, more, BIG, &receive));
    CHECK_CODE(BYPASS_E_PEER_GONE, bypass_wait(bypass, &receive, 20 * SECOND));
    int32_t sent = bypass_wait(bypass, &send, 20 * SECOND);
    CHECK(sent == BYPASS_E_PEER_GONE || sent == BYPASS_OK);
    CHECK_CODE(BYPASS_E_PEER_GONE, bypass_send(bypass, 1, 1, &value, sizeof(value)));
    CHECK_CODE(BYPASS_E_PEER_GONE, bypass_link(bypass, 1));
    CHECK_CODE(BYPASS_E_TIMEOUT, bypass_connect(bypass, 1, 10000));
    /* The others go on. */
    uint32_t next = self == 0 ? 2 : self == 2 ? 3 : 0;
    uint32_t before = self == 0 ? 3 : self == 2 ? 0 : 2;
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK_CODE(BYPASS_OK, bypass_send(bypass, next, i, &i, sizeof(i)));
        CHECK_CODE(BYPASS_OK,
                   bypass_recv(bypass, (int32_t)before, i, 0, &value, sizeof(value), NULL));
        CHECK(value == i);
    }
    free(data);
    free(more);
}

/* What was sent before one leaves arrives; a receive from anybody ends when there is nobody. */
void check_leave(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    uint32_t value = 0;
    uint8_t big[5000];
    CHECK(peers == 2);
    if (self == 0) {
        for (uint32_t i = 0; i < 20; i++) {
            CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, i, &i, sizeof(i)));
        }
        check_fill(big, sizeof(big), 4);
        CHECK_CODE(BYPASS_OK, bypass_send(bypass, 1, 20, big, sizeof(big)));
        return;
    }
    usleep(100000);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, 0, i, 0, &value, sizeof(value), NULL));
        CHECK(value == i);
    }
    CHECK_CODE(BYPASS_OK, bypass_recv(bypass, -1, 20, 0, big, sizeof(big), NULL));
    CHECK(check_filled(big, sizeof(big), 4));
    CHECK_CODE(BYPASS_E_PEER_GONE, bypass_recv(bypass, -1, 1, 0, &value, sizeof(value), NULL));
    CHECK_CODE(BYPASS_E_PEER_GONE, bypass_recv(bypass, 0, 1, 0, &value, sizeof(value), NULL));
}

/* Peer 1 leaves and comes again, as another: the link has to be made again. */
void check_restart(struct bypass **bypass, uint32_t self)
{
    uint32_t other = 1 - self;
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t value = 0;
        CHECK_CODE(BYPASS_OK, bypass_connect(*bypass, other, 20 * SECOND));
        CHECK_CODE(BYPASS_OK, bypass_send(*bypass, other, 1, &round, sizeof(round)));
        CHECK_CODE(BYPASS_OK, bypass_recv(*bypass, (int32_t)other, 1, 0, &value, 4, NULL));
        CHECK(value == round);
        if (self == 1) {
            check_reopen(bypass);
        } else {
            CHECK_CODE(BYPASS_E_PEER_GONE, bypass_recv(*bypass, 1, 1, 0, &value, 4, NULL));
        }
    }
}

/* Overwrite some of one's own area: anything, or what others look at. */
static void scribble(struct bypass *bypass, uint64_t *seed)
{
    uint32_t what = check_random(seed) % 6;
    uint64_t from = 0;
    uint64_t bytes = bypass->area_bytes;
    if (what == 1) {
        bytes = AREA_LINKS;
    } else if (what == 2) {
        from = AREA_LINKS;
        bytes = sizeof(struct area_link) * bypass->peers;
    } else if (what >= 3) {
        from = (uint64_t)((uint8_t *)bypass->links[0].ring - bypass->area);
        bytes = bypass->links[0].slots * sizeof(struct slot);
    }
    for (uint64_t i = 0; i < (what == 0 ? 20000u : 200u); i++) {
        uint64_t at = from + check_random(seed) % bytes;
        /* Values that look like something: small numbers, and kinds of slots. */
        uint32_t value = check_random(seed);
        bypass->area[at] = (uint8_t)(value % 3 == 0 ? value % 12 : value >> 3);
    }
    if (what >= 4) {
        /* Slots that are sure to be looked at. */
        struct link *link = &bypass->links[0];
        struct slot *slot = &link->ring[link->posted & (link->slots - 1)];
        slot->kind = (uint8_t)(1 + check_random(seed) % 9);
        for (size_t i = 0; i < sizeof(slot->u.bytes); i += 4) {
            uint32_t value = check_random(seed) % 4 == 0 ? check_random(seed) : 0;
            memcpy(slot->u.bytes + i, &value, sizeof(value));
        }
        atomic_store(&slot->sequence, (uint32_t)++link->posted);
    }
}

static void try_all(struct bypass *bypass, uint8_t *data, uint32_t round)
{
    struct bypass_request requests[4];
    (void)bypass_expose(bypass, 1, data, BIG, 0);
    int32_t codes[4] = {
        bypass_isend(bypass, 1, 5, data, 8, 0, &requests[0]),
        bypass_isend(bypass, 1, 6, data, round % 2 == 0 ? 300000 : 3000, 0, &requests[1]),
        bypass_irecv(bypass, 1, 5, UINT64_MAX, data, BIG, &requests[2]),
        bypass_put(bypass, 1, 1, 0, data, 5000, &requests[3]),
    };
    (void)bypass_get(bypass, 1, 1, 0, data, 5000);
    for (size_t i = 0; i < 4; i++) {
        if (codes[i] == BYPASS_OK) {
            codes[i] = bypass_wait(bypass, &requests[i], 100000);
        }
        if (codes[i] == BYPASS_E_TIMEOUT && i == 2) {
            (void)bypass_cancel(bypass, &requests[i]);
        }
    }
    /* Requests that neither ended nor can be taken back end with the link. */
    for (size_t i = 0; i < 4; i++) {
        if (codes[i] == BYPASS_E_TIMEOUT && requests[i].result == BYPASS_PENDING) {
            int32_t code = bypass_wait(bypass, &requests[i], 20 * SECOND);
            CHECK(is_gone(code) || code == BYPASS_OK || code == BYPASS_E_TRUNCATED);
        }
    }
}

/* The peer that scribbles; then it is gone, and here again. */
static void scribbler(struct bypass **bypass, uint8_t *data)
{
    uint32_t rounds = getenv("ROUNDS") == NULL ? 30 : (uint32_t)atoi(getenv("ROUNDS"));
    uint64_t seed = getenv("SEED") == NULL ? 1 : strtoull(getenv("SEED"), NULL, 10);
    for (uint32_t round = 0; round < rounds; round++) {
        struct bypass_request request;
        (void)bypass_connect(*bypass, 0, 20 * SECOND);
        (void)bypass_expose(*bypass, 1, data, BIG, BYPASS_PUT_EVENTS);
        (void)bypass_isend(*bypass, 0, 5, data, 300000, 0, &request);
        for (int i = 0; i < 50; i++) {
            bypass_progress(*bypass);
            scribble(*bypass, &seed);
            usleep(200);
        }
        (*bypass)->window->ops->set_state((*bypass)->window, 0);
        check_reopen(bypass);
    }
}

/* Peer 1 scribbles over its area; peers 0 and 2 deal with it until it stays away, and with each
 * other. */
void check_scribble(struct bypass **bypass, uint32_t self)
{
    uint8_t *data = calloc(1, BIG);
    uint32_t other = 2 - self;
    uint32_t rounds = 0;
    uint32_t value = 0;
    CHECK(bypass_peers(*bypass) == 3 && data != NULL);
    if (self == 1) {
        scribbler(bypass, data);
        free(data);
        return;
    }
    while (bypass_connect(*bypass, 1, SECOND) != BYPASS_E_TIMEOUT) {
        try_all(*bypass, data, rounds++);
    }
    CHECK(rounds > 2);
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK_CODE(BYPASS_OK, bypass_send(*bypass, other, i, &i, sizeof(i)));
        CHECK_CODE(BYPASS_OK, bypass_recv(*bypass, (int32_t)other, i, 0, &value, 4, NULL));
        CHECK(value == i);
    }
    free(data);
}

/* Peer 1 sends more than anybody wants to have; what is kept of it is limited. */
void check_flood(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    struct bypass_request request;
    uint8_t data[1000] = {0};
    uint32_t value = 0;
    CHECK(peers == 3);
    if (self == 1) {
        for (int i = 0; i < 10000; i++) {
            if (bypass_isend(bypass, 0, 9, data, sizeof(data), 0, &request) != BYPASS_OK ||
                bypass_wait(bypass, &request, 300000) != BYPASS_OK) {
                break;
            }
        }
        CHECK(request.result == BYPASS_PENDING);
        return;
    }
    for (uint32_t i = 0; i < 300; i++) {
        usleep(1000);
        CHECK_CODE(BYPASS_OK, bypass_send(bypass, 2 - self, i, &i, sizeof(i)));
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, (int32_t)(2 - self), i, 0, &value, 4, NULL));
        CHECK(value == i);
    }
    CHECK(bypass->unexpected_kept <= 64 << 10);
}
