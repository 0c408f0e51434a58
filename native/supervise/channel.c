/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/** Moved in one turn at most, so that everyone has a turn. */
#define PIECE 65536u
#define NAME_MAX_BYTES 64

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

int channel_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    (void)unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 64) != 0) {
        int failed = errno;
        (void)close(fd);
        errno = failed;
        return -1;
    }
    return fd;
}

static void file_name(char *to, const struct channel *channel, const char *suffix)
{
    (void)snprintf(to, NAME_MAX_BYTES, "%s.%s", channel->options.name, suffix);
}

int channel_open(struct channel *channel, const struct channel_options *options, const char **what)
{
    char name[NAME_MAX_BYTES];
    int pair[2];
    *channel = (struct channel){
        .options = *options, .program_fd = -1, .child_fd = -1, .listener = -1, .log_fd = -1};
    *what = options->name;
    if (options->hello != NULL) {
        channel->input_bytes = strnlen(options->hello, CHANNEL_INPUT);
        memcpy(channel->input, options->hello, channel->input_bytes);
    }
    file_name(name, channel, "ring");
    int failed = ring_create(&channel->ring, name, options->keep);
    if (failed != 0) {
        return failed;
    }
    if (options->log != NULL) {
        *what = options->log;
        channel->log_fd =
            open(options->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
        if (channel->log_fd < 0) {
            return errno;
        }
    }
    *what = options->name;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return errno;
    }
    channel->program_fd = pair[0];
    channel->child_fd = pair[1];
    file_name(name, channel, "sock");
    channel->listener = channel_listen(name);
    return channel->listener < 0 ? errno : 0;
}

static void remove_client(struct channel *channel, size_t index)
{
    (void)close(channel->clients[index].fd);
    channel->clients[index] = channel->clients[--channel->client_count];
}

void channel_drop_clients(struct channel *channel)
{
    while (channel->client_count > 0) {
        remove_client(channel, channel->client_count - 1);
    }
}

void channel_close(struct channel *channel)
{
    char name[NAME_MAX_BYTES];
    channel_drop_clients(channel);
    if (channel->listener >= 0) {
        file_name(name, channel, "sock");
        (void)unlink(name);
    }
    close_fd(&channel->listener);
    close_fd(&channel->program_fd);
    close_fd(&channel->child_fd);
    close_fd(&channel->log_fd);
    ring_close(&channel->ring);
}

/* Bytes that a client has not got yet. */
static uint64_t behind(const struct channel *channel, const struct channel_client *client)
{
    return client->listens ? ring_end(&channel->ring) - client->position : 0;
}

/* Bytes that may come before the slowest client would lose one. */
static uint64_t room(const struct channel *channel)
{
    uint64_t left = channel->ring.size;
    if (!channel->options.hold) {
        return left;
    }
    for (size_t i = 0; i < channel->client_count; i++) {
        const struct channel_client *client = &channel->clients[i];
        uint64_t its = channel->ring.size - behind(channel, client);
        left = its < left ? its : left;
    }
    return left;
}

size_t channel_poll(const struct channel *channel, struct pollfd *fds)
{
    bool free_input = channel->input_bytes == 0;
    short program = (short)((room(channel) > 0 ? POLLIN : 0) | (free_input ? 0 : POLLOUT));
    bool full = channel->client_count == CHANNEL_CLIENTS;
    /* A descriptor that nothing is wanted of would wake us by its hang-up again and again: -1. */
    fds[0] = (struct pollfd){.fd = program == 0 ? -1 : channel->program_fd, .events = program};
    fds[1] = (struct pollfd){.fd = full ? -1 : channel->listener, .events = POLLIN};
    for (size_t i = 0; i < channel->client_count; i++) {
        const struct channel_client *client = &channel->clients[i];
        bool hear = client->talks && (free_input || !channel->options.input);
        bool tell = behind(channel, client) > 0;
        bool wait = client->talks && !hear && !tell;
        fds[2 + i] = (struct pollfd){.fd = wait ? -1 : client->fd,
                                     .events = (short)((hear ? POLLIN : 0) | (tell ? POLLOUT : 0))};
    }
    return 2 + channel->client_count;
}

/* A log that cannot be written must not stop the guest; what does not fit is lost to the log only.
 */
