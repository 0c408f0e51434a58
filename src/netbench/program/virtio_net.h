/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for V3M's virtio-net function (virtio 1.2, 5.1) without a kernel: for payloads, which
 * reach all of memory by its physical address. It polls; no interrupt is asked for. Frames come and
 * go whole, without offloads.
 */
#ifndef NETBENCH_VIRTIO_NET_H
#define NETBENCH_VIRTIO_NET_H

#include <stdint.h>

enum {
    VIRTIO_NET_SLOTS = 256,   /* at most, of each queue */
    VIRTIO_NET_BUFFER = 2048, /* bytes of each frame's buffer, header included */
    VIRTIO_NET_FRAME = 1514,  /* the longest frame: Ethernet's, without its checksum */
    VIRTIO_NET_MAC = 6,
};

/* A virtqueue (2.7): three parts, each on pages of its own, and a buffer for each descriptor. */
struct virtio_net_queue {
    volatile struct virtio_desc *desc;
    volatile struct virtio_avail *avail;
    volatile struct virtio_used *used;
    volatile uint16_t *doorbell;
    uint8_t *buffers;
    uint16_t index;   /* of the queue */
    uint16_t slots;   /* a power of two */
    uint16_t offered; /* buffers given to the device, ever */
    uint16_t taken;   /* of these, got back */
};

struct virtio_net {
    struct virtio_net_queue receive, send;
    uint8_t mac[VIRTIO_NET_MAC];
};

/* Bytes of the memory that the queues need. */
#define VIRTIO_NET_MEMORY (UINT64_C(2) << 20)

/* Find the first function on bus 0 and start it. `memory`: VIRTIO_NET_MEMORY, on a page, zero.
 * 0, -ENODEV (there is none) or -EIO (it is not as this driver needs it). */
int64_t virtio_net_open(struct virtio_net *net, uint8_t *memory);

/* Where to write a frame, or NULL while all buffers are under way; then send what was written. */
uint8_t *virtio_net_room(struct virtio_net *net);
void virtio_net_send(struct virtio_net *net, uint32_t bytes);
/* Whether the device has all that was sent. */
int virtio_net_sent(struct virtio_net *net);

/* The n-th of the frames that wait to be read, oldest first, or NULL; `bytes` is at most
 * VIRTIO_NET_FRAME. */
const uint8_t *virtio_net_frame(struct virtio_net *net, uint32_t n, uint32_t *bytes);
/* The oldest frame was read. */
void virtio_net_done(struct virtio_net *net);

#endif
