/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550 from the guest's side: registers, FIFO, interrupts, loop-back (PC16550D data sheet). */
#include "uart_rig.h"

#include <string.h>

TEST(uart_power_on)
{
    struct bench *uart = uart_new();

    CHECK_EQ(get(uart, LSR), LSR_THRE | LSR_TEMT);
    CHECK_EQ(get(uart, IIR), 0x01);
    CHECK_EQ(get(uart, MSR), 0xb0); /* CTS, DSR, DCD: a terminal is there */
    CHECK_EQ(get(uart, IER), 0);
    CHECK_EQ(get(uart, LCR), 0);
    CHECK_EQ(get(uart, MCR), 0);
    CHECK_EQ(get(uart, DATA), 0);
    CHECK(!uart->irq);
    uart_drop(uart);
}

TEST(uart_divisor_latch)
{
    struct bench *uart = uart_new();

    put(uart, LCR, 0x83);
    CHECK_EQ(get(uart, DATA), 0x0c);
    put(uart, DATA, 0x34);
    put(uart, IER, 0x12);
    CHECK_EQ(get(uart, DATA), 0x34);
    CHECK_EQ(get(uart, IER), 0x12);
    put(uart, LCR, 0x03);
    CHECK_EQ(get(uart, IER), 0); /* the latch is not the register behind it */
    CHECK_EQ(uart->uart.bytes_out, 0);
    put(uart, IER, 0xff);
    CHECK_EQ(get(uart, IER), 0x0f);
    put(uart, LCR, 0x80);
    CHECK_EQ(get(uart, IER), 0x12);
    uart_drop(uart);
}

TEST(uart_autoconfig_as_linux_does_it)
{
    struct bench *uart = uart_new();

    /* drivers/tty/serial/8250/8250_port.c, autoconfig(). */
    put(uart, IER, 0);
    CHECK_EQ(get(uart, IER) & 0x0f, 0);
    put(uart, IER, 0x0f);
    CHECK_EQ(get(uart, IER) & 0x0f, 0x0f);
    put(uart, IER, 0);
    put(uart, MCR, 0x1a); /* loop, OUT2, RTS */
    CHECK_EQ(get(uart, MSR) & 0xf0, 0x90);
    put(uart, MCR, 0);
    put(uart, LCR, 0xbf);
    put(uart, FCR, 0);
    put(uart, LCR, 0);
    put(uart, FCR, 1);
    CHECK_EQ(get(uart, IIR) >> 6, 3); /* 16550A */
    /* Not a 16650, 16750, 16850 ... : no further FIFO mode, no EFR behind LCR 0xbf. */
    put(uart, FCR, 0x21);
    CHECK_EQ(get(uart, IIR) >> 5, 6);
    put(uart, LCR, 0x80);
    put(uart, FCR, 0x21);
    CHECK_EQ(get(uart, IIR) >> 5, 6);
    put(uart, LCR, 0);
    put(uart, SCR, 0xa5);
    CHECK_EQ(get(uart, SCR), 0xa5);
    CHECK_EQ(uart->uart.bytes_out, 0);
    CHECK_EQ(uart->changes, 0); /* the interrupt line was quiet all the time */
    uart_drop(uart);
}

TEST(uart_output_keeps_its_order)
{
    struct bench *uart = uart_new();
    uint8_t out[8];

    send(uart, "Hello");
    CHECK_EQ(vh_uart_peek(&uart->uart, out, 3), 3);
    CHECK_EQ(memcmp(out, "Hel", 3), 0);
    vh_uart_consume(&uart->uart, 2);
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), 3);
    CHECK_EQ(memcmp(out, "llo", 3), 0);
    vh_uart_consume(&uart->uart, 100); /* no more than there is */
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), 0);
    CHECK_EQ(uart->uart.bytes_out, 5);
    CHECK_EQ(uart->notified, 1); /* once, when the ring stopped being empty */
    uart_drop(uart);
}

