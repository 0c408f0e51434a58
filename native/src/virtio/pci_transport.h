/* SPDX-License-Identifier: Apache-2.0 */
/* What the transport over PCI keeps of a device: for pci_transport.c, and for snapshots. */
#ifndef VH_VIRTIO_PCI_TRANSPORT_H
#define VH_VIRTIO_PCI_TRANSPORT_H

#include "pci/pci.h"
#include "virtio/virtio.h"

#define VH_VIRTIO_VENDOR 0x1af4u

struct vh_doorbell {
    struct vh_virtio_pci *pci;
    struct vh_io_source source;
    uint16_t vector;
    bool bound; /* an ioeventfd of KVM's at pci->notify_gpa */
};

struct vh_virtio_pci {
    struct vh_pci_device pci; /* first: the bus knows this one */
    struct vh_virtio *device;
    uint32_t window; /* offset of the capability that reaches BARs through configuration space */
    /* All below are guarded by the device's lock. */
    uint64_t notify_gpa; /* of the doorbells, or VH_PCI_NOWHERE */
    uint64_t driver_features;
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
    uint8_t status;
    uint8_t generation;
    uint8_t isr;
    struct vh_doorbell doorbells[VH_VIRTIO_QUEUES];
};

#endif
