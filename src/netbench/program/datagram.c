/* SPDX-License-Identifier: Apache-2.0 */
#include "datagram.h"

#include "copy.h"
#include "ticks.h"

#include <errno.h>

enum {
    TYPE_IPV4 = 0x0800,
    VERSION_LENGTH = 0x45, /* IPv4, five words of header */
    DO_NOT_FRAGMENT = 0x4000,
    TIME_TO_LIVE = 64,
    PROTOCOL_UDP = 17,
    UDP_BYTES = 8,
    IP_BYTES = 20,
    KIND_HELLO = 1, /* to be answered by KIND_NOTE */
    KIND_NOTE = 2,  /* how much was read */
    KIND_DATA = 3,
};

/* Ticks between two hellos: some milliseconds. */
#define HELLO_TICKS (UINT64_C(1) << 25)

/* A frame up to the stream's bytes; all but ours is big-endian. */
struct frame {
    uint8_t to[VIRTIO_NET_MAC], from[VIRTIO_NET_MAC];
    uint16_t type;
    uint8_t version_length, service;
    uint16_t ip_bytes, id, fragment;
    uint8_t time_to_live, protocol;
    uint16_t ip_sum;
    uint32_t from_address, to_address;
    uint16_t from_port, to_port, udp_bytes, udp_sum;
    uint32_t kind;
    uint32_t data_bytes;
    uint64_t number; /* of one with data: 1, 2, … */
    uint64_t read;   /* of the receiver's own, those that were read to their end */
} __attribute__((packed));

