/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libbypass: messages and one-sided transfers between programs that share a window of memory:
 * guests in a VMM-bypass channel (docs/reference/shm.md), or processes of one Linux host.
 *
 * Each peer writes an area of its own and reads those of the others. What lies in another's area is
 * never trusted: a peer that dies, or scribbles over its area, gives errors or garbage as payload,
 * and no crash, hang or access out of bounds.
 *
 * An endpoint belongs to one thread at a time. Functions return 0, BYPASS_PENDING or a negative
 * BYPASS_E_*; none exits or prints. Lengths are bytes, times microseconds unless they say other.
 */
#ifndef BYPASS_H
#define BYPASS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BYPASS_PEERS_MAX 64u
#define BYPASS_INLINE 48u           /* up to here a message is one cache line */
#define BYPASS_ANY_PEER (-1)        /* receive from whoever sends */
#define BYPASS_FOREVER UINT64_MAX   /* as a timeout */
#define BYPASS_REGIONS 32u          /* of memory exposed to puts and gets, of each peer */
#define BYPASS_AREA_MIN (64u << 10) /* smallest area */

/** What functions return. */
enum bypass_code {
    BYPASS_OK = 0,
    BYPASS_PENDING = 1,        /* not complete yet */
    BYPASS_E_INVALID = -1,     /* an argument is wrong */
    BYPASS_E_SYSTEM = -2,      /* a system call failed: errno says how */
    BYPASS_E_PEER_GONE = -3,   /* the peer left, died or was restarted */
    BYPASS_E_PROTOCOL = -4,    /* the peer's area holds nonsense; the link to it is down */
    BYPASS_E_TRUNCATED = -5,   /* the message was longer than the buffer; what fits is there */
    BYPASS_E_TIMEOUT = -6,     /* it took longer than allowed */
    BYPASS_E_MEMORY = -7,      /* no memory, or no space in the area */
    BYPASS_E_UNSUPPORTED = -8, /* this window, or this region, cannot do it */
    BYPASS_E_UNCONNECTED = -9, /* no link to that peer yet: bypass_connect() */
};

/** How the window is found. */
enum bypass_window_kind {
    BYPASS_WINDOW_AUTO = 0,  /* by $BYPASS_WINDOW ("file:PATH", "linux", "lwk", "alone"), else by
                                what is there */
    BYPASS_WINDOW_FILE = 1,  /* a file of bypass_file_create(), shared by processes of one host */
    BYPASS_WINDOW_LINUX = 2, /* the PCI function of a Linux guest; needs root */
    BYPASS_WINDOW_LWK = 3,   /* of a program on the lightweight kernel */
    BYPASS_WINDOW_ALONE = 4, /* memory of this process's: the only peer, with messages to itself */
};

/** What to do while there is nothing to do. */
enum bypass_wait_mode {
    BYPASS_WAIT_AUTO = 0,      /* by $BYPASS_WAIT ("poll", "interrupt"), else interrupt */
    BYPASS_WAIT_POLL = 1,      /* look again; never sleep, take no interrupt */
    BYPASS_WAIT_INTERRUPT = 2, /* look up to `spins` times, then sleep until a doorbell rings */
};

/** How to open an endpoint. Zero is the default of every member but `size`. */
struct bypass_config {
    uint32_t size;        /* sizeof(struct bypass_config) */
    uint32_t window;      /* enum bypass_window_kind */
    const char *path;     /* BYPASS_WINDOW_FILE: the file; NULL: from $BYPASS_WINDOW */
    int32_t peer;         /* BYPASS_WINDOW_FILE: who this is; negative: from $BYPASS_PEER */
    uint32_t wait;        /* enum bypass_wait_mode */
    uint32_t spins;       /* looks before sleeping, at most (0: 2000), or, polling, before giving
                             the CPU to another process once (0: 20000) */
    uint32_t strict;      /* 1: a peer's leaving fails receives from BYPASS_ANY_PEER, too */
    uint64_t heap_bytes;  /* of the area, for bypass_alloc(); 0: a quarter */
    uint64_t eager_bytes; /* longest message that is sent before it is wanted; 0: 8 KiB */
    uint64_t unexpected_bytes; /* kept of messages that nobody has asked for; 0: 16 MiB */
};

