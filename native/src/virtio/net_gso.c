/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums (RFC 1071) and TCP segments (RFC 9293, 3.1; RFC 791; RFC 8200) of a frame that came
 * from a machine with offloads and goes to one without. The frame is hostile input. */
#include "virtio/net_gso.h"

#include <string.h>

enum {
    ETHER_TYPE = 12,
    TYPE_IPV4 = 0x0800,
    TYPE_IPV6 = 0x86dd,
    TYPE_VLAN = 0x8100,
    TYPE_QINQ = 0x88a8,
    PROTO_TCP = 6,
    IPV4_LENGTH = 2,
    IPV4_ID = 4,
    IPV4_PROTO = 9,
    IPV4_CHECKSUM = 10,
    IPV4_ADDRESSES = 12,
    IPV4_HEADER = 20,
    IPV6_LENGTH = 4,
    IPV6_ADDRESSES = 8,
    IPV6_HEADER = 40,
    TCP_SEQUENCE = 4,
    TCP_OFFSET = 12,
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    TCP_HEADER = 20,
    FIN_PSH = 0x09,
    CWR = 0x80,
    HEADERS_MAX = 1024, /* more than IP and TCP with all options and a few extensions */
};

static uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Sum of 16-bit words; only the last piece of several may have an odd length. */
static uint32_t add(uint32_t sum, const uint8_t *at, uint32_t bytes)
{
    uint64_t wide = sum;
    for (; bytes >= 2; at += 2, bytes -= 2) {
        wide += get16(at);
    }
    if (bytes > 0) {
        wide += (uint32_t)at[0] << 8;
    }
    while (wide > 0xffff) {
        wide = (wide & 0xffff) + (wide >> 16);
    }
    return (uint32_t)wide;
}

static uint32_t finish(uint32_t sum)
{
    return ~sum & 0xffff;
}

static bool is_ipv4(const struct vh_net_gso *gso)
{
    return gso->frame[gso->ip] >> 4 == 4;
}

static bool find_ip(struct vh_net_gso *gso, uint8_t version)
{
    uint32_t at = ETHER_TYPE;
    while (at + 4 <= gso->bytes &&
           (get16(gso->frame + at) == TYPE_VLAN || get16(gso->frame + at) == TYPE_QINQ)) {
        at += 4;
    }
    gso->ip = at + 2;
    uint32_t least = version == 4 ? IPV4_HEADER : IPV6_HEADER;
    if (gso->ip + least > gso->tcp || gso->tcp + TCP_HEADER > gso->bytes) {
        return false;
    }
    return get16(gso->frame + at) == (version == 4 ? TYPE_IPV4 : TYPE_IPV6) &&
           gso->frame[gso->ip] >> 4 == version;
}

static bool find_segments(struct vh_net_gso *gso, const struct virtio_net_hdr_v1 *header)
{
    uint8_t version =
        (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4 ? 4 : 6;
    if (header->csum_offset != TCP_CHECKSUM || !find_ip(gso, version)) {
        return false;
    }
    const uint8_t *ip = gso->frame + gso->ip;
    if (version == 4 && (ip[IPV4_PROTO] != PROTO_TCP || (ip[0] & 15u) < 5 ||
                         (ip[0] & 15u) * 4 != gso->tcp - gso->ip)) {
        return false;
    }
    uint32_t tcp_header = (gso->frame[gso->tcp + TCP_OFFSET] >> 4) * 4u;
    gso->headers = gso->tcp + tcp_header;
    gso->size = header->gso_size;
    gso->next = gso->headers;
    return tcp_header >= TCP_HEADER && gso->headers < gso->bytes && gso->headers <= HEADERS_MAX &&
           gso->headers + gso->size <= VH_NET_FRAME_MAX;
}

bool vh_net_gso_begin(struct vh_net_gso *gso, const struct virtio_net_hdr_v1 *header,
                      const uint8_t *frame, uint32_t bytes)
{
    memset(gso, 0, sizeof(*gso));
    gso->frame = frame;
    gso->bytes = bytes;
    if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
        gso->tcp = header->csum_start;
        gso->checksum = (uint32_t)header->csum_start + header->csum_offset;
    }
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE && !find_segments(gso, header)) {
        return false;
    }
    gso->left = true;
    return true;
}

