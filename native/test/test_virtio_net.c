/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net with each back end: the driver's side through the rig, the far end of the wire here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/net.h"
#include "virtio_rig.h"

#define BIT(n) (1ull << (n))
#define MERGE BIT(VIRTIO_NET_F_MRG_RXBUF)
#define STATUS BIT(VIRTIO_NET_F_STATUS)
#define SEND_ALL                                                                                   \
    (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |          \
     BIT(VIRTIO_NET_F_HOST_ECN))
#define TAKE_ALL                                                                                   \
    (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |  \
     BIT(VIRTIO_NET_F_GUEST_ECN))

struct wire {
    struct vh_net *net;
    struct virtio_rig *rig;
    int fd; /* the far end */
    uint8_t out[VH_NET_FRAME_MAX + 64];
};

static struct vmmhpc_net config_for(uint32_t kind, int fd)
{
    return (struct vmmhpc_net){.size = sizeof(struct vmmhpc_net), .kind = kind, .fd = fd};
}

static struct wire *plug(uint32_t kind, int fd, uint64_t features)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_net config = config_for(kind, fd);
    struct wire *wire = calloc(1, sizeof(*wire));
    if (!CHECK_OK(vh_net_create(NULL, &config, &wire->net, &err), &err)) {
        abort();
    }
    (void)close(fd); /* it was duplicated */
    wire->fd = -1;
    wire->rig = virtio_rig_new(&wire->net->virtio);
    CHECK_OK(virtio_rig_start(wire->rig, features), &wire->rig->err);
    return wire;
}

static struct wire *plug_pair(uint32_t kind, uint64_t features)
{
    int type = kind == VMMHPC_NET_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
    int fds[2];
    CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == 0);
    struct wire *wire = plug(kind, fds[0], features);
    wire->fd = fds[1];
    return wire;
}

static void unplug(struct wire *wire)
{
    virtio_rig_free(wire->rig);
    if (wire->fd >= 0) {
        (void)close(wire->fd);
    }
    free(wire);
}

static void pattern(uint8_t *frame, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++) {
        frame[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
    }
}

/* A frame with this header, in pieces; no kick. */
static int offer(struct wire *wire, const struct virtio_net_hdr_v1 *header, const uint8_t *frame,
                 uint32_t bytes)
{
    struct rig_buffer chain[3] = {
        {virtio_rig_put(wire->rig, header, sizeof(*header)), sizeof(*header), false},
        {virtio_rig_put(wire->rig, frame, bytes), bytes / 2, false},
    };
    chain[2] = (struct rig_buffer){chain[1].gpa + bytes / 2, bytes - bytes / 2, false};
    return virtio_rig_add(wire->rig, VH_NET_TXQ, chain, 3);
}

static void offer_pattern(struct wire *wire, uint32_t bytes, uint32_t seed)
{
    static const struct virtio_net_hdr_v1 none;
    uint8_t *frame = malloc(bytes);
    pattern(frame, bytes, seed);
    CHECK(offer(wire, &none, frame, bytes) >= 0);
    free(frame);
}

static uint32_t collect(struct wire *wire, uint32_t queue)
{
    uint32_t count = 0;
    while (virtio_rig_used(wire->rig, queue, NULL, NULL)) {
        count++;
    }
    return count;
}

/* Receive buffers of that size, one behind the other: the first one's address. */
static uint64_t give(struct wire *wire, uint32_t bytes, uint32_t count)
{
    uint64_t first = virtio_rig_alloc(wire->rig, (uint64_t)bytes * count);
    for (uint32_t i = 0; i < count; i++) {
        struct rig_buffer buffer = {first + (uint64_t)i * bytes, bytes, true};
        CHECK(virtio_rig_add(wire->rig, VH_NET_RXQ, &buffer, 1) >= 0);
    }
    return first;
}

static uint32_t turn(struct wire *wire, uint32_t events)
{
    return virtio_rig_ready(&wire->net->source, events, 0);
}

static const struct virtio_net_hdr_v1 *header_at(struct wire *wire, uint64_t gpa)
{
    return virtio_rig_at(wire->rig, gpa, sizeof(struct virtio_net_hdr_v1));
}

static void stream_put(struct wire *wire, uint32_t length, uint32_t bytes, uint32_t seed)
{
    uint8_t *data = malloc(4 + bytes);
    uint32_t prefix = htonl(length);
    memcpy(data, &prefix, 4);
    pattern(data + 4, bytes, seed);
    CHECK_EQ(send(wire->fd, data, 4 + bytes, MSG_NOSIGNAL), 4 + bytes);
    free(data);
}

/* One frame from the stream, waiting for it piece by piece while the device goes on. */
static uint32_t stream_get(struct wire *wire)
{
    uint32_t have = 0;
    uint32_t want = 4;
    for (int idle = 0; have < want && idle < 1000;) {
        ssize_t got = recv(wire->fd, wire->out + have, want - have, MSG_DONTWAIT);
        if (got <= 0) {
            idle++;
            (void)turn(wire, EPOLLOUT);
            continue;
        }
        have += (uint32_t)got;
        if (have == 4) {
            uint32_t length = 0;
            memcpy(&length, wire->out, 4);
            want = 4 + ntohl(length);
            if (!CHECK(want <= sizeof(wire->out))) {
                return 0;
            }
        }
    }
    return have == want ? want - 4 : 0;
}

