/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of a channel: who is there, who may see whom, and the table of states. It never waits
 * for a peer: what one has not been told yet is a bit in its masks, until its socket takes it.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm.h"

#define CLIENTS_MAX (VMMHPC_SHM_PEERS + 32u)

struct client {
    int fd; /* -1: none */
    bool joined;
    bool ready; /* its area is sealed, and others may have it */
    uint32_t peer;
    uint64_t visible_to;
    int area;
    int bells[VMMHPC_SHM_VECTORS];
    uint64_t untold;   /* of these peers it does not know yet that they came or left */
    uint64_t seen;     /* these it was told of, and not yet that they left */
    bool untold_state; /* nor that a state changed */
};

struct vh_shm_server {
    struct vmmhpc_channel_config config;
    int table_fd;
    uint32_t *table;
    int common_fd; /* -1: none */
    struct client clients[CLIENTS_MAX];
    struct client *peers[VMMHPC_SHM_PEERS];
};

/* What all may write, if that was asked for. */
static bool new_common(struct vh_shm_server *server)
{
    if (server->config.common_bytes == 0) {
        return true;
    }
    server->common_fd = vh_shm_memory("shm-common", server->config.common_bytes);
    return server->common_fd >= 0 && vh_shm_seal(server->common_fd, false);
}

int32_t vh_shm_server_new(const struct vmmhpc_channel_config *config, struct vh_shm_server **out,
                          struct vmmhpc_error *err)
{
    int32_t status = vh_shm_check(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_shm_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*server), "no memory for a channel");
    }
    server->config = *config;
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        server->clients[i].fd = -1;
    }
    server->common_fd = -1;
    server->table_fd = vh_shm_memory("shm-states", VH_SHM_TABLE_BYTES);
    void *table = server->table_fd < 0 ? MAP_FAILED
                                       : mmap(NULL, VH_SHM_TABLE_BYTES, PROT_READ | PROT_WRITE,
                                              MAP_SHARED, server->table_fd, 0);
    if (table == MAP_FAILED || !vh_shm_seal(server->table_fd, true)) {
        int failed = errno;
        vh_shm_server_free(server);
        return vh_fail(err, failed == EINVAL ? VMMHPC_E_UNSUPPORTED : VMMHPC_E_NO_MEMORY, failed, 0,
                       "no sealed memory for a channel (Linux 5.1 or later): %s",
                       vh_errno_text(failed));
    }
    server->table = table;
    if (!new_common(server)) {
        int failed = errno;
        vh_shm_server_free(server);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, config->common_bytes,
                       "no memory for a channel's common section: %s", vh_errno_text(failed));
    }
    *out = server;
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ who sees whom */

static uint64_t bit(uint32_t peer)
{
    return 1ull << peer;
}

/* May `to` see the area and ring the bells of `about`? */
static bool may_see(const struct client *to, const struct client *about)
{
    return about->ready && (about->visible_to & bit(to->peer)) != 0;
}

static void tell_all(struct vh_shm_server *server, const struct client *about)
{
    for (uint32_t i = 0; i < server->config.peers; i++) {
        struct client *to = server->peers[i];
        if (to == NULL || to == about || !to->ready) {
            continue;
        }
        if (may_see(to, about) || (to->seen & bit(about->peer)) != 0) {
            to->untold |= bit(about->peer);
        }
    }
}

static void set_state(struct vh_shm_server *server, const struct client *of, uint32_t state)
{
    uint32_t *entry = &server->table[of->peer];
    if (__atomic_load_n(entry, __ATOMIC_RELAXED) == state) {
        return;
    }
    __atomic_store_n(entry, state, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < server->config.peers; i++) {
        struct client *to = server->peers[i];
        if (to != NULL && to != of && to->ready && may_see(to, of)) {
            to->untold_state = true;
        }
    }
}

static void drop(struct vh_shm_server *server, struct client *client)
{
    if (client->joined) {
        set_state(server, client, 0);
        client->ready = false;
        server->peers[client->peer] = NULL;
        tell_all(server, client);
        vh_shm_close(&client->area, 1);
        vh_shm_close(client->bells, VMMHPC_SHM_VECTORS);
    }
    (void)close(client->fd);
    *client = (struct client){.fd = -1};
}

