/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a network device's frames go: one descriptor of the host's. A back end moves one frame per
 * call, never waits, and is called in one thread at a time (the device's lock is held).
 */
#ifndef VH_NET_BACKEND_H
#define VH_NET_BACKEND_H

#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/uio.h>

#include "internal.h"

/* An IP packet of the greatest length behind an Ethernet header with two VLAN tags. */
#define VH_NET_FRAME_MAX (65535u + 14u + 8u)
#define VH_NET_FRAME_MIN 14u /* an Ethernet header */

/* Offloads are written as TUNSETOFFLOAD has them. Not in Debian 12's headers: */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#define VH_NET_TSO (TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define VH_NET_USO (TUN_F_USO4 | TUN_F_USO6)

enum vh_net_result {
    VH_NET_DONE,    /* one frame moved */
    VH_NET_AGAIN,   /* not now: wait for the descriptor; nothing was moved */
    VH_NET_DROPPED, /* a frame was lost, the next may do better */
    VH_NET_DEAD,    /* no frame will ever move again */
};

struct vh_net_backend;

/* In both directions iov[0] is the back end's own, to put a header there; the frame's bytes are
 * iov[1 ... count), at most VH_NET_FRAME_MAX for sending. count <= IOV_MAX. */
struct vh_net_backend_ops {
    /** The driver chose: it takes frames with these offloads. May be NULL. */
    int32_t (*start)(struct vh_net_backend *backend, uint32_t offloads, struct vmmhpc_error *err);
    /** Send a frame of `bytes`; its header was checked. It may be delayed, but is not read later.
     */
    enum vh_net_result (*send)(struct vh_net_backend *backend, struct virtio_net_hdr_v1 *header,
                               struct iovec *iov, uint32_t count, uint32_t bytes);
    /** Send what was delayed (backend->delayed). May be NULL. */
    enum vh_net_result (*flush)(struct vh_net_backend *backend);
    /** Receive a frame and its header; iov has room for VH_NET_FRAME_MAX. */
    enum vh_net_result (*receive)(struct vh_net_backend *backend, struct virtio_net_hdr_v1 *header,
                                  struct iovec *iov, uint32_t count, uint32_t *bytes);
    /** Release everything but fd. */
    void (*destroy)(struct vh_net_backend *backend);
};

struct vh_net_backend {
    const struct vh_net_backend_ops *ops;
    int fd;            /* the device's */
    uint32_t offloads; /* that it can do, both ways: TUN_F_* */
    bool delayed;      /* part of a frame waits for room */
    bool buffered;     /* receive() has a frame for which the descriptor needs not be readable */
};

int32_t vh_net_tap_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err);
int32_t vh_net_stream_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err);
int32_t vh_net_link_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err);

/** Refuse what is not a UNIX socket of that type. */
int32_t vh_net_check_socket(int fd, int type, struct vmmhpc_error *err);

/** Feature bits for these offloads, in both directions; and the offloads that a driver's choice of
 *  features allows in one. */
uint64_t vh_net_features(uint32_t offloads);
uint32_t vh_net_offloads(uint64_t features, bool to_guest);

/** Bring a header that somebody else wrote into the form that 5.1.6.2 allows for these offloads;
 *  false where the frame cannot be passed on. */
bool vh_net_header_check(struct virtio_net_hdr_v1 *header, uint32_t frame_bytes, uint32_t offloads);

/** Copy into the pieces, from `offset` on. */
void vh_net_scatter(const struct iovec *iov, uint32_t count, uint64_t offset, const void *data,
                    size_t bytes);

#endif