static bool is_pattern(const uint8_t *data, uint32_t bytes, uint32_t seed)
{
    uint8_t *expected = malloc(bytes);
    pattern(expected, bytes, seed);
    bool same = memcmp(data, expected, bytes) == 0;
    free(expected);
    return same;
}

/* ------------------------------------------------------------------ configuration */

TEST(net_features_and_configuration)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct wire *stream = plug_pair(VMMHPC_NET_STREAM, STATUS);
    CHECK_EQ(stream->net->virtio.features, BIT(VIRTIO_NET_F_MAC) | STATUS | MERGE);
    CHECK_EQ(virtio_rig_config(stream->rig, 0, 2), 0x7602); /* local, not a group's */
    CHECK_EQ(virtio_rig_config(stream->rig, 6, 2), VIRTIO_NET_S_LINK_UP);
    struct wire *link = plug_pair(VMMHPC_NET_LINK, STATUS);
    CHECK_EQ(link->net->virtio.features,
             BIT(VIRTIO_NET_F_MAC) | STATUS | MERGE | SEND_ALL | TAKE_ALL);
    CHECK(virtio_rig_config(stream->rig, 2, 4) != virtio_rig_config(link->rig, 2, 4));

    struct vmmhpc_net config = config_for(VMMHPC_NET_LINK, link->fd);
    memcpy(config.mac, "\x02\x03\x04\x05\x06\x07", 6);
    config.mtu = 9000;
    struct vh_net *net = NULL;
    CHECK_OK(vh_net_create(NULL, &config, &net, &err), &err);
    CHECK(memcmp(net->virtio.config, config.mac, 6) == 0);
    CHECK((net->virtio.features & BIT(VIRTIO_NET_F_MTU)) != 0);
    CHECK_EQ(net->virtio.config[10] | net->virtio.config[11] << 8, 9000);
    net->virtio.ops->destroy(&net->virtio);
    unplug(stream);
    unplug(link);
}

TEST(net_refuses_bad_configuration)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_net *net = NULL;
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    struct vmmhpc_net config = config_for(VMMHPC_NET_LINK, fds[0]);
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "SOCK_SEQPACKET");
    config.kind = VMMHPC_NET_TAP;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "tap");
    config.kind = 9;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "kind 9");
    config.kind = VMMHPC_NET_STREAM;
    config.flags = VMMHPC_NET_VHOST;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "flags");
    config.flags = 0;
    config.mtu = 67;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "MTU");
    config.mtu = 0;
    config.mac[0] = 1;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "group");
    config.mac[0] = 0;
    config.size--;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "size");
    config.size++;
    config.fd = 9999;
    CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_INVALID, "9999");
    CHECK_ERROR(vh_net_create(NULL, NULL, &net, &err), &err, VMMHPC_E_INVALID, "");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ------------------------------------------------------------------ stream */

TEST(net_stream_sends_a_batch)
{
    static const uint32_t sizes[] = {14, 60, 1514, 9014, VH_NET_FRAME_MAX};
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS | MERGE);
    for (uint32_t i = 0; i < VH_COUNT(sizes); i++) {
        offer_pattern(wire, sizes[i], i);
    }
    CHECK(virtio_rig_kick(wire->rig, VH_NET_TXQ));
    CHECK_EQ(virtio_rig_interrupts(wire->rig, VH_NET_TXQ), 1);
    for (uint32_t i = 0; i < VH_COUNT(sizes); i++) {
        CHECK_EQ(stream_get(wire), sizes[i]);
        CHECK(is_pattern(wire->out + 4, sizes[i], i));
    }
    CHECK_EQ(collect(wire, VH_NET_TXQ), VH_COUNT(sizes));
    CHECK_EQ(wire->net->tx_dropped, 0);
    unplug(wire);
}

TEST(net_drops_frames_that_are_none)
{
    static const struct virtio_net_hdr_v1 none;
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS);
    uint8_t *frame = calloc(1, VH_NET_FRAME_MAX + 1);
    CHECK(offer(wire, &none, frame, 13) >= 0);
    CHECK(offer(wire, &none, frame, VH_NET_FRAME_MAX + 1) >= 0);
    struct rig_buffer shorter = {virtio_rig_alloc(wire->rig, 16), 11, false};
    CHECK(virtio_rig_add(wire->rig, VH_NET_TXQ, &shorter, 1) >= 0);
    struct rig_buffer backward = {virtio_rig_alloc(wire->rig, 100), 100, true};
    CHECK(virtio_rig_add(wire->rig, VH_NET_TXQ, &backward, 1) >= 0);
    struct virtio_net_hdr_v1 offload = {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000};
    CHECK(offer(wire, &offload, frame, 4000) >= 0); /* never negotiated */
    offer_pattern(wire, 64, 3);
    (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
    CHECK_EQ(collect(wire, VH_NET_TXQ), 6);
    CHECK_EQ(wire->net->tx_dropped, 5);
    CHECK_EQ(stream_get(wire), 64);
    CHECK(is_pattern(wire->out + 4, 64, 3));
    CHECK(!wire->net->virtio.broken);
    free(frame);
    unplug(wire);
}

