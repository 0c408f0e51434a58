/* SPDX-License-Identifier: Apache-2.0 */
#include "uart.h"

#include <string.h>

enum {
    REG_DATA = 0, /* RBR, THR; DLL with DLAB */
    REG_IER = 1,  /* DLM with DLAB */
    REG_IIR = 2,  /* FCR on write */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
};

enum {
    IER_RX = 0x01,
    IER_THRE = 0x02,
    IER_LINE = 0x04,
    IER_MODEM = 0x08,
    IIR_NONE = 0x01,
    IIR_MODEM = 0x00,
    IIR_THRE = 0x02,
    IIR_RX = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 0x01,
    FCR_CLEAR_RX = 0x02,
    FCR_CLEAR_TX = 0x04,
    LCR_DLAB = 0x80,
    MCR_DTR = 0x01,
    MCR_OUT2 = 0x08,
    MCR_LOOP = 0x10,
    LSR_DATA = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_DCD = 0x80,
};

/* The transmitter takes a FIFO's worth whenever it says THRE, so keep that much room. */
static bool tx_ready(const struct vh_uart *uart)
{
    return uart->tx_count + VH_UART_FIFO <= VH_UART_TX_RING;
}

static uint32_t rx_capacity(const struct vh_uart *uart)
{
    return (uart->fcr & FCR_ENABLE) != 0 ? VH_UART_FIFO : 1;
}

static uint32_t rx_trigger(const struct vh_uart *uart)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return (uart->fcr & FCR_ENABLE) != 0 ? levels[uart->fcr >> 6] : 1;
}

/* The highest-priority interrupt that is pending and enabled (data sheet, table IV). */
static uint8_t interrupt_id(const struct vh_uart *uart)
{
    if ((uart->ier & IER_LINE) != 0 && uart->overrun) {
        return IIR_LINE;
    }
    if ((uart->ier & IER_RX) != 0 && uart->rx_count > 0) {
        /* Below the trigger level the time-out interrupt reports the bytes; we report at once. */
        return uart->rx_count >= rx_trigger(uart) ? IIR_RX : IIR_TIMEOUT;
    }
    if ((uart->ier & IER_THRE) != 0 && uart->thre_pending) {
        return IIR_THRE;
    }
    if ((uart->ier & IER_MODEM) != 0 && uart->msr_delta != 0) {
        return IIR_MODEM;
    }
    return IIR_NONE;
}

/* OUT2 gates the interrupt line on a PC. */
static void update_irq(struct vh_uart *uart)
{
    bool level = interrupt_id(uart) != IIR_NONE && (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    if (level != uart->irq_level) {
        uart->irq_level = level;
        if (uart->set_irq != NULL) {
            uart->set_irq(uart->opaque, level);
        }
    }
}

static void notify(struct vh_uart *uart)
{
    if (uart->notify != NULL) {
        uart->notify(uart->opaque);
    }
}

static void rx_push(struct vh_uart *uart, uint8_t byte)
{
    if (uart->rx_count >= rx_capacity(uart)) {
        uart->overrun = true;
        return;
    }
    uart->rx[(uart->rx_head + uart->rx_count) % VH_UART_FIFO] = byte;
    uart->rx_count++;
}

static uint8_t read_data(struct vh_uart *uart)
{
    if (uart->rx_count == 0) {
        return 0;
    }
    uint8_t byte = uart->rx[uart->rx_head];
    uart->rx_head = (uart->rx_head + 1) % VH_UART_FIFO;
    uart->rx_count--;
    if (uart->rx_count == 0) {
        notify(uart);
    }
    return byte;
}

static void write_data(struct vh_uart *uart, uint8_t byte)
{
    uart->thre_pending = false;
    if ((uart->mcr & MCR_LOOP) != 0) {
        rx_push(uart, byte);
    } else {
        uart->bytes_out++;
        /* Nobody listens, or the guest wrote although THRE was clear: the byte is lost. */
        if (!uart->connected || uart->tx_count >= VH_UART_TX_RING) {
            uart->bytes_dropped++;
        } else {
            uart->tx[(uart->tx_head + uart->tx_count) % VH_UART_TX_RING] = byte;
            if (uart->tx_count++ == 0) {
                notify(uart);
            }
        }
    }
    /* With room in the ring the byte is "sent" at once. */
    if (tx_ready(uart)) {
        uart->thre_pending = true;
    }
}

static uint8_t read_lsr(struct vh_uart *uart)
{
    uint8_t lsr = uart->rx_count > 0 ? LSR_DATA : 0;
    if (uart->overrun) {
        lsr |= LSR_OVERRUN;
        uart->overrun = false;
    }
    if (tx_ready(uart)) {
        lsr |= LSR_THRE | LSR_TEMT;
    }
    return lsr;
}

/* In loop-back the modem outputs come back as inputs; else a terminal is always there. */
static uint8_t modem_inputs(const struct vh_uart *uart)
{
    if ((uart->mcr & MCR_LOOP) == 0) {
        return MSR_CTS | MSR_DSR | MSR_DCD;
    }
    uint8_t mcr = uart->mcr;
    return (uint8_t)((mcr & 0x02) << 3 | (mcr & 0x01) << 5 | (mcr & 0x04) << 4 | (mcr & 0x08) << 4);
}

static uint8_t read_register(struct vh_uart *uart, uint32_t reg)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;
    switch (reg) {
    case REG_DATA:
        return dlab ? uart->dll : read_data(uart);
    case REG_IER:
        return dlab ? uart->dlm : uart->ier;
    case REG_IIR: {
        uint8_t id = interrupt_id(uart);
        if (id == IIR_THRE) {
            uart->thre_pending = false;
        }
        return id | ((uart->fcr & FCR_ENABLE) != 0 ? IIR_FIFO : 0);
    }
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return read_lsr(uart);
    case REG_MSR: {
        uint8_t msr = modem_inputs(uart) | uart->msr_delta;
        uart->msr_delta = 0;
        return msr;
    }
    default:
        return uart->scr;
    }
}

