/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that every machine has: power, reset, PCI configuration, UART. */
#include "layout.h"
#include "machine.h"

/* ACPI 6.4, 4.8.3.7: SLP_TYPx in bits 4:2, SLP_EN in bit 5 of the sleep control register. */
static uint64_t sleep_registers(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                                uint32_t direction, uint64_t value)
{
    (void)vcpu;
    (void)bytes;
    if (direction == VMMHPC_ACCESS_WRITE && offset == 0 && (value & VH_SLEEP_ENABLE) != 0 &&
        (value >> 2 & 7) == VH_SLEEP_TYPE_S5) {
        vh_request(opaque, VH_WANT_STOP, VMMHPC_STOP_POWEROFF, "the guest powered off");
    }
    return 0;
}

/* PCI configuration, and among its ports the PC reset control register: bit 2 resets, bit 1 says
 * how thoroughly. */
static uint64_t pci_and_reset(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                              uint32_t direction, uint64_t value)
{
    struct vmmhpc *vm = opaque;
    if (offset != VH_RESET_PORT - VH_PCI_PORT || bytes != 1) {
        return vh_pci_ports(&vm->pci, vcpu, offset, bytes, direction, value);
    }
    if (direction == VMMHPC_ACCESS_WRITE && (value & 4) != 0) {
        vh_request(vm, VH_WANT_RESET, VMMHPC_STOP_RESET, "the guest reset itself");
    }
    return 0;
}

/* No keyboard controller; but guests of all ages know that its command 0xfe resets the machine.
 * The status reads as all ones, which tells Linux that nothing is there. */
static uint64_t i8042(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                      uint32_t direction, uint64_t value)
{
    (void)vcpu;
    (void)offset;
    (void)bytes;
    if (direction == VMMHPC_ACCESS_WRITE && (value & 0xff) == VH_I8042_RESET) {
        vh_request(opaque, VH_WANT_RESET, VMMHPC_STOP_RESET, "the guest reset itself");
    }
    return 0xff;
}

static void uart_irq(void *opaque, bool level)
{
    (void)vmmhpc_irq_set(opaque, VH_UART_GSI, level ? 1 : 0, NULL);
}

static void uart_notify(void *opaque)
{
    vh_io_wake(opaque);
}

int32_t vh_builtin_devices(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    const struct {
        uint64_t base;
        uint64_t bytes;
        vmmhpc_handler handler;
        void *opaque;
        bool wanted;
    } devices[] = {
        {VH_SLEEP_CONTROL_PORT, 2, sleep_registers, vm, true},
        {VH_PCI_PORT, VH_PCI_BYTES, pci_and_reset, vm, true},
        {VH_I8042_PORT, 1, i8042, vm, true},
        {VH_UART_PORT, VH_UART_BYTES, vh_uart_access, &vm->uart,
         (vm->flags & VMMHPC_FLAG_NO_UART) == 0},
    };
    vm->uart.set_irq = uart_irq;
    vm->uart.notify = uart_notify;
    vm->uart.opaque = vm;
    for (size_t i = 0; i < VH_COUNT(devices); i++) {
        if (!devices[i].wanted) {
            continue;
        }
        int32_t status = vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, devices[i].base, devices[i].bytes,
                                           devices[i].handler, devices[i].opaque, NULL, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return vh_hypercall_gate(vm, err);
}
