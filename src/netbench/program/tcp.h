/* SPDX-License-Identifier: Apache-2.0 */
/* A stream over TCP, without Nagle's algorithm. */
#ifndef NETBENCH_TCP_H
#define NETBENCH_TCP_H

#include "stream.h"

struct tcp {
    struct stream stream;
    int fd;
};

/* Over a connected socket, which stays the caller's. */
void tcp_init(struct tcp *tcp, int fd);
/* A listening socket, or -1 with errno. Port 0: any. */
int tcp_listen(uint16_t port);
/* A connected one, or -1 with errno. `address`: IPv4. */
int tcp_connect(const char *address, uint16_t port);

#endif
