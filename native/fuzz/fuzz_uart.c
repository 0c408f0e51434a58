/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART between a hostile guest and its host. A guest may do anything to the registers; what
 * must hold: bytes accepted come out once and in order, nothing is dropped while a guest obeys
 * THRE, the interrupt line is what was last signalled, and input arrives in order. Each 3 bytes are
 * one step.
 */
#include "harness.h"

#include <string.h>

#include "uart.h"

#define STEP ((size_t)3)
#define QUEUE 65536u

static struct {
    uint8_t out[QUEUE]; /* written by the guest, not yet taken by the host */
    uint32_t out_head, out_count;
    bool irq;
    uint64_t total;
} model;

static void set_irq(void *opaque, bool level)
{
    (void)opaque;
    MUST(level != model.irq); /* only changes are signalled */
    model.irq = level;
}

static void wake(void *opaque)
{
    (void)opaque;
}

static uint8_t read8(struct vh_uart *uart, uint32_t reg)
{
    return (uint8_t)vh_uart_access(uart, 0, reg, 1, VMMHPC_ACCESS_READ, 0);
}

static void write8(struct vh_uart *uart, uint32_t reg, uint8_t value)
{
    /* What the data register does depends on DLAB and loop-back. */
    bool sends = reg == 0 && (uart->lcr & 0x80) == 0 && (uart->mcr & 0x10) == 0 && uart->connected;
    uint64_t dropped = uart->bytes_dropped;

    vh_uart_access(uart, 0, reg, 1, VMMHPC_ACCESS_WRITE, value);
    if (sends && uart->bytes_dropped == dropped) {
        MUST(model.out_count < QUEUE);
        model.out[(model.out_head + model.out_count++) % QUEUE] = value;
    }
}

/* A guest that looks at THRE first may write a FIFO's worth without losing any. */
static void obedient_write(struct vh_uart *uart, uint8_t value)
{
    uint64_t dropped = uart->bytes_dropped;

    if ((read8(uart, 5) & 0x20) == 0 || !uart->connected) {
        return;
    }
    for (uint32_t i = 0; i < VH_UART_FIFO; i++) {
        write8(uart, 0, (uint8_t)(value + i));
    }
    MUST(uart->bytes_dropped == dropped);
}

static void take(struct vh_uart *uart, uint32_t most)
{
    uint8_t buffer[256];
    uint32_t count = vh_uart_peek(uart, buffer, most);

    MUST(count <= most && count <= model.out_count);
    for (uint32_t i = 0; i < count; i++) {
        MUST(buffer[i] == model.out[model.out_head]);
        model.out_head = (model.out_head + 1) % QUEUE;
        model.out_count--;
    }
    vh_uart_consume(uart, count);
    model.total += count;
}

/* Input is taken up to what the UART said, and read back in order. */
static void give(struct vh_uart *uart, uint8_t first, uint32_t bytes)
{
    uint8_t data[32];
    uint32_t room = vh_uart_rx_room(uart);
    uint32_t taken;

    for (uint32_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(first + i);
    }
    taken = vh_uart_receive(uart, data, bytes);
    MUST(room <= VH_UART_FIFO && taken == (bytes < room ? bytes : room));
    MUST(uart->rx_count <= VH_UART_FIFO);
    if (taken > 0 && uart->rx_count == taken && (uart->lcr & 0x80) == 0) {
        for (uint32_t i = 0; i < taken; i++) {
            MUST((read8(uart, 5) & 1) != 0);
            MUST(read8(uart, 0) == data[i]);
        }
        MUST((read8(uart, 5) & 1) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    static struct vh_uart uart;

    memset(&model, 0, sizeof(model));
    MUST(vh_uart_init(&uart, &err) == VMMHPC_OK);
    uart.set_irq = set_irq;
    uart.notify = wake;
    vh_uart_connect(&uart, true);
    for (size_t at = 0; bytes - at >= STEP && at < 4096 * STEP; at += STEP) {
        uint8_t reg = data[at + 1] & 7u;
        uint8_t value = data[at + 2];

        switch (data[at] & 15u) {
        case 0:
            take(&uart, value);
            break;
        case 1:
            give(&uart, value, data[at + 1] & 31u);
            break;
        case 2:
            obedient_write(&uart, value);
            break;
        case 3:
            vh_uart_connect(&uart, (value & 1u) != 0);
            if ((value & 1u) == 0) {
                model.out_count = 0; /* dropped, and counted */
            }
            break;
        case 4:
            vh_uart_reset(&uart);
            break;
        case 5: /* wider accesses, only of registers that send nothing */
            (void)vh_uart_access(&uart, 0, reg, 1u << (value & 3u), VMMHPC_ACCESS_READ, 0);
            break;
        case 6:
        case 7:
        case 8:
            (void)read8(&uart, reg);
            break;
        default:
            write8(&uart, reg, value);
            break;
        }
        MUST(uart.irq_level == model.irq);
        MUST(uart.tx_count == model.out_count);
    }
    fuzz_count(model.total > 0);
    vh_uart_destroy(&uart);
    return 0;
}
