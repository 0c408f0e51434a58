/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device: a PCI function after ivshmem 2, docs/reference/shm.md.
 *
 * Locks: the bus's, then the device's, then MSI-X's, the lines' and kvm_lock.
 */
#ifndef VH_SHM_DEVICE_H
#define VH_SHM_DEVICE_H

#include <pthread.h>

#include "device_hooks.h"
#include "shm.h"

#define VH_SHM_VENDOR_DEVICE 0x4106110au
#define VH_SHM_CLASS 0xff000000u /* no class; protocol 0: not said */

/* BARs by their number here; they are of 64 bits: registers 0x10, 0x18, 0x20. */
enum { VH_SHM_BAR_REGISTERS = 0, VH_SHM_BAR_MEMORY = 1, VH_SHM_BAR_MSIX = 2 };

/* What is handed to KVM: the table, the common section, areas before ours, ours, what lies behind.
 */
#define VH_SHM_PARTS 5u

/* In the first BAR; 32 bits, aligned. */
enum {
    VH_SHM_REG_ID = 0x00,
    VH_SHM_REG_PEERS = 0x04,
    VH_SHM_REG_INTERRUPTS = 0x08, /* bit 0: on */
    VH_SHM_REG_DOORBELL = 0x0c,   /* peer << 16 | vector */
    VH_SHM_REG_STATE = 0x10,
};

/* Registers of its IOMMU: iommu.c. */
#define VH_SHM_IOMMU_BYTES 0x100u

struct vh_shm_other {
    bool present;
    int bells[VMMHPC_SHM_VECTORS];
};

struct vh_shm {
    struct vh_pci_device pci; /* first */
    const struct vh_device_hooks *core;
    pthread_mutex_t lock;
    uint32_t id;
    uint32_t peers;
    uint64_t area_bytes;
    uint64_t common_bytes;
    int table_fd;
    /* Address space as large as the BAR. What of it is nobody's reads as zero. */
    uint8_t *window;
    uint64_t window_bytes;
    bool slots[VH_SHM_PARTS]; /* what of it KVM has */
    uint64_t gpa[2];          /* of the first two BARs, or VH_PCI_NOWHERE */
    struct vh_io_source link;
    struct vh_io_source bells[VMMHPC_SHM_VECTORS]; /* MSI-X's descriptors, for INTx */
    struct vh_shm_other others[VMMHPC_SHM_PEERS];
    bool interrupts;  /* the register */
    bool intx_masked; /* in the command register */
    uint32_t state;
    uint32_t state_sent;
    bool lost; /* the channel has gone */
    uint8_t iommu[VH_SHM_IOMMU_BYTES];
};

static inline struct vh_shm *vh_shm_of(struct vh_pci_device *device)
{
    return (struct vh_shm *)device;
}

/** Where in the window a peer's area is. */
static inline uint64_t vh_shm_area(const struct vh_shm *shm, uint32_t peer)
{
    return VH_SHM_TABLE_BYTES + shm->common_bytes + shm->area_bytes * peer;
}

/* window.c: memory, and doorbells of others. All under the device's lock. */

/** Reserve the window, with the table, the common section (-1: none) and the peer's own area in it.
 */
int32_t vh_shm_window_new(struct vh_shm *shm, int area_fd, int common_fd, struct vmmhpc_error *err);
void vh_shm_window_free(struct vh_shm *shm);
/** Put a peer's area into the window; fd -1: nothing. */
void vh_shm_window_put(struct vh_shm *shm, uint32_t peer, int fd);
/** The table of states reads as zero from now on. */
void vh_shm_window_hide_table(struct vh_shm *shm);
/** A BAR is decoded elsewhere. */
void vh_shm_window_move(struct vh_shm *shm, uint64_t gpa);
void vh_shm_registers_move(struct vh_shm *shm, uint64_t gpa);
/** A peer came (takes the descriptors), or left (NULL). */
void vh_shm_bells_put(struct vh_shm *shm, uint32_t peer, const int *bells);

/* iommu.c */

/** Put an IOMMU before the device, and tell of it by ACPI. After vh_pci_add(), before the guest is
 *  loaded. */
int32_t vh_shm_iommu_add(struct vh_shm *shm, struct vmmhpc_error *err);
/** As at power-on. The device's lock is held. */
void vh_shm_iommu_reset(struct vh_shm *shm);

/* link.c: what is said to the server and heard from it. */

/** Something came. I/O thread. */
void vh_shm_link_ready(void *opaque, uint32_t events);
/** Tell the server our state, now or when it can be. The device's lock is held. */
void vh_shm_link_state(struct vh_shm *shm);

/* device.c */

/** Interrupt the guest by vector 0. */
void vh_shm_interrupt(struct vh_shm *shm);

#endif
