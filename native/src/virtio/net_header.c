/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: offloads as features, and the header before a frame when it comes from somebody who
 * is not trusted: a guest, or the far end of a link (virtio 1.2, 5.1.3 and 5.1.6.2). */
#include "virtio/net_backend.h"

#define BIT(n) (1ull << (n))

/* Newer than Debian 12's headers. */
#define F_GUEST_USO4 54
#define F_GUEST_USO6 55
#define F_HOST_USO 56

/* ------------------------------------------------------------------ offloads */

struct offload {
    uint32_t tun;
    uint32_t guest; /* feature bits: towards the guest, from it */
    uint32_t host;
};

static const struct offload OFFLOADS[] = {
    {TUN_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_CSUM},
    {TUN_F_TSO4, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4},
    {TUN_F_TSO6, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO6},
    {TUN_F_TSO_ECN, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_HOST_ECN},
    {TUN_F_UFO, VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_HOST_UFO},
    {TUN_F_USO4, F_GUEST_USO4, F_HOST_USO},
    {TUN_F_USO6, F_GUEST_USO6, F_HOST_USO},
};

uint64_t vh_net_features(uint32_t offloads)
{
    uint64_t features = 0;
    for (uint32_t i = 0; i < VH_COUNT(OFFLOADS); i++) {
        if ((offloads & OFFLOADS[i].tun) != 0) {
            features |= BIT(OFFLOADS[i].guest) | BIT(OFFLOADS[i].host);
        }
    }
    return features;
}

/* Without checksums there is nothing else (5.1.3.1): a driver that says otherwise gets nothing. */
uint32_t vh_net_offloads(uint64_t features, bool to_guest)
{
    uint32_t offloads = 0;
    for (uint32_t i = 0; i < VH_COUNT(OFFLOADS); i++) {
        uint32_t bit = to_guest ? OFFLOADS[i].guest : OFFLOADS[i].host;
        offloads |= (features & BIT(bit)) != 0 ? OFFLOADS[i].tun : 0;
    }
    if ((offloads & (TUN_F_TSO4 | TUN_F_TSO6)) == 0) {
        offloads &= ~(uint32_t)TUN_F_TSO_ECN;
    }
    return (offloads & TUN_F_CSUM) != 0 ? offloads : 0;
}

/* ------------------------------------------------------------------ headers */

/* Which offload a kind of segmentation is; 0: none that exists. */
static uint32_t offload_of(uint8_t gso_type)
{
    switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return TUN_F_TSO4;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return TUN_F_TSO6;
    case VIRTIO_NET_HDR_GSO_UDP:
        return TUN_F_UFO;
    case 5: /* VIRTIO_NET_HDR_GSO_UDP_L4, not in Debian 12's headers */
        return TUN_F_USO4;
    default:
        return 0;
    }
}

static bool segments(struct virtio_net_hdr_v1 *header, uint32_t frame_bytes, uint32_t offloads)
{
    uint32_t offload = offload_of(header->gso_type);
    bool ecn = (header->gso_type & VIRTIO_NET_HDR_GSO_ECN) != 0;
    bool tcp = (offload & (TUN_F_TSO4 | TUN_F_TSO6)) != 0;
    if ((offload & offloads) == 0 || header->gso_size == 0) {
        return false;
    }
    if (ecn && (!tcp || (offloads & TUN_F_TSO_ECN) == 0)) {
        return false;
    }
    /* Segments need checksums of their own. */
    if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0) {
        return false;
    }
    if (header->hdr_len > frame_bytes) {
        header->hdr_len = (uint16_t)frame_bytes; /* a hint, no more */
    }
    return true;
}

bool vh_net_header_check(struct virtio_net_hdr_v1 *header, uint32_t frame_bytes, uint32_t offloads)
{
    header->num_buffers = 0;
    header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (header->flags != 0) {
        uint32_t end = (uint32_t)header->csum_start + header->csum_offset + 2;
        if ((offloads & TUN_F_CSUM) == 0 || header->csum_start < VH_NET_FRAME_MIN ||
            end > frame_bytes) {
            return false;
        }
    } else {
        header->csum_start = 0;
        header->csum_offset = 0;
    }
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        header->gso_size = 0;
        header->hdr_len = 0;
        return true;
    }
    return segments(header, frame_bytes, offloads);
}
