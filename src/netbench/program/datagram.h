/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream by UDP over virtio-net, for payloads: what `tap`, `vhost` and `user` carry. Datagrams
 * are numbered, and so few are under way that no queue in between overflows; one that is lost all
 * the same is an error, not a wait.
 */
#ifndef NETBENCH_DATAGRAM_H
#define NETBENCH_DATAGRAM_H

#include "stream.h"
#include "virtio_net.h"

enum {
    DATAGRAM_PORT = 5001,   /* of whoever follows, and of whoever leads, too */
    DATAGRAM_DATA = 1400,   /* bytes of the stream in one of them */
    DATAGRAM_UNDER_WAY = 32 /* sent and not yet known to be read */
};

/* An end of UDP's. */
struct datagram_end {
    uint8_t mac[VIRTIO_NET_MAC];
    uint16_t port;
    uint32_t address; /* 10.0.0.1 is 0x0a000001 */
};

struct datagram {
    struct stream stream;
    struct virtio_net net;
    struct datagram_end own, theirs;
    int leads;
    int met;              /* the other side is there, and its address known */
    uint64_t next_hello;  /* ticks */
    uint64_t sent;        /* datagrams with data */
    uint64_t theirs_read; /* of these, as far as is known */
    uint64_t read;        /* datagrams with data, to their end */
    uint64_t told;        /* of these, what the other side was told */
    uint64_t got;         /* bytes of the datagram at hand that were read */
};

/*
 * Start the function and meet the other side. Who leads names the other's address and port, and
 * says hello until it is answered; who follows answers whoever comes first. `memory`:
 * VIRTIO_NET_MEMORY, on a page. 0 or -errno of virtio_net_open.
 */
int64_t datagram_open(struct datagram *datagram, uint8_t *memory, uint32_t own, uint32_t theirs,
                      uint16_t port, int leads);
/* Until all that was sent is on its way. */
void datagram_close(struct datagram *datagram);

#endif
