/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel joins the supervised program with those who attach to a UNIX socket. What the program
 * says is kept in a ring; whoever attaches gets what is kept, then the rest, without a gap and
 * without a byte twice. What they say goes to the program, in the order in which it comes.
 */
#ifndef SUPERVISE_CHANNEL_H
#define SUPERVISE_CHANNEL_H

#include <poll.h>
#include <stdbool.h>

#include "ring.h"

#define CHANNEL_CLIENTS 32
/** Entries that channel_poll() fills at most. */
#define CHANNEL_POLL (CHANNEL_CLIENTS + 2)
/** Bytes on their way to the program. */
#define CHANNEL_INPUT 4096

struct channel_client {
    int fd;
    /** Number of the next byte that it gets. */
    uint64_t position;
    /** Its own words have not ended. */
    bool talks;
    /** It can still be told something. */
    bool listens;
};

struct channel_options {
    const char *name;
    /** Number that the program knows its end by. */
    int number;
    /** Bytes kept. */
    uint64_t keep;
    /** Clients may speak to the program. */
    bool input;
    /** Wait for the slowest client once it is `keep` bytes behind; else such a client is sent away.
     */
    bool hold;
    /** Said to the program first, or NULL. */
    const char *hello;
    /** File that gets all that the program says, or NULL. */
    const char *log;
};

struct channel {
    struct channel_options options;
    struct ring ring;
    int program_fd;
    /** The program's end, until it is started. */
    int child_fd;
    int listener;
    int log_fd;
    struct channel_client clients[CHANNEL_CLIENTS];
    size_t client_count;
    uint8_t input[CHANNEL_INPUT];
    size_t input_at;
    size_t input_bytes;
};

/**
 * Make the ring `NAME.ring` and the socket `NAME.sock` in the present directory.
 * @param what is set to what failed
 * @return 0 or an errno; the channel is to be closed in either case
 */
int channel_open(struct channel *channel, const struct channel_options *options, const char **what);

/** Disconnect all clients and close everything; the socket's name goes, the ring's file stays. */
void channel_close(struct channel *channel);

/** A listening socket with a name in the present directory. @return its descriptor, or -1 with
 * errno */
int channel_listen(const char *path);

/** @return how many entries of `fds` were filled, CHANNEL_POLL at most */
size_t channel_poll(const struct channel *channel, struct pollfd *fds);

/**
 * Move what can be moved. To be called with the entries that channel_poll() filled.
 * @return whether anything was moved or anybody came or went
 */
bool channel_turn(struct channel *channel, const struct pollfd *fds, size_t count);

/** The program is gone: take what it said last, as far as clients that hold it back let us. */
void channel_drain(struct channel *channel);

/** Nothing is left to come, and every client has got all of it. */
bool channel_is_done(const struct channel *channel);

/** Send away those who do not read. */
void channel_drop_clients(struct channel *channel);

#endif
