/* SPDX-License-Identifier: Apache-2.0 */
/* A split virtqueue (virtio 1.2, 2.7), the device's side. All that the driver writes is read once,
 * checked here, and used from the copy: descriptors are validated nowhere else. */
#ifndef VH_VIRTQUEUE_H
#define VH_VIRTQUEUE_H

#include <sys/uio.h>

#include "internal.h"
#include "memory.h"

#define VH_QUEUE_MAX 256u /* entries of a queue, a power of two */
#define VH_CHAIN_IOV                                                                               \
    (VH_QUEUE_MAX + VH_SLOT_MAX) /* a buffer that crosses two RAM slots takes two */

/** A chain of buffers: first what the device reads, then what it writes. */
struct vh_chain {
    uint16_t head;
    uint32_t out_count; /* elements of iov[] that the device reads */
    uint32_t in_count;  /* elements behind them that it writes */
    uint64_t out_bytes;
    uint64_t in_bytes; /* together at most UINT32_MAX */
    struct iovec iov[VH_CHAIN_IOV];
};

struct vh_virtqueue {
    /* As the driver set it up. */
    uint16_t size; /* 0: as offered */
    bool enabled;
    bool event_idx;
    uint64_t desc_gpa;
    uint64_t avail_gpa;
    uint64_t used_gpa;
    uint16_t base; /* index of the first chain and of the first answer: 0, unless restored */
    /* From vh_queue_start() on. */
    struct vh_memory *memory;
    const void *desc;
    void *avail; /* its last field, used_event, is the driver's; nothing here is written */
    void *used;
    uint16_t next_avail;
    uint16_t avail_idx; /* the driver's index when it was last read */
    bool armed;         /* the driver kicks for the chain at next_avail */
    uint16_t next_used;
    uint16_t signalled_used; /* next_used when the driver was last told */
    bool signalled_valid;
    int kick_fd; /* eventfd; -1 while the device is not on a bus */
};

/** Check and map the rings; E_INVALID or E_RANGE where they are not what 2.7 asks for. size must
 * have been set: 0 is refused here. */
int32_t vh_queue_start(struct vh_virtqueue *queue, struct vh_memory *memory,
                       struct vmmhpc_error *err);

/** As after a reset; keeps kick_fd. */
void vh_queue_reset(struct vh_virtqueue *queue);

/** See vh_virtio_pop(). At most `size` chains are outstanding: a driver that makes more available
 * is refused. A chain is at most `size` descriptors, or VH_QUEUE_MAX with an indirect table. */
int vh_queue_pop(struct vh_virtqueue *queue, struct vh_chain *chain);
void vh_queue_push(struct vh_virtqueue *queue, uint16_t head, uint32_t written);
/** Whether the driver wants an interrupt for what was pushed since the last question. */
bool vh_queue_wants_interrupt(struct vh_virtqueue *queue);

/** Copy from the readable part, at `offset` into it; how many bytes there were. */
size_t vh_chain_read(const struct vh_chain *chain, uint64_t offset, void *data, size_t bytes);
/** Copy into the writable part, likewise. */
size_t vh_chain_write(const struct vh_chain *chain, uint64_t offset, const void *data,
                      size_t bytes);
/** The pieces [offset, offset + bytes) of the readable (writable) part into out[0 ... capacity);
 *  how many elements, or -1 where it does not reach that far or there are too many. */
int vh_chain_slice(const struct vh_chain *chain, bool writable, uint64_t offset, uint64_t bytes,
                   struct iovec *out, uint32_t capacity);

#endif
