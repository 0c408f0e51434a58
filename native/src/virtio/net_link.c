/* SPDX-License-Identifier: Apache-2.0 */
/* A link between two machines: a SOCK_SEQPACKET socket, a virtio_net_hdr_v1 before each frame. The
 * far end is somebody else's machine: nothing that it sends is trusted. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/net_gso.h"
#include "vmmhpc_devices.h"

#define LINK_OFFLOADS (TUN_F_CSUM | VH_NET_TSO)
#define LINK_BUFFER (4 << 20) /* of a socket, where the host allows so much: frames under way */

struct link {
    struct vh_net_backend base;
    uint32_t to_guest; /* offloads that this guest takes */
    struct vh_net_gso gso;
    uint8_t frame[VH_NET_FRAME_MAX]; /* what gso works on */
};

static int32_t link_start(struct vh_net_backend *backend, uint32_t offloads,
                          struct vmmhpc_error *err)
{
    struct link *link = (struct link *)backend;
    (void)err;
    link->to_guest = offloads;
    link->gso.left = false;
    backend->buffered = false;
    return VMMHPC_OK;
}

static enum vh_net_result link_send(struct vh_net_backend *backend,
                                    struct virtio_net_hdr_v1 *header, struct iovec *iov,
                                    uint32_t count, uint32_t bytes)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t sent = 0;
    (void)bytes;
    iov[0] = (struct iovec){header, sizeof(*header)};
    do {
        sent = sendmsg(backend->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return VH_NET_DONE;
    }
    if (errno == EAGAIN) {
        return VH_NET_AGAIN;
    }
    return errno == EMSGSIZE || errno == ENOMEM || errno == ENOBUFS ? VH_NET_DROPPED : VH_NET_DEAD;
}

static enum vh_net_result get(const struct link *link, struct virtio_net_hdr_v1 *header,
                              struct iovec *iov, uint32_t count, uint32_t *bytes)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t got = 0;
    iov[0] = (struct iovec){header, sizeof(*header)};
    do {
        got = recvmsg(link->base.fd, &message, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) { /* 0: closed */
        return got < 0 && errno == EAGAIN ? VH_NET_AGAIN : VH_NET_DEAD;
    }
    if ((message.msg_flags & MSG_TRUNC) != 0 || (size_t)got < sizeof(*header) + VH_NET_FRAME_MIN ||
        (size_t)got > sizeof(*header) + VH_NET_FRAME_MAX) {
        return VH_NET_DROPPED;
    }
    *bytes = (uint32_t)((size_t)got - sizeof(*header));
    return VH_NET_DONE;
}

/* The frame as the guest can take it: whole, with its checksum, or one segment after the other. */
static enum vh_net_result next_segment(struct link *link, struct virtio_net_hdr_v1 *header,
                                       const struct iovec *iov, uint32_t count, uint32_t *bytes)
{
    memset(header, 0, sizeof(*header));
    *bytes = vh_net_gso_next(&link->gso, iov + 1, count - 1);
    link->base.buffered = link->gso.left;
    return VH_NET_DONE;
}

static enum vh_net_result link_receive(struct vh_net_backend *backend,
                                       struct virtio_net_hdr_v1 *header, struct iovec *iov,
                                       uint32_t count, uint32_t *bytes)
{
    struct link *link = (struct link *)backend;
    if (link->gso.left) {
        return next_segment(link, header, iov, count, bytes);
    }
    enum vh_net_result result = VH_NET_DONE;
    if ((link->to_guest & LINK_OFFLOADS) == LINK_OFFLOADS) {
        result = get(link, header, iov, count, bytes); /* right into the guest's buffers */
        if (result == VH_NET_DONE && !vh_net_header_check(header, *bytes, LINK_OFFLOADS)) {
            result = VH_NET_DROPPED;
        }
        return result;
    }
    struct iovec own[2] = {{0}, {link->frame, VH_NET_FRAME_MAX}};
    result = get(link, header, own, 2, bytes);
    if (result != VH_NET_DONE) {
        return result;
    }
    if (!vh_net_header_check(header, *bytes, LINK_OFFLOADS)) {
        return VH_NET_DROPPED;
    }
    struct virtio_net_hdr_v1 wanted = *header;
    if (vh_net_header_check(&wanted, *bytes, link->to_guest)) {
        vh_net_scatter(iov + 1, count - 1, 0, link->frame, *bytes);
        return VH_NET_DONE; /* the guest does the rest itself */
    }
    if (!vh_net_gso_begin(&link->gso, header, link->frame, *bytes)) {
        return VH_NET_DROPPED;
    }
    return next_segment(link, header, iov, count, bytes);
}

static void link_destroy(struct vh_net_backend *backend)
{
    free(backend);
}

int32_t vh_net_link_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err)
{
    static const struct vh_net_backend_ops ops = {
        .start = link_start,
        .send = link_send,
        .receive = link_receive,
        .destroy = link_destroy,
    };
    int32_t status = vh_net_check_socket(fd, SOCK_SEQPACKET, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct link *link = malloc(sizeof(*link));
    if (link == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a link's buffer");
    }
    memset(link, 0, offsetof(struct link, frame));
    link->base.ops = &ops;
    link->base.fd = fd;
    link->base.offloads = LINK_OFFLOADS;
    *backend = &link->base;
    return VMMHPC_OK;
}

int32_t vmmhpc_link_open(int32_t fds[2], struct vmmhpc_error *err)
{
    if (fds == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no room for a link's descriptors");
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot make a link's sockets");
    }
    for (int i = 0; i < 2; i++) {
        /* By default a socket holds three frames of 64 KiB. The first way takes a privilege, the
         * second is cut to net.core.wmem_max; that neither works is no failure. */
        int bytes = LINK_BUFFER;
        if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0) {
            (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        }
        fds[i] = pair[i];
    }
    return VMMHPC_OK;
}
