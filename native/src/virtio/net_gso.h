/* SPDX-License-Identifier: Apache-2.0 */
/* For a guest that does not take offloads: checksums and TCP segments made here. */
#ifndef VH_NET_GSO_H
#define VH_NET_GSO_H

#include "virtio/net_backend.h"

struct vh_net_gso {
    bool left;            /* there is another segment */
    const uint8_t *frame; /* the caller's */
    uint32_t bytes;
    uint32_t headers;  /* Ethernet, IP and TCP together; 0: one frame, only its checksum */
    uint32_t ip;       /* offset of the IP header */
    uint32_t tcp;      /* offset of the TCP header, or from where the checksum goes */
    uint32_t checksum; /* offset of the checksum field; 0: none to be made */
    uint32_t size;     /* TCP payload of a segment */
    uint32_t next;     /* offset of the next payload */
    uint32_t number;   /* of the next segment */
};

/** A frame whose header passed vh_net_header_check(); it stays as it is until no segment is left.
 *  False where it is not what its header says. */
bool vh_net_gso_begin(struct vh_net_gso *gso, const struct virtio_net_hdr_v1 *header,
                      const uint8_t *frame, uint32_t bytes);

/** The next frame into these pieces: its length, at most VH_NET_FRAME_MAX. */
uint32_t vh_net_gso_next(struct vh_net_gso *gso, const struct iovec *iov, uint32_t count);

#endif