TEST(net_stream_waits_for_room)
{
    const uint32_t bytes = 60000;
    const uint32_t count = 60;
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS);
    for (uint32_t i = 0; i < count; i++) {
        offer_pattern(wire, bytes, i);
    }
    (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
    CHECK(wire->net->tx_held);
    CHECK((wire->net->watched & EPOLLOUT) != 0);
    CHECK(collect(wire, VH_NET_TXQ) < count);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(stream_get(wire), bytes);
        CHECK(is_pattern(wire->out + 4, bytes, i));
    }
    (void)turn(wire, EPOLLOUT);
    CHECK_EQ(wire->net->watched, EPOLLIN);
    CHECK_EQ(wire->net->tx_dropped, 0);
    unplug(wire);
}

/* A reset in the middle of a frame must not shift the framing. */
TEST(net_stream_keeps_framing_over_a_reset)
{
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS);
    int bytes = 4096;
    CHECK(setsockopt(wire->net->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0);
    for (uint32_t i = 0; i < 8; i++) {
        offer_pattern(wire, 60000, i);
    }
    (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
    CHECK(wire->net->backend->delayed || wire->net->tx_held);
    uint32_t taken = collect(wire, VH_NET_TXQ);
    virtio_rig_reset(wire->rig);
    CHECK_EQ(wire->net->watched, EPOLLET);
    CHECK_OK(virtio_rig_start(wire->rig, STATUS), &wire->rig->err);
    CHECK((wire->net->watched & EPOLLOUT) != 0);
    for (uint32_t i = 0; i < taken; i++) {
        CHECK_EQ(stream_get(wire), 60000);
        CHECK(is_pattern(wire->out + 4, 60000, i));
    }
    offer_pattern(wire, 100, 77);
    (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
    CHECK_EQ(stream_get(wire), 100);
    CHECK(is_pattern(wire->out + 4, 100, 77));
    unplug(wire);
}

TEST(net_stream_receives_frames_in_pieces)
{
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS);
    const uint32_t buffer = 2048;
    uint64_t gpa = give(wire, buffer, 4);
    uint8_t piece[204];
    uint32_t prefix = htonl(200);
    uint32_t written = 0;
    (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
    memcpy(piece, &prefix, 4);
    pattern(piece + 4, 200, 1);
    static const uint32_t cuts[] = {0, 1, 3, 4, 100, 203, 204};
    for (uint32_t i = 0; i + 1 < VH_COUNT(cuts); i++) {
        CHECK(!virtio_rig_used(wire->rig, VH_NET_RXQ, NULL, NULL));
        CHECK_EQ(send(wire->fd, piece + cuts[i], cuts[i + 1] - cuts[i], 0), cuts[i + 1] - cuts[i]);
        CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    }
    CHECK(virtio_rig_used(wire->rig, VH_NET_RXQ, NULL, &written));
    CHECK_EQ(written, 212);
    CHECK_EQ(header_at(wire, gpa)->num_buffers, 1);
    CHECK(is_pattern(virtio_rig_at(wire->rig, gpa + 12, 200), 200, 1));
    /* Three at once, the middle one below an Ethernet header: one interrupt. */
    (void)virtio_rig_interrupts(wire->rig, VH_NET_RXQ);
    stream_put(wire, 300, 300, 2);
    stream_put(wire, 13, 13, 3);
    stream_put(wire, 2036, 2036, 4);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 2);
    CHECK_EQ(virtio_rig_interrupts(wire->rig, VH_NET_RXQ), 1);
    CHECK(is_pattern(virtio_rig_at(wire->rig, gpa + buffer + 12, 300), 300, 2));
    CHECK(is_pattern(virtio_rig_at(wire->rig, gpa + 2ull * buffer + 12, 2036), 2036, 4));
    /* Without MRG_RXBUF a frame that does not fit is lost, the buffer is not. */
    stream_put(wire, 2037, 2037, 5);
    stream_put(wire, 20, 20, 6);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 1);
    CHECK(is_pattern(virtio_rig_at(wire->rig, gpa + 3ull * buffer + 12, 20), 20, 6));
    CHECK_EQ(wire->net->rx_dropped, 2);
    unplug(wire);
}

/* Gather a merged frame: how many buffers it took. */
static uint32_t merged(struct wire *wire, uint64_t gpa, uint32_t buffer, uint32_t bytes,
                       uint32_t seed)
{
    uint32_t written = 0;
    uint32_t count = 0;
    uint32_t have = 0;
    while (have < 12 + bytes && virtio_rig_used(wire->rig, VH_NET_RXQ, NULL, &written)) {
        if (!CHECK(written <= buffer && have + written <= sizeof(wire->out))) {
            return 0;
        }
        memcpy(wire->out + have, virtio_rig_at(wire->rig, gpa + (uint64_t)count * buffer, written),
               written);
        have += written;
        count++;
    }
    struct virtio_net_hdr_v1 header;
    memcpy(&header, wire->out, sizeof(header));
    CHECK_EQ(have, 12 + bytes);
    CHECK_EQ(header.num_buffers, count);
    CHECK(is_pattern(wire->out + 12, bytes, seed));
    return count;
}