static void append_log(const struct channel *channel, const uint8_t *data, size_t bytes)
{
    while (channel->log_fd >= 0 && bytes > 0) {
        ssize_t written = write(channel->log_fd, data, bytes);
        if (written <= 0) {
            return;
        }
        data += written;
        bytes -= (size_t)written;
    }
}

/* Clients whose next byte has been overwritten. */
static void drop_late(struct channel *channel)
{
    for (size_t i = channel->client_count; i-- > 0;) {
        if (behind(channel, &channel->clients[i]) > channel->ring.size) {
            remove_client(channel, i);
        }
    }
}

/* @return whether something came */
static bool take_output(struct channel *channel)
{
    size_t bytes = 0;
    uint8_t *to = ring_next(&channel->ring, &bytes);
    uint64_t limit = room(channel) < PIECE ? room(channel) : PIECE;
    if (limit == 0 || channel->program_fd < 0) {
        return false;
    }
    ssize_t got =
        recv(channel->program_fd, to, bytes < limit ? bytes : (size_t)limit, MSG_DONTWAIT);
    if (got > 0) {
        append_log(channel, to, (size_t)got);
        ring_advance(&channel->ring, (size_t)got);
        drop_late(channel);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&channel->program_fd);
        channel->input_bytes = 0;
    }
    return false;
}

static bool pass_input(struct channel *channel)
{
    ssize_t sent = send(channel->program_fd, channel->input + channel->input_at,
                        channel->input_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) {
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            channel->input_bytes = 0;
        }
        return false;
    }
    channel->input_at += (size_t)sent;
    channel->input_bytes -= (size_t)sent;
    return true;
}

static void hear(struct channel *channel, struct channel_client *client)
{
    uint8_t ignored[CHANNEL_INPUT];
    bool wanted = channel->options.input && channel->program_fd >= 0;
    ssize_t got = recv(client->fd, wanted ? channel->input : ignored, CHANNEL_INPUT, MSG_DONTWAIT);
    if (got > 0 && wanted) {
        channel->input_at = 0;
        channel->input_bytes = (size_t)got;
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        client->talks = false;
    }
}

static void tell(const struct channel *channel, struct channel_client *client)
{
    size_t bytes = 0;
    const uint8_t *data = ring_at(&channel->ring, client->position, &bytes);
    ssize_t sent =
        send(client->fd, data, bytes < PIECE ? bytes : PIECE, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
        client->position += (uint64_t)sent;
    } else if (errno != EAGAIN && errno != EINTR) {
        client->listens = false;
    }
}

static bool serve(struct channel *channel, const struct pollfd *fds, size_t count)
{
    bool moved = false;
    /* From the last to the first: one that goes is replaced by the last, which has had its turn. */
    for (size_t i = count; i-- > 2;) {
        struct channel_client *client = &channel->clients[i - 2];
        bool may_talk = channel->input_bytes == 0 || !channel->options.input;
        if (fds[i].revents == 0) {
            continue;
        }
        moved = true;
        if ((fds[i].events & POLLIN) != 0 && (fds[i].revents & ~POLLOUT) != 0 && may_talk) {
            hear(channel, client);
        }
        if ((fds[i].events & POLLOUT) != 0) {
            tell(channel, client);
        }
        if (!client->talks && (!client->listens || (fds[i].revents & POLLHUP) != 0)) {
            remove_client(channel, i - 2);
        }
    }
    return moved;
}

static bool welcome(struct channel *channel)
{
    int fd = accept4(channel->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    channel->clients[channel->client_count++] = (struct channel_client){
        .fd = fd, .position = ring_begin(&channel->ring), .talks = true, .listens = true};
    return true;
}

bool channel_turn(struct channel *channel, const struct pollfd *fds, size_t count)
{
    bool moved = serve(channel, fds, count);
    if ((fds[0].revents & POLLOUT) != 0 && channel->input_bytes > 0) {
        moved |= pass_input(channel);
    }
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        moved |= take_output(channel);
    }
    if ((fds[1].revents & POLLIN) != 0 && channel->client_count < CHANNEL_CLIENTS) {
        moved |= welcome(channel);
    }
    return moved;
}

void channel_drain(struct channel *channel)
{
    while (take_output(channel)) {
    }
}

bool channel_is_done(const struct channel *channel)
{
    if (room(channel) == 0) {
        return false; /* there may be more, and somebody is to get it */
    }
    for (size_t i = 0; i < channel->client_count; i++) {
        if (behind(channel, &channel->clients[i]) > 0) {
            return false;
        }
    }
    return true;
}
