/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INTx: four level-triggered lines shared by all slots, for drivers without MSI-X (UIO, mostly).
 * A line is a pair of eventfds (KVM_IRQFD_FLAG_RESAMPLE): a write to the first raises it; when the
 * guest has ended the interrupt KVM lowers it and signals the second, and we look whether a device
 * still asks for it. A line costs nothing until a device first uses it.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvm_irq.h"
#include "layout.h"
#include "machine.h"
#include "pci/pci.h"

static uint32_t line_of(const struct vh_pci_device *device)
{
    return VH_PCI_LINE(device->slot);
}

/* bus->intx_lock is held. */
static bool wanted(const struct vh_pci_bus *bus, uint32_t line)
{
    for (uint32_t slot = 1; slot < bus->count; slot++) {
        if (line_of(bus->devices[slot]) == line && bus->devices[slot]->intx_asserted) {
            return true;
        }
    }
    return false;
}

static void raise_line(struct vmmhpc *vm, uint32_t index)
{
    struct vh_intx_line *line = &vm->pci.lines[index];
    if (!line->assigned) {
        line->assigned = vh_irqfd_bind(vm, line->trigger_fd, line->resample.fd,
                                       VH_PCI_FIRST_GSI + index, NULL) == VMMHPC_OK;
    }
    (void)eventfd_write(line->trigger_fd, 1);
}

static void resampled(void *opaque, uint32_t events)
{
    struct vmmhpc *vm = opaque;
    struct vh_pci_bus *bus = &vm->pci;
    (void)events;
    (void)pthread_mutex_lock(&bus->intx_lock);
    for (uint32_t i = 0; i < VH_PCI_LINES; i++) {
        eventfd_t count = 0;
        if (bus->lines[i].assigned && eventfd_read(bus->lines[i].resample.fd, &count) == 0 &&
            wanted(bus, i)) {
            raise_line(vm, i);
        }
    }
    (void)pthread_mutex_unlock(&bus->intx_lock);
}

void vh_intx_set(struct vh_pci_device *device, bool asserted)
{
    struct vh_pci_bus *bus = &device->vm->pci;
    (void)pthread_mutex_lock(&bus->intx_lock);
    bool before = device->intx_asserted;
    __atomic_store_n(&device->intx_asserted, asserted, __ATOMIC_RELAXED);
    if (asserted && !before) {
        raise_line(device->vm, line_of(device));
    }
    (void)pthread_mutex_unlock(&bus->intx_lock);
}

void vh_intx_init(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < VH_PCI_LINES; i++) {
        vm->pci.lines[i] = (struct vh_intx_line){
            .trigger_fd = -1, .resample = {.fd = -1, .ready = resampled, .opaque = vm}};
    }
}

int32_t vh_intx_open(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < VH_PCI_LINES; i++) {
        struct vh_intx_line *line = &vm->pci.lines[i];
        line->trigger_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        line->resample.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (line->trigger_fd < 0 || line->resample.fd < 0) {
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, i, "cannot create an eventfd");
        }
        int32_t status = vh_io_add(vm, &line->resample, EPOLLIN, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

void vh_intx_reset(struct vmmhpc *vm)
{
    struct vh_pci_bus *bus = &vm->pci;
    (void)pthread_mutex_lock(&bus->intx_lock);
    for (uint32_t i = 0; i < VH_PCI_LINES; i++) {
        struct vh_intx_line *line = &bus->lines[i];
        eventfd_t count = 0;
        if (line->assigned) {
            vh_irqfd_unbind(vm, line->trigger_fd, VH_PCI_FIRST_GSI + i);
            line->assigned = false;
        }
        if (line->trigger_fd >= 0) {
            (void)eventfd_read(line->trigger_fd, &count);
            (void)eventfd_read(line->resample.fd, &count);
        }
    }
    for (uint32_t slot = 1; slot < bus->count; slot++) {
        bus->devices[slot]->intx_asserted = false;
    }
    (void)pthread_mutex_unlock(&bus->intx_lock);
}

void vh_intx_destroy(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < VH_PCI_LINES; i++) {
        struct vh_intx_line *line = &vm->pci.lines[i];
        if (line->trigger_fd >= 0) {
            (void)close(line->trigger_fd);
            line->trigger_fd = -1;
        }
        if (line->resample.fd >= 0) {
            (void)close(line->resample.fd);
            line->resample.fd = -1;
        }
    }
}