struct bypass;

/** What came, of a receive or a probe. */
struct bypass_status {
    int32_t peer; /* who sent it */
    uint32_t spare;
    uint64_t tag;
    uint64_t length; /* as sent: may be more than the buffer took */
};

/** A send, receive or put under way. The caller's memory, which has to stay where it is, with the
 *  buffer, until the request is complete. Members are private. */
struct bypass_request {
    struct bypass_request *next;
    uint8_t *buffer;
    uint64_t length; /* of a send or put; the space of a receive */
    uint64_t tag;
    uint64_t ignore;
    uint64_t offset;   /* bytes moved so far */
    uint64_t total;    /* bytes of the message that a receive takes */
    uint64_t position; /* slot that the peer must have taken */
    uint64_t target;   /* of a put: where in the region */
    uint32_t region;
    uint32_t id;
    int32_t peer;
    int32_t result; /* enum bypass_code */
    uint32_t kind;
    uint32_t flags;
    struct bypass_status status;
};

/** Something that another peer did to this one's memory. */
struct bypass_event {
    int32_t peer;    /* who put */
    uint32_t region; /* where */
    uint64_t offset; /* in the region */
    uint64_t length;
};

/** Counters since bypass_open(). */
struct bypass_stats {
    uint64_t sent_messages;
    uint64_t sent_bytes;
    uint64_t received_messages;
    uint64_t received_bytes;
    uint64_t unexpected_messages; /* came before they were asked for */
    uint64_t rendezvous;          /* sends that waited for their receive */
    uint64_t zero_copy;           /* sends and puts that the receiver read from where they lay */
    uint64_t puts;                /* sent */
    uint64_t puts_taken;          /* came */
    uint64_t puts_refused;        /* came for memory that is not exposed */
    uint64_t gets;
    uint64_t events_dropped; /* events that nobody fetched in time */
    uint64_t doorbells;      /* rung: each is an exit of a guest */
    uint64_t sleeps;         /* waits for a doorbell */
    uint64_t stalls;         /* turns without room in a ring, the staging space or for unexpected
                                messages */
    uint64_t links_lost;     /* peers that left or talked nonsense */
};

/** Prepare a file (created if need be, emptied if not) as the window of `peers` processes. The path
 * may be of a memfd: "/proc/self/fd/N". area_bytes: a multiple of 4096, from BYPASS_AREA_MIN to 1
 * GiB. */
int32_t bypass_file_create(const char *path, uint32_t peers, uint64_t area_bytes);

/** Take one's place in the window. The caller owns *out. */
int32_t bypass_open(const struct bypass_config *config, struct bypass **out);

/** Leave. Waits, 2 s at most, until peers have taken what was sent to them. Requests that are still
 *  under way are forgotten. NULL is allowed. */
void bypass_close(struct bypass *bypass);

/** Who this is: 0 … bypass_peers() - 1. */
uint32_t bypass_id(const struct bypass *bypass);
/** How many peers the window is made for, this one included. */
uint32_t bypass_peers(const struct bypass *bypass);

/** Wait until `peer` is there and has seen this one. Needed once before anything else is done with
 * it, and again after it left. A peer that is being connected to has only to make progress. */
int32_t bypass_connect(struct bypass *bypass, uint32_t peer, uint64_t timeout);

/** 0: there is a link. BYPASS_E_UNCONNECTED: not yet. BYPASS_E_PEER_GONE, BYPASS_E_PROTOCOL: it is
 * down. */
int32_t bypass_link(const struct bypass *bypass, uint32_t peer);

