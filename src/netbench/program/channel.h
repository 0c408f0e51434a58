/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream over memory that each side writes and the other one only reads: two areas of a channel
 * (docs/reference/shm.md) in guests, two halves of shared memory in processes of the host. The same
 * machine code for both: it needs nothing but the areas.
 */
#ifndef NETBENCH_CHANNEL_H
#define NETBENCH_CHANNEL_H

#include "stream.h"

enum {
    CHANNEL_LINE = 64,
    CHANNEL_SLOTS = 64,
    CHANNEL_INLINE = CHANNEL_LINE - 16, /* bytes that travel with their number, in one line */
    CHANNEL_CHUNK = 16384,              /* of more: one side copies in while the other copies out */
    CHANNEL_AREA_MIN = 131072,
};

/* A message, or a part of one. */
struct channel_slot {
    uint64_t number; /* 1, 2, …; written last */
    uint64_t bytes;
    uint8_t data[CHANNEL_INLINE];
};

/* What an area holds, all of it its owner's. */
struct channel_area {
    uint64_t taken; /* slots of the other side that were read */
    uint8_t pad[CHANNEL_LINE - 8];
    uint32_t waits; /* STREAM_*: for what its owner sleeps, and has to be rung */
    uint8_t pad_too[CHANNEL_LINE - 4];
    struct channel_slot slots[CHANNEL_SLOTS];
    uint8_t ring[]; /* data of slots with more than fits in */
};

struct channel {
    struct stream stream;
    struct channel_area *own;
    const struct channel_area *theirs;
    uint64_t ring_bytes;
    uint64_t sent;                /* slots */
    uint64_t received;            /* slots read to their end */
    uint64_t got;                 /* bytes of the slot at hand that were read */
    uint64_t written, read;       /* bytes of the rings */
    uint64_t ends[CHANNEL_SLOTS]; /* where in our ring each slot's data ends */
    /* Wake the other side, where it may sleep, else NULL. */
    void (*wake)(struct channel *channel);
    /* Until somebody wakes us, or earlier: 0 or -errno. Where nobody sleeps: what to do between
     * looks. */
    int64_t (*rest)(struct channel *channel);
};

/*
 * A channel between two areas of `area_bytes` (at least CHANNEL_AREA_MIN). The own area is emptied:
 * neither side may use the stream before both have done so. `wake` and `rest` are the caller's.
 */
void channel_init(struct channel *channel, void *own, const void *theirs, uint64_t area_bytes);

#endif
