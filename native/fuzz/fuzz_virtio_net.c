/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device between a hostile guest and a hostile peer. The input is a head of 8 bytes (kind
 * of back end, features) and then steps: make chains available, change bytes of the rings, kick,
 * send well-formed and other bytes from the far end, take what arrives there, reset. What must
 * hold: what arrives at the far end is a frame with a header that the negotiated features allow,
 * used entries are chains that were available, and nothing is watched that cannot be dealt with.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/net.h"

#define HEAD ((size_t)8)
#define STEP ((size_t)6)
#define RING_SIZE 16u
#define DESC(queue) (0x1000ull * (queue))
#define AVAIL(queue) (DESC(queue) + 0x400)
#define USED(queue) (DESC(queue) + 0x800)
#define RINGS_BYTES 0x2000u
#define BUFFERS 0x4000u
#define HEADERS 0x3000u /* two hundred and fifty-six virtio_net_hdr_v1 */

struct bench {
    struct vh_memory *memory;
    uint8_t *ram;
    struct vh_net *net;
    int peer;
    uint32_t kind;
    uint64_t features; /* all that were negotiated so far: frames stay in the socket over a reset */
    bool honest;       /* the rings are as a driver would have them */
    uint16_t next[2];
    uint64_t frames;
};

static struct bench bench;

static void nothing(void *self, uint32_t queue)
{
    (void)self;
    (void)queue;
}

static void nothing_changed(void *self)
{
    (void)self;
}

static const struct vh_virtio_transport TRANSPORT = {nothing, nothing_changed, NULL};

static void make_memory(void)
{
    static struct vh_memory memory;
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory spec = {.size = sizeof(spec), .bytes = VH_MIB, .numa_node = -1};

    if (memory.slot_count == 0) {
        MUST(vh_memory_create(&memory, &spec, 1, &err) == VMMHPC_OK);
    }
    bench.memory = &memory;
    bench.ram = vh_memory_at(&memory, 0, VH_MIB);
}

static void start(uint64_t features)
{
    struct vh_virtio *device = &bench.net->virtio;
    struct vmmhpc_error err = {.size = sizeof(err)};

    memset(bench.ram, 0, RINGS_BYTES);
    bench.honest = true;
    device->features_acked = (features & vh_virtio_offered(device)) | 1ull << 32;
    bench.features |= device->features_acked;
    for (uint32_t i = 0; i < 2; i++) {
        bench.next[i] = 0;
        device->queues[i].size = RING_SIZE;
        device->queues[i].desc_gpa = DESC(i);
        device->queues[i].avail_gpa = AVAIL(i);
        device->queues[i].used_gpa = USED(i);
        device->queues[i].enabled = true;
    }
    vh_virtio_lock(device);
    MUST(vh_virtio_start(device, bench.memory, &err) == VMMHPC_OK);
    vh_virtio_unlock(device);
}

static void reset(void)
{
    vh_virtio_lock(&bench.net->virtio);
    vh_virtio_reset(&bench.net->virtio);
    vh_virtio_unlock(&bench.net->virtio);
    MUST((bench.net->watched & (EPOLLIN | EPOLLOUT)) == 0);
}

static uint16_t used_index(uint32_t queue)
{
    uint16_t index;

    memcpy(&index, bench.ram + USED(queue) + 2, sizeof(index));
    return index;
}

/* A chain of `count` descriptors of `bytes` each; transmit chains begin with a header. */
static void add_chain(uint32_t queue, uint32_t count, uint32_t bytes, uint8_t header)
{
    uint16_t slot = bench.next[queue] % RING_SIZE;
    uint32_t entries = 0;

    if (queue == VH_NET_RXQ && bytes == 0) {
        bench.honest = false; /* a buffer has room for a header at least */
    }
    if (bench.honest && (uint16_t)(bench.next[queue] - used_index(queue)) >= RING_SIZE / 4) {
        return;
    }
    /* A quarter of the ring is in use at most, so descriptors 4 * (slot % 4) are free. */
    uint16_t first = (uint16_t)(4u * (slot % 4u));
    for (; entries < count; entries++) {
        struct {
            uint64_t addr;
            uint32_t len;
            uint16_t flags, next;
        } desc = {BUFFERS + 0x8000ull * entries, bytes, queue == VH_NET_RXQ ? 2 : 0,
                  (uint16_t)(first + entries + 1)};
        if (queue == VH_NET_TXQ && entries == 0) {
            desc.addr = HEADERS + 12ull * header;
            desc.len = 12;
        }
        desc.flags |= entries + 1 < count ? 1 : 0;
        memcpy(bench.ram + DESC(queue) + 16ul * (first + entries), &desc, sizeof(desc));
    }
    memcpy(bench.ram + AVAIL(queue) + 4 + 2ul * slot, &first, sizeof(first));
    bench.next[queue]++;
    memcpy(bench.ram + AVAIL(queue) + 2, &bench.next[queue], 2);
}

