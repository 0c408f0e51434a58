// SPDX-License-Identifier: Apache-2.0
/* Puts, gets, their events, and memory of the area. */
#include "check.h"

enum { REGION = 3, PRIVATE = 4, BYTES = 200000 };

static void put_and_wait(struct bypass *bypass, uint64_t offset, const void *data, uint64_t length)
{
    struct bypass_request request;
    CHECK_CODE(BYPASS_OK, bypass_put(bypass, 1, REGION, offset, data, length, &request));
    CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &request, 20 * SECOND));
}

static void origin(struct bypass *bypass)
{
    struct bypass_request request;
    uint8_t *data = malloc(BYTES);
    uint8_t *back = malloc(BYTES);
    uint8_t *shared = bypass_alloc(bypass, 50000);
    CHECK(data != NULL && back != NULL && shared != NULL);
    check_fill(data, BYTES, 1);
    put_and_wait(bypass, 0, data, BYTES);
    /* It is there when the put is complete: what is read is what was written. */
    CHECK_CODE(BYPASS_OK, bypass_get(bypass, 1, REGION, 0, back, BYTES));
    CHECK(memcmp(data, back, BYTES) == 0);
    check_fill(shared, 50000, 2);
    put_and_wait(bypass, 1000, shared, 50000);
    put_and_wait(bypass, 77, "8 bytes", 8);
    CHECK_CODE(BYPASS_OK, bypass_get(bypass, 1, REGION, 77, back, 8));
    CHECK(strcmp((char *)back, "8 bytes") == 0);
    /* What is not exposed, or beyond its end. */
    CHECK_CODE(BYPASS_E_INVALID, bypass_put(bypass, 1, REGION, BYTES - 7, data, 8, &request));
    CHECK_CODE(BYPASS_E_INVALID, bypass_put(bypass, 1, REGION, UINT64_MAX - 3, data, 8, &request));
    CHECK_CODE(BYPASS_E_INVALID, bypass_put(bypass, 1, REGION + 9, 0, data, 8, &request));
    CHECK_CODE(BYPASS_E_INVALID, bypass_get(bypass, 1, REGION, BYTES, back, 1));
    CHECK_CODE(BYPASS_E_UNSUPPORTED, bypass_get(bypass, 1, PRIVATE, 0, back, 1));
    CHECK_CODE(BYPASS_OK, bypass_put(bypass, 1, PRIVATE, 0, data, 1, &request));
    CHECK_CODE(BYPASS_OK, bypass_wait(bypass, &request, 20 * SECOND));
    check_barrier(bypass);
    bypass_free(bypass, shared);
    free(data);
    free(back);
}

static void target(struct bypass *bypass, const uint8_t *shared, const uint8_t *private)
{
    static const struct bypass_event WANTED[] = {{.offset = 0, .length = BYTES},
                                                 {.offset = 1000, .length = 50000},
                                                 {.offset = 77, .length = 8}};
    struct bypass_event event;
    for (size_t i = 0; i < 3; i++) {
        CHECK_CODE(BYPASS_OK, bypass_event(bypass, &event, 20 * SECOND));
        CHECK(event.peer == 0 && event.region == REGION && event.offset == WANTED[i].offset &&
              event.length == WANTED[i].length);
    }
    check_barrier(bypass);
    CHECK(check_filled(shared + 1000, 50000, 2) && private[0] != 0);
    CHECK_CODE(BYPASS_E_TIMEOUT, bypass_event(bypass, &event, 0));
}

void check_onesided(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    uint8_t *shared = bypass_alloc(bypass, BYTES);
    uint8_t private[1] = {0};
    CHECK(peers == 2 && shared != NULL);
    CHECK_CODE(BYPASS_OK, bypass_expose(bypass, REGION, shared, BYTES, BYPASS_PUT_EVENTS));
    CHECK_CODE(BYPASS_OK, bypass_expose(bypass, PRIVATE, private, 1, 0));
    check_barrier(bypass);
    if (self == 0) {
        origin(bypass);
    } else {
        target(bypass, shared, private);
    }
    CHECK_CODE(BYPASS_OK, bypass_expose(bypass, REGION, NULL, 0, 0));
    check_barrier(bypass);
    CHECK_CODE(BYPASS_E_INVALID, bypass_get(bypass, 1 - self, REGION, 0, private, 1));
    check_barrier(bypass);
}

void check_heap(struct bypass *bypass, uint32_t self, uint32_t peers)
{
    uint8_t *blocks[16];
    CHECK(peers == 2);
    CHECK(bypass_alloc(bypass, 1 << 20) == NULL && bypass_alloc(bypass, UINT64_MAX) == NULL);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 16; i++) {
            blocks[i] = bypass_alloc(bypass, 1000);
            CHECK(blocks[i] != NULL && (uintptr_t)blocks[i] % 64 == 0);
            memset(blocks[i], (int)i, 1000);
        }
        for (size_t i = 0; i < 16; i++) {
            size_t which = (i * 7 + self) % 16;
            CHECK(blocks[which][0] == which && blocks[which][999] == which);
            bypass_free(bypass, blocks[which]);
        }
    }
    uint8_t *whole = bypass_alloc(bypass, 16 << 10);
    CHECK(whole != NULL);
    bypass_free(bypass, whole);
    bypass_free(bypass, NULL);
    check_barrier(bypass);
}