TEST(uart_thre_interrupt)
{
    struct bench *uart = uart_new();

    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x02);
    CHECK(uart->irq); /* the transmitter is empty already */
    CHECK_EQ(get(uart, IIR), 0x02);
    CHECK(!uart->irq); /* reading IIR acknowledges */
    CHECK_EQ(get(uart, IIR), 0x01);
    put(uart, DATA, 'a');
    CHECK(uart->irq); /* sent at once */
    put(uart, IER, 0);
    CHECK(!uart->irq);
    put(uart, IER, 0x02);
    CHECK(uart->irq); /* enabling it again raises it again */
    (void)get(uart, IIR);
    put(uart, IER, 0x02); /* no change, no interrupt */
    CHECK(!uart->irq);
    put(uart, MCR, 0x03);
    put(uart, DATA, 'b');
    CHECK(!uart->irq); /* OUT2 gates the line */
    put(uart, MCR, MCR_LISTEN);
    CHECK(uart->irq);
    uart_drop(uart);
}

TEST(uart_interrupt_priorities)
{
    struct bench *uart = uart_new();

    put(uart, MCR, MCR_LISTEN);
    put(uart, FCR, 0x00);
    receive(uart, "x");
    /* A second byte overruns the one-byte receiver only in loop-back: the host waits for room. */
    put(uart, MCR, 0x10);
    put(uart, DATA, 'y');
    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x0f);
    CHECK_EQ(get(uart, IIR), 0x06); /* line status first */
    CHECK_EQ(get(uart, LSR), LSR_DATA | LSR_OVERRUN | LSR_THRE | LSR_TEMT);
    CHECK_EQ(get(uart, LSR), LSR_DATA | LSR_THRE | LSR_TEMT); /* and reading it clears it */
    CHECK_EQ(get(uart, IIR), 0x04);                           /* then data */
    CHECK_EQ(get(uart, IIR), 0x04);                           /* which IIR does not clear */
    CHECK_EQ(get(uart, DATA), 'x');
    CHECK_EQ(get(uart, IIR), 0x02); /* then the transmitter */
    CHECK_EQ(get(uart, IIR), 0x00); /* then the modem: its inputs went through loop-back */
    CHECK(uart->irq);
    CHECK_EQ(get(uart, MSR) & 0x0f, 0x0b);
    CHECK_EQ(get(uart, MSR) & 0x0f, 0);
    CHECK_EQ(get(uart, IIR), 0x01);
    CHECK(!uart->irq);
    uart_drop(uart);
}

TEST(uart_trigger_levels)
{
    static const uint8_t levels[] = {1, 4, 8, 14};

    for (uint8_t i = 0; i < 4; i++) {
        struct bench *uart = uart_new();

        put(uart, FCR, (uint8_t)(i << 6 | 1));
        put(uart, MCR, MCR_LISTEN);
        put(uart, IER, 0x01);
        for (uint32_t count = 1; count <= VH_UART_FIFO; count++) {
            receive(uart, "z");
            CHECK(uart->irq); /* below the level it is the time-out that reports them */
            CHECK_EQ(get(uart, IIR), 0xc0 | (count >= levels[i] ? 0x04 : 0x0c));
        }
        CHECK_EQ(vh_uart_rx_room(&uart->uart), 0);
        for (uint32_t count = 0; count < VH_UART_FIFO; count++) {
            CHECK_EQ(get(uart, DATA), 'z');
        }
        CHECK(!uart->irq);
        CHECK_EQ(get(uart, LSR) & LSR_DATA, 0);
        uart_drop(uart);
    }
}

TEST(uart_fifo_control)
{
    struct bench *uart = uart_new();

    put(uart, MCR, MCR_LISTEN);
    CHECK_EQ(vh_uart_rx_room(&uart->uart), 1); /* a 16450 */
    put(uart, FCR, 0x01);
    CHECK_EQ(vh_uart_rx_room(&uart->uart), VH_UART_FIFO);
    receive(uart, "abc");
    put(uart, FCR, 0x01); /* no change: the bytes stay */
    CHECK_EQ(get(uart, DATA), 'a');
    put(uart, FCR, 0x05); /* clearing the transmitter loses nothing either */
    CHECK_EQ(get(uart, DATA), 'b');
    put(uart, FCR, 0x03);
    CHECK_EQ(get(uart, LSR) & LSR_DATA, 0);
    receive(uart, "de");
    put(uart, FCR, 0x00); /* changing the mode clears it */
    CHECK_EQ(get(uart, LSR) & LSR_DATA, 0);
    CHECK_EQ(get(uart, IIR), 0x01);
    put(uart, FCR, 0xc0); /* without the enable bit the others are not heard */
    CHECK_EQ(get(uart, IIR), 0x01);
    uart_drop(uart);
}

