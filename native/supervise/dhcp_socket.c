/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dhcp.h"

#define SERVER_PORT 67
#define CLIENT_PORT 68
/** A guest that asks all the time gets no more of them at a time. */
#define TURN_MAX 8

int dhcp_open(const char *device)
{
    struct sockaddr_in address_any = {.sin_family = AF_INET, .sin_port = htons(SERVER_PORT)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address_any, sizeof(address_any)) != 0) {
        int failed = errno;
        (void)close(fd);
        errno = failed;
        return -1;
    }
    return fd;
}

void dhcp_turn(int fd, const struct dhcp_lease *lease)
{
    uint8_t request[1500];
    struct dhcp_reply reply;
    for (int i = 0; i < TURN_MAX; i++) {
        ssize_t got = recv(fd, request, sizeof(request), MSG_DONTWAIT);
        if (got < 0) {
            return;
        }
        if (dhcp_answer(lease, request, (size_t)got, &reply)) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(CLIENT_PORT)};
            to.sin_addr.s_addr = reply.to != 0 ? reply.to : INADDR_BROADCAST;
            (void)sendto(fd, reply.data, reply.bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
                         (struct sockaddr *)&to, sizeof(to));
        }
    }
}

static int parse_mac(uint8_t *mac, const char *text)
{
    for (int i = 0; i < 6; i++) {
        char *end = NULL;
        unsigned long byte = strtoul(text, &end, 16);
        if (end != text + 2 || byte > 255 || *end != (i < 5 ? ':' : '\0')) {
            return -1;
        }
        mac[i] = (uint8_t)byte;
        text = end + 1;
    }
    return 0;
}

int dhcp_parse(struct dhcp_lease *lease, const char *text)
{
    char copy[256];
    char *rest = NULL;
    *lease = (struct dhcp_lease){0};
    if (strlen(text) >= sizeof(copy)) {
        return -1;
    }
    memcpy(copy, text, strlen(text) + 1);
    const char *host = strtok_r(copy, ",", &rest);
    const char *guest = strtok_r(NULL, ",", &rest);
    const char *prefix = strtok_r(NULL, ",", &rest);
    const char *mac = strtok_r(NULL, ",", &rest);
    if (mac == NULL || inet_pton(AF_INET, host, &lease->host) != 1 ||
        inet_pton(AF_INET, guest, &lease->guest) != 1 || parse_mac(lease->mac, mac) != 0) {
        return -1;
    }
    char *end = NULL;
    unsigned long bits = strtoul(prefix, &end, 10);
    if (*end != '\0' || end == prefix || bits < 1 || bits > 32) {
        return -1;
    }
    lease->mask = htonl(0xffffffffu << (32 - bits));
    for (const char *name = strtok_r(NULL, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        if (lease->name_server_count == DHCP_NAME_SERVERS ||
            inet_pton(AF_INET, name, &lease->name_servers[lease->name_server_count]) != 1) {
            return -1;
        }
        lease->name_server_count++;
    }
    return 0;
}
