/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a UNIX stream socket, each behind its length in four bytes, big-endian: the way of
 * passt, and of QEMU's -netdev stream. There is no header before a frame, hence no offload. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "virtio/net_backend.h"

#define PREFIX 4u
#define RX_BYTES (4u * (PREFIX + VH_NET_FRAME_MAX)) /* many short frames for one system call */

struct stream {
    struct vh_net_backend base;
    uint32_t prefix; /* of the frame that is being sent */
    /* Received: [rx_start, rx_end) of rx. */
    uint32_t rx_start;
    uint32_t rx_end;
    /* The rest of a frame that went out in part: [tail_start, tail_end) of tail. */
    uint32_t tail_start;
    uint32_t tail_end;
    uint8_t tail[PREFIX + VH_NET_FRAME_MAX];
    uint8_t rx[RX_BYTES];
};

static ssize_t send_some(int fd, struct iovec *iov, uint32_t count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t sent = 0;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* Nothing was sent: why. A frame is lost where the host has no memory; to wait for EPOLLOUT would
 * not help, as that is there. */
static enum vh_net_result refused(int failed)
{
    if (failed == EAGAIN) {
        return VH_NET_AGAIN;
    }
    return failed == ENOMEM || failed == ENOBUFS ? VH_NET_DROPPED : VH_NET_DEAD;
}

static enum vh_net_result stream_flush(struct vh_net_backend *backend)
{
    struct stream *stream = (struct stream *)backend;
    while (stream->tail_start < stream->tail_end) {
        struct iovec iov = {stream->tail + stream->tail_start,
                            stream->tail_end - stream->tail_start};
        ssize_t sent = send_some(backend->fd, &iov, 1);
        if (sent < 0) {
            /* The start of this frame is out: it cannot be dropped. */
            return refused(errno) == VH_NET_DEAD ? VH_NET_DEAD : VH_NET_AGAIN;
        }
        stream->tail_start += (uint32_t)sent;
    }
    backend->delayed = false;
    return VH_NET_DONE;
}

/* Keep what was not sent: the caller's buffers may be gone by the time there is room. */
static void keep_tail(struct stream *stream, const struct iovec *iov, uint32_t count, size_t sent)
{
    stream->tail_start = 0;
    stream->tail_end = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
        size_t piece = iov[i].iov_len - skip;
        memcpy(stream->tail + stream->tail_end, (const uint8_t *)iov[i].iov_base + skip, piece);
        stream->tail_end += (uint32_t)piece;
        sent -= skip;
    }
    stream->base.delayed = true;
}

/* The header carries nothing: no offload was offered. */
static enum vh_net_result stream_send(struct vh_net_backend *backend,
                                      struct virtio_net_hdr_v1 *header, struct iovec *iov,
                                      uint32_t count, uint32_t bytes)
{
    struct stream *stream = (struct stream *)backend;
    (void)header;
    if (backend->delayed) {
        enum vh_net_result result = stream_flush(backend);
        if (result != VH_NET_DONE) {
            return result;
        }
    }
    stream->prefix = htonl(bytes);
    iov[0] = (struct iovec){&stream->prefix, PREFIX};
    ssize_t sent = send_some(backend->fd, iov, count);
    if (sent < 0) {
        return refused(errno);
    }
    if ((size_t)sent < PREFIX + (size_t)bytes) {
        keep_tail(stream, iov, count, (size_t)sent);
    }
    return VH_NET_DONE;
}

/* The length of the frame at rx_start; 0: not there as a whole; -1: this is no frame. */
static int64_t next_frame(const struct stream *stream)
{
    uint32_t have = stream->rx_end - stream->rx_start;
    uint32_t bytes = 0;
    if (have < PREFIX) {
        return 0;
    }
    memcpy(&bytes, stream->rx + stream->rx_start, PREFIX);
    bytes = ntohl(bytes);
    if (bytes == 0 || bytes > VH_NET_FRAME_MAX) {
        return -1;
    }
    return have - PREFIX >= bytes ? (int64_t)bytes : 0;
}

static enum vh_net_result read_more(struct stream *stream)
{
    /* What is here is less than a frame, and four of those fit. */
    memmove(stream->rx, stream->rx + stream->rx_start, stream->rx_end - stream->rx_start);
    stream->rx_end -= stream->rx_start;
    stream->rx_start = 0;
    ssize_t got = 0;
    do {
        got = recv(stream->base.fd, stream->rx + stream->rx_end, RX_BYTES - stream->rx_end,
                   MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN ? VH_NET_AGAIN : VH_NET_DEAD;
    }
    stream->rx_end += (uint32_t)got;
    return VH_NET_DONE;
}

static enum vh_net_result stream_receive(struct vh_net_backend *backend,
                                         struct virtio_net_hdr_v1 *header, struct iovec *iov,
                                         uint32_t count, uint32_t *bytes)
{
    struct stream *stream = (struct stream *)backend;
    int64_t frame = next_frame(stream);
    (void)header; /* all zero */
    if (frame == 0) {
        enum vh_net_result result = read_more(stream);
        if (result != VH_NET_DONE) {
            return result;
        }
        frame = next_frame(stream);
    }
    if (frame < 0) {
        backend->buffered = false;
        return VH_NET_DEAD; /* where the next frame starts is anybody's guess */
    }
    if (frame == 0) {
        return VH_NET_AGAIN;
    }
    *bytes = (uint32_t)frame;
    vh_net_scatter(iov + 1, count - 1, 0, stream->rx + stream->rx_start + PREFIX, (size_t)frame);
    stream->rx_start += PREFIX + (uint32_t)frame;
    backend->buffered = next_frame(stream) != 0;
    return VH_NET_DONE;
}

static void stream_destroy(struct vh_net_backend *backend)
{
    free(backend);
}

int32_t vh_net_stream_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err)
{
    static const struct vh_net_backend_ops ops = {
        .send = stream_send,
        .flush = stream_flush,
        .receive = stream_receive,
        .destroy = stream_destroy,
    };
    int32_t status = vh_net_check_socket(fd, SOCK_STREAM, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct stream *stream = malloc(sizeof(*stream)); /* most of it is touched only when needed */
    if (stream == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a network's buffers");
    }
    memset(stream, 0, offsetof(struct stream, tail));
    stream->base.ops = &ops;
    stream->base.fd = fd;
    *backend = &stream->base;
    return VMMHPC_OK;
}
