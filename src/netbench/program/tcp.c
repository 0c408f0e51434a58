/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static int64_t moved(ssize_t n)
{
    if (n >= 0) {
        return n;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

static int64_t tcp_put(struct stream *stream, const void *data, uint64_t bytes)
{
    const struct tcp *tcp = (const struct tcp *)stream;
    return moved(send(tcp->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static int64_t tcp_get(struct stream *stream, void *data, uint64_t bytes)
{
    const struct tcp *tcp = (const struct tcp *)stream;
    const ssize_t n = recv(tcp->fd, data, bytes, MSG_DONTWAIT);
    return n == 0 ? -ECONNRESET : moved(n);
}

static int64_t tcp_wait(struct stream *stream, uint32_t want)
{
    const struct tcp *tcp = (const struct tcp *)stream;
    struct pollfd ready = {.fd = tcp->fd};
    ready.events = (short)(((want & STREAM_READ) != 0 ? POLLIN : 0) |
                           ((want & STREAM_WRITE) != 0 ? POLLOUT : 0));
    return poll(&ready, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

void tcp_init(struct tcp *tcp, int fd)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    *tcp = (struct tcp){.stream = {.put = tcp_put, .get = tcp_get, .wait = tcp_wait}, .fd = fd};
}

int tcp_listen(uint16_t port)
{
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0) {
        return fd;
    }
    return -1;
}

int tcp_connect(const char *text, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
        return fd;
    }
    (void)close(fd);
    return -1;
}