TEST(net_merges_receive_buffers)
{
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS | MERGE | RIG_F_EVENT_IDX);
    const uint32_t buffer = 1536;
    uint64_t gpa = give(wire, buffer, 100);
    (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
    stream_put(wire, VH_NET_FRAME_MAX, VH_NET_FRAME_MAX, 1);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(merged(wire, gpa, buffer, VH_NET_FRAME_MAX, 1), (VH_NET_FRAME_MAX + 12 + 1535) / 1536);
    gpa += 43ull * buffer;
    stream_put(wire, 3060, 3060, 2); /* fits two to the byte */
    stream_put(wire, 3061, 3061, 3);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(merged(wire, gpa, buffer, 3060, 2), 2);
    CHECK_EQ(merged(wire, gpa + 2ull * buffer, buffer, 3061, 3), 3);
    unplug(wire);
}

TEST(net_waits_for_receive_buffers)
{
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS | MERGE);
    stream_put(wire, 1000, 1000, 1);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(wire->net->watched & (EPOLLIN | EPOLLOUT), EPOLLOUT); /* the look at the start */
    (void)turn(wire, EPOLLOUT);
    CHECK_EQ(wire->net->watched, EPOLLET); /* nothing is watched */
    uint64_t gpa = give(wire, 1024, 1);
    CHECK(virtio_rig_kick(wire->rig, VH_NET_RXQ));
    CHECK_EQ(wire->net->watched & EPOLLIN, 0); /* empty again */
    CHECK_EQ(merged(wire, gpa, 1024, 1000, 1), 1);
    /* Buffers that suffice for the beginning only: the frame waits for the others. */
    stream_put(wire, 3000, 3000, 2);
    stream_put(wire, 50, 50, 3);
    gpa = give(wire, 1024, 2);
    CHECK(virtio_rig_kick(wire->rig, VH_NET_RXQ));
    CHECK_EQ(wire->net->watched, EPOLLET);
    CHECK(!virtio_rig_used(wire->rig, VH_NET_RXQ, NULL, NULL));
    CHECK_EQ(give(wire, 1024, 2), gpa + 2048);
    CHECK(virtio_rig_kick(wire->rig, VH_NET_RXQ));
    CHECK_EQ(merged(wire, gpa, 1024, 3000, 2), 3);
    CHECK_EQ(merged(wire, gpa + 3072, 1024, 50, 3), 1);
    unplug(wire);
}

TEST(net_hostile_receive_buffers)
{
    struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS | MERGE);
    uint64_t gpa = give(wire, 1, 256); /* of one byte each: the header goes over twelve */
    (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
    stream_put(wire, 100, 100, 1);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(merged(wire, gpa, 1, 100, 1), 112);
    stream_put(wire, 200, 200, 2); /* more than all that there is */
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 0);
    give(wire, 1, 112);
    CHECK(virtio_rig_kick(wire->rig, VH_NET_RXQ));
    CHECK_EQ(collect(wire, VH_NET_RXQ), 212);
    stream_put(wire, 2000, 2000, 2); /* all buffers of the queue are not enough */
    give(wire, 1, 212);
    (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 0);
    CHECK_EQ(wire->net->rx_dropped, 1);
    virtio_rig_reset(wire->rig);
    CHECK_OK(virtio_rig_start(wire->rig, STATUS | MERGE), &wire->rig->err);
    struct rig_buffer readable = {gpa, 64, false}; /* a receive buffer has to be writable */
    CHECK(virtio_rig_add(wire->rig, VH_NET_RXQ, &readable, 1) >= 0);
    stream_put(wire, 100, 100, 1);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK(wire->net->virtio.broken);
    CHECK_EQ(wire->net->watched, EPOLLET);
    unplug(wire);
}