#define BYPASS_SYNCHRONOUS 1u /* complete when the receive has begun, and not before */

/** Start a send. Messages of one sender match receives in order. flags: BYPASS_SYNCHRONOUS or 0. A
 * short message is often complete at once. Data that lie in memory of bypass_alloc() are not copied
 * by the sender if they are longer than eager_bytes. */
int32_t bypass_isend(struct bypass *bypass, uint32_t peer, uint64_t tag, const void *data,
                     uint64_t length, uint32_t flags, struct bypass_request *request);
/** Start a receive of the first message from `peer` (or BYPASS_ANY_PEER) whose tag equals `tag` but
 *  for the bits in `ignore`. */
int32_t bypass_irecv(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                     void *buffer, uint64_t capacity, struct bypass_request *request);

/** Make progress. BYPASS_PENDING, or how the request ended. */
int32_t bypass_test(struct bypass *bypass, struct bypass_request *request);
/** Wait for a request. BYPASS_E_TIMEOUT: it goes on. */
int32_t bypass_wait(struct bypass *bypass, struct bypass_request *request, uint64_t timeout);
/** Take back a receive that no message has matched: it ends with BYPASS_E_INVALID, and 0 is
 * returned. BYPASS_PENDING: too late. */
int32_t bypass_cancel(struct bypass *bypass, struct bypass_request *request);
/** What a complete receive brought. */
const struct bypass_status *bypass_status(const struct bypass_request *request);

/** bypass_isend() and bypass_wait() in one. */
int32_t bypass_send(struct bypass *bypass, uint32_t peer, uint64_t tag, const void *data,
                    uint64_t length);
/** bypass_irecv() and bypass_wait() in one. status may be NULL. */
int32_t bypass_recv(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                    void *buffer, uint64_t capacity, struct bypass_status *status);
/** Look for a message without receiving it: BYPASS_PENDING if there is none within `timeout` (0:
 * just look). */
int32_t bypass_probe(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                     uint64_t timeout, struct bypass_status *status);

/** Do what is to be done now. Returns how many messages came. Waiting and testing do it, too. */
int32_t bypass_progress(struct bypass *bypass);
/** Let something come: bypass_progress(), and one rest of the wait mode's kind when there is
 * nothing, `timeout` at most. */
int32_t bypass_rest(struct bypass *bypass, uint64_t timeout);

/** Memory in one's own area, 64-byte aligned: others can read it without a copy by this side. NULL:
 * no space. */
void *bypass_alloc(struct bypass *bypass, uint64_t bytes);
/** Give it back. NULL is allowed. */
void bypass_free(struct bypass *bypass, void *memory);

#define BYPASS_PUT_EVENTS 1u /* puts give events */

/** Let others put into (and, if it is memory of bypass_alloc(), get from) this memory, by number:
 * below BYPASS_REGIONS. length 0 takes it back. flags: BYPASS_PUT_EVENTS or 0. */
int32_t bypass_expose(struct bypass *bypass, uint32_t region, void *memory, uint64_t length,
                      uint32_t flags);
/** Write to a region of another's. Complete when the data are there: the target takes them when it
 *  makes progress. Puts to one peer happen in order, and in order with sends. */
int32_t bypass_put(struct bypass *bypass, uint32_t peer, uint32_t region, uint64_t offset,
                   const void *data, uint64_t length, struct bypass_request *request);
/** Read from a region of another's, which has no part in it. Complete on return. */
int32_t bypass_get(struct bypass *bypass, uint32_t peer, uint32_t region, uint64_t offset,
                   void *buffer, uint64_t length);
/** The oldest event that has not been fetched. BYPASS_E_TIMEOUT: none came. */
int32_t bypass_event(struct bypass *bypass, struct bypass_event *event, uint64_t timeout);

/** The counters of now. */
void bypass_stats(const struct bypass *bypass, struct bypass_stats *stats);
/** A code in words. Never NULL. */
const char *bypass_text(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