/* 5.1.6.2, for what this guest may send. */
static void check_header(const uint8_t *data, uint32_t frame)
{
    struct virtio_net_hdr_v1 header;

    memcpy(&header, data, sizeof(header));
    MUST((header.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0 && header.num_buffers == 0);
    if (header.flags != 0) {
        MUST((bench.features & 1) != 0);
        MUST((uint32_t)header.csum_start + header.csum_offset + 2 <= frame);
    }
    switch (header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        MUST(header.gso_size == 0 && header.gso_type == 0);
        break;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        MUST((bench.features >> VIRTIO_NET_F_HOST_TSO4 & 1) != 0 && header.gso_size > 0);
        break;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        MUST((bench.features >> VIRTIO_NET_F_HOST_TSO6 & 1) != 0 && header.gso_size > 0);
        break;
    default:
        MUST(false);
    }
}

static void take(void)
{
    static uint8_t data[VH_NET_FRAME_MAX + 64];
    ssize_t got;
    uint32_t length;

    if (bench.kind == VMMHPC_NET_LINK) {
        while ((got = recv(bench.peer, data, sizeof(data), MSG_DONTWAIT)) > 0) {
            MUST(got >= 12 + 14 && got <= 12 + (ssize_t)VH_NET_FRAME_MAX);
            check_header(data, (uint32_t)got - 12);
            bench.frames++;
        }
        return;
    }
    while ((got = recv(bench.peer, &length, 4, MSG_DONTWAIT)) == 4) {
        length = ntohl(length);
        MUST(length >= 14 && length <= VH_NET_FRAME_MAX);
        for (uint32_t have = 0; have < length; have += (uint32_t)got) {
            got = recv(bench.peer, data, length - have, MSG_DONTWAIT);
            if (got <= 0) { /* the rest is still in the device */
                struct vh_io_source *source = &bench.net->source;
                MUST(bench.net->backend->delayed);
                if (bench.net->virtio.broken || !bench.net->link_up) {
                    (void)close(bench.peer); /* and does not come any more */
                    bench.peer = -1;
                    return;
                }
                source->ready(source->opaque, EPOLLOUT);
                got = 0;
            }
        }
        bench.frames++;
    }
}

/* From the far end: a header or a length that fits, or any other, before bytes of RAM. */
static void give(uint8_t choice, uint32_t bytes, uint8_t header, uint8_t wrong)
{
    uint32_t length = htonl(choice < 240 ? bytes : (uint32_t)wrong << 24 | bytes);
    struct iovec iov[2] = {{&length, 4}, {bench.ram + BUFFERS, bytes}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

    if (bench.kind == VMMHPC_NET_LINK) {
        iov[0] =
            (struct iovec){bench.ram + HEADERS + 12ul * header, choice < 240 ? 12 : wrong % 12};
    } else if (choice >= 250) {
        iov[0].iov_len = wrong & 3u; /* out of step from here on */
    }
    (void)sendmsg(bench.peer, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void check_rest(void)
{
    const struct vh_net *net = bench.net;

    if (net->virtio.broken) {
        MUST(!bench.honest);
    }
    if (bench.honest) {
        for (uint32_t i = 0; i < 2; i++) {
            MUST((uint16_t)(bench.next[i] - used_index(i)) <= RING_SIZE);
        }
    }
    MUST(net->rx.count <= RING_SIZE && net->rx.iov_count <= VH_NET_POOL_IOV);
    MUST(net->rx.pending <= VH_NET_HEADER + VH_NET_FRAME_MAX);
    MUST(!(net->rx.starved && (net->watched & EPOLLIN) != 0));
    MUST(!net->tx_held || (net->watched & EPOLLOUT) != 0 || !net->link_up || net->virtio.broken);
}

static void step(const uint8_t *data)
{
    struct vh_virtio *device = &bench.net->virtio;
    struct vh_io_source *source = &bench.net->source;
    uint32_t bytes = (uint32_t)data[3] << 8 | data[4];

    switch (data[0] & 15u) {
    case 0:
    case 1:
    case 2:
        add_chain(VH_NET_RXQ, 1 + (data[1] & 3u), bytes, 0);
        break;
    case 3:
    case 4:
    case 5:
        add_chain(VH_NET_TXQ, 1 + (data[1] & 3u), bytes, data[2]);
        break;
    case 6: /* a header: guest and peer take them from the same table */
        memcpy(bench.ram + HEADERS + 12ul * data[1], data + 2, 4);
        break;
    case 7:
        memcpy(bench.ram + HEADERS + 12ul * data[1] + 4, data + 2, 4);
        break;
    case 8:
    case 9:
        give(data[1], bytes, data[2], data[5]);
        break;
    case 10: /* the frame's bytes, so that segmentation finds headers */
        memcpy(bench.ram + BUFFERS + data[1] % 80u, data + 2, 4);
        break;
    case 11:
        if (data[1] < 16) {
            bench.honest = false;
            bench.ram[bytes % RINGS_BYTES] = data[5];
        } else if (data[1] < 20) {
            reset();
            start(data[2] | (uint64_t)data[3] << 8 | (uint64_t)(data[4] & 1u) << 29 |
                  (uint64_t)(data[4] & 2u) << 14);
        } else if (data[1] == 20 && bench.peer >= 0) {
            (void)close(bench.peer);
            bench.peer = -1;
        }
        break;
    case 12:
        take();
        break;
    case 13:
        source->ready(source->opaque, EPOLLIN | (data[1] & EPOLLOUT));
        break;
    default:
        vh_virtio_kicked(device, data[1] & 1u);
        break;
    }
    check_rest();
}

static void plug(const uint8_t *head)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_net config = {.size = sizeof(config)};
    int fds[2];
    int small = 8192;

    bench.kind = (head[0] & 1u) != 0 ? VMMHPC_NET_LINK : VMMHPC_NET_STREAM;
    MUST(socketpair(AF_UNIX, bench.kind == VMMHPC_NET_LINK ? SOCK_SEQPACKET : SOCK_STREAM, 0,
                    fds) == 0);
    if ((head[0] & 2u) != 0) {
        (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    }
    config.kind = bench.kind;
    config.fd = fds[0];
    MUST(vh_net_create(NULL, &config, &bench.net, &err) == VMMHPC_OK);
    (void)close(fds[0]);
    bench.peer = fds[1];
    bench.net->virtio.transport = &TRANSPORT;
    MUST(vh_virtio_init(&bench.net->virtio, &err) == VMMHPC_OK);
}

/* A packet that can be segmented, and headers that say so; steps change them. */
static void prepare_frames(void)
{
    static const struct virtio_net_hdr_v1 headers[] = {
        {0},
        {.flags = 1, .csum_start = 34, .csum_offset = 16},
        {.flags = 1, .gso_type = 1, .gso_size = 1000, .csum_start = 34, .csum_offset = 16},
        {.flags = 1, .gso_type = 4, .gso_size = 1400, .csum_start = 54, .csum_offset = 16},
    };
    uint8_t *frame = bench.ram + BUFFERS;

    memset(bench.ram + HEADERS, 0, 0x1000);
    memset(frame, 0, 128);
    memcpy(bench.ram + HEADERS, headers, sizeof(headers));
    memcpy(frame + 12, "\x08\x00\x45", 3);
    frame[23] = 6;
    frame[46] = 0x50;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t features;

    if (bytes < HEAD) {
        return 0;
    }
    make_memory();
    prepare_frames();
    plug(data);
    memcpy(&features, data, sizeof(features));
    bench.features = 0;
    start(features >> 8);
    bench.frames = 0;
    for (size_t at = HEAD; bytes - at >= STEP && at < 500 * STEP; at += STEP) {
        step(data + at);
    }
    uint64_t received = used_index(VH_NET_RXQ);
    reset();
    (void)pthread_mutex_destroy(&bench.net->virtio.lock);
    bench.net->virtio.ops->destroy(&bench.net->virtio);
    if (bench.peer >= 0) {
        (void)close(bench.peer);
    }
    fuzz_count(bench.frames > 0 && received > 0);
    return 0;
}