TEST(net_stream_peer_breaks_the_framing)
{
    static const uint32_t lengths[] = {0, VH_NET_FRAME_MAX + 1, 0xffffffff};
    for (uint32_t i = 0; i < VH_COUNT(lengths); i++) {
        struct wire *wire = plug_pair(VMMHPC_NET_STREAM, STATUS);
        give(wire, 2048, 4);
        (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
        stream_put(wire, 60, 60, 1);
        stream_put(wire, lengths[i], 60, 1);
        CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
        CHECK_EQ(collect(wire, VH_NET_RXQ), 1);
        CHECK_EQ(virtio_rig_config(wire->rig, 6, 2), 0);
        CHECK_EQ(wire->rig->config_interrupts, 1);
        /* Frames to nowhere do not stay in the queue. */
        offer_pattern(wire, 60, 1);
        (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
        CHECK_EQ(collect(wire, VH_NET_TXQ), 1);
        CHECK_EQ(wire->net->watched, EPOLLET);
        unplug(wire);
    }
}

TEST(net_peer_goes_away)
{
    static const uint32_t kinds[] = {VMMHPC_NET_STREAM, VMMHPC_NET_LINK};
    for (uint32_t i = 0; i < 4; i++) {
        struct wire *wire = plug_pair(kinds[i & 1], STATUS);
        give(wire, 2048, 4);
        (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
        (void)close(wire->fd);
        wire->fd = -1;
        if (i < 2) {
            CHECK(turn(wire, EPOLLIN) != 0);
        } else {
            offer_pattern(wire, 60, 1);
            (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
            CHECK_EQ(collect(wire, VH_NET_TXQ), 1);
        }
        CHECK_EQ(virtio_rig_config(wire->rig, 6, 2), 0);
        CHECK_EQ(wire->rig->config_interrupts, 1);
        CHECK_EQ(wire->net->watched & EPOLLIN, 0);
        unplug(wire);
    }
}

/* ------------------------------------------------------------------ link */

struct cable {
    struct wire *a;
    struct wire *b;
};

static struct cable lay(uint64_t features_a, uint64_t features_b)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct cable cable;
    int32_t fds[2];
    CHECK_OK(vmmhpc_link_open(fds, &err), &err);
    cable.a = plug(VMMHPC_NET_LINK, fds[0], features_a | STATUS);
    cable.b = plug(VMMHPC_NET_LINK, fds[1], features_b | STATUS);
    return cable;
}

static void cut(struct cable cable)
{
    unplug(cable.a);
    unplug(cable.b);
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t sum16(const uint8_t *at, uint32_t bytes, uint32_t sum)
{
    for (uint32_t i = 0; i < bytes; i++) {
        sum += (i & 1) != 0 ? at[i] : (uint32_t)at[i] << 8;
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* An IP packet with a TCP header of 32 bytes, as a sender with offloads makes it; `vlan` tags. */
static uint32_t make_tcp(uint8_t *frame, uint32_t version, uint32_t vlans, uint32_t payload,
                         struct virtio_net_hdr_v1 *header)
{
    uint32_t ip = 14 + 4 * vlans;
    uint32_t tcp = ip + (version == 4 ? 20 : 40);
    uint32_t bytes = tcp + 32 + payload;
    memset(frame, 0, tcp + 32);
    pattern(frame, 12, 9);
    for (uint32_t i = 0; i < vlans; i++) {
        put16(frame + 12 + 4ul * i, i + 1 < vlans ? 0x88a8 : 0x8100);
    }
    put16(frame + ip - 2, version == 4 ? 0x0800 : 0x86dd);
    frame[ip] = version == 4 ? 0x45 : 0x60;
    put16(frame + ip + (version == 4 ? 2 : 4), bytes - ip - (version == 4 ? 0 : 40));
    frame[ip + (version == 4 ? 9 : 6)] = 6;
    put16(frame + ip + 4, version == 4 ? 0xfffe : bytes - ip - 40); /* identification wraps */
    pattern(frame + ip + (version == 4 ? 12 : 8), version == 4 ? 8 : 32, 5);
    frame[tcp + 4] = 0xff; /* sequence number, wraps */
    frame[tcp + 5] = 0xff;
    frame[tcp + 6] = 0xff;
    frame[tcp + 12] = 0x80;
    frame[tcp + 13] = 0x99; /* CWR, ACK, PSH, FIN */
    uint32_t pseudo = sum16(frame + ip + (version == 4 ? 12 : 8), version == 4 ? 8 : 32, 0);
    put16(frame + tcp + 16, sum16(frame, 0, pseudo + 6 + bytes - tcp));
    pattern(frame + tcp + 32, payload, 11);
    *header = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                         .hdr_len = (uint16_t)(tcp + 32),
                                         .csum_start = (uint16_t)tcp,
                                         .csum_offset = 16};
    return bytes;
}

TEST(net_link_keeps_offloads)
{
    struct cable cable = lay(SEND_ALL, TAKE_ALL | MERGE);
    struct virtio_net_hdr_v1 header;
    uint8_t *frame = malloc(VH_NET_FRAME_MAX);
    uint32_t bytes = make_tcp(frame, 4, 0, 60000, &header);
    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN;
    header.gso_size = 1448;
    header.num_buffers = 77; /* not the sender's to say */
    header.flags |= 0xf0;
    uint64_t gpa = give(cable.b, 4096, 32);
    (void)virtio_rig_kick(cable.b->rig, VH_NET_RXQ);
    CHECK(offer(cable.a, &header, frame, bytes) >= 0);
    (void)virtio_rig_kick(cable.a->rig, VH_NET_TXQ);
    CHECK_EQ(turn(cable.b, EPOLLIN), EPOLLIN);
    const struct virtio_net_hdr_v1 *got = header_at(cable.b, gpa);
    CHECK_EQ(got->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK_EQ(got->gso_type, header.gso_type);
    CHECK_EQ(got->gso_size, 1448);
    CHECK_EQ(got->csum_start, 34);
    CHECK_EQ(got->csum_offset, 16);
    CHECK_EQ(got->num_buffers, (bytes + 12 + 4095) / 4096);
    CHECK(memcmp(virtio_rig_at(cable.b->rig, gpa + 12, bytes), frame, bytes) == 0);
    CHECK_EQ(collect(cable.b, VH_NET_RXQ), (bytes + 12 + 4095) / 4096);
    free(frame);
    cut(cable);
}

/* What a receiver without offloads checks: length, checksums, and that no byte is missing. */
static uint32_t check_segment(const uint8_t *frame, uint32_t bytes, uint32_t ip, uint32_t done,
                              bool last)
{
    bool v4 = frame[ip] >> 4 == 4;
    uint32_t tcp = ip + (v4 ? 20 : 40);
    uint32_t payload = bytes - tcp - 32;
    uint32_t length = (uint32_t)frame[ip + (v4 ? 2 : 4)] << 8 | frame[ip + (v4 ? 3 : 5)];
    CHECK_EQ(length, bytes - ip - (v4 ? 0 : 40));
    if (v4) {
        CHECK_EQ(sum16(frame + ip, 20, 0), 0xffff);
    }
    uint32_t pseudo = sum16(frame + ip + (v4 ? 12 : 8), v4 ? 8 : 32, 0) + 6 + bytes - tcp;
    CHECK_EQ(sum16(frame + tcp, bytes - tcp, pseudo), 0xffff);
    uint32_t sequence = 0;
    memcpy(&sequence, frame + tcp + 4, 4);
    CHECK_EQ(ntohl(sequence), 0xffffff00u + done);
    CHECK_EQ(frame[tcp + 13], 0x10 | (last ? 0x09 : 0) | (done == 0 ? 0x80 : 0));
    uint8_t *expected = malloc(done + payload);
    pattern(expected, done + payload, 11);
    CHECK(memcmp(frame + tcp + 32, expected + done, payload) == 0);
    free(expected);
    return payload;
}

TEST(net_link_segments_for_a_guest_without_offloads)
{
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t version = (i & 1) != 0 ? 6 : 4;
        uint32_t vlans = i / 2;
        uint32_t ip = 14 + 4 * vlans;
        struct cable cable = lay(SEND_ALL, vlans == 1 ? BIT(VIRTIO_NET_F_GUEST_CSUM) : 0);
        struct virtio_net_hdr_v1 header;
        uint8_t *frame = malloc(VH_NET_FRAME_MAX);
        uint32_t bytes = make_tcp(frame, version, vlans, 20001, &header);
        header.gso_type = version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        header.gso_size = 1400;
        uint64_t gpa = give(cable.b, 2048, 8); /* fewer than there are segments */
        (void)virtio_rig_kick(cable.b->rig, VH_NET_RXQ);
        CHECK(offer(cable.a, &header, frame, bytes) >= 0);
        (void)virtio_rig_kick(cable.a->rig, VH_NET_TXQ);
        CHECK_EQ(turn(cable.b, EPOLLIN), EPOLLIN);
        CHECK_EQ(cable.b->net->watched & EPOLLIN, 0);
        CHECK_EQ(give(cable.b, 2048, 7), gpa + 8ull * 2048);
        CHECK(virtio_rig_kick(cable.b->rig, VH_NET_RXQ));
        uint32_t done = 0;
        uint32_t written = 0;
        for (uint32_t n = 0; virtio_rig_used(cable.b->rig, VH_NET_RXQ, NULL, &written); n++) {
            CHECK_EQ(header_at(cable.b, gpa + n * 2048ull)->flags, 0);
            CHECK_EQ(header_at(cable.b, gpa + n * 2048ull)->gso_type, 0);
            done += check_segment(virtio_rig_at(cable.b->rig, gpa + n * 2048ull + 12, written - 12),
                                  written - 12, ip, done, n == 14);
        }
        CHECK_EQ(done, 20001);
        free(frame);
        cut(cable);
    }
}

TEST(net_link_completes_checksums)
{
    struct cable cable = lay(SEND_ALL, 0);
    struct virtio_net_hdr_v1 header;
    uint8_t frame[2048];
    uint32_t bytes = make_tcp(frame, 4, 0, 1001, &header);
    uint64_t gpa = give(cable.b, 2048, 1);
    CHECK(offer(cable.a, &header, frame, bytes) >= 0);
    (void)virtio_rig_kick(cable.a->rig, VH_NET_TXQ);
    CHECK_EQ(turn(cable.b, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(cable.b, VH_NET_RXQ), 1);
    CHECK_EQ(header_at(cable.b, gpa)->flags, 0);
    const uint8_t *got = virtio_rig_at(cable.b->rig, gpa + 12, bytes);
    uint32_t pseudo = sum16(got + 26, 8, 0) + 6 + bytes - 34;
    CHECK_EQ(sum16(got + 34, bytes - 34, pseudo), 0xffff);
    cut(cable);
}

/* Headers that a hostile guest sends: none of them comes out. */
TEST(net_link_refuses_hostile_headers)
{
    static const struct virtio_net_hdr_v1 bad[] = {
        {.flags = 1, .csum_start = 3000, .csum_offset = 16},
        {.flags = 1, .csum_start = 34, .csum_offset = 0xffff},
        {.flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff},
        {.flags = 1, .csum_start = 2, .csum_offset = 2},
        {.gso_type = 1, .gso_size = 1000}, /* without NEEDS_CSUM */
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .gso_size = 0},
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 2, .gso_size = 1000},
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 3, .gso_size = 1000},
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 5, .gso_size = 1000},
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 0x80, .gso_size = 1000},
        {.flags = 1, .csum_start = 34, .csum_offset = 16, .gso_type = 0x7f, .gso_size = 1000},
    };
    struct cable cable = lay(SEND_ALL, TAKE_ALL);
    struct virtio_net_hdr_v1 header;
    uint8_t frame[2048];
    uint32_t bytes = make_tcp(frame, 4, 0, 1000, &header);
    give(cable.b, 2048, VH_COUNT(bad));
    (void)virtio_rig_kick(cable.b->rig, VH_NET_RXQ);
    for (uint32_t i = 0; i < VH_COUNT(bad); i++) {
        CHECK(offer(cable.a, &bad[i], frame, bytes) >= 0);
    }
    (void)virtio_rig_kick(cable.a->rig, VH_NET_TXQ);
    CHECK_EQ(cable.a->net->tx_dropped, VH_COUNT(bad));
    CHECK_EQ(turn(cable.b, EPOLLIN), 0);
    /* The same from a peer that is no device of ours. */
    cut(cable);
    struct wire *wire = plug_pair(VMMHPC_NET_LINK, STATUS | TAKE_ALL);
    give(wire, 2048, 4);
    for (uint32_t i = 0; i < VH_COUNT(bad); i++) {
        struct iovec iov[2] = {{(void *)&bad[i], 12}, {frame, bytes}};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        CHECK(sendmsg(wire->fd, &message, 0) > 0);
    }
    CHECK(send(wire->fd, frame, 25, 0) == 25);
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(wire->net->rx_dropped, VH_COUNT(bad) + 1);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 0);
    CHECK(wire->net->link_up);
    unplug(wire);
}

