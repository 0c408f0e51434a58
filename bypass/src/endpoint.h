/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of an endpoint, and what its files do for each other. */
#ifndef BYPASS_ENDPOINT_H
#define BYPASS_ENDPOINT_H

#include "layout.h"
#include "window.h"

#define EVENTS 256u /* a power of two */

enum link_state {
    LINK_NONE,    /* not wanted, or the peer is not there */
    LINK_OFFERED, /* this side is ready */
    LINK_UP,
    LINK_DOWN, /* it was up; `error` says why it is not */
};

/* Requests in order. */
struct request_list {
    struct bypass_request *first;
    struct bypass_request **end;
};

/* What there is between this peer and another. */
struct link {
    enum link_state state;
    int32_t error;
    uint32_t peer;
    uint32_t incarnation; /* of the peer */
    uint32_t session;     /* of its side of the link */
    uint8_t *area;        /* the peer's */

    /* Sending: a ring and staging space in this peer's area. */
    struct slot *ring;
    uint64_t *staged; /* for each slot: what the staging space had given out when it was filled */
    uint8_t *stage;
    uint64_t stage_bytes;
    uint64_t stage_given; /* these count up for ever */
    uint64_t stage_taken;
    uint64_t posted; /* slots */
    uint64_t acknowledged;
    uint32_t slots; /* a power of two */
    uint32_t rung;  /* the sleep of the peer that was ended last */
    uint32_t next_id;

    /* Receiving: the peer's ring, and what has been taken of it. */
    const struct slot *in;
    uint32_t in_slots;
    uint64_t taken;
    uint64_t published;

    /* Sends: not posted yet; long ones waiting to be asked for; their data being sent; puts that
     * the peer has not taken yet. */
    struct request_list outgoing;
    struct request_list waiting;
    struct request_list streaming;
    struct request_list unacknowledged;
    /* Receives of long messages: whose answer is not posted yet; whose data are coming. */
    struct request_list answers;
    struct request_list granted;
};

/* A message that came before its receive. */
struct unexpected {
    struct unexpected *next;
    int32_t peer;
    uint32_t kind; /* enum slot_kind */
    uint64_t tag;
    uint64_t total;
    struct slot_data data;
    uint8_t bytes[]; /* unless it is a long one */
};

/* A free or used block of the heap; kept outside of the area, which others can read but nobody
 * else can write: what is in it would be safe, too, but a stray write of the program's would not.
 */
struct heap_block {
    struct heap_block *next;
    uint64_t offset; /* in the area */
    uint64_t bytes;
    int32_t used;
};

struct region {
    uint8_t *memory;
    uint64_t length;
    uint32_t flags;
};

struct bypass {
    struct bypass_window *window;
    uint8_t *area; /* one's own */
    struct area_header *header;
    struct area_link *said; /* one for each peer, in one's own area */
    uint64_t area_bytes;
    uint32_t id;
    uint32_t peers;
    uint32_t incarnation;
    int32_t interrupts;
    uint32_t spins;  /* looks before sleeping, at most */
    uint32_t looks;  /* … of one that waits: as many as paid lately */
    uint32_t looked; /* since something came, or this slept */
    uint32_t strict;
    uint32_t idle;    /* looks since the last one that found something */
    uint64_t changes; /* counts whatever a loop that waits may wait for */
    uint32_t sleeps;  /* number of the last sleep */
    uint32_t links_up;
    uint32_t links_pending; /* offered, and not up */
    uint64_t eager_bytes;
    uint64_t unexpected_bytes; /* may be kept */
    uint64_t unexpected_kept;
    uint64_t heap_offset;
    struct heap_block *heap;
    struct request_list receives; /* that nothing has matched */
    struct unexpected *unexpected;
    struct unexpected **unexpected_end;
    struct region regions[BYPASS_REGIONS];
    struct bypass_event events[EVENTS];
    uint32_t events_in;
    uint32_t events_out;
    struct bypass_stats stats;
    struct link links[BYPASS_PEERS_MAX];
};

/* What a request is, for whoever finds it in a list. */
enum request_kind { REQUEST_SEND, REQUEST_RECEIVE, REQUEST_PUT };
/* Flags of a request, after BYPASS_SYNCHRONOUS. */
enum { REQUEST_DIRECT = 2 };

/* list.c */
void list_init(struct request_list *list);
void list_append(struct request_list *list, struct bypass_request *request);
struct bypass_request *list_take(struct request_list *list);
int32_t list_remove(struct request_list *list, struct bypass_request *request);
/* End a request, and a list of them. */
void request_end(struct bypass_request *request, int32_t result);
void list_end(struct request_list *list, int32_t result);

/* link.c: how links come and go. */
void links_check(struct bypass *bypass);
void link_down(struct bypass *bypass, struct link *link, int32_t error);
/* Has what was just read from the peer's area been its own, from begin to end? */
int32_t link_intact(const struct link *link);
int32_t link_error(const struct link *link);
int32_t links_lost(const struct bypass *bypass);

/* ring.c: slots, staging space, acknowledgements, doorbells. */
struct slot *ring_slot(struct bypass *bypass, struct link *link);
void ring_post(struct bypass *bypass, struct link *link, struct slot *slot);
uint8_t *ring_stage(struct link *link, uint64_t bytes);
uint64_t ring_stage_room(const struct link *link);
int32_t ring_refresh(struct bypass *bypass, struct link *link);
void ring_acknowledge(struct bypass *bypass, struct link *link);
void ring_notify(struct bypass *bypass, struct link *link, uint32_t what);

/* send.c */
void send_push(struct bypass *bypass, struct link *link);
int32_t send_cleared(struct bypass *bypass, struct link *link, uint32_t id, int32_t finished);
void send_flush(struct bypass *bypass, struct link *link);
void send_start(struct bypass *bypass, struct link *link, struct bypass_request *request);

/* receive.c: 1: the slot is taken; 0: it has to stay; negative: it is nonsense. */
int32_t receive_slot(struct bypass *bypass, struct link *link, const struct slot *slot);
int32_t receive_to_self(struct bypass *bypass, uint64_t tag, const void *data, uint64_t length);
void unexpected_forget(struct bypass *bypass, int32_t peer, int32_t all);

/* onesided.c */
int32_t put_slot(struct bypass *bypass, struct link *link, const struct slot_data *data);
/* heap.c: where memory lies in one's own area; NOT_IN_AREA: not in the heap. */
uint64_t heap_offset_of(const struct bypass *bypass, const void *memory, uint64_t length);
int32_t heap_init(struct bypass *bypass, uint64_t offset);
void heap_destroy(struct bypass *bypass);

/* progress.c */
int32_t progress(struct bypass *bypass);
/* Of a loop that waits: when it began, and whether its time is over. */
struct patience {
    uint64_t timeout;
    uint64_t end; /* 0: not known yet */
};
int32_t rest(struct bypass *bypass, struct patience *patience);

/* clock.c */
uint64_t clock_now(void); /* microseconds */

#endif
