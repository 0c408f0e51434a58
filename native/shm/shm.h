/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a channel's server and its peers' devices tell each other: messages of one size over a
 * SOCK_SEQPACKET socket, with descriptors beside them.
 *
 *   peer                      server
 *   JOIN         ->                        a place, for whoever starts the machine
 *                <-   WELCOME or REFUSED   the table of states (fd 0), the peer's own area (fd 1),
 *                                          the common section (fd 2, where there is one)
 *   READY        ->                        the device mapped it; its doorbells (eventfds)
 *                <-   PEER, GONE, CHANGED  another came (its area and doorbells), left, has
 *   STATE        ->                        another state
 *
 * The server creates all areas. One that was mapped by its owner (READY) is sealed against any
 * further writable mapping before others get it: F_SEAL_FUTURE_WRITE. The common section is
 * everybody's to write, and sealed so that nobody can take that from the others.
 */
#ifndef VH_SHM_H
#define VH_SHM_H

#include "internal.h"
#include "vmmhpc_shm.h"

#define VH_SHM_MAGIC 0x324d4853u /* "SHM2": another format has another number */
#define VH_SHM_TABLE_BYTES VH_PAGE
#define VH_SHM_FDS (1u + VMMHPC_SHM_VECTORS)
#define VH_SHM_TEXT 160u

enum vh_shm_type {
    VH_SHM_JOIN = 1,
    VH_SHM_WELCOME = 2,
    VH_SHM_REFUSED = 3,
    VH_SHM_READY = 4,
    VH_SHM_PEER = 5,
    VH_SHM_GONE = 6,
    VH_SHM_CHANGED = 7,
    VH_SHM_STATE = 8,
};

struct vh_shm_message {
    uint32_t magic;
    uint32_t type;  /* enum vh_shm_type */
    uint32_t peer;  /* whom it is about */
    int32_t value;  /* STATE: the state; REFUSED: enum vmmhpc_status */
    uint32_t peers; /* JOIN: 0 for whatever the channel has */
    uint32_t reserved;
    uint64_t area_bytes;
    uint64_t common_bytes;
    uint64_t visible_to;
    char text[VH_SHM_TEXT]; /* REFUSED: why, NUL-terminated */
};

/* message.c */

/** 0 or an errno; never waits (EAGAIN). */
int vh_shm_send(int fd, const struct vh_shm_message *message, const int *fds, uint32_t count);
/** Likewise; at most VH_SHM_FDS descriptors, the caller's; EPIPE at the end, EBADMSG for nonsense.
 */
int vh_shm_receive(int fd, struct vh_shm_message *message, int fds[VH_SHM_FDS], uint32_t *count);
/** Look at the next message, up to `ms` milliseconds from now, without taking it: 0 or an errno. */
int vh_shm_peek(int fd, struct vh_shm_message *message, int ms);
void vh_shm_close(int *fds, uint32_t count);

int32_t vh_shm_check(const struct vmmhpc_channel_config *config, struct vmmhpc_error *err);

/* memory.c */

/** Shared memory whose size nobody can change. A descriptor, or -1 with errno. */
int vh_shm_memory(const char *name, uint64_t bytes);
/** From now on nobody can seal it further; with read_only, nobody can map it for writing any more,
 *  but mappings that are there stay. False with errno. */
bool vh_shm_seal(int fd, bool read_only);

/* server.c */

struct vh_shm_server;

int32_t vh_shm_server_new(const struct vmmhpc_channel_config *config, struct vh_shm_server **out,
                          struct vmmhpc_error *err);
void vh_shm_server_free(struct vh_shm_server *server);
/** A connection, the server's from now on. Only before vh_shm_server_run() or in its thread. */
bool vh_shm_server_adopt(struct vh_shm_server *server, int fd);
/**
 * Serve until a byte can be read from stop_fd, or, with linger_ms >= 0, nobody was connected for so
 * long.
 * @param listener accepts connections; -1: none. On incoming_fd (-1: none) others hand over
 *                 connections as messages of one descriptor each
 */
void vh_shm_server_run(struct vh_shm_server *server, int listener, int incoming_fd, int stop_fd,
                       int linger_ms);

/** Ask for a place on a connection and wait for the answer, which stays in the socket. */
int32_t vh_shm_ask(int fd, const struct vmmhpc_channel_config *config,
                   const struct vmmhpc_shm_join *join, struct vmmhpc_error *err);

#endif
