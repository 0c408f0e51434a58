/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: receiving (virtio 1.2, 5.1.6.3 and 5.1.6.4). */
#include <string.h>

#include "virtio/net.h"

#define RX_BUDGET 64u /* frames before somebody else has a turn */

void vh_net_rx_reset(struct vh_net_rx *rx)
{
    rx->count = 0;
    rx->iov_count = 0;
    rx->bytes = 0;
    rx->pending = 0;
    rx->starved = false;
}

static bool merges(const struct vh_net *net)
{
    return vh_virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF);
}

static bool pool_full(const struct vh_net *net)
{
    const struct vh_net_rx *rx = &net->rx;
    return rx->count >= net->virtio.queues[VH_NET_RXQ].size ||
           rx->iov_count + VH_CHAIN_IOV > VH_NET_POOL_IOV;
}

static void hold(struct vh_net_rx *rx)
{
    const struct vh_chain *chain = &rx->chain;
    memcpy(&rx->iov[rx->iov_count], &chain->iov[chain->out_count],
           chain->in_count * sizeof(chain->iov[0]));
    rx->held[rx->count].head = chain->head;
    rx->held[rx->count].iov_count = (uint16_t)chain->in_count;
    rx->held[rx->count].bytes = (uint32_t)chain->in_bytes;
    rx->count++;
    rx->iov_count += chain->in_count;
    rx->bytes += chain->in_bytes;
}

/* Have buffers for the longest frame, as far as the driver gave some. Taking them one frame ahead
 * costs no kick: the queue asks for one only when it is found empty. */
static void refill(struct vh_net *net)
{
    struct vh_net_rx *rx = &net->rx;
    const bool merge = merges(net);
    while (!pool_full(net) &&
           (merge ? rx->bytes < VH_NET_HEADER + VH_NET_FRAME_MAX : rx->count == 0)) {
        if (vh_virtio_pop(&net->virtio, VH_NET_RXQ, &rx->chain) != 1) {
            return;
        }
        if (rx->chain.in_bytes == 0) {
            vh_virtio_break(&net->virtio); /* 5.1.6.3.1: a buffer is at least a header */
            return;
        }
        hold(rx);
    }
}

void vh_net_scatter(const struct iovec *iov, uint32_t count, uint64_t offset, const void *data,
                    size_t bytes)
{
    size_t done = 0;
    for (uint32_t i = 0; i < count && done < bytes; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t piece = iov[i].iov_len - offset;
        piece = piece < bytes - done ? piece : bytes - done;
        memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)data + done, piece);
        done += piece;
        offset = 0;
    }
}

/* The pool's bytes [VH_NET_HEADER, end) into io[1 ...), then the spill. */
static uint32_t make_io(struct vh_net_rx *rx, uint64_t end)
{
    uint64_t skip = VH_NET_HEADER;
    uint64_t left = end > VH_NET_HEADER ? end - VH_NET_HEADER : 0;
    uint32_t count = 1;
    for (uint32_t i = 0; left > 0 && i < rx->iov_count; i++) {
        const struct iovec *from = &rx->iov[i];
        if (skip >= from->iov_len) {
            skip -= from->iov_len;
            continue;
        }
        uint64_t piece = from->iov_len - skip;
        piece = piece < left ? piece : left;
        rx->io[count++] = (struct iovec){(uint8_t *)from->iov_base + skip, piece};
        left -= piece;
        skip = 0;
    }
    rx->io[count++] = (struct iovec){rx->spill, VH_NET_FRAME_MAX};
    return count;
}

/* A merged frame's buffers have to appear in the used ring together (5.1.6.4): a driver that sees
 * the first one takes the others for granted. So all entries but the last are written here, behind
 * the index; the last one is pushed, which publishes the index. */
static void publish(struct vh_net *net, uint32_t buffers, uint32_t total)
{
    struct vh_net_rx *rx = &net->rx;
    struct vh_virtqueue *queue = &net->virtio.queues[VH_NET_RXQ];
    uint32_t left = total;
    for (uint32_t i = 0; i < buffers; i++) {
        uint32_t written = left < rx->held[i].bytes ? left : rx->held[i].bytes;
        left -= written;
        if (i + 1 == buffers) {
            rx->chain.head = rx->held[i].head;
            vh_virtio_push(&net->virtio, VH_NET_RXQ, &rx->chain, written);
            return;
        }
        uint8_t *entry =
            (uint8_t *)queue->used + 4 + 8 * (size_t)(queue->next_used & (queue->size - 1u));
        uint32_t used[2] = {rx->held[i].head, written}; /* 2.7.8: id, len */
        memcpy(entry, used, sizeof(used));
        queue->next_used++;
        if (queue->next_used == queue->signalled_used) {
            queue->signalled_valid = false;
        }
    }
}

