/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between a channel's server and its peers. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm.h"

union control {
    char bytes[CMSG_SPACE(VH_SHM_FDS * sizeof(int))];
    struct cmsghdr align;
};

void vh_shm_close(int *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
}

int vh_shm_send(int fd, const struct vh_shm_message *message, const int *fds, uint32_t count)
{
    struct iovec part = {(void *)(uintptr_t)message, sizeof(*message)};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    union control control;
    if (count > 0) {
        memset(&control, 0, sizeof(control));
        head.msg_control = &control;
        head.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *beside = CMSG_FIRSTHDR(&head);
        beside->cmsg_level = SOL_SOCKET;
        beside->cmsg_type = SCM_RIGHTS;
        beside->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(beside), fds, count * sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(fd, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0 ? 0 : errno;
}

static bool sensible(const struct vh_shm_message *message, ssize_t got, const struct msghdr *head)
{
    return got == (ssize_t)sizeof(*message) && message->magic == VH_SHM_MAGIC &&
           (head->msg_flags & MSG_TRUNC) == 0;
}

int vh_shm_receive(int fd, struct vh_shm_message *message, int fds[VH_SHM_FDS], uint32_t *count)
{
    struct iovec part = {message, sizeof(*message)};
    union control control;
    struct msghdr head = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof(control)};
    ssize_t got = 0;
    *count = 0;
    do {
        got = recvmsg(fd, &head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 || errno == ECONNRESET ? EPIPE : errno;
    }
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&head); at != NULL; at = CMSG_NXTHDR(&head, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t there = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < there; i++) {
            int one = -1;
            memcpy(&one, CMSG_DATA(at) + i * sizeof(int), sizeof(one));
            if (*count < VH_SHM_FDS) {
                fds[(*count)++] = one;
            } else {
                (void)close(one);
            }
        }
    }
    if (!sensible(message, got, &head)) {
        vh_shm_close(fds, *count);
        *count = 0;
        return EBADMSG;
    }
    message->text[VH_SHM_TEXT - 1] = '\0';
    return 0;
}

int vh_shm_peek(int fd, struct vh_shm_message *message, int ms)
{
    struct iovec part = {message, sizeof(*message)};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int count = 0;
    do {
        count = vh_poll(&ready, 1, ms);
    } while (count < 0 && errno == EINTR);
    if (count <= 0) {
        return count < 0 ? errno : ETIMEDOUT;
    }
    ssize_t got = recvmsg(fd, &head, MSG_PEEK | MSG_DONTWAIT);
    if (got <= 0) {
        return got == 0 || errno == ECONNRESET ? EPIPE : errno;
    }
    message->text[VH_SHM_TEXT - 1] = '\0';
    return sensible(message, got, &head) ? 0 : EBADMSG;
}

int32_t vh_shm_check(const struct vmmhpc_channel_config *config, struct vmmhpc_error *err)
{
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->size,
                       "the channel's configuration is missing or of another version");
    }
    if (config->peers < 2 || config->peers > VMMHPC_SHM_PEERS) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->peers,
                       "a channel has 2 to %u peers, not %u", VMMHPC_SHM_PEERS, config->peers);
    }
    if (config->area_bytes == 0 || config->area_bytes % VH_PAGE != 0 ||
        config->area_bytes > VMMHPC_SHM_AREA_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->area_bytes,
                       "a peer's area is a multiple of 4 KiB, up to 1 GiB");
    }
    if (config->common_bytes % VH_PAGE != 0 || config->common_bytes > VMMHPC_SHM_COMMON_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->common_bytes,
                       "a channel's common section is a multiple of 4 KiB, up to 1 GiB");
    }
    return VMMHPC_OK;
}
