/* SPDX-License-Identifier: Apache-2.0 */
/* A 16550A UART (PC16550D data sheet): FIFOs, interrupts, loop-back, and back-pressure both ways.
 * Output that the host does not take keeps THRE clear, so the guest waits and nothing is lost;
 * input that the guest does not read stays with the host. */
#ifndef VH_UART_H
#define VH_UART_H

#include <pthread.h>

#include "internal.h"

#define VH_UART_FIFO 16u
#define VH_UART_TX_RING 4096u /* host-side buffer behind the transmitter; a power of two */

struct vh_uart {
    pthread_mutex_t lock;
    /* Called with the lock held when the interrupt line changes. */
    void (*set_irq)(void *opaque, bool level);
    /* Called, lock held, when the transmit ring stops being empty, or the receive FIFO is emptied.
     */
    void (*notify)(void *opaque);
    void *opaque;

    uint8_t ier, lcr, mcr, scr, fcr, dll, dlm, msr_delta;
    bool overrun;
    bool thre_pending; /* THRE interrupt not yet acknowledged by an IIR read or a THR write */
    bool irq_level;
    uint8_t rx[VH_UART_FIFO];
    uint32_t rx_head, rx_count;
    uint8_t tx[VH_UART_TX_RING];
    uint32_t tx_head, tx_count;
    bool connected; /* false: output is dropped */
    uint64_t bytes_out, bytes_dropped, bytes_in;
};

int32_t vh_uart_init(struct vh_uart *uart, struct vmmhpc_error *err);
void vh_uart_destroy(struct vh_uart *uart);
/** Back to the power-on state. Output that is still in the ring is kept: it was sent already. */
void vh_uart_reset(struct vh_uart *uart);

/** A vmmhpc_handler; opaque is the struct vh_uart. */
uint64_t vh_uart_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value);

/** Host side: is there output; take up to n bytes of it without removing; remove n of them. */
uint32_t vh_uart_peek(struct vh_uart *uart, uint8_t *buffer, uint32_t capacity);
void vh_uart_consume(struct vh_uart *uart, uint32_t bytes);
/** Host side: how many bytes the receiver takes now, and give it some (returns how many it took).
 */
uint32_t vh_uart_rx_room(struct vh_uart *uart);
uint32_t vh_uart_receive(struct vh_uart *uart, const uint8_t *data, uint32_t bytes);
void vh_uart_connect(struct vh_uart *uart, bool connected);

#endif