static void release(struct vh_net_rx *rx, uint32_t buffers)
{
    uint32_t pieces = 0;
    for (uint32_t i = 0; i < buffers; i++) {
        pieces += rx->held[i].iov_count;
        rx->bytes -= rx->held[i].bytes;
    }
    rx->count -= buffers;
    rx->iov_count -= pieces;
    memmove(rx->held, rx->held + buffers, rx->count * sizeof(rx->held[0]));
    memmove(rx->iov, rx->iov + pieces, rx->iov_count * sizeof(rx->iov[0]));
}

/* The frame is in the pool, behind room for its header; it fits. */
static void deliver(struct vh_net *net, uint32_t total)
{
    struct vh_net_rx *rx = &net->rx;
    uint32_t buffers = 0;
    for (uint64_t room = 0; room < total; buffers++) {
        room += rx->held[buffers].bytes;
    }
    rx->header.num_buffers = (uint16_t)buffers; /* 1 without MRG_RXBUF */
    vh_net_scatter(rx->iov, rx->iov_count, 0, &rx->header, VH_NET_HEADER);
    publish(net, buffers, total);
    release(rx, buffers);
}

/* The buffers did not suffice for a frame; maybe now they do. */
static enum vh_net_result complete(struct vh_net *net)
{
    struct vh_net_rx *rx = &net->rx;
    uint32_t total = rx->pending;
    bool fits = rx->bytes >= total;
    if (!fits && !pool_full(net)) {
        rx->starved = true;
        return VH_NET_AGAIN;
    }
    rx->pending = 0;
    if (!fits) {
        return VH_NET_DROPPED; /* all that a driver can give is not enough */
    }
    vh_net_scatter(rx->iov, rx->iov_count, rx->spill_at, rx->spill, total - rx->spill_at);
    deliver(net, total);
    return VH_NET_DONE;
}

static enum vh_net_result receive_one(struct vh_net *net)
{
    struct vh_net_rx *rx = &net->rx;
    if (rx->pending != 0) {
        return complete(net);
    }
    /* Without MRG_RXBUF a frame has to fit into one buffer. */
    uint64_t room = merges(net) ? rx->bytes : rx->held[0].bytes;
    if (room > VH_NET_HEADER + VH_NET_FRAME_MAX) {
        room = VH_NET_HEADER + VH_NET_FRAME_MAX;
    }
    uint32_t count = make_io(rx, room);
    uint32_t bytes = 0;
    memset(&rx->header, 0, sizeof(rx->header));
    enum vh_net_result result =
        net->backend->ops->receive(net->backend, &rx->header, rx->io, count, &bytes);
    if (result != VH_NET_DONE) {
        return result;
    }
    if (bytes < VH_NET_FRAME_MIN || bytes > VH_NET_FRAME_MAX) {
        return VH_NET_DROPPED;
    }
    uint32_t total = VH_NET_HEADER + bytes;
    if (total <= room) {
        deliver(net, total);
        return VH_NET_DONE;
    }
    if (!merges(net)) {
        return VH_NET_DROPPED; /* larger than what the driver prepared for */
    }
    rx->pending = total;
    rx->spill_at = room < VH_NET_HEADER ? VH_NET_HEADER : (uint32_t)room;
    refill(net);
    return complete(net);
}

void vh_net_receive(struct vh_net *net)
{
    struct vh_net_rx *rx = &net->rx;
    bool delivered = false;
    rx->starved = false;
    for (uint32_t turn = 0; turn < RX_BUDGET || net->backend->buffered; turn++) {
        refill(net);
        if (rx->count == 0 || net->virtio.broken) {
            rx->starved = true;
            break;
        }
        enum vh_net_result result = receive_one(net);
        if (result == VH_NET_DEAD) {
            vh_net_link_down(net);
        }
        if (result == VH_NET_DEAD || result == VH_NET_AGAIN) {
            break;
        }
        delivered = delivered || result == VH_NET_DONE;
        net->rx_dropped += result == VH_NET_DROPPED;
    }
    if (delivered) {
        vh_virtio_notify(&net->virtio, VH_NET_RXQ);
    }
}
