/* SPDX-License-Identifier: Apache-2.0 */
/* The UART: registers, and what was on its way in both directions. */
#include "layout.h"
#include "snapshot.h"

struct saved_uart {
    uint8_t ier;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t scr;
    uint8_t fcr;
    uint8_t dll;
    uint8_t dlm;
    uint8_t msr_delta;
    uint8_t overrun;
    uint8_t thre_pending;
    uint8_t irq_level;
    uint8_t rx_count;
    uint32_t tx_count;
    uint8_t rx[VH_UART_FIFO];
    uint8_t tx[VH_UART_TX_RING]; /* the first to be sent first */
};

void vh_snap_save_uart(struct vmmhpc *vm, struct vh_snap_writer *writer)
{
    struct vh_uart *uart = &vm->uart;
    if ((vm->flags & VMMHPC_FLAG_NO_UART) != 0) {
        return;
    }
    /* The I/O thread hands bytes to the reader before it takes them out of the ring: between the
       two they would be saved although they have been read, and be said again. */
    (void)pthread_mutex_lock(&vm->console_lock);
    (void)pthread_mutex_lock(&uart->lock);
    struct saved_uart saved = {
        .ier = uart->ier,
        .lcr = uart->lcr,
        .mcr = uart->mcr,
        .scr = uart->scr,
        .fcr = uart->fcr,
        .dll = uart->dll,
        .dlm = uart->dlm,
        .msr_delta = uart->msr_delta,
        .overrun = uart->overrun ? 1 : 0,
        .thre_pending = uart->thre_pending ? 1 : 0,
        .irq_level = uart->irq_level ? 1 : 0,
        .rx_count = (uint8_t)uart->rx_count,
        .tx_count = uart->tx_count,
    };
    for (uint32_t i = 0; i < uart->rx_count; i++) {
        saved.rx[i] = uart->rx[(uart->rx_head + i) % VH_UART_FIFO];
    }
    for (uint32_t i = 0; i < uart->tx_count; i++) {
        saved.tx[i] = uart->tx[(uart->tx_head + i) % VH_UART_TX_RING];
    }
    (void)pthread_mutex_unlock(&uart->lock);
    (void)pthread_mutex_unlock(&vm->console_lock);
    vh_snap_section(writer, VH_SNAP_UART, 0, &saved, sizeof(saved));
}

int32_t vh_snap_load_uart(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err)
{
    struct vh_uart *uart = &vm->uart;
    struct saved_uart saved;
    if ((vm->flags & VMMHPC_FLAG_NO_UART) != 0) {
        return VMMHPC_OK;
    }
    int32_t status = vh_snap_get(reader, VH_SNAP_UART, 0, &saved, sizeof(saved), err);
    if (status != VMMHPC_OK) {
        return status;
    }
    /* Bit 0 of the FIFO control register enables the FIFOs. */
    if (saved.rx_count > ((saved.fcr & 1) != 0 ? VH_UART_FIFO : 1) ||
        saved.tx_count > VH_UART_TX_RING) {
        return vh_snap_damaged(err, VH_SNAP_UART, 0, "its UART makes no sense");
    }
    (void)pthread_mutex_lock(&uart->lock);
    uart->ier = saved.ier & 0x0f;
    uart->lcr = saved.lcr;
    uart->mcr = saved.mcr & 0x1f;
    uart->scr = saved.scr;
    uart->fcr = saved.fcr & 0xc9;
    uart->dll = saved.dll;
    uart->dlm = saved.dlm;
    uart->msr_delta = saved.msr_delta & 0x0f;
    uart->overrun = saved.overrun != 0;
    uart->thre_pending = saved.thre_pending != 0;
    uart->irq_level = saved.irq_level != 0;
    uart->rx_head = 0;
    uart->rx_count = saved.rx_count;
    memcpy(uart->rx, saved.rx, sizeof(uart->rx));
    uart->tx_head = 0;
    uart->tx_count = saved.tx_count;
    memcpy(uart->tx, saved.tx, sizeof(uart->tx));
    if (!uart->connected && uart->tx_count > VH_UART_TX_RING - VH_UART_FIFO) {
        /* The guest waits for room, and nobody may ever make some. */
        uint32_t dropped = uart->tx_count - (VH_UART_TX_RING - VH_UART_FIFO);
        uart->tx_head = dropped;
        uart->tx_count -= dropped;
        uart->bytes_dropped += dropped;
    }
    bool level = uart->irq_level;
    (void)pthread_mutex_unlock(&uart->lock);
    /* The IOAPIC has been told, but not by whom: without this nobody could lower the line. */
    if (vm->vm_fd >= 0) {
        (void)vmmhpc_irq_set(vm, VH_UART_GSI, level ? 1 : 0, NULL);
    }
    return VMMHPC_OK;
}
