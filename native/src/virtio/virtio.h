/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is to its transport, and the transport to a device (virtio 1.2, chapter 2).
 * A device knows features, queues and its configuration; that it sits behind PCI it does not know.
 *
 * Threads: configuration accesses come from vCPU threads, queues are worked on in the machine's I/O
 * thread. Every operation below is called with the device's lock held, so a device needs no lock of
 * its own; it takes vh_virtio_lock() where it comes from elsewhere (a descriptor became ready).
 */
#ifndef VH_VIRTIO_H
#define VH_VIRTIO_H

#include <pthread.h>
#include <sys/uio.h>

#include "internal.h"
#include "io_loop.h"
#include "virtio/virtqueue.h"

#define VH_VIRTIO_QUEUES 16u        /* of one device */
#define VH_VIRTIO_CONFIG_BYTES 256u /* device-specific configuration */

enum vh_virtio_id { /* virtio 1.2, chapter 5 */
                    VH_VIRTIO_NET = 1,
                    VH_VIRTIO_BLK = 2,
                    VH_VIRTIO_CONSOLE = 3,
                    VH_VIRTIO_RNG = 4,
                    VH_VIRTIO_BALLOON = 5,
                    VH_VIRTIO_VSOCK = 19,
                    VH_VIRTIO_PMEM = 27,
};

struct vh_virtio;

/** What carries a device's interrupts: PCI, or a test. The device's lock is held. */
struct vh_virtio_transport {
    void (*interrupt)(void *self, uint32_t queue);
    void (*config_interrupt)(void *self);
    /** See vh_virtio_call_fd(). */
    int (*call_fd)(void *self, uint32_t queue);
};

struct vh_virtio_ops {
    /** The driver is ready (DRIVER_OK): device->features_acked and device->queues[] are valid from
     *  now on. On failure the device asks for a reset. May be NULL. */
    int32_t (*start)(struct vh_virtio *device, struct vmmhpc_error *err);
    /** Reset, or the machine's end. When it returns nothing of the device touches guest memory or
     *  a queue any more: requests under way are finished or dropped. Also called when not started.
     */
    void (*stop)(struct vh_virtio *device);
    /** The driver made buffers available in queue `index`. I/O thread. */
    void (*kick)(struct vh_virtio *device, uint32_t index);
    /** The driver is about to read config[offset, +bytes): bring it up to date. May be NULL. */
    void (*config_read)(struct vh_virtio *device, uint32_t offset, uint32_t bytes);
    /** The driver wrote data to offset. NULL: read-only. Store into config[] what is to be seen. */
    void (*config_write)(struct vh_virtio *device, uint32_t offset, const uint8_t *data,
                         uint32_t bytes);
    /** Release the device; it is stopped, and no thread is in it. */
    void (*destroy)(struct vh_virtio *device);
};

/** A device embeds this as its first member, fills in the first part and calls vh_virtio_add(). */
struct vh_virtio {
    /* Set by the device before vh_virtio_add(). */
    const struct vh_virtio_ops *ops;
    const char *name;                      /* "blk": for error texts */
    uint32_t id;                           /* enum vh_virtio_id */
    uint32_t queue_count;                  /* 1 ... VH_VIRTIO_QUEUES */
    uint16_t queue_size[VH_VIRTIO_QUEUES]; /* most entries offered, a power of two <= 256 */
    uint64_t features;     /* offered, beside what the transport adds (VERSION_1, INDIRECT_DESC,
                              EVENT_IDX) */
    uint32_t config_bytes; /* of config[] that exist */
    uint8_t config[VH_VIRTIO_CONFIG_BYTES]; /* little-endian */
    /** A file on the host does the work (vhost): kicks are not given to kick(); the device takes
     *  the queues' kick_fd and vh_virtio_call_fd() in start(). */
    bool kicked_elsewhere;
    bool unsaved; /* it has state that no snapshot takes along: there are none */

    /* Kept by the transport. */
    struct vmmhpc *vm;
    pthread_mutex_t lock;
    uint64_t features_acked;
    bool started; /* between start() and stop() */
    bool broken;  /* asked for a reset */
    struct vh_virtqueue queues[VH_VIRTIO_QUEUES];
    const struct vh_virtio_transport *transport;
    void *transport_self;
};

/**
 * Put a device on the machine's PCI bus, in the next free slot. On success the machine owns it and
 * destroys it through ops->destroy; on failure the caller still does. Only before vmmhpc_start().
 */
int32_t vh_virtio_add(struct vmmhpc *vm, struct vh_virtio *device, uint32_t *id,
                      struct vmmhpc_error *err);

/* ---- for transports; the device's lock is held */

/** Make the lock and bring queues and features to their state after a reset; before anything else.
 */
int32_t vh_virtio_init(struct vh_virtio *device, struct vmmhpc_error *err);
/** Bits that the driver is offered, and whether a choice of them is acceptable. */
uint64_t vh_virtio_offered(const struct vh_virtio *device);
bool vh_virtio_may_ack(const struct vh_virtio *device, uint64_t features);
/** DRIVER_OK: start the enabled queues with that memory, then the device. On failure it is broken.
 */
int32_t vh_virtio_start(struct vh_virtio *device, struct vh_memory *memory,
                        struct vmmhpc_error *err);
/** Stop it and forget what the driver said. */
void vh_virtio_reset(struct vh_virtio *device);
/** A kick arrived; takes the lock. I/O thread. */
void vh_virtio_kicked(struct vh_virtio *device, uint32_t queue);

/* ---- for devices */

/** The first device of that kind (enum vh_virtio_id) on the machine's bus, or NULL. */
struct vh_virtio *vh_virtio_find(struct vmmhpc *vm, uint32_t id);

static inline void vh_virtio_lock(struct vh_virtio *device)
{
    (void)pthread_mutex_lock(&device->lock);
}

static inline void vh_virtio_unlock(struct vh_virtio *device)
{
    (void)pthread_mutex_unlock(&device->lock);
}

static inline bool vh_virtio_has(const struct vh_virtio *device, uint32_t feature_bit)
{
    return (device->features_acked >> feature_bit & 1) != 0;
}

/**
 * The next chain of a queue, validated. 1: a chain; 0: none is there (and none was overlooked: the
 * driver kicks for the next one); negative: the ring is broken, the device waits for a reset and
 * does nothing until then. Also 0 when the device is not started.
 */
int vh_virtio_pop(struct vh_virtio *device, uint32_t queue, struct vh_chain *chain);

/** Give a chain back, `written` bytes of its writable part filled. */
void vh_virtio_push(struct vh_virtio *device, uint32_t queue, const struct vh_chain *chain,
                    uint32_t written);

/** After a batch of pushes: interrupt the driver if it wants to know. */
void vh_virtio_notify(struct vh_virtio *device, uint32_t queue);

/** config[] changed: tell the driver. */
void vh_virtio_config_changed(struct vh_virtio *device);

/** The driver did what it must not do: mark the device broken until it is reset (2.1.2). */
void vh_virtio_break(struct vh_virtio *device);

/** For vhost: an eventfd that interrupts the driver for this queue; owned by the transport. */
int vh_virtio_call_fd(struct vh_virtio *device, uint32_t queue);

#endif
