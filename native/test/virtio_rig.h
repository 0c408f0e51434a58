/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtio device for unit tests: RAM, rings, a fake transport that counts
 * interrupts. No KVM, no PCI, no machine and no thread: everything happens in the caller's thread,
 * when it kicks.
 *
 *     struct virtio_rig *rig = virtio_rig_new(device);     // calls vh_virtio_init(device)
 *     virtio_rig_start(rig, 1ull << VIRTIO_BLK_F_FLUSH);   // negotiate, set up all queues, start
 *     uint64_t gpa = virtio_rig_alloc(rig, 512);
 *     struct rig_buffer chain[] = {{header, 16, false}, {gpa, 512, true}, {status, 1, true}};
 *     virtio_rig_add(rig, 0, chain, 3);                    // or virtio_rig_add_indirect()
 *     virtio_rig_kick(rig, 0);                             // the device works here
 *     CHECK(virtio_rig_used(rig, 0, &id, &written));
 *     virtio_rig_free(rig);                                // stops and destroys the device
 *
 * A DEVICE IN A RIG HAS NO MACHINE: device->vm is NULL. So a device's file has an inner constructor
 * that takes no machine, and the device passes over vh_io_add(), vh_io_watch() and vh_io_remove()
 * where device->vm is NULL. The test then calls the sources itself, with virtio_rig_ready(); a
 * ready() looks for itself whether there is something to do, as io_loop.h asks anyway.
 */
#ifndef VIRTIO_RIG_H
#define VIRTIO_RIG_H

#include "io_loop.h"
#include "memory.h"
#include "tap.h"
#include "virtio/virtio.h"

#define RIG_F_INDIRECT (1ull << 28)
#define RIG_F_EVENT_IDX (1ull << 29)
#define RIG_F_VERSION_1 (1ull << 32)

/* Split ring structures as the driver lays them out (2.7.5, 2.7.6, 2.7.8). */
enum { RIG_DESC_NEXT = 1, RIG_DESC_WRITE = 2, RIG_DESC_INDIRECT = 4 };

struct rig_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/** A buffer of a chain; those that the device writes come last. */
struct rig_buffer {
    uint64_t gpa;
    uint32_t bytes;
    bool writable;
};

struct rig_ring {
    uint16_t size;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    struct rig_desc *desc;
    uint16_t *avail; /* flags, idx, ring[size], used_event */
    uint16_t *used;  /* flags, idx, {u32 id, u32 len}[size], avail_event */
    bool taken[VH_QUEUE_MAX];
    uint16_t chain_length[VH_QUEUE_MAX]; /* descriptors of the chain that starts here */
    uint16_t used_seen;                  /* used entries collected so far */
    uint16_t kicked_at;                  /* available index at the last kick */
    uint32_t interrupts;                 /* since virtio_rig_interrupts() was last asked */
    int call_fd;                         /* see vh_virtio_call_fd(); -1 until then */
};

struct virtio_rig {
    struct vh_memory memory;
    struct vmmhpc_error err;
    struct vh_virtio *device;
    struct rig_ring rings[VH_VIRTIO_QUEUES];
    uint32_t config_interrupts;
    uint64_t next_gpa; /* of virtio_rig_alloc() */
    bool event_idx;
};

/** 16 MiB of RAM from address 0, and the device on the rig's transport, reset. The rig owns the
 *  device from now on. */
struct virtio_rig *virtio_rig_new(struct vh_virtio *device);
/** The same with RAM in several regions (each a slot of its own, adjacent, first at 0), of a
 *  backing: enum vmmhpc_backing. What virtio_rig_alloc() gives comes from the first. */
struct virtio_rig *virtio_rig_new_memory(struct vh_virtio *device, const uint64_t *mib,
                                         uint32_t count, uint32_t backing);
/** Stop and destroy the device, release everything. */
void virtio_rig_free(struct virtio_rig *rig);

/** Negotiate: VERSION_1 and INDIRECT_DESC are added; EVENT_IDX only where it is in `features`. */
void virtio_rig_negotiate(struct virtio_rig *rig, uint64_t features);
/** Lay out a queue and enable it; size 0: as offered. Again after a reset. */
void virtio_rig_queue(struct virtio_rig *rig, uint32_t queue, uint16_t size);
/** Negotiate, set up all queues as offered, DRIVER_OK. Returns the status; a failure is no CHECK.
 */
int32_t virtio_rig_start(struct virtio_rig *rig, uint64_t features);
/** Reset the device; virtio_rig_start() may follow. */
void virtio_rig_reset(struct virtio_rig *rig);

/** Zeroed guest memory, aligned to 16 bytes (4 KiB from a page on); never given back. */
uint64_t virtio_rig_alloc(struct virtio_rig *rig, uint64_t bytes);
/** The same with a copy of data in it. */
uint64_t virtio_rig_put(struct virtio_rig *rig, const void *data, uint64_t bytes);
/** Guest memory; a failed CHECK and NULL where it is none. */
void *virtio_rig_at(struct virtio_rig *rig, uint64_t gpa, uint64_t bytes);

/** Make a chain available, without a kick. Its head, or -1 where the ring is full. */
int virtio_rig_add(struct virtio_rig *rig, uint32_t queue, const struct rig_buffer *buffers,
                   uint32_t count);
/** The same through an indirect table, which takes one descriptor. */
int virtio_rig_add_indirect(struct virtio_rig *rig, uint32_t queue,
                            const struct rig_buffer *buffers, uint32_t count);
/** Put a head into the available ring without looking at it: for hostile drivers. */
void virtio_rig_make_available(struct virtio_rig *rig, uint32_t queue, uint16_t head);

/** Kick if the device asked for it, as a driver does: whether it was kicked. */
bool virtio_rig_kick(struct virtio_rig *rig, uint32_t queue);
/** Kick anyway. */
void virtio_rig_force_kick(struct virtio_rig *rig, uint32_t queue);

/** Collect the next used entry, if there is one; its descriptors are free again. id and written may
 *  be NULL. With EVENT_IDX this asks for an interrupt for the next one. */
bool virtio_rig_used(struct virtio_rig *rig, uint32_t queue, uint32_t *id, uint32_t *written);
/** Whether the device is to interrupt (VIRTQ_AVAIL_F_NO_INTERRUPT; without EVENT_IDX). */
void virtio_rig_want_interrupts(struct virtio_rig *rig, uint32_t queue, bool wanted);
/** Interrupts of a queue since the last call. */
uint32_t virtio_rig_interrupts(struct virtio_rig *rig, uint32_t queue);

/** The driver's accesses to the configuration, 1 to 8 bytes, little-endian. */
uint64_t virtio_rig_config(struct virtio_rig *rig, uint32_t offset, uint32_t bytes);
void virtio_rig_config_write(struct virtio_rig *rig, uint32_t offset, uint32_t bytes,
                             uint64_t value);

/** One turn of the I/O loop for one source: wait up to timeout_ms until its descriptor is ready for
 *  any of `events`, then call it. What it was called with; 0: it was not ready. */
uint32_t virtio_rig_ready(struct vh_io_source *source, uint32_t events, int timeout_ms);

#endif
