/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DHCP server (RFC 2131) for a network of two: the host at one end of a tap device, one guest at
 * the other. There is one lease, which never ends, so nothing is kept.
 */
#ifndef SUPERVISE_DHCP_H
#define SUPERVISE_DHCP_H

#include <stddef.h>
#include <stdint.h>

#define DHCP_NAME_SERVERS 3
/** What an answer takes at most. */
#define DHCP_REPLY_MAX 576

/** Addresses in network byte order. */
struct dhcp_lease {
    uint32_t host;
    uint32_t guest;
    uint32_t mask;
    uint32_t name_servers[DHCP_NAME_SERVERS];
    uint32_t name_server_count;
    /** The only one that is answered. */
    uint8_t mac[6];
};

struct dhcp_reply {
    uint8_t data[DHCP_REPLY_MAX];
    size_t bytes;
    /** Where it goes: an address, or 0 for all. */
    uint32_t to;
};

/**
 * What to say to a packet from the guest, which may be anything.
 * @return 1, or 0 where there is nothing to be said
 */
int dhcp_answer(const struct dhcp_lease *lease, const uint8_t *request, size_t bytes,
                struct dhcp_reply *reply);

/** A socket for the server's port at one device. @return its descriptor, or -1 with errno */
int dhcp_open(const char *device);

/** Answer what has come. */
void dhcp_turn(int fd, const struct dhcp_lease *lease);

/**
 * `HOST,GUEST,PREFIX,MAC[,NAME SERVER]…`.
 * @return 0, or -1 where it is something else
 */
int dhcp_parse(struct dhcp_lease *lease, const char *text);

#endif
