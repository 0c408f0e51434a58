/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus: configuration space, MSI-X tables, INTx; and the devices behind them. */
#include <poll.h>
#include <sys/eventfd.h>

#include "snapshot.h"
#include "virtio/pci_transport.h"

#define VECTORS_MAX 128u /* msix.c: as many as a table has room for */

struct saved_vector {
    uint32_t entry[4]; /* address, upper address, data, control (PCI 3.0, 6.8.2) */
    uint32_t pending;
    uint32_t reserved;
};

struct saved_pci {
    uint32_t vendor_device;
    uint32_t intx_asserted;
    uint8_t config[VH_PCI_CONFIG_BYTES];
    uint32_t vectors;
    uint32_t reserved;
    struct saved_vector vector[VECTORS_MAX];
};

struct vh_virtio_pci *vh_snap_virtio_of(struct vh_pci_device *pci)
{
    return (pci->vendor_device & 0xffff) == VH_VIRTIO_VENDOR ? (struct vh_virtio_pci *)pci : NULL;
}

int32_t vh_snap_drain(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (uint32_t slot = 1; status == VMMHPC_OK && slot < vm->pci.count; slot++) {
        struct vh_virtio_pci *device = vh_snap_virtio_of(vm->pci.devices[slot]);
        status = device == NULL ? vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, slot,
                                          "the PCI device in slot %u cannot be saved", slot)
                                : vh_snap_drain_virtio(device, err);
    }
    return status;
}

/* ------------------------------------------------------------------ saving */

/* A vector that is masked keeps what was signalled in its eventfd: msix.c. */
static void save_msix(struct vh_msix *msix, struct saved_pci *saved)
{
    saved->vectors = msix->count;
    (void)pthread_mutex_lock(&msix->lock);
    for (uint32_t i = 0; i < msix->count && i < VECTORS_MAX; i++) {
        struct pollfd p = {.fd = msix->vectors[i].fd, .events = POLLIN};
        memcpy(saved->vector[i].entry, msix->table[i], sizeof(saved->vector[i].entry));
        saved->vector[i].pending = !msix->vectors[i].routed && vh_poll(&p, 1, 0) == 1 ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&msix->lock);
}

int32_t vh_snap_save_devices(struct vmmhpc *vm, struct vh_snap_writer *writer,
                             struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (uint32_t slot = 1; status == VMMHPC_OK && slot < vm->pci.count; slot++) {
        struct vh_pci_device *pci = vm->pci.devices[slot];
        struct saved_pci saved = {.vendor_device = pci->vendor_device};
        (void)pthread_mutex_lock(&vm->pci.lock);
        saved.intx_asserted = __atomic_load_n(&pci->intx_asserted, __ATOMIC_RELAXED) ? 1 : 0;
        memcpy(saved.config, pci->config, sizeof(saved.config));
        (void)pthread_mutex_unlock(&vm->pci.lock);
        if (pci->msix.count > 0) {
            save_msix(&pci->msix, &saved);
        }
        vh_snap_section(writer, VH_SNAP_PCI, slot, &saved, sizeof(saved));
        status = vh_snap_save_virtio(vh_snap_virtio_of(pci), writer, err);
    }
    return status;
}

/* ------------------------------------------------------------------ loading */

/* What the driver may write, and nothing else; decoding is off until the device is as it was. */
static void load_config(struct vh_pci_device *pci, const struct saved_pci *saved)
{
    for (uint32_t i = VH_PCI_STATUS; i < VH_PCI_CONFIG_BYTES; i++) {
        uint8_t mask = pci->writable[i];
        pci->config[i] = (uint8_t)((pci->config[i] & ~mask) | (saved->config[i] & mask));
    }
}

static void load_msix(struct vh_pci_device *pci, const struct saved_pci *saved)
{
    struct vh_msix *msix = &pci->msix;
    (void)pthread_mutex_lock(&msix->lock);
    for (uint32_t i = 0; i < msix->count; i++) {
        memcpy(msix->table[i], saved->vector[i].entry, sizeof(saved->vector[i].entry));
    }
    (void)pthread_mutex_unlock(&msix->lock);
    vmmhpc_snapshot_hooks()->msix_control(pci); /* routes follow from the table */
    for (uint32_t i = 0; i < msix->count; i++) {
        if (saved->vector[i].pending != 0) {
            (void)eventfd_write(msix->vectors[i].fd, 1);
        }
    }
}

static int32_t load_device(struct vmmhpc *vm, uint32_t slot, const struct vh_snap_reader *reader,
                           uint32_t flags, struct vmmhpc_error *err)
{
    const struct vh_snapshot_hooks *hooks = vmmhpc_snapshot_hooks();
    struct vh_pci_device *pci = vm->pci.devices[slot];
    struct vh_virtio_pci *device = vh_snap_virtio_of(pci);
    struct saved_pci saved;
    int32_t status = vh_snap_get(reader, VH_SNAP_PCI, slot, &saved, sizeof(saved), err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (saved.vendor_device != pci->vendor_device || device == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, saved.vendor_device,
                       "the snapshot is of another machine: the device in slot %u is %04x:%04x "
                       "there, %04x:%04x here",
                       slot, saved.vendor_device & 0xffff, saved.vendor_device >> 16,
                       pci->vendor_device & 0xffff, pci->vendor_device >> 16);
    }
    if (saved.vectors != pci->msix.count) {
        return vh_snap_damaged(err, VH_SNAP_PCI, slot, "a device has other interrupts");
    }
    uint32_t command = 0;
    memcpy(&command, saved.config + VH_PCI_COMMAND, 2);
    (void)pthread_mutex_lock(&vm->pci.lock);
    load_config(pci, &saved);
    if (pci->msix.count > 0) {
        load_msix(pci, &saved);
    }
    (void)pthread_mutex_unlock(&vm->pci.lock);
    status = vh_snap_load_virtio(device, reader, flags, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    /* BARs are decoded from now on, and doorbells bound. */
    hooks->config_write(&vm->pci, slot, VH_PCI_COMMAND, 2, command);
    if (saved.intx_asserted != 0) {
        hooks->intx_set(pci, true);
    }
    vh_snap_wake_virtio(device);
    return VMMHPC_OK;
}

int32_t vh_snap_load_devices(struct vmmhpc *vm, const struct vh_snap_reader *reader, uint32_t flags,
                             struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (uint32_t slot = 1; status == VMMHPC_OK && slot < vm->pci.count; slot++) {
        status = load_device(vm, slot, reader, flags, err);
    }
    return status;
}