/* The field holds the pseudo header's sum already: 5.1.6.2. */
static uint32_t whole_frame(struct vh_net_gso *gso, const struct iovec *iov, uint32_t count)
{
    gso->left = false;
    vh_net_scatter(iov, count, 0, gso->frame, gso->bytes);
    if (gso->checksum != 0) {
        uint8_t field[2];
        uint32_t sum = finish(add(0, gso->frame + gso->tcp, gso->bytes - gso->tcp));
        put16(field, sum == 0 ? 0xffff : sum); /* UDP: 0 means none */
        vh_net_scatter(iov, count, gso->checksum, field, sizeof(field));
    }
    return gso->bytes;
}

static void set_ip(const struct vh_net_gso *gso, uint8_t *headers, uint32_t payload)
{
    uint8_t *ip = headers + gso->ip;
    uint32_t length = gso->headers - gso->ip + payload;
    if (!is_ipv4(gso)) {
        put16(ip + IPV6_LENGTH, length - IPV6_HEADER);
        return;
    }
    put16(ip + IPV4_LENGTH, length);
    put16(ip + IPV4_ID, get16(ip + IPV4_ID) + gso->number);
    put16(ip + IPV4_CHECKSUM, 0);
    put16(ip + IPV4_CHECKSUM, finish(add(0, ip, gso->tcp - gso->ip)));
}

static void set_tcp(const struct vh_net_gso *gso, uint8_t *headers, uint32_t payload)
{
    uint8_t *tcp = headers + gso->tcp;
    const uint8_t *ip = headers + gso->ip;
    uint32_t done = gso->next - gso->headers;
    uint32_t sequence = get16(tcp + TCP_SEQUENCE) << 16 | get16(tcp + TCP_SEQUENCE + 2);
    sequence += done;
    put16(tcp + TCP_SEQUENCE, sequence >> 16);
    put16(tcp + TCP_SEQUENCE + 2, sequence);
    if (gso->next + payload < gso->bytes) {
        tcp[TCP_FLAGS] &= (uint8_t)~FIN_PSH; /* of the last one only */
    }
    if (gso->number > 0) {
        tcp[TCP_FLAGS] &= (uint8_t)~CWR; /* of the first one: RFC 3168, 6.1.2 */
    }
    uint32_t tcp_bytes = gso->headers - gso->tcp + payload;
    uint32_t sum = is_ipv4(gso) ? add(0, ip + IPV4_ADDRESSES, 8) : add(0, ip + IPV6_ADDRESSES, 32);
    sum += PROTO_TCP + tcp_bytes;
    put16(tcp + TCP_CHECKSUM, 0);
    sum = add(sum, tcp, gso->headers - gso->tcp);
    sum = add(sum, gso->frame + gso->next, payload);
    put16(tcp + TCP_CHECKSUM, finish(sum));
}

uint32_t vh_net_gso_next(struct vh_net_gso *gso, const struct iovec *iov, uint32_t count)
{
    uint8_t headers[HEADERS_MAX];
    if (gso->headers == 0) {
        return whole_frame(gso, iov, count);
    }
    uint32_t payload = gso->bytes - gso->next;
    payload = payload < gso->size ? payload : gso->size;
    memcpy(headers, gso->frame, gso->headers);
    set_ip(gso, headers, payload);
    set_tcp(gso, headers, payload);
    vh_net_scatter(iov, count, 0, headers, gso->headers);
    vh_net_scatter(iov, count, gso->headers, gso->frame + gso->next, payload);
    gso->next += payload;
    gso->number++;
    gso->left = gso->next < gso->bytes;
    return gso->headers + payload;
}
