/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that peers do together: each runs in all of them, and says what it found. */
#ifndef BYPASS_TEST_CHECK_H
#define BYPASS_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"

#define SECOND 1000000u

/* A check ends this peer when it fails. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: peer %s: %s\n", __FILE__, __LINE__, getenv("BYPASS_PEER"),     \
                    #condition);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define CHECK_CODE(expected, call)                                                                 \
    do {                                                                                           \
        int32_t code_ = (call);                                                                    \
        if (code_ != (expected)) {                                                                 \
            fprintf(stderr, "%s:%d: peer %s: %s: %s\n", __FILE__, __LINE__, getenv("BYPASS_PEER"), \
                    #call, bypass_text(code_));                                                    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

typedef void check_function(struct bypass *bypass, uint32_t self, uint32_t peers);

/* One that leaves and comes again has another endpoint then. */
typedef void check_again_function(struct bypass **bypass, uint32_t self);

struct check {
    const char *name;
    check_function *run;
    check_again_function *run_again; /* instead of run */
    struct bypass_config config;
};

/* helpers.c */
uint32_t check_random(uint64_t *seed);
void check_fill(uint8_t *data, uint64_t length, uint64_t seed);
int32_t check_filled(const uint8_t *data, uint64_t length, uint64_t seed);
void check_connect_all(struct bypass *bypass);
/* Leave, and come again. */
void check_reopen(struct bypass **bypass);
/* All peers have come here. */
void check_barrier(struct bypass *bypass);

check_function check_ring, check_tags, check_unexpected, check_large, check_onesided, check_heap,
    check_sleep, check_crowd, check_killed, check_flood, check_leave;
check_again_function check_restart, check_scribble;

#endif
