/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device: a PCI function of the host's on the machine's bus, docs/reference/vfio.md.
 *
 * The bus's lock guards all that changes here. Accesses to BARs take none: they use what is fixed
 * once the device is there, and MSI-X's own.
 */
#ifndef VH_VFIO_DEVICE_H
#define VH_VFIO_DEVICE_H

#include "device_hooks.h"
#include "vmmhpc_vfio.h"

#define VH_VFIO_BARS 6u
/* Each stretch that is trapped splits what is mapped of a BAR in two. */
#define VH_VFIO_TRAPS 2u
#define VH_VFIO_PIECES (VH_VFIO_BARS + VH_VFIO_TRAPS)
#define VH_VFIO_MAPPINGS 64u /* of guest memory: RAM's slots, and pmem */

/* A stretch of the device's descriptor. */
struct vh_vfio_region {
    uint64_t offset; /* in the descriptor */
    uint64_t bytes;  /* 0: there is none */
    bool mappable;
};

/** What the kernel says of the function. */
struct vh_vfio_function {
    int container; /* -1: no IOMMU, in tests */
    int group;
    int device;
    bool resets;         /* it can be reset by itself */
    bool intx;           /* it has an INTx pin */
    uint32_t msix_count; /* vectors; 0: no MSI-X */
    struct vh_vfio_region bars[VH_VFIO_BARS];
    struct vh_vfio_region config;
};

/* A BAR as the guest sees it. */
struct vh_vfio_bar {
    uint64_t bytes; /* power of two; 0: none that is shown */
    uint64_t home;  /* where it is after a reset */
    uint64_t gpa;   /* where it is decoded, or VH_PCI_NOWHERE */
    uint32_t flags; /* low bits of its register: of 64 bits, prefetchable */
};

/* What of a BAR the guest reaches without an exit. */
struct vh_vfio_piece {
    uint32_t bar;
    uint64_t offset; /* in the BAR */
    uint64_t bytes;
    void *host;
    bool in_slot; /* KVM has it */
};

/* A part of MSI-X's that is ours and not the device's. */
struct vh_vfio_trap {
    uint32_t bar;
    uint64_t offset;
    uint64_t bytes; /* 0: none */
};
enum { VH_VFIO_TABLE = 0, VH_VFIO_PENDING = 1 };

enum vh_vfio_interrupts { VH_VFIO_IRQ_NONE, VH_VFIO_IRQ_INTX, VH_VFIO_IRQ_MSIX };

struct vh_vfio_mapping {
    uint64_t gpa;
    uint64_t bytes;
};

struct vh_vfio {
    struct vh_pci_device pci; /* first */
    const struct vh_device_hooks *core;
    struct vh_vfio_function function;
    /* Of each byte of configuration space: the bits that are read from the device; whether what is
     * written goes to it. */
    uint8_t read_through[VH_PCI_CONFIG_BYTES];
    bool write_through[VH_PCI_CONFIG_BYTES];
    uint16_t command; /* as the device has it */
    struct vh_vfio_bar bars[VH_VFIO_BARS];
    struct vh_vfio_trap traps[VH_VFIO_TRAPS];
    struct vh_vfio_piece pieces[VH_VFIO_PIECES];
    uint32_t piece_count;
    enum vh_vfio_interrupts interrupts; /* what the device is set up for */
    int intx_fd;                        /* the device's signal */
    int unmask_fd;                      /* KVM's: the guest has ended the interrupt */
    struct vh_vfio_mapping mappings[VH_VFIO_MAPPINGS];
    uint32_t mapping_count;
};

static inline struct vh_vfio *vh_vfio_of(struct vh_pci_device *device)
{
    return (struct vh_vfio *)device;
}

/* function.c: the function as the kernel shows it. */

/** Ask the kernel; the descriptors are set. */
int32_t vh_vfio_describe(struct vh_vfio_function *function, struct vmmhpc_error *err);
/** False: the device, or the kernel, refuses. At most 8 bytes of a region. */
bool vh_vfio_read(const struct vh_vfio *vfio, const struct vh_vfio_region *region, uint64_t offset,
                  void *data, uint32_t bytes);
bool vh_vfio_write(const struct vh_vfio *vfio, const struct vh_vfio_region *region, uint64_t offset,
                   const void *data, uint32_t bytes);

/* device.c */

/** Put a function on the bus, which owns its descriptors and *vfio then; before, and on failure,
 *  the caller does. */
int32_t vh_vfio_add(struct vmmhpc *vm, struct vh_vfio *vfio, struct vmmhpc_error *err);
/** One with descriptors of its own, still to be described; NULL: no memory. */
struct vh_vfio *vh_vfio_new(const struct vh_device_hooks *core);
void vh_vfio_free(struct vh_vfio *vfio);

/* config.c: configuration space. The bus's lock is held. */

/** Make the guest's configuration space from the device's. */
int32_t vh_vfio_config_new(struct vh_vfio *vfio, struct vmmhpc_error *err);
void vh_vfio_config_read(struct vh_pci_device *device, uint32_t offset, uint32_t bytes);
void vh_vfio_config_written(struct vh_pci_device *device, uint32_t offset, uint32_t bytes);
/** Bring the device's command register in line with the guest's. */
void vh_vfio_command(struct vh_vfio *vfio);

/* bars.c: where registers are in the guest. The bus's lock is held, but for accesses. */

/** Give each BAR of the device a place, and map what can be. */
int32_t vh_vfio_bars_new(struct vh_vfio *vfio, struct vmmhpc_error *err);
void vh_vfio_bars_free(struct vh_vfio *vfio);
/** All in their places, as at power-on. */
void vh_vfio_bars_home(struct vh_vfio *vfio);
/** The command register or a BAR changed. */
void vh_vfio_bars_update(struct vh_vfio *vfio);
bool vh_vfio_decodes(struct vh_pci_device *device, uint64_t gpa, uint32_t bytes, uint32_t *bar,
                     uint64_t *offset);
uint64_t vh_vfio_bar_access(struct vh_pci_device *device, uint32_t bar, uint64_t offset,
                            uint32_t bytes, uint32_t direction, uint64_t value);

/* interrupts.c. The bus's lock is held. */

/** Bring what the device sends in line with what the guest wants; `off`: nothing. */
void vh_vfio_interrupts(struct vh_vfio *vfio, bool off);

/* dma.c: what the device can reach of the guest's memory. */

/** Let it reach all that there is by now. Pins memory. */
int32_t vh_vfio_dma_map(struct vh_vfio *vfio, struct vmmhpc_error *err);
void vh_vfio_dma_unmap(struct vh_vfio *vfio);

#endif