/* Frames whose bytes are not what the header says, for a guest that needs segments. */
TEST(net_link_refuses_what_cannot_be_segmented)
{
    struct wire *wire = plug_pair(VMMHPC_NET_LINK, STATUS);
    give(wire, 2048, 16);
    static const struct {
        uint32_t at;
        uint8_t value;
    } changes[] = {{12, 0x81}, {14, 0x46}, {14, 0x65}, {14, 0x44}, {23, 17}, {46, 0x40}, {46, 0}};
    for (uint32_t i = 0; i < VH_COUNT(changes) + 3; i++) {
        struct virtio_net_hdr_v1 header;
        uint8_t frame[5000];
        uint32_t bytes = make_tcp(frame, 4, 0, 4000, &header);
        header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        header.gso_size = 1400;
        if (i < VH_COUNT(changes)) {
            frame[changes[i].at] = changes[i].value;
        } else if (i == VH_COUNT(changes)) {
            bytes = 60; /* no TCP header */
        } else if (i == VH_COUNT(changes) + 1) {
            bytes = 66; /* no payload */
        } else {
            header.gso_size = 0xffff; /* a segment that is no frame any more */
        }
        struct iovec iov[2] = {{&header, 12}, {frame, bytes}};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        CHECK(sendmsg(wire->fd, &message, 0) > 0);
    }
    CHECK_EQ(turn(wire, EPOLLIN), EPOLLIN);
    CHECK_EQ(collect(wire, VH_NET_RXQ), 0);
    CHECK_EQ(wire->net->rx_dropped, VH_COUNT(changes) + 3);
    unplug(wire);
}

