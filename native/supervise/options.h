/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SUPERVISE_OPTIONS_H
#define SUPERVISE_OPTIONS_H

#include "channel.h"
#include "dhcp.h"

#define MAX_CHANNELS 4
#define MAX_SOCKETS 2
#define MAX_NETWORKS 8

/** A listening socket for the program. */
struct socket_option {
    const char *path;
    int number;
};

/** A network in which the guest gets its address from us. */
struct network_option {
    const char *device;
    struct dhcp_lease lease;
};

struct options {
    const char *directory;
    struct channel_options channels[MAX_CHANNELS];
    size_t channel_count;
    struct socket_option sockets[MAX_SOCKETS];
    size_t socket_count;
    struct network_option networks[MAX_NETWORKS];
    size_t network_count;
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