void vh_shm_server_free(struct vh_shm_server *server)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (server->clients[i].fd >= 0) {
            drop(server, &server->clients[i]);
        }
    }
    if (server->table != NULL) {
        (void)munmap(server->table, VH_SHM_TABLE_BYTES);
    }
    vh_shm_close(&server->table_fd, 1);
    vh_shm_close(&server->common_fd, 1);
    free(server);
}

bool vh_shm_server_adopt(struct vh_shm_server *server, int fd)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (server->clients[i].fd < 0) {
            server->clients[i] = (struct client){.fd = fd};
            return true;
        }
    }
    (void)close(fd);
    return false;
}

/* ------------------------------------------------------------------ what peers say */

__attribute__((format(printf, 3, 4))) static void refuse(const struct client *client,
                                                         int32_t status, const char *format, ...)
{
    struct vh_shm_message answer = {.magic = VH_SHM_MAGIC, .type = VH_SHM_REFUSED, .value = status};
    va_list args;
    va_start(args, format);
    /* clang-tidy 14 does not see va_start(). */
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
    (void)vsnprintf(answer.text, sizeof(answer.text), format, args);
    va_end(args);
    (void)vh_shm_send(client->fd, &answer, NULL, 0);
}

/* A place in the channel. False: the connection is of no further use. */
static bool join(struct vh_shm_server *server, struct client *client,
                 const struct vh_shm_message *message)
{
    const struct vmmhpc_channel_config *config = &server->config;
    if (client->joined) {
        return false;
    }
    if (message->peers != 0 &&
        (message->peers != config->peers || message->area_bytes != config->area_bytes ||
         message->common_bytes != config->common_bytes)) {
        refuse(client, VMMHPC_E_INVALID,
               "the channel has %u peers with %llu bytes each and %llu in common, not %u with %llu "
               "and %llu",
               config->peers, (unsigned long long)config->area_bytes,
               (unsigned long long)config->common_bytes, message->peers,
               (unsigned long long)message->area_bytes, (unsigned long long)message->common_bytes);
        return false;
    }
    if (message->peer >= config->peers) {
        refuse(client, VMMHPC_E_INVALID, "peer %u is not one of the channel's %u", message->peer,
               config->peers);
        return false;
    }
    if (server->peers[message->peer] != NULL) {
        refuse(client, VMMHPC_E_STATE, "peer %u is there already", message->peer);
        return false;
    }
    int area = vh_shm_memory("shm-area", config->area_bytes);
    if (area < 0) {
        refuse(client, VMMHPC_E_NO_MEMORY, "no memory for peer %u", message->peer);
        return false;
    }
    client->joined = true;
    client->peer = message->peer;
    client->visible_to = message->visible_to;
    client->area = area;
    for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
        client->bells[i] = -1;
    }
    server->peers[client->peer] = client;
    const struct vh_shm_message answer = {.magic = VH_SHM_MAGIC,
                                          .type = VH_SHM_WELCOME,
                                          .peer = client->peer,
                                          .peers = config->peers,
                                          .area_bytes = config->area_bytes,
                                          .common_bytes = config->common_bytes};
    const int fds[3] = {server->table_fd, client->area, server->common_fd};
    return vh_shm_send(client->fd, &answer, fds, server->common_fd < 0 ? 2 : 3) == 0;
}

/* Its own mapping is there: from now on there can be no other one to write by. */
static bool ready(struct vh_shm_server *server, struct client *client, const int *fds,
                  uint32_t count)
{
    if (!client->joined || client->ready || count != VMMHPC_SHM_VECTORS ||
        !vh_shm_seal(client->area, true)) {
        return false;
    }
    memcpy(client->bells, fds, sizeof(client->bells));
    client->ready = true;
    tell_all(server, client);
    for (uint32_t i = 0; i < server->config.peers; i++) {
        const struct client *other = server->peers[i];
        if (other != NULL && other != client && may_see(client, other)) {
            client->untold |= bit(i);
        }
    }
    return true;
}

static void hear(struct vh_shm_server *server, struct client *client)
{
    struct vh_shm_message message;
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    int failed = vh_shm_receive(client->fd, &message, fds, &count);
    bool good = failed == EAGAIN;
    if (failed == 0) {
        switch (message.type) {
        case VH_SHM_JOIN:
            good = join(server, client, &message);
            break;
        case VH_SHM_READY:
            good = ready(server, client, fds, count);
            count = good ? 0 : count; /* kept */
            break;
        case VH_SHM_STATE:
            good = client->ready;
            if (good) {
                set_state(server, client, (uint32_t)message.value);
            }
            break;
        default:
            break;
        }
        vh_shm_close(fds, count);
    }
    if (!good) {
        drop(server, client);
    }
}

