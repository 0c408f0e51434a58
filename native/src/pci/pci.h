/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's PCI root: bus 0 with a host bridge in slot 0 and up to 31 functions, each alone in
 * its slot. Configuration by ECAM (PCIe 5.0, 7.2.2) and by ports 0xcf8 and 0xcfc (PCI 3.0,
 * 3.2.2.3.2, "mechanism #1"); 64-bit memory BARs; MSI-X; INTx.
 *
 * A machine without devices has the ports and the host bridge all the same, and nothing else: see
 * docs/decisions/0008-a-host-bridge-without-pci.md.
 *
 * Locks: bus->lock (configuration), then the device's own, then msix->lock or bus->intx_lock, then
 * the machine's kvm_lock.
 */
#ifndef VH_PCI_H
#define VH_PCI_H

#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"
#include "io_loop.h"

#define VH_PCI_SLOTS 32u
#define VH_PCI_BARS 3u           /* of 64 bits each: registers 0x10, 0x18, 0x20 */
#define VH_PCI_CONFIG_BYTES 256u /* what lies beyond, up to 4 KiB, reads as zero */
#define VH_PCI_LINES 4u          /* INTx: GSI VH_PCI_FIRST_GSI and the following */
#define VH_PCI_NOWHERE UINT64_MAX

/* Offsets in configuration space (PCI 3.0, 6.1). */
enum {
    VH_PCI_ID = 0x00,
    VH_PCI_COMMAND = 0x04,
    VH_PCI_STATUS = 0x06,
    VH_PCI_REVISION = 0x08,
    VH_PCI_CLASS = 0x08, /* in its upper three bytes */
    VH_PCI_BAR0 = 0x10,
    VH_PCI_SUBSYSTEM = 0x2c,
    VH_PCI_CAPABILITIES = 0x34,
    VH_PCI_INTERRUPT_LINE = 0x3c,
    VH_PCI_INTERRUPT_PIN = 0x3d,
};

enum {
    VH_PCI_COMMAND_MEMORY = 0x0002,
    VH_PCI_COMMAND_MASTER = 0x0004,
    VH_PCI_COMMAND_INTX_OFF = 0x0400,
    VH_PCI_STATUS_INTX = 0x0008,
    VH_PCI_STATUS_CAPABILITIES = 0x0010,
};

struct vmmhpc;
struct vh_pci_device;

struct vh_pci_ops {
    /** An access to a BAR, at most 8 bytes and inside it. vCPU thread, no lock held, or bus->lock
     *  where the device reaches its own BAR through configuration space. */
    uint64_t (*bar_access)(struct vh_pci_device *device, uint32_t bar, uint64_t offset,
                           uint32_t bytes, uint32_t direction, uint64_t value);
    /** A BAR is decoded at gpa from now on, or at VH_PCI_NOWHERE. bus->lock is held. */
    void (*bar_moved)(struct vh_pci_device *device, uint32_t bar, uint64_t gpa);
    /** For a device that keeps BARs of its own (bar_bytes all 0): is all of [gpa, + bytes) in one
     *  that is decoded? May be NULL. bus->lock is held. */
    bool (*decodes)(struct vh_pci_device *device, uint64_t gpa, uint32_t bytes, uint32_t *bar,
                    uint64_t *offset);
    /** Before configuration [offset, + bytes) is read, and after it was written, where the device
     *  asked for it by `hook_from` and `hook_end`. bus->lock is held. */
    void (*config_read)(struct vh_pci_device *device, uint32_t offset, uint32_t bytes);
    void (*config_written)(struct vh_pci_device *device, uint32_t offset, uint32_t bytes);
    /** As at power-on. No vCPU runs; I/O thread. */
    void (*reset)(struct vh_pci_device *device);
    /** Release it: no thread is in it. */
    void (*destroy)(struct vh_pci_device *device);
};

struct vh_msix_vector {
    int fd; /* eventfd: what the device signals */
    uint32_t gsi;
    bool routed; /* fd is an irqfd of KVM's: vector unmasked */
};

struct vh_msix {
    pthread_mutex_t lock;
    uint32_t count; /* of vectors; 0: no MSI-X */
    uint32_t bar;
    uint32_t capability; /* its offset in configuration space */
    bool function_masked;
    bool held; /* the device sends nothing now: as if all vectors were masked */
    atomic_bool enabled;
    uint32_t (*table)[4]; /* address, upper address, data, control (PCI 3.0, 6.8.2) */
    struct vh_msix_vector *vectors;
};

struct vh_pci_bar {
    uint64_t bytes; /* power of two, at least 4 KiB; 0: none */
    uint64_t gpa;   /* where it is decoded, or VH_PCI_NOWHERE */
};

struct vh_pci_device {
    /* Set by the device before vh_pci_add(). */
    const struct vh_pci_ops *ops;
    uint32_t vendor_device; /* device << 16 | vendor */
    uint32_t class_revision;
    uint32_t subsystem;
    uint64_t bar_bytes[VH_PCI_BARS];
    uint32_t msix_vectors; /* 0: none; then BAR `msix_bar` is the table's and no device's */
    uint32_t msix_bar;
    uint32_t hook_from; /* of configuration space, exclusive end */
    uint32_t hook_end;

