/* SPDX-License-Identifier: Apache-2.0 */
/* What virtio-console keeps: for hvc.c, and for snapshots. */
#ifndef VH_HVC_H
#define VH_HVC_H

#include "virtio/virtio.h"

/** One direction: a descriptor, or none. */
struct vh_hvc_end {
    struct vh_io_source source; /* fd -1: it cannot be waited for (a file), or is none */
    uint32_t watched;
    int fd;
    bool is_socket;
    bool gone;        /* none, or the other side has left */
    uint32_t at_once; /* bytes */
    /* The chain in work. */
    bool busy;
    uint64_t done;
    uint64_t resume_at; /* done of the next chain: of the one in work when it was saved */
    struct vh_chain chain;
};

struct vh_hvc {
    struct vh_virtio virtio;
    struct vh_hvc_end in;
    struct vh_hvc_end out;
};

#endif