/* ------------------------------------------------------------------ what peers are told */

static int tell_of(struct vh_shm_server *server, struct client *client, uint32_t about)
{
    const struct client *other = server->peers[about];
    struct vh_shm_message message = {.magic = VH_SHM_MAGIC, .type = VH_SHM_GONE, .peer = about};
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    if (other != NULL && may_see(client, other)) {
        message.type = VH_SHM_PEER;
        fds[count++] = other->area;
        for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
            fds[count++] = other->bells[i];
        }
    }
    int failed = vh_shm_send(client->fd, &message, fds, count);
    if (failed == 0) {
        client->untold &= ~bit(about);
        client->seen = count > 0 ? client->seen | bit(about) : client->seen & ~bit(about);
    }
    return failed;
}

/* As much as its socket takes. False: it is broken. */
static bool tell(struct vh_shm_server *server, struct client *client)
{
    int failed = 0;
    for (uint32_t i = 0; failed == 0 && i < server->config.peers; i++) {
        if ((client->untold & bit(i)) != 0) {
            failed = tell_of(server, client, i);
        }
    }
    if (failed == 0 && client->untold_state) {
        const struct vh_shm_message message = {.magic = VH_SHM_MAGIC, .type = VH_SHM_CHANGED};
        failed = vh_shm_send(client->fd, &message, NULL, 0);
        client->untold_state = failed != 0;
    }
    /* ETOOMANYREFS: it holds too many descriptors that were sent and not received. */
    return failed == 0 || failed == EAGAIN || failed == ETOOMANYREFS;
}

static bool has_news(const struct client *client)
{
    return client->untold != 0 || client->untold_state;
}

/* ------------------------------------------------------------------ the loop */

enum { STOP, LISTENER, INCOMING, FIRST };

static void welcome_connections(struct vh_shm_server *server, const struct pollfd *fds)
{
    if ((fds[LISTENER].revents & POLLIN) != 0) {
        int fd = accept4(fds[LISTENER].fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            (void)vh_shm_server_adopt(server, fd);
        }
    }
    if ((fds[INCOMING].revents & POLLIN) != 0) {
        struct vh_shm_message message;
        int got[VH_SHM_FDS];
        uint32_t count = 0;
        if (vh_shm_receive(fds[INCOMING].fd, &message, got, &count) == 0) {
            for (uint32_t i = 0; i < count; i++) {
                (void)vh_shm_server_adopt(server, got[i]);
            }
        }
    }
}

void vh_shm_server_run(struct vh_shm_server *server, int listener, int incoming_fd, int stop_fd,
                       int linger_ms)
{
    struct pollfd fds[FIRST + CLIENTS_MAX];
    struct client *of[FIRST + CLIENTS_MAX];
    for (;;) {
        uint32_t count = FIRST;
        fds[STOP] = (struct pollfd){.fd = stop_fd, .events = POLLIN};
        fds[LISTENER] = (struct pollfd){.fd = listener, .events = POLLIN};
        fds[INCOMING] = (struct pollfd){.fd = incoming_fd, .events = POLLIN};
        for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
            struct client *client = &server->clients[i];
            if (client->fd >= 0) {
                short events = has_news(client) ? POLLIN | POLLOUT : POLLIN;
                of[count] = client;
                fds[count++] = (struct pollfd){.fd = client->fd, .events = events};
            }
        }
        int ready_count = poll(fds, count, count == FIRST ? linger_ms : -1);
        if (ready_count < 0 && errno != EINTR && errno != ENOMEM) {
            return;
        }
        if ((fds[STOP].revents != 0) || (ready_count == 0 && count == FIRST)) {
            return;
        }
        for (uint32_t i = FIRST; ready_count > 0 && i < count; i++) {
            if ((fds[i].revents & ~POLLOUT) != 0) {
                hear(server, of[i]);
            }
        }
        for (uint32_t i = FIRST; ready_count > 0 && i < count; i++) {
            if (of[i]->fd >= 0 && has_news(of[i]) && !tell(server, of[i])) {
                drop(server, of[i]);
            }
        }
        if (ready_count > 0) {
            welcome_connections(server, fds);
        }
    }
}
