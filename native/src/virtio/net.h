/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1): one pair of queues, and the back end that carries the frames. */
#ifndef VH_NET_H
#define VH_NET_H

#include "files.h"
#include "virtio/net_backend.h"
#include "virtio/vhost.h"
#include "virtio/virtio.h"
#include "vmmhpc_devices.h"

enum { VH_NET_RXQ = 0, VH_NET_TXQ = 1 };

#define VH_NET_HEADER ((uint32_t)sizeof(struct virtio_net_hdr_v1)) /* always 12: 5.1.6.1 */
#define VH_NET_CONFIG_STATUS 6 /* where it is in the configuration: 5.1.4 */
#define VH_NET_POOL_IOV 1022u  /* with two more it is the kernel's IOV_MAX */

/** Receive buffers taken from the queue before a frame is there, so that it is read right into
 *  them. What one frame leaves over serves the next. */
struct vh_net_rx {
    uint32_t count; /* chains held */
    uint32_t iov_count;
    uint64_t bytes;
    struct {
        uint16_t head;
        uint16_t iov_count;
        uint32_t bytes;
    } held[VH_QUEUE_MAX];
    struct iovec iov[VH_NET_POOL_IOV];
    struct iovec io[VH_NET_POOL_IOV + 2];
    struct vh_chain chain; /* scratch */
    bool starved;          /* waits for the driver's next buffers */
    /* The frame that was received into fewer buffers than it needs: the rest is in spill. */
    struct virtio_net_hdr_v1 header;
    uint32_t pending;  /* its bytes with the header; 0: none */
    uint32_t spill_at; /* the offset at which spill goes on */
    uint8_t *spill;    /* VH_NET_FRAME_MAX */
};

struct vh_net {
    struct vh_virtio virtio;
    struct vh_net_backend *backend;
    struct vh_io_source source;
    uint32_t watched; /* EPOLL* */
    int fd;
    bool link_up;
    bool silent; /* a clone whose driver has the first machine's address: no link until it is reset
                  */
    bool uses_vhost;
    struct vh_vhost vhost;
    /* Transmission: the chain for which there was no room yet. */
    bool tx_held;
    bool tx_again; /* the budget was used up */
    struct vh_chain tx_chain;
    struct iovec tx_iov[VH_CHAIN_IOV + 1];
    struct vh_net_rx rx;
    uint64_t tx_dropped;
    uint64_t rx_dropped;
};

/** The device without a machine. It is the caller's until it is on a bus. */
int32_t vh_net_create(const struct vh_files *files, const struct vmmhpc_net *config,
                      struct vh_net **net, struct vmmhpc_error *err);

/** Move what can be moved. The lock is held. */
void vh_net_receive(struct vh_net *net);
void vh_net_rx_reset(struct vh_net_rx *rx);
/** The other side is gone for good. */
void vh_net_link_down(struct vh_net *net);

/* net_vhost.c: the host's kernel moves the frames between the queues and the tap. */
int32_t vh_net_vhost_open(const struct vh_files *files, struct vh_net *net,
                          struct vmmhpc_error *err);
int32_t vh_net_vhost_start(struct vh_net *net, struct vmmhpc_error *err);

#endif
