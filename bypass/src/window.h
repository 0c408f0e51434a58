/* SPDX-License-Identifier: Apache-2.0 */
/* How a program gets at its window: the memory, its doorbell, and those of the others. */
#ifndef BYPASS_WINDOW_H
#define BYPASS_WINDOW_H

#include "bypass.h"

struct bypass_window;

/* What a kind of window can do. */
struct bypass_window_ops {
    /* Say what this peer's state is: its entry in the table. 0: not there. */
    void (*set_state)(struct bypass_window *window, uint32_t state);
    /* Interrupt a peer. */
    void (*ring)(struct bypass_window *window, uint32_t peer);
    /* Sleep until this peer's doorbell has rung since the last call, or its timeout (microseconds)
     * is over. A ring must never be lost; waking up for nothing is allowed. */
    void (*wait)(struct bypass_window *window, uint64_t timeout);
    /* Find peers that died without a word, where nobody else does it. Called now and then. May be
     * NULL. */
    void (*refresh)(struct bypass_window *window);
    /* Give everything back. The window's memory is gone. */
    void (*close)(struct bypass_window *window);
};

/* A window that is open. Each kind has its own structure around it. */
struct bypass_window {
    const struct bypass_window_ops *ops;
    const _Atomic uint32_t *states; /* of each peer; 0: not there */
    uint8_t *areas;                 /* of peer 0, then of peer 1, …; writable is only one's own */
    uint64_t area_bytes;
    uint32_t id;
    uint32_t peers;
    int32_t can_wait; /* 0: no interrupts: polling is all there is */
};

/* Open a window of a kind. `waits`: interrupts will be used. */
int32_t bypass_window_file(const struct bypass_config *config, const char *path,
                           struct bypass_window **out);
int32_t bypass_window_linux(int32_t waits, struct bypass_window **out);
int32_t bypass_window_lwk(int32_t waits, struct bypass_window **out);
int32_t bypass_window_alone(struct bypass_window **out);

#endif
