// SPDX-License-Identifier: Apache-2.0
/* The window of a program that has no peers: memory of its own. */
#include "window.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct alone {
    struct bypass_window window; /* first */
    _Atomic uint32_t state;
};

static void set_state(struct bypass_window *window, uint32_t state)
{
    atomic_store(&((struct alone *)window)->state, state);
}

static void ring(struct bypass_window *window, uint32_t peer)
{
    (void)window;
    (void)peer;
}

/* Nobody is there who could ring. */
static void wait(struct bypass_window *window, uint64_t timeout)
{
    struct timespec time = {.tv_sec = (time_t)(timeout / 1000000u),
                            .tv_nsec = (long)(timeout % 1000000u) * 1000};
    (void)window;
    nanosleep(&time, NULL);
}

static void close_window(struct bypass_window *window)
{
    free(window->areas);
    free(window);
}

static const struct bypass_window_ops ALONE_OPS = {
    .set_state = set_state, .ring = ring, .wait = wait, .close = close_window};

int32_t bypass_window_alone(struct bypass_window **out)
{
    struct alone *alone = calloc(1, sizeof(*alone));
    uint8_t *area = aligned_alloc(4096, BYPASS_AREA_MIN);
    if (alone == NULL || area == NULL) {
        free(alone);
        free(area);
        return BYPASS_E_MEMORY;
    }
    alone->window = (struct bypass_window){.ops = &ALONE_OPS,
                                           .states = &alone->state,
                                           .areas = area,
                                           .area_bytes = BYPASS_AREA_MIN,
                                           .peers = 1,
                                           .can_wait = 1};
    *out = &alone->window;
    return BYPASS_OK;
}