/* RFC 1071; the field itself is zero meanwhile. */
static uint16_t checksum(const uint8_t *data, uint32_t bytes)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < bytes; i += 2) {
        sum += (uint32_t)data[i] << 8 | data[i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

/* Nothing happens while all buffers are under way: 0 then, else 1. */
static int send_frame(struct datagram *d, uint32_t kind, const void *data, uint32_t bytes)
{
    struct frame *f = (struct frame *)virtio_net_room(&d->net);
    if (f == 0) {
        return 0;
    }
    const uint32_t udp =
        UDP_BYTES + (uint32_t)sizeof(*f) - __builtin_offsetof(struct frame, kind) + bytes;
    *f = (struct frame){
        .type = __builtin_bswap16(TYPE_IPV4),
        .version_length = VERSION_LENGTH,
        .ip_bytes = __builtin_bswap16((uint16_t)(IP_BYTES + udp)),
        .fragment = __builtin_bswap16(DO_NOT_FRAGMENT),
        .time_to_live = TIME_TO_LIVE,
        .protocol = PROTOCOL_UDP,
        .from_address = __builtin_bswap32(d->own.address),
        .to_address = __builtin_bswap32(d->theirs.address),
        .from_port = __builtin_bswap16(d->own.port),
        .to_port = __builtin_bswap16(d->theirs.port),
        .udp_bytes = __builtin_bswap16((uint16_t)udp),
        .udp_sum = 0, /* none (RFC 768) */
        .kind = kind,
        .data_bytes = bytes,
        .number = kind == KIND_DATA ? ++d->sent : 0,
        .read = d->read,
    };
    copy_words(f->to, d->theirs.mac, sizeof(f->to));
    copy_words(f->from, d->own.mac, sizeof(f->from));
    f->ip_sum = __builtin_bswap16(checksum(&f->version_length, IP_BYTES));
    copy(f + 1, data, bytes);
    virtio_net_send(&d->net, (uint32_t)sizeof(*f) + bytes);
    d->told = d->read;
    return 1;
}

/* The n-th frame that waits, if it is for us and whole. NULL, and `none` says whether there is one
 * at all. */
static const struct frame *frame_at(struct datagram *d, uint32_t n, int *none)
{
    uint32_t bytes = 0;
    const struct frame *f = (const struct frame *)virtio_net_frame(&d->net, n, &bytes);
    *none = f == 0;
    if (f == 0 || bytes < sizeof(*f) || f->type != __builtin_bswap16(TYPE_IPV4) ||
        f->version_length != VERSION_LENGTH || f->protocol != PROTOCOL_UDP ||
        f->to_port != __builtin_bswap16(d->own.port) || f->data_bytes > bytes - sizeof(*f)) {
        return 0;
    }
    return f;
}

/* What any frame says, beside its data. */
static void hear(struct datagram *d, const struct frame *f)
{
    if (!d->met) {
        copy_words(d->theirs.mac, f->from, sizeof(f->from));
        d->theirs.address = __builtin_bswap32(f->from_address);
        d->theirs.port = __builtin_bswap16(f->from_port);
        d->met = 1;
    }
    if (f->read > d->theirs_read && f->read <= d->sent) {
        d->theirs_read = f->read;
    }
}

/* The frame that is next to be read, without those that have no data. */
static const struct frame *next_data(struct datagram *d)
{
    for (;;) {
        int none = 0;
        const struct frame *f = frame_at(d, 0, &none);
        if (none) {
            return 0;
        }
        if (f != 0) {
            hear(d, f);
            if (f->kind == KIND_DATA) {
                return f;
            }
            if (f->kind == KIND_HELLO) {
                send_frame(d, KIND_NOTE, 0, 0);
            }
        }
        virtio_net_done(&d->net);
    }
}

/* Whether another one may be sent: what the other side has read may be said in frames behind data.
 */
static int may_send(struct datagram *d)
{
    int none = !d->met;
    for (uint32_t n = 0; !none && d->sent - d->theirs_read >= DATAGRAM_UNDER_WAY; n++) {
        const struct frame *f = frame_at(d, n, &none);
        if (f != 0) {
            hear(d, f);
        }
    }
    return d->met && d->sent - d->theirs_read < DATAGRAM_UNDER_WAY;
}

static int64_t datagram_put(struct stream *stream, const void *data, uint64_t bytes)
{
    struct datagram *d = (struct datagram *)stream;
    const uint32_t part = bytes < DATAGRAM_DATA ? (uint32_t)bytes : DATAGRAM_DATA;
    return may_send(d) && send_frame(d, KIND_DATA, data, part) ? part : 0;
}

static int64_t datagram_get(struct stream *stream, void *data, uint64_t bytes)
{
    struct datagram *d = (struct datagram *)stream;
    const struct frame *f = next_data(d);
    if (f == 0) {
        return 0;
    }
    if (f->number != d->read + 1) {
        return -EIO; /* one was lost */
    }
    const uint64_t left = f->data_bytes - d->got;
    const uint64_t part = bytes < left ? bytes : left;
    copy(data, (const uint8_t *)(f + 1) + d->got, part);
    d->got += part;
    if (part == left) {
        d->got = 0;
        d->read++;
        virtio_net_done(&d->net);
        if (d->read - d->told >= DATAGRAM_UNDER_WAY / 2) {
            send_frame(d, KIND_NOTE, 0, 0);
        }
    }
    return (int64_t)part;
}

static int64_t datagram_wait(struct stream *stream, uint32_t want)
{
    struct datagram *d = (struct datagram *)stream;
    (void)want;
    (void)next_data(d); /* hellos are answered, and notes read */
    if (!d->met && d->leads && ticks_now() >= d->next_hello) {
        d->next_hello = ticks_now() + HELLO_TICKS;
        send_frame(d, KIND_HELLO, 0, 0);
    }
    __builtin_ia32_pause();
    return 0;
}

int64_t datagram_open(struct datagram *d, uint8_t *memory, uint32_t own, uint32_t theirs,
                      uint16_t port, int leads)
{
    *d = (struct datagram){
        .stream = {.put = datagram_put, .get = datagram_get, .wait = datagram_wait},
        .own = {.port = DATAGRAM_PORT, .address = own},
        .theirs = {.mac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, .port = port, .address = theirs},
        .leads = leads,
    };
    const int64_t rc = virtio_net_open(&d->net, memory);
    copy_words(d->own.mac, d->net.mac, sizeof(d->own.mac));
    return rc;
}

void datagram_close(struct datagram *d)
{
    while (!virtio_net_sent(&d->net)) {
        __builtin_ia32_pause();
    }
}
