/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in a peer's area:
 *
 *   0       header: who this is, whether it sleeps, what it exposes
 *   4096    a line for each peer: where the ring to it is, and how much of its ring has been taken
 *   8192    for each other peer a ring of slots, and staging space for what does not fit into a
 * slot …       the heap of bypass_alloc()
 *
 * The owner writes all of it, the others read it. So a sender's ring is in the sender's area, and
 * the receiver's acknowledgements in the receiver's. Nothing that is read here may be trusted.
 */
#ifndef BYPASS_LAYOUT_H
#define BYPASS_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "bypass.h"

#define AREA_MAGIC 0x31535042u /* "BPS1" */
#define AREA_LINKS 4096u
#define AREA_RINGS 8192u
#define CACHE_LINE 64u
#define RING_SLOTS_MIN 8u
#define RING_SLOTS_MAX 1024u
#define NOT_IN_AREA UINT64_MAX

/* A region that others may put to. */
struct area_region {
    _Atomic uint64_t length; /* 0: none */
    uint64_t offset;         /* in the area, for gets; NOT_IN_AREA: puts only */
};

struct area_header {
    uint32_t magic;
    _Atomic uint32_t incarnation; /* that of the state table; differs each time a peer comes */
    uint32_t may_sleep;           /* 0: this peer never needs a doorbell */
    uint32_t spare[13];
    /* A line of its own, since it changes: number of the sleep << 2 | what it sleeps for; 0: awake
     */
    _Atomic uint32_t sleeping;
    uint32_t spare2[15];
    struct area_region regions[BYPASS_REGIONS];
};

enum { SLEEPS_FOR_MESSAGES = 1, SLEEPS_FOR_CREDITS = 2 };

/* What a peer says about its link with another one. */
struct area_link {
    _Atomic uint32_t to;       /* incarnation of the other one that all this is for; 0: no link */
    uint32_t ring_offset;      /* of the ring to it */
    uint32_t ring_slots;       /* a power of two */
    uint32_t session;          /* differs each time the link is made */
    _Atomic uint64_t consumed; /* slots of its ring that were taken */
    uint64_t spare2[5];
};

enum slot_kind {
    SLOT_INLINE = 1, /* a message */
    SLOT_EAGER,      /* a message whose data are staged */
    SLOT_REQUEST,    /* a long message is there to be asked for */
    SLOT_CLEAR,      /* … now it is asked for */
    SLOT_DATA,       /* … a part of it, staged */
    SLOT_DIRECT,     /* a long message, to be read from where it lies */
    SLOT_FINISHED,   /* … that has been done */
    SLOT_PUT,        /* data for a region */
    SLOT_FLUSH,      /* nothing; say how much was taken */
};

/* Where data are in the sender's area, and what they are for. */
struct slot_data {
    uint64_t offset; /* in the sender's area */
    uint64_t length; /* of these data */
    uint64_t total;  /* of the message or put */
    uint64_t target; /* of a put: where in the region */
    uint32_t region; /* of a put */
    uint32_t id;     /* of a long message: the sender's number for it */
    uint32_t last;   /* of a put: 1 in its last part */
    uint32_t spare;
};

/* One message. The sequence is written last; it is the position in the ring + 1. */
struct slot {
    _Atomic uint32_t sequence;
    uint8_t kind;
    uint8_t length; /* of inline data */
    uint16_t spare;
    uint64_t tag;
    union {
        uint8_t bytes[BYPASS_INLINE];
        struct slot_data data;
    } u;
};

_Static_assert(sizeof(struct slot) == CACHE_LINE, "a message is one cache line");
_Static_assert(sizeof(struct area_link) == CACHE_LINE, "a link is one cache line");
_Static_assert(sizeof(struct area_header) <= AREA_LINKS, "the header fits");

#endif