static void write_fcr(struct vh_uart *uart, uint8_t value)
{
    /* Changing the mode clears both FIFOs. Bytes that the transmitter has taken are sent already.
     */
    if (((value ^ uart->fcr) & FCR_ENABLE) != 0 || (value & FCR_CLEAR_RX) != 0) {
        uart->rx_head = 0;
        uart->rx_count = 0;
        notify(uart);
    }
    uart->fcr = (value & FCR_ENABLE) != 0 ? value & 0xc9 : 0;
}

static void write_mcr(struct vh_uart *uart, uint8_t value)
{
    uint8_t before = modem_inputs(uart);
    uart->mcr = value & 0x1f;
    uint8_t changed = before ^ modem_inputs(uart);
    uart->msr_delta |= (uint8_t)((changed >> 4) & 0x0b);
    if ((changed & 0x40) != 0 && (before & 0x40) != 0) {
        uart->msr_delta |= 0x04; /* TERI: ring indicator fell */
    }
    notify(uart); /* the guest may listen from now on */
}

static void write_register(struct vh_uart *uart, uint32_t reg, uint8_t value)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;
    switch (reg) {
    case REG_DATA:
        if (dlab) {
            uart->dll = value;
        } else {
            write_data(uart, value);
        }
        break;
    case REG_IER:
        if (dlab) {
            uart->dlm = value;
            break;
        }
        /* Enabling the THRE interrupt while the transmitter is empty raises it at once. */
        if ((value & IER_THRE) != 0 && (uart->ier & IER_THRE) == 0 && tx_ready(uart)) {
            uart->thre_pending = true;
        }
        uart->ier = value & 0x0f;
        notify(uart); /* the guest may listen from now on */
        break;
    case REG_IIR:
        write_fcr(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        write_mcr(uart, value);
        break;
    case REG_SCR:
        uart->scr = value;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}

uint64_t vh_uart_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value)
{
    struct vh_uart *uart = opaque;
    uint64_t result = 0;
    (void)vcpu;
    (void)pthread_mutex_lock(&uart->lock);
    /* A wider access is that many byte accesses to successive registers, as on the ISA bus. */
    for (uint32_t i = 0; i < bytes; i++) {
        uint32_t reg = (uint32_t)(offset + i) & 7;
        if (direction == VMMHPC_ACCESS_WRITE) {
            write_register(uart, reg, (uint8_t)(value >> (8 * i)));
        } else {
            result |= (uint64_t)read_register(uart, reg) << (8 * i);
        }
    }
    update_irq(uart);
    (void)pthread_mutex_unlock(&uart->lock);
    return result;
}

