/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SUPERVISE_OPTIONS_H
#define SUPERVISE_OPTIONS_H

#include "channel.h"

#define MAX_CHANNELS 4
#define MAX_SOCKETS 2

/** A listening socket for the program. */
struct socket_option {
    const char *path;
    int number;
};

struct options {
    const char *directory;
    struct channel_options channels[MAX_CHANNELS];
    size_t channel_count;
    struct socket_option sockets[MAX_SOCKETS];
    size_t socket_count;
    /** Descriptors 3, 4, … that go to the program. */
    int pass;
    /** Argument vectors, each with a NULL at its end. */
    char **program;
    /** What this process becomes when the program has ended, or NULL. */
    char **after;
};

/** @return NULL, or what is wrong */
const char *parse_options(struct options *options, int argc, char **argv);

#endif
