/* SPDX-License-Identifier: Apache-2.0 */
/* A UART on a bench: what it signals is kept, and checked for changes that are none. */
#ifndef UART_RIG_H
#define UART_RIG_H

#include <stdlib.h>

#include "tap.h"
#include "uart.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };
enum { LSR_DATA = 0x01, LSR_OVERRUN = 0x02, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MCR_LISTEN = 0x0b }; /* DTR, RTS, OUT2 */

struct bench {
    struct vh_uart uart;
    bool irq;
    uint32_t changes; /* of the interrupt line */
    uint32_t notified;
};

static inline void bench_irq(void *opaque, bool level)
{
    struct bench *bench = opaque;

    CHECK(level != bench->irq);
    bench->irq = level;
    bench->changes++;
}

static inline void bench_notify(void *opaque)
{
    ((struct bench *)opaque)->notified++;
}

/** With a reader at its output. */
static inline struct bench *uart_new(void)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    CHECK_EQ(vh_uart_init(&bench->uart, NULL), VMMHPC_OK);
    bench->uart.set_irq = bench_irq;
    bench->uart.notify = bench_notify;
    bench->uart.opaque = bench;
    vh_uart_connect(&bench->uart, true);
    return bench;
}

static inline void uart_drop(struct bench *bench)
{
    CHECK_EQ(bench->uart.irq_level, bench->irq);
    vh_uart_destroy(&bench->uart);
    free(bench);
}

static inline uint8_t get(struct bench *bench, uint32_t reg)
{
    return (uint8_t)vh_uart_access(&bench->uart, 0, reg, 1, VMMHPC_ACCESS_READ, 0);
}

static inline void put(struct bench *bench, uint32_t reg, uint8_t value)
{
    (void)vh_uart_access(&bench->uart, 0, reg, 1, VMMHPC_ACCESS_WRITE, value);
}

static inline void send(struct bench *bench, const char *text)
{
    for (; *text != '\0'; text++) {
        put(bench, DATA, (uint8_t)*text);
    }
}

/** How much of it the receiver took. */
static inline uint32_t receive(struct bench *bench, const char *text)
{
    uint32_t bytes = 0;

    while (text[bytes] != '\0') {
        bytes++;
    }
    return vh_uart_receive(&bench->uart, (const uint8_t *)text, bytes);
}

#endif
