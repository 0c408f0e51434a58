/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the control protocol: a header, a payload of numbers and texts in little-endian order
 * without padding, and descriptors beside it. One message is one record of a SOCK_SEQPACKET socket.
 * What is read was written by somebody else: every get is bounds-checked, and after the first that
 * fails all others do (`bad`).
 */
#ifndef VH_WIRE_H
#define VH_WIRE_H

#include "internal.h"

#define VH_WIRE_MAGIC 0x43334d56u /* "VM3C" */
#define VH_WIRE_BYTES 65536u      /* of a message, header included */
#define VH_WIRE_FDS 12u
#define VH_NO_SENDER UINT32_MAX

/** The same in all versions of the protocol, so that one can always refuse the other. */
struct vh_message {
    uint32_t magic;
    uint16_t major;
    uint16_t minor;
    uint32_t type;     /* enum vh_request; a reply has its request's */
    uint32_t sequence; /* likewise */
    int32_t status;    /* replies: enum vmmhpc_status; on failure the payload is the text */
    int32_t sys_errno;
    uint64_t value;
};

struct vh_wire {
    struct vh_message head;
    uint8_t *data; /* the payload */
    uint32_t capacity;
    uint32_t bytes; /* that are there */
    uint32_t at;    /* next to be read */
    int fds[VH_WIRE_FDS];
    uint32_t fd_count;
    uint32_t fd_at;
    uint32_t sender; /* received with SO_PASSCRED: user id of the sender; else VH_NO_SENDER */
    bool bad;        /* overflow while writing, or nonsense while reading */
};

#define VH_WIRE_PAYLOAD (VH_WIRE_BYTES - (uint32_t)sizeof(struct vh_message))

/** An empty message over memory of the caller. */
void vh_wire_init(struct vh_wire *wire, void *data, uint32_t capacity);
/** Close what was received and not taken. */
void vh_wire_close_fds(struct vh_wire *wire);

void vh_put_bytes(struct vh_wire *wire, const void *data, uint32_t bytes);
void vh_put_u32(struct vh_wire *wire, uint32_t value);
void vh_put_u64(struct vh_wire *wire, uint64_t value);
/** NULL is a text of its own. */
void vh_put_text(struct vh_wire *wire, const char *text);
/** The descriptor stays the caller's; it is sent as it is then. */
void vh_put_fd(struct vh_wire *wire, int fd);

void vh_get_bytes(struct vh_wire *wire, void *data, uint32_t bytes);
uint32_t vh_get_u32(struct vh_wire *wire);
uint64_t vh_get_u64(struct vh_wire *wire);
/** Points into the message, NUL-terminated; NULL where NULL was put, or where the message is bad.
 */
const char *vh_get_text(struct vh_wire *wire);
/** The next descriptor, the caller's from now on; -1 where there is none. */
int vh_get_fd(struct vh_wire *wire);
/** All was read and nothing was wrong? */
bool vh_wire_done(const struct vh_wire *wire);

/** One message; 0 or an errno. EPIPE: the other side has gone. EAGAIN: it does not read, and `wait`
 *  is false, or the socket's time-out has passed. */
int vh_wire_send(int fd, const struct vh_wire *wire, bool wait);
/** One message into wire->data; 0 or an errno: EPIPE at the end, EBADMSG for what is none. EAGAIN
 *  after the socket's time-out, or where nothing is there and `wait` is false. */
int vh_wire_receive(int fd, struct vh_wire *wire, bool wait);

#endif
