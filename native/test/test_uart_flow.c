/* SPDX-License-Identifier: Apache-2.0 */
/* The UART between guest and host: who waits for whom, and that nothing gets lost. */
#include "uart_rig.h"

#include <string.h>

/* Fill the ring as a guest does that looks at THRE: a FIFO's worth each time. */
static uint32_t fill(struct bench *uart)
{
    uint32_t sent = 0;

    while ((get(uart, LSR) & LSR_THRE) != 0) {
        for (uint32_t i = 0; i < VH_UART_FIFO; i++) {
            put(uart, DATA, (uint8_t)(sent++ % 251));
        }
    }
    return sent;
}

TEST(uart_slow_reader_holds_the_guest)
{
    struct bench *uart = uart_new();
    uint8_t out[512];
    uint32_t sent = fill(uart);
    uint32_t taken = 0;

    CHECK_EQ(sent, VH_UART_TX_RING);
    CHECK_EQ(get(uart, LSR) & LSR_TEMT, 0);
    for (;;) {
        uint32_t count = vh_uart_peek(&uart->uart, out, sizeof(out));

        if (count == 0) {
            break;
        }
        for (uint32_t i = 0; i < count; i++) {
            CHECK_EQ(out[i], (taken + i) % 251);
        }
        taken += count;
        vh_uart_consume(&uart->uart, count);
        CHECK((get(uart, LSR) & LSR_THRE) != 0);
    }
    CHECK_EQ(taken, sent);
    CHECK_EQ(uart->uart.bytes_dropped, 0);
    uart_drop(uart);
}

TEST(uart_room_again_raises_an_interrupt)
{
    struct bench *uart = uart_new();

    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x02);
    (void)get(uart, IIR);
    (void)fill(uart);
    (void)get(uart, IIR); /* acknowledges the last one */
    CHECK(!uart->irq);
    put(uart, IER, 0);
    put(uart, IER, 0x02);
    CHECK(!uart->irq); /* no room: enabling does not raise it */
    vh_uart_consume(&uart->uart, VH_UART_FIFO - 1);
    CHECK(!uart->irq); /* a FIFO's worth has to fit */
    vh_uart_consume(&uart->uart, 1);
    CHECK(uart->irq);
    CHECK_EQ(get(uart, IIR), 0x02);
    vh_uart_consume(&uart->uart, 1000);
    CHECK(!uart->irq); /* only once */
    uart_drop(uart);
}

TEST(uart_rude_guest_loses_only_its_own)
{
    struct bench *uart = uart_new();
    uint8_t out[VH_UART_TX_RING];

    for (uint32_t i = 0; i < VH_UART_TX_RING + 100; i++) {
        put(uart, DATA, (uint8_t)(i % 251));
    }
    CHECK_EQ(uart->uart.bytes_out, VH_UART_TX_RING + 100);
    CHECK_EQ(uart->uart.bytes_dropped, 100);
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), VH_UART_TX_RING);
    for (uint32_t i = 0; i < VH_UART_TX_RING; i++) {
        CHECK_EQ(out[i], i % 251);
    }
    uart_drop(uart);
}

TEST(uart_without_a_reader_never_waits)
{
    struct bench *uart = uart_new();

    (void)fill(uart);
    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x02);
    CHECK(!uart->irq);
    vh_uart_connect(&uart->uart, false); /* the reader has gone: the guest must not hang */
    CHECK(uart->irq);
    CHECK_EQ(uart->uart.bytes_dropped, VH_UART_TX_RING);
    CHECK_EQ(get(uart, LSR) & LSR_THRE, LSR_THRE);
    send(uart, "nobody");
    CHECK_EQ(uart->uart.bytes_dropped, VH_UART_TX_RING + 6);
    vh_uart_connect(&uart->uart, true);
    send(uart, "somebody");
    CHECK_EQ(uart->uart.tx_count, 8);
    CHECK_EQ(uart->uart.bytes_dropped, VH_UART_TX_RING + 6);
    CHECK_EQ(uart->uart.bytes_out, VH_UART_TX_RING + 14);
    uart_drop(uart);
}

TEST(uart_input_waits_for_a_listener)
{
    struct bench *uart = uart_new();

    put(uart, FCR, 0x01);
    CHECK_EQ(receive(uart, "early"), 0); /* a guest that probes the chip would throw it away */
    put(uart, MCR, 0x02);                /* RTS alone does not say it */
    CHECK_EQ(receive(uart, "early"), 0);
    uart->notified = 0;
    put(uart, MCR, 0x01); /* DTR */
    CHECK(uart->notified > 0);
    CHECK_EQ(receive(uart, "ab"), 2);
    put(uart, MCR, 0x00);
    CHECK_EQ(receive(uart, "c"), 0);
    CHECK_EQ(get(uart, DATA), 'a'); /* what is in stays */
    uart->notified = 0;
    put(uart, IER, 0x01); /* receive interrupts */
    CHECK(uart->notified > 0);
    CHECK_EQ(receive(uart, "c"), 1);
    put(uart, MCR, 0x10); /* loop-back: not listening to us */
    CHECK_EQ(receive(uart, "d"), 0);
    put(uart, MCR, 0x00);
    CHECK_EQ(receive(uart, "d"), 1);
    put(uart, IER, 0x0e); /* every interrupt but that one */
    CHECK_EQ(receive(uart, "e"), 0);
    CHECK_EQ(get(uart, DATA), 'b');
    CHECK_EQ(get(uart, DATA), 'c');
    CHECK_EQ(get(uart, DATA), 'd');
    CHECK_EQ(uart->uart.bytes_in, 4);
    uart_drop(uart);
}

TEST(uart_slow_guest_holds_the_host)
{
    struct bench *uart = uart_new();
    const char *text = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint32_t given = 0;
    uint32_t read = 0;

    put(uart, FCR, 0x81);
    put(uart, MCR, MCR_LISTEN);
    while (read < strlen(text)) {
        given += receive(uart, text + given);
        CHECK(given - read <= VH_UART_FIFO);
        uart->notified = 0;
        while ((get(uart, LSR) & LSR_DATA) != 0) {
            CHECK_EQ(get(uart, DATA), text[read++]);
        }
        CHECK_EQ(uart->notified, 1); /* when the FIFO is empty, the host is told */
    }
    CHECK_EQ(given, strlen(text));
    CHECK_EQ(uart->uart.overrun, false);
    uart_drop(uart);
}

TEST(uart_receiver_of_one_byte)
{
    struct bench *uart = uart_new();

    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x01);
    CHECK_EQ(receive(uart, "ab"), 1);
    CHECK(uart->irq);
    CHECK_EQ(get(uart, IIR), 0x04);
    CHECK_EQ(get(uart, DATA), 'a');
    CHECK(!uart->irq);
    CHECK_EQ(receive(uart, "b"), 1);
    CHECK(uart->irq);
    CHECK_EQ(uart->changes, 3);
    uart_drop(uart);
}

TEST(uart_without_callbacks)
{
    struct bench *uart = uart_new();

    uart->uart.set_irq = NULL;
    uart->uart.notify = NULL;
    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x0f);
    send(uart, "x");
    CHECK(uart->uart.irq_level);
    put(uart, IER, 0);
    uart_drop(uart);
}
