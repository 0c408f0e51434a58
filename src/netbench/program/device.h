/* SPDX-License-Identifier: Apache-2.0 */
/* The device of a channel as a program of a guest has it: the lightweight kernel's file, or Linux
 * with stock modules. */
#ifndef NETBENCH_DEVICE_H
#define NETBENCH_DEVICE_H

#include "channel.h"

#include <stdbool.h>

enum { REG_ID = 0, REG_PEERS = 1, REG_INTERRUPTS = 2, REG_DOORBELL = 3, REG_STATE = 4 };
enum { TABLE_BYTES = 4096 };

struct device {
    volatile uint32_t *registers;
    uint8_t *window;
    uint64_t common_bytes;
    uint64_t area_bytes;
    /* Where interrupts are read from, or -1: each read waits for one, and gives so many bytes. */
    int interrupts;
    uint32_t count_bytes;
    int config;  /* Linux: configuration space; else -1 */
    bool masked; /* by who took the interrupt: configuration space lets it come again */
};

/* Open it; with `waits` also its interrupts. Says on standard error what is missing. */
bool device_open(struct device *device, bool waits);
/* Until an interrupt has come: 0 or -errno. */
int64_t device_wait(const struct device *device);

struct channel_window device_memory(const struct device *device);
uint32_t device_state(const struct device *device, uint32_t peer);

#endif