TEST(uart_loop_back)
{
    struct bench *uart = uart_new();
    uint8_t out;

    put(uart, FCR, 0x01);
    put(uart, MCR, 0x10);
    CHECK_EQ(get(uart, MSR) & 0xf0, 0);
    for (uint8_t bit = 0; bit < 4; bit++) {
        static const uint8_t inputs[] = {0x20, 0x10, 0x40,
                                         0x80}; /* DTR DSR, RTS CTS, OUT1 RI, OUT2 DCD */

        put(uart, MCR, (uint8_t)(0x10 | 1 << bit));
        CHECK_EQ(get(uart, MSR) & 0xf0, inputs[bit]);
    }
    put(uart, MCR, 0x10);
    CHECK_EQ(get(uart, MSR) & 0x0f, 0x08); /* DCD fell */
    put(uart, MCR, 0x14);
    CHECK_EQ(get(uart, MSR) & 0x04, 0); /* the ring indicator rises: no event */
    put(uart, MCR, 0x10);
    CHECK_EQ(get(uart, MSR) & 0x04, 0x04); /* it falls: TERI */

    put(uart, MCR, 0x1f);
    put(uart, IER, 0x01);
    send(uart, "loop");
    CHECK(!uart->irq);                         /* the line is off in loop-back */
    CHECK_EQ(vh_uart_rx_room(&uart->uart), 0); /* and so is the host */
    CHECK_EQ(receive(uart, "host"), 0);
    CHECK_EQ(vh_uart_peek(&uart->uart, &out, 1), 0);
    CHECK_EQ(uart->uart.bytes_out, 0);
    for (const char *c = "loop"; *c != '\0'; c++) {
        CHECK_EQ(get(uart, DATA), *c);
    }
    send(uart, "0123456789abcdefX"); /* one too many */
    CHECK_EQ(get(uart, LSR) & (LSR_DATA | LSR_OVERRUN), LSR_DATA | LSR_OVERRUN);
    CHECK_EQ(get(uart, LSR) & LSR_OVERRUN, 0);
    for (const char *c = "0123456789abcdef"; *c != '\0'; c++) {
        CHECK_EQ(get(uart, DATA), *c);
    }
    CHECK_EQ(get(uart, LSR) & LSR_DATA, 0);
    uart_drop(uart);
}

TEST(uart_wide_accesses)
{
    struct bench *uart = uart_new();
    uint8_t out[4];

    /* As many byte accesses to successive registers. */
    (void)vh_uart_access(&uart->uart, 0, LCR, 4, VMMHPC_ACCESS_WRITE,
                         0x00000b03); /* LCR MCR LSR MSR */
    CHECK_EQ(get(uart, LCR), 0x03);
    CHECK_EQ(get(uart, MCR), 0x0b);
    (void)vh_uart_access(&uart->uart, 0, DATA, 2, VMMHPC_ACCESS_WRITE, 0x0541);
    CHECK_EQ(get(uart, IER), 0x05);
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), 1);
    CHECK_EQ(out[0], 'A');
    CHECK_EQ(vh_uart_access(&uart->uart, 0, LCR, 2, VMMHPC_ACCESS_READ, 0), 0x0b03);
    (void)vh_uart_access(&uart->uart, 0, SCR, 2, VMMHPC_ACCESS_WRITE, 0x4277); /* wraps to DATA */
    CHECK_EQ(get(uart, SCR), 0x77);
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), 2);
    uart_drop(uart);
}

TEST(uart_reset)
{
    struct bench *uart = uart_new();
    uint8_t out[4];

    put(uart, FCR, 0xc1);
    put(uart, MCR, MCR_LISTEN);
    put(uart, IER, 0x0f);
    send(uart, "out");
    receive(uart, "in");
    CHECK(uart->irq);
    vh_uart_reset(&uart->uart);
    CHECK(!uart->irq);
    CHECK_EQ(get(uart, IER), 0);
    CHECK_EQ(get(uart, IIR), 0x01);
    CHECK_EQ(get(uart, LSR), LSR_THRE | LSR_TEMT);
    CHECK_EQ(get(uart, MSR), 0xb0);
    CHECK_EQ(vh_uart_peek(&uart->uart, out, sizeof(out)), 3); /* this was sent already */
    CHECK_EQ(memcmp(out, "out", 3), 0);
    uart_drop(uart);
}
