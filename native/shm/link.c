/* SPDX-License-Identifier: Apache-2.0 */
/* The device's connection to the channel's server. */
#include <errno.h>
#include <unistd.h>

#include "device.h"

#define BATCH 16u

static void watch(struct vh_shm *shm)
{
    uint32_t events = shm->lost ? 0 : shm->state != shm->state_sent ? EPOLLIN | EPOLLOUT : EPOLLIN;
    shm->core->io_watch(shm->pci.vm, &shm->link, events);
}

void vh_shm_link_state(struct vh_shm *shm)
{
    const struct vh_shm_message message = {
        .magic = VH_SHM_MAGIC, .type = VH_SHM_STATE, .peer = shm->id, .value = (int32_t)shm->state};
    if (shm->lost) {
        return;
    }
    if (shm->state != shm->state_sent && vh_shm_send(shm->link.fd, &message, NULL, 0) == 0) {
        shm->state_sent = shm->state;
    }
    watch(shm); /* where the server is slow the I/O thread tries again */
}

static void forget(struct vh_shm *shm, uint32_t peer)
{
    vh_shm_window_put(shm, peer, -1);
    vh_shm_bells_put(shm, peer, NULL);
}

/* Without a server nobody is there: peers' states read as zero, as do their areas. */
static void lose(struct vh_shm *shm)
{
    shm->lost = true;
    vh_shm_window_hide_table(shm);
    for (uint32_t i = 0; i < shm->peers; i++) {
        if (i != shm->id) {
            forget(shm, i);
        }
    }
    watch(shm);
}

/* False: nonsense. */
static bool take(struct vh_shm *shm, const struct vh_shm_message *message, int *fds,
                 uint32_t *count)
{
    const bool other = message->peer < shm->peers && message->peer != shm->id;
    switch (message->type) {
    case VH_SHM_PEER:
        if (!other || *count != VH_SHM_FDS) {
            return false;
        }
        vh_shm_window_put(shm, message->peer, fds[0]);
        (void)close(fds[0]);
        vh_shm_bells_put(shm, message->peer, fds + 1);
        *count = 0;
        return true;
    case VH_SHM_GONE:
        if (other) {
            forget(shm, message->peer);
        }
        return other;
    case VH_SHM_CHANGED:
        return true;
    default:
        return false;
    }
}

void vh_shm_link_ready(void *opaque, uint32_t events)
{
    struct vh_shm *shm = opaque;
    bool news = false;
    (void)events;
    (void)pthread_mutex_lock(&shm->lock);
    for (uint32_t i = 0; i < BATCH && !shm->lost; i++) {
        struct vh_shm_message message;
        int fds[VH_SHM_FDS];
        uint32_t count = 0;
        int failed = vh_shm_receive(shm->link.fd, &message, fds, &count);
        if (failed == EAGAIN) {
            break;
        }
        news = true;
        if (failed != 0 || !take(shm, &message, fds, &count)) {
            lose(shm);
        }
        vh_shm_close(fds, count);
    }
    vh_shm_link_state(shm);
    (void)pthread_mutex_unlock(&shm->lock);
    if (news) {
        vh_shm_interrupt(shm);
    }
}