uint32_t vh_uart_peek(struct vh_uart *uart, uint8_t *buffer, uint32_t capacity)
{
    (void)pthread_mutex_lock(&uart->lock);
    uint32_t count = uart->tx_count < capacity ? uart->tx_count : capacity;
    for (uint32_t i = 0; i < count; i++) {
        buffer[i] = uart->tx[(uart->tx_head + i) % VH_UART_TX_RING];
    }
    (void)pthread_mutex_unlock(&uart->lock);
    return count;
}

void vh_uart_consume(struct vh_uart *uart, uint32_t bytes)
{
    (void)pthread_mutex_lock(&uart->lock);
    bool was_ready = tx_ready(uart);
    if (bytes > uart->tx_count) {
        bytes = uart->tx_count;
    }
    uart->tx_head = (uart->tx_head + bytes) % VH_UART_TX_RING;
    uart->tx_count -= bytes;
    if (!was_ready && tx_ready(uart)) {
        uart->thre_pending = true;
        update_irq(uart);
    }
    (void)pthread_mutex_unlock(&uart->lock);
}

/* A guest that is not listening yet would throw input away while it probes the chip (Linux drains
 * the receiver when it opens the port), so send only once DTR is raised or receive interrupts are
 * on: what a terminal with hardware flow control does. */
static uint32_t rx_room(const struct vh_uart *uart)
{
    bool listening = (uart->ier & IER_RX) != 0 || (uart->mcr & MCR_DTR) != 0;
    /* In loop-back the receiver hears the transmitter only. */
    return listening && (uart->mcr & MCR_LOOP) == 0 ? rx_capacity(uart) - uart->rx_count : 0;
}

uint32_t vh_uart_rx_room(struct vh_uart *uart)
{
    (void)pthread_mutex_lock(&uart->lock);
    uint32_t room = rx_room(uart);
    (void)pthread_mutex_unlock(&uart->lock);
    return room;
}

uint32_t vh_uart_receive(struct vh_uart *uart, const uint8_t *data, uint32_t bytes)
{
    (void)pthread_mutex_lock(&uart->lock);
    uint32_t taken = 0;
    while (taken < bytes && rx_room(uart) > 0) {
        rx_push(uart, data[taken++]);
    }
    uart->bytes_in += taken;
    update_irq(uart);
    (void)pthread_mutex_unlock(&uart->lock);
    return taken;
}

void vh_uart_connect(struct vh_uart *uart, bool connected)
{
    (void)pthread_mutex_lock(&uart->lock);
    bool was_ready = tx_ready(uart);
    uart->connected = connected;
    if (!connected) {
        uart->bytes_dropped += uart->tx_count;
        uart->tx_count = 0;
        if (!was_ready) {
            uart->thre_pending = true;
            update_irq(uart);
        }
    }
    (void)pthread_mutex_unlock(&uart->lock);
}

static void power_on(struct vh_uart *uart)
{
    uart->ier = 0;
    uart->lcr = 0;
    uart->mcr = 0;
    uart->scr = 0;
    uart->fcr = 0;
    uart->dll = 0x0c; /* 9600 baud, as firmware leaves it */
    uart->dlm = 0;
    uart->msr_delta = 0;
    uart->overrun = false;
    uart->thre_pending = false;
    uart->rx_head = 0;
    uart->rx_count = 0;
}

int32_t vh_uart_init(struct vh_uart *uart, struct vmmhpc_error *err)
{
    memset(uart, 0, sizeof(*uart));
    int failed = pthread_mutex_init(&uart->lock, NULL);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, 0, "cannot make a lock for the UART");
    }
    power_on(uart);
    return VMMHPC_OK;
}

void vh_uart_destroy(struct vh_uart *uart)
{
    (void)pthread_mutex_destroy(&uart->lock);
}

void vh_uart_reset(struct vh_uart *uart)
{
    (void)pthread_mutex_lock(&uart->lock);
    power_on(uart);
    update_irq(uart);
    (void)pthread_mutex_unlock(&uart->lock);
}
