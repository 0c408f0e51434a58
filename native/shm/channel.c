/* SPDX-License-Identifier: Apache-2.0 */
/* Channels for whoever starts machines: one of this process, and places in those of others. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm.h"

#define PATIENCE_MS 10000

struct vmmhpc_channel {
    struct vh_shm_server *server;
    pthread_t thread;
    int stop_fd;
    int connections[2]; /* new ones: to the thread, from the caller */
};

static void *serve(void *opaque)
{
    struct vmmhpc_channel *channel = opaque;
    vh_shm_server_run(channel->server, -1, channel->connections[0], channel->stop_fd, -1);
    return NULL;
}

/* All but the thread. */
static void free_channel(struct vmmhpc_channel *channel)
{
    if (channel->server != NULL) {
        vh_shm_server_free(channel->server);
    }
    vh_shm_close(&channel->stop_fd, 1);
    vh_shm_close(channel->connections, 2);
    free(channel);
}

int32_t vmmhpc_channel_create(const struct vmmhpc_channel_config *config,
                              struct vmmhpc_channel **out, struct vmmhpc_error *err)
{
    struct vmmhpc_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*channel), "no memory for a channel");
    }
    channel->connections[0] = -1;
    channel->connections[1] = -1;
    channel->stop_fd = eventfd(0, EFD_CLOEXEC);
    int32_t status = vh_shm_server_new(config, &channel->server, err);
    if (status == VMMHPC_OK &&
        (channel->stop_fd < 0 ||
         socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel->connections) != 0)) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no descriptors for a channel");
    }
    if (status == VMMHPC_OK) {
        sigset_t all;
        sigset_t before;
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        int failed = pthread_create(&channel->thread, NULL, serve, channel);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failed != 0) {
            status = vh_fail(err, VMMHPC_E_SYSCALL, failed, 0, "no thread for a channel");
        }
    }
    if (status != VMMHPC_OK) {
        free_channel(channel);
        return status;
    }
    *out = channel;
    return VMMHPC_OK;
}

void vmmhpc_channel_destroy(struct vmmhpc_channel *channel)
{
    if (channel != NULL) {
        (void)eventfd_write(channel->stop_fd, 1);
        (void)pthread_join(channel->thread, NULL);
        free_channel(channel);
    }
}

int32_t vh_shm_ask(int fd, const struct vmmhpc_channel_config *config,
                   const struct vmmhpc_shm_join *join, struct vmmhpc_error *err)
{
    struct vh_shm_message message = {.magic = VH_SHM_MAGIC,
                                     .type = VH_SHM_JOIN,
                                     .peer = join->peer,
                                     .visible_to = join->visible_to};
    if (config != NULL) {
        message.peers = config->peers;
        message.area_bytes = config->area_bytes;
        message.common_bytes = config->common_bytes;
    }
    int failed = vh_shm_send(fd, &message, NULL, 0);
    if (failed == 0) {
        failed = vh_shm_peek(fd, &message, PATIENCE_MS);
    }
    if (failed != 0) {
        return vh_fail(err, failed == ETIMEDOUT ? VMMHPC_E_TIMEOUT : VMMHPC_E_IO, failed,
                       join->peer, "the channel does not answer: %s", vh_errno_text(failed));
    }
    if (message.type == VH_SHM_REFUSED) {
        return vh_fail(err, message.value < 0 ? message.value : VMMHPC_E_IO, 0, join->peer, "%s",
                       message.text);
    }
    return message.type == VH_SHM_WELCOME
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_IO, EBADMSG, message.type, "that is no channel");
}

static int32_t check_join(const struct vmmhpc_shm_join *join, const int32_t *fd,
                          struct vmmhpc_error *err)
{
    return join != NULL && join->size == sizeof(*join) && fd != NULL
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_INVALID, 0, join == NULL ? 0 : join->size,
                         "the place in the channel is missing or of another version");
}

int32_t vmmhpc_channel_join(struct vmmhpc_channel *channel, const struct vmmhpc_shm_join *join,
                            int32_t *fd, struct vmmhpc_error *err)
{
    int ends[2];
    int32_t status = check_join(join, fd, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no socket for a channel");
    }
    const struct vh_shm_message message = {.magic = VH_SHM_MAGIC};
    int failed = vh_shm_send(channel->connections[1], &message, &ends[0], 1);
    (void)close(ends[0]);
    status = failed == 0 ? vh_shm_ask(ends[1], NULL, join, err)
                         : vh_fail(err, VMMHPC_E_IO, failed, join->peer,
                                   "the channel does not answer: %s", vh_errno_text(failed));
    if (status != VMMHPC_OK) {
        (void)close(ends[1]);
        return status;
    }
    *fd = ends[1];
    return VMMHPC_OK;
}

int32_t vmmhpc_channel_open(const char *path, const struct vmmhpc_channel_config *config,
                            const struct vmmhpc_shm_join *join, int32_t *fd,
                            struct vmmhpc_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int32_t status = check_join(join, fd, err);
    if (status == VMMHPC_OK) {
        status = vh_shm_check(config, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    if (path == NULL || strlen(path) >= sizeof(address.sun_path)) {
        return vh_fail(err, VMMHPC_E_INVALID, ENAMETOOLONG, path == NULL ? 0 : strlen(path),
                       "the path of the channel's socket is longer than %zu bytes",
                       sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path));
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0 ||
        connect(connection, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        int failed = errno;
        vh_shm_close(&connection, 1);
        return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, failed, 0,
                       "no channel at %s: %s", path, vh_errno_text(failed));
    }
    status = vh_shm_ask(connection, config, join, err);
    if (status != VMMHPC_OK) {
        (void)close(connection);
        return status;
    }
    *fd = connection;
    return VMMHPC_OK;
}
