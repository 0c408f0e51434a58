/* SPDX-License-Identifier: Apache-2.0 */
/* The channel's device, however a program got at its registers and memory: docs/reference/shm.md.
 */
#ifndef BYPASS_DEVICE_H
#define BYPASS_DEVICE_H

#include "window.h"

#define DEVICE_TABLE_BYTES 4096u
#define DEVICE_REGISTER_BYTES 4096u

enum { REG_ID = 0, REG_PEERS = 1, REG_INTERRUPTS = 2, REG_DOORBELL = 3, REG_STATE = 4 };

struct device {
    struct bypass_window window; /* first */
    volatile uint32_t *registers;
    uint8_t *memory;
    uint64_t bytes; /* of memory */
};

/* What is in the window, from what is mapped; interrupts on or off. `areas`: where in the window
 * they begin. */
int32_t device_start(struct device *device, uint64_t areas, uint64_t area_bytes, int32_t waits);
void device_set_state(struct bypass_window *window, uint32_t state);
void device_ring(struct bypass_window *window, uint32_t peer);
/* Interrupts off, and what is mapped unmapped. */
void device_stop(struct device *device);

#endif