    /* Kept by the bus. */
    struct vmmhpc *vm;
    uint32_t slot;
    uint32_t capabilities_end; /* next free byte for vh_pci_capability() */
    uint32_t last_capability;
    uint8_t config[VH_PCI_CONFIG_BYTES];
    uint8_t writable[VH_PCI_CONFIG_BYTES]; /* bits that the guest can change */
    struct vh_pci_bar bars[VH_PCI_BARS];
    uint64_t bar_home[VH_PCI_BARS]; /* where they are after a reset */
    struct vh_msix msix;
    bool intx_asserted; /* guarded by bus->intx_lock */
};

struct vh_intx_line {
    int trigger_fd; /* -1 until a device uses the line */
    struct vh_io_source resample;
    bool assigned; /* KVM knows the pair */
};

struct vh_pci_bus {
    _Atomic uint32_t address; /* what was last written to 0xcf8 */
    pthread_mutex_t lock;
    pthread_mutex_t intx_lock;
    uint32_t count; /* of slots in use, the bridge's included */
    struct vh_pci_device *devices[VH_PCI_SLOTS];
    struct vh_intx_line lines[VH_PCI_LINES];
    uint64_t window_gpa; /* of the 64-bit BARs */
    uint64_t window_bytes;
    uint64_t next_bar;     /* where the next BAR goes */
    uint64_t next_low_bar; /* likewise below 4 GiB, counted from VH_PCI_WINDOW_GPA */
};

/* ---- bus.c */

int32_t vh_pci_init(struct vmmhpc *vm, struct vmmhpc_error *err);
/** All devices as at power-on. No vCPU runs; I/O thread. */
void vh_pci_reset(struct vmmhpc *vm);
void vh_pci_destroy(struct vmmhpc *vm);

/** Bring up ECAM and the memory windows, if they are not yet; before the guest is loaded. */
int32_t vh_pci_open(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Put a device into the next free slot; the first brings ECAM and the memory windows with it. The
 *  bus destroys it from then on; on failure the caller does. */
int32_t vh_pci_add(struct vmmhpc *vm, struct vh_pci_device *device, struct vmmhpc_error *err);

/** Append a capability of so many bytes, its id and link included; the offset of its first byte, or
 *  0 where there is no room. After vh_pci_add(), before the guest runs. */
uint32_t vh_pci_capability(struct vh_pci_device *device, uint8_t id, uint32_t bytes);

/** May a BAR be decoded there? */
bool vh_pci_may_decode(const struct vmmhpc *vm, uint64_t gpa, uint64_t bytes);

/** Read and write configuration space; offset < 4096, bytes 1, 2 or 4, not crossing a doubleword.
 */
uint32_t vh_pci_config_read(struct vh_pci_bus *bus, uint32_t slot, uint32_t offset, uint32_t bytes);
void vh_pci_config_write(struct vh_pci_bus *bus, uint32_t slot, uint32_t offset, uint32_t bytes,
                         uint32_t value);

/* ---- ports.c */

/** Ports 0xcf8 ... 0xcff, as a vmmhpc_handler; opaque is a struct vh_pci_bus. */
uint64_t vh_pci_ports(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                      uint32_t direction, uint64_t value);

/* ---- msix.c */

#define VH_MSIX_ENTRY_BYTES 16u
#define VH_MSIX_PENDING 0x800u /* the table is below: at most 128 vectors */
#define VH_MSIX_VECTORS_MAX (VH_MSIX_PENDING / VH_MSIX_ENTRY_BYTES)

int32_t vh_msix_init(struct vh_pci_device *device, struct vmmhpc_error *err);
void vh_msix_destroy(struct vh_pci_device *device);
void vh_msix_reset(struct vh_pci_device *device);
/** An access to the table, or from VH_MSIX_PENDING on to the pending bits. */
uint64_t vh_msix_access(struct vh_pci_device *device, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value);
/** The message control register was written. bus->lock is held. */
void vh_msix_control(struct vh_pci_device *device);
/** The eventfd that stands for a vector, or -1. */
int vh_msix_fd(const struct vh_pci_device *device, uint32_t vector);

/* ---- intx.c */

void vh_intx_init(struct vmmhpc *vm);
/** Make the lines' descriptors. */
int32_t vh_intx_open(struct vmmhpc *vm, struct vmmhpc_error *err);
void vh_intx_reset(struct vmmhpc *vm);
void vh_intx_destroy(struct vmmhpc *vm);
/** Assert (until the device says otherwise) or withdraw a device's interrupt. */
void vh_intx_set(struct vh_pci_device *device, bool asserted);

/** Interrupt the guest: by the MSI-X vector where MSI-X is on, else nothing: see vh_intx_set(). */
bool vh_pci_msix_signal(struct vh_pci_device *device, uint32_t vector);

#endif
