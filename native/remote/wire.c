/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define NO_TEXT UINT32_MAX

void vh_wire_init(struct vh_wire *wire, void *data, uint32_t capacity)
{
    memset(wire, 0, sizeof(*wire));
    wire->data = data;
    wire->capacity = capacity;
}

void vh_wire_close_fds(struct vh_wire *wire)
{
    while (wire->fd_at < wire->fd_count) {
        (void)close(wire->fds[wire->fd_at++]);
    }
    wire->fd_at = 0;
    wire->fd_count = 0;
}

void vh_put_bytes(struct vh_wire *wire, const void *data, uint32_t bytes)
{
    if (wire->bad || bytes > wire->capacity - wire->bytes) {
        wire->bad = true;
        return;
    }
    if (bytes > 0) {
        memcpy(wire->data + wire->bytes, data, bytes);
    }
    wire->bytes += bytes;
}

void vh_put_u32(struct vh_wire *wire, uint32_t value)
{
    vh_put_bytes(wire, &value, sizeof(value));
}

void vh_put_u64(struct vh_wire *wire, uint64_t value)
{
    vh_put_bytes(wire, &value, sizeof(value));
}

void vh_put_text(struct vh_wire *wire, const char *text)
{
    if (text == NULL) {
        vh_put_u32(wire, NO_TEXT);
        return;
    }
    size_t length = strlen(text);
    if (length >= wire->capacity) {
        wire->bad = true;
        return;
    }
    vh_put_u32(wire, (uint32_t)length);
    vh_put_bytes(wire, text, (uint32_t)length + 1);
}

void vh_put_fd(struct vh_wire *wire, int fd)
{
    if (wire->fd_count == VH_WIRE_FDS || fd < 0) {
        wire->bad = true;
        return;
    }
    wire->fds[wire->fd_count++] = fd;
}

void vh_get_bytes(struct vh_wire *wire, void *data, uint32_t bytes)
{
    if (wire->bad || bytes > wire->bytes - wire->at) {
        wire->bad = true;
        memset(data, 0, bytes);
        return;
    }
    memcpy(data, wire->data + wire->at, bytes);
    wire->at += bytes;
}

uint32_t vh_get_u32(struct vh_wire *wire)
{
    uint32_t value = 0;
    vh_get_bytes(wire, &value, sizeof(value));
    return value;
}

uint64_t vh_get_u64(struct vh_wire *wire)
{
    uint64_t value = 0;
    vh_get_bytes(wire, &value, sizeof(value));
    return value;
}

const char *vh_get_text(struct vh_wire *wire)
{
    uint32_t length = vh_get_u32(wire);
    if (wire->bad || length == NO_TEXT) {
        return NULL;
    }
    const char *text = (const char *)wire->data + wire->at;
    if (length >= wire->bytes - wire->at || strnlen(text, (size_t)length + 1) != length) {
        wire->bad = true;
        return NULL;
    }
    wire->at += length + 1;
    return text;
}

int vh_get_fd(struct vh_wire *wire)
{
    if (wire->bad || wire->fd_at == wire->fd_count) {
        wire->bad = true;
        return -1;
    }
    return wire->fds[wire->fd_at++];
}

bool vh_wire_done(const struct vh_wire *wire)
{
    return !wire->bad && wire->at == wire->bytes && wire->fd_at == wire->fd_count;
}

union control {
    char bytes[CMSG_SPACE(VH_WIRE_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
};

int vh_wire_send(int fd, const struct vh_wire *wire, bool wait)
{
    if (wire->bad) {
        return EMSGSIZE;
    }
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)&wire->head, .iov_len = sizeof(wire->head)},
        {.iov_base = wire->data, .iov_len = wire->bytes},
    };
    union control control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (wire->fd_count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(wire->fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(wire->fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), wire->fds, wire->fd_count * sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
    } while (sent < 0 && errno == EINTR);
    return sent >= 0 ? 0 : errno;
}

static void take_beside(struct vh_wire *wire, struct msghdr *message)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_CREDENTIALS) {
            struct ucred from;
            memcpy(&from, CMSG_DATA(head), sizeof(from));
            wire->sender = from.uid;
        }
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd = -1;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(fd));
            if (wire->fd_count < VH_WIRE_FDS) {
                wire->fds[wire->fd_count++] = fd;
            } else {
                (void)close(fd);
            }
        }
    }
}

int vh_wire_receive(int fd, struct vh_wire *wire, bool wait)
{
    struct iovec parts[2] = {
        {.iov_base = &wire->head, .iov_len = sizeof(wire->head)},
        {.iov_base = wire->data, .iov_len = wire->capacity},
    };
    union control control;
    struct msghdr message = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t got = 0;
    wire->bytes = 0;
    wire->at = 0;
    wire->fd_count = 0;
    wire->fd_at = 0;
    wire->sender = VH_NO_SENDER;
    wire->bad = false;
    do {
        got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == ECONNRESET ? EPIPE : errno;
    }
    take_beside(wire, &message);
    /* A record of no bytes and the end of the stream look alike: neither is a message. */
    if (got == 0) {
        return EPIPE;
    }
    if ((size_t)got < sizeof(wire->head) || wire->head.magic != VH_WIRE_MAGIC ||
        (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        vh_wire_close_fds(wire);
        return EBADMSG;
    }
    wire->bytes = (uint32_t)((size_t)got - sizeof(wire->head));
    return 0;
}
