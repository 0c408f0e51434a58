/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI 3.0, 6.8.2). Each vector is an eventfd. Unmasked, it is an irqfd of KVM's; masked, it
 * is not, so that a signal stays in the eventfd: that is the pending bit, and KVM sends what it
 * finds there when the descriptor is bound again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvm_irq.h"
#include "machine.h"
#include "pci/pci.h"

#define CAPABILITY_ID 0x11u
#define CAPABILITY_BYTES 12u
#define CONTROL_ENABLE 0x8000u
#define CONTROL_MASK 0x4000u
#define VECTOR_MASKED 1u /* in a table entry's control word */

int32_t vh_msix_init(struct vh_pci_device *device, struct vmmhpc_error *err)
{
    struct vh_msix *msix = &device->msix;
    uint32_t count = device->msix_vectors;
    int failed = pthread_mutex_init(&msix->lock, NULL);
    if (failed != 0 || count > VH_MSIX_VECTORS_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, failed, count, "%u MSI-X vectors are too many", count);
    }
    msix->table = calloc(count, sizeof(msix->table[0]));
    msix->vectors = calloc(count, sizeof(msix->vectors[0]));
    msix->capability = vh_pci_capability(device, CAPABILITY_ID, CAPABILITY_BYTES);
    msix->bar = device->msix_bar;
    if (msix->table == NULL || msix->vectors == NULL || msix->capability == 0) {
        vh_msix_destroy(device);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, count, "no memory for %u MSI-X vectors", count);
    }
    int32_t status = VMMHPC_OK;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        msix->vectors[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        msix->table[i][3] = VECTOR_MASKED;
        if (msix->vectors[i].fd < 0) {
            status = vh_fail(err, VMMHPC_E_SYSCALL, errno, i, "cannot create an eventfd");
            break;
        }
        msix->count = i + 1;
        status = vh_irq_new_gsi(device->vm, &msix->vectors[i].gsi, err);
    }
    if (status != VMMHPC_OK) {
        vh_msix_destroy(device);
        return status;
    }
    uint8_t *capability = device->config + msix->capability;
    /* Message control (table size less one), table at 0 and pending bits behind it, both in `bar`.
     */
    uint32_t registers[2] = {device->msix_bar * 2, VH_MSIX_PENDING | device->msix_bar * 2};
    capability[2] = (uint8_t)(count - 1);
    capability[3] = (uint8_t)((count - 1) >> 8);
    memcpy(capability + 4, registers, sizeof(registers));
    device->writable[msix->capability + 3] = (CONTROL_ENABLE | CONTROL_MASK) >> 8;
    return VMMHPC_OK;
}

void vh_msix_destroy(struct vh_pci_device *device)
{
    struct vh_msix *msix = &device->msix;
    for (uint32_t i = 0; msix->vectors != NULL && i < msix->count; i++) {
        (void)close(msix->vectors[i].fd);
    }
    free(msix->vectors);
    free(msix->table);
    if (msix->capability != 0) {
        (void)pthread_mutex_destroy(&msix->lock);
    }
    msix->vectors = NULL;
    msix->table = NULL;
    msix->count = 0;
}

/* Bring one vector's route in line with the table. msix->lock is held. */
static void update(struct vh_pci_device *device, uint32_t index)
{
    struct vh_msix *msix = &device->msix;
    struct vh_msix_vector *vector = &msix->vectors[index];
    const uint32_t *entry = msix->table[index];
    bool open = atomic_load(&msix->enabled) && !msix->function_masked && !msix->held &&
                (entry[3] & VECTOR_MASKED) == 0;
    if (open) {
        uint64_t address = (uint64_t)entry[1] << 32 | entry[0];
        /* Where KVM refuses the message there is nobody to tell: the interrupt stays pending. */
        open = vh_irq_route_msi(device->vm, vector->gsi, address, entry[2], NULL) == VMMHPC_OK;
    }
    if (open && !vector->routed) {
        vector->routed = vh_irqfd_bind(device->vm, vector->fd, -1, vector->gsi, NULL) == VMMHPC_OK;
    } else if (!open && vector->routed) {
        vh_irqfd_unbind(device->vm, vector->fd, vector->gsi);
        vector->routed = false;
    }
}

void vh_msix_control(struct vh_pci_device *device)
{
    struct vh_msix *msix = &device->msix;
    uint32_t control = (uint32_t)device->config[msix->capability + 3] << 8;
    (void)pthread_mutex_lock(&msix->lock);
    atomic_store(&msix->enabled, (control & CONTROL_ENABLE) != 0);
    msix->function_masked = (control & CONTROL_MASK) != 0;
    for (uint32_t i = 0; i < msix->count; i++) {
        update(device, i);
    }
    (void)pthread_mutex_unlock(&msix->lock);
    if ((control & CONTROL_ENABLE) != 0) {
        vh_intx_set(device, false); /* 6.8.3.3: not both */
    }
}

void vh_msix_reset(struct vh_pci_device *device)
{
    struct vh_msix *msix = &device->msix;
    device->config[msix->capability + 3] = 0;
    vh_msix_control(device);
    (void)pthread_mutex_lock(&msix->lock);
    for (uint32_t i = 0; i < msix->count; i++) {
        eventfd_t pending = 0;
        (void)eventfd_read(msix->vectors[i].fd, &pending);
        memset(msix->table[i], 0, VH_MSIX_ENTRY_BYTES);
        msix->table[i][3] = VECTOR_MASKED;
    }
    (void)pthread_mutex_unlock(&msix->lock);
}

static uint64_t pending_bits(const struct vh_msix *msix, uint64_t from)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < 64 && from + i < msix->count; i++) {
        const struct vh_msix_vector *vector = &msix->vectors[from + i];
        struct pollfd p = {.fd = vector->fd, .events = POLLIN};
        if (!vector->routed && vh_poll(&p, 1, 0) == 1) {
            bits |= 1ull << i;
        }
    }
    return bits;
}

/* 6.8.2: aligned doublewords and quadwords; narrower accesses are undefined, and ignored. */
uint64_t vh_msix_access(struct vh_pci_device *device, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value)
{
    struct vh_msix *msix = &device->msix;
    uint64_t result = 0;
    if ((bytes != 4 && bytes != 8) || offset % bytes != 0) {
        return UINT64_MAX;
    }
    (void)pthread_mutex_lock(&msix->lock);
    if (offset >= VH_MSIX_PENDING) {
        result = pending_bits(msix, (offset - VH_MSIX_PENDING) / 8 * 64) >> (8 * (offset & 4));
    } else if (offset / VH_MSIX_ENTRY_BYTES < msix->count) {
        uint32_t index = (uint32_t)(offset / VH_MSIX_ENTRY_BYTES);
        uint8_t *entry = (uint8_t *)msix->table[index] + offset % VH_MSIX_ENTRY_BYTES;
        if (direction == VMMHPC_ACCESS_WRITE) {
            memcpy(entry, &value, bytes);
            update(device, index);
        } else {
            memcpy(&result, entry, bytes);
        }
    }
    (void)pthread_mutex_unlock(&msix->lock);
    return result;
}

int vh_msix_fd(const struct vh_pci_device *device, uint32_t vector)
{
    return vector < device->msix.count ? device->msix.vectors[vector].fd : -1;
}

bool vh_pci_msix_signal(struct vh_pci_device *device, uint32_t vector)
{
    if (!atomic_load(&device->msix.enabled)) {
        return false;
    }
    if (vector < device->msix.count) {
        (void)eventfd_write(device->msix.vectors[vector].fd, 1);
    }
    return true;
}
