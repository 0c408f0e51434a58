/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream over a channel's memory (docs/reference/shm.md): in guests a device's, in processes of
 * the host shared memory of the same layout. The same machine code for both.
 *
 * What is polled and what comes with it (struct channel_control) is in the common section, which
 * both sides may write, if there is one: on some processors a line that is read through a mapping
 * without the right to write takes twice as long. Long data are in areas, which only their owners
 * write. Others may scribble in the common section: what is read there is checked.
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
    CHANNEL_CONTROL = 8192, /* of the common section, for each peer */
};

/* A message, or a part of one. */
struct channel_slot {
    uint64_t number; /* 1, 2, …; written last */
    uint64_t bytes;
    uint8_t data[CHANNEL_INLINE];
};

/* What a side says; nobody else ought to write it. */
struct channel_control {
    uint64_t taken; /* slots of the other side that were read */
    uint8_t pad[CHANNEL_LINE - 8];
    uint32_t waits; /* STREAM_*: for what its owner sleeps, and has to be rung */
    uint8_t pad_too[CHANNEL_LINE - 4];
    struct channel_slot slots[CHANNEL_SLOTS];
};

/* The memory of a channel: areas of peers 0, 1, … beside each other. */
struct channel_window {
    uint8_t *common; /* what all may write */
    uint64_t common_bytes;
    uint8_t *areas;
    uint64_t area_bytes; /* of each: at least CHANNEL_AREA_MIN */
};

struct channel {
    struct stream stream;
    struct channel_control *own;
    const struct channel_control *theirs;
    uint8_t *own_ring; /* data of slots with more than fits in */
    const uint8_t *their_ring;
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
 * A channel between two peers, of which `self` is this side. What it says is emptied: neither side
 * may use the stream before both have done so. `wake` and `rest` are the caller's.
 */
void channel_init(struct channel *channel, const struct channel_window *window, uint32_t self,
                  uint32_t partner);

#endif