TEST(net_link_waits_for_room)
{
    struct cable cable = lay(SEND_ALL, TAKE_ALL | MERGE);
    const uint32_t count = 200;
    uint64_t gpa = give(cable.b, 65536, 20);
    uint8_t *frame = malloc(40000);
    static const struct virtio_net_hdr_v1 none;
    pattern(frame, 40000, 1);
    int small = 65536;
    CHECK(setsockopt(cable.a->net->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
    uint64_t at = virtio_rig_put(cable.a->rig, frame, 40000);
    uint64_t header = virtio_rig_put(cable.a->rig, &none, 12);
    uint32_t sent = 0;
    uint32_t received = 0;
    for (uint32_t i = 0; i < 2000 && received < count; i++) {
        struct rig_buffer chain[2] = {{header, 12, false}, {at, 40000, false}};
        while (sent < count && virtio_rig_add(cable.a->rig, VH_NET_TXQ, chain, 2) >= 0) {
            sent++;
        }
        (void)virtio_rig_kick(cable.a->rig, VH_NET_TXQ);
        (void)collect(cable.a, VH_NET_TXQ);
        (void)turn(cable.b, EPOLLIN);
        uint32_t id = 0;
        while (virtio_rig_used(cable.b->rig, VH_NET_RXQ, &id, NULL)) {
            CHECK_EQ(id, received % 20);
            CHECK(
                is_pattern(virtio_rig_at(cable.b->rig, gpa + id * 65536ull + 12, 40000), 40000, 1));
            struct rig_buffer again = {gpa + id * 65536ull, 65536, true};
            CHECK_EQ(virtio_rig_add(cable.b->rig, VH_NET_RXQ, &again, 1), id);
            received++;
        }
        (void)virtio_rig_kick(cable.b->rig, VH_NET_RXQ);
        (void)turn(cable.a, EPOLLOUT);
    }
    CHECK_EQ(received, count);
    CHECK_EQ(cable.a->net->tx_dropped, 0);
    free(frame);
    cut(cable);
}

/* ------------------------------------------------------------------ tap */

static int open_tap(char name[16])
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t fd = -1;
    memset(name, 0, 16);
    memcpy(name, "v3mtest%d", 9);
    int32_t status = vmmhpc_tap_open(name, &fd, &err);
    if (status == VMMHPC_E_PERMISSION || status == VMMHPC_E_UNSUPPORTED) {
        tap_skip(err.text);
        return -1;
    }
    CHECK_OK(status, &err);
    return fd;
}

/* The host's side of a tap: the interface is up, and this socket sees and sends its frames. */
static int host_side(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(0x88b5));
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    memcpy(request.ifr_name, name, strlen(name));
    CHECK(ioctl(fd, SIOCGIFFLAGS, &request) == 0);
    request.ifr_flags |= IFF_UP;
    CHECK(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
    CHECK(ioctl(fd, SIOCGIFINDEX, &request) == 0);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = request.ifr_ifindex};
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

TEST(net_tap_moves_frames)
{
    char name[16];
    int tap = open_tap(name);
    if (tap < 0) {
        return;
    }
    struct wire *wire = plug(VMMHPC_NET_TAP, tap, STATUS | SEND_ALL | TAKE_ALL | MERGE);
    CHECK_EQ(wire->net->virtio.features & (SEND_ALL | TAKE_ALL), SEND_ALL | TAKE_ALL);
    wire->fd = host_side(name);
    static const struct virtio_net_hdr_v1 none;
    uint8_t frame[1000];
    pattern(frame, sizeof(frame), 1);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, "\x02\x00\x00\x00\x00\x01\x88\xb5", 8);
    CHECK(offer(wire, &none, frame, sizeof(frame)) >= 0);
    (void)virtio_rig_kick(wire->rig, VH_NET_TXQ);
    CHECK_EQ(recv(wire->fd, wire->out, sizeof(wire->out), 0), sizeof(frame));
    CHECK(memcmp(wire->out, frame, sizeof(frame)) == 0);

    uint64_t gpa = give(wire, 256, 32);
    (void)virtio_rig_kick(wire->rig, VH_NET_RXQ);
    CHECK_EQ(send(wire->fd, frame, sizeof(frame), 0), sizeof(frame));
    bool found = false;
    for (int i = 0; i < 20 && !found; i++) { /* the host may have sent frames of its own */
        (void)turn(wire, EPOLLIN);
        for (uint32_t at = 0; at < 28; at++) {
            const uint8_t *got = virtio_rig_at(wire->rig, gpa + at * 256ull, 1024);
            found = found || (memcmp(got + 12, frame, sizeof(frame)) == 0 && got[10] == 4);
        }
    }
    CHECK(found);
    unplug(wire);
}

TEST(net_tap_open_errors)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t fd = -1;
    char name[16];
    memset(name, 'x', sizeof(name));
    CHECK_ERROR(vmmhpc_tap_open(name, &fd, &err), &err, VMMHPC_E_INVALID, "15 bytes");
    CHECK_ERROR(vmmhpc_link_open(NULL, &err), &err, VMMHPC_E_INVALID, "");
    memset(name, 0, sizeof(name));
    memcpy(name, "lo", 2);
    if (access("/dev/net/tun", R_OK | W_OK) == 0 && geteuid() == 0) {
        CHECK(vmmhpc_tap_open(name, &fd, &err) != VMMHPC_OK);
        CHECK_CONTAINS(err.text, "cannot open tap \"lo\"");
    }
}

TEST(net_vhost_where_the_host_has_none)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    char name[16];
    int tap = open_tap(name);
    if (tap < 0) {
        return;
    }
    struct vmmhpc_net config = config_for(VMMHPC_NET_TAP, tap);
    config.flags = VMMHPC_NET_VHOST;
    struct vh_net *net = NULL;
    if (access("/dev/vhost-net", F_OK) != 0) {
        CHECK_ERROR(vh_net_create(NULL, &config, &net, &err), &err, VMMHPC_E_UNSUPPORTED, "vhost");
    } else if (CHECK_OK(vh_net_create(NULL, &config, &net, &err), &err)) {
        net->virtio.ops->destroy(&net->virtio);
    }
    (void)close(tap);
}
