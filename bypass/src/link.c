// SPDX-License-Identifier: Apache-2.0
/*
 * How links come and go. Each side prepares its ring and says in its area which incarnation of the
 * other all is for; when both have done so, the link is up. It is down when the other's state or
 * what it says changes: it left, died, was restarted, or does not want this link any more.
 */
#include "endpoint.h"

#include <string.h>

static const struct area_link *heard(const struct bypass *bypass, const struct link *link)
{
    return (const struct area_link *)(link->area + AREA_LINKS) + bypass->id;
}

static uint32_t state_of(const struct bypass *bypass, const struct link *link)
{
    return atomic_load_explicit(&bypass->window->states[link->peer], memory_order_acquire);
}

int32_t link_intact(const struct link *link)
{
    const struct area_header *header = (const struct area_header *)link->area;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&header->incarnation, memory_order_relaxed) == link->incarnation;
}

int32_t link_error(const struct link *link)
{
    return link->state == LINK_UP     ? BYPASS_OK
           : link->state == LINK_DOWN ? link->error
                                      : BYPASS_E_UNCONNECTED;
}

/* Prepare one's own side, for this incarnation of the peer. */
static void offer(struct bypass *bypass, struct link *link, uint32_t incarnation)
{
    struct area_link *said = &bypass->said[link->peer];
    memset(link->ring, 0, link->slots * sizeof(struct slot));
    memset(link->staged, 0, link->slots * sizeof(uint64_t));
    link->stage_given = 0;
    link->stage_taken = 0;
    link->posted = 0;
    link->acknowledged = 0;
    link->taken = 0;
    link->published = 0;
    link->rung = 0;
    link->incarnation = incarnation;
    said->ring_offset = (uint32_t)((uint8_t *)link->ring - bypass->area);
    said->ring_slots = link->slots;
    said->session++;
    atomic_store_explicit(&said->consumed, 0, memory_order_relaxed);
    atomic_store_explicit(&said->to, incarnation, memory_order_release);
    link->state = LINK_OFFERED;
    bypass->changes++;
    bypass->links_pending++;
    bypass->window->ops->ring(bypass->window, link->peer);
}

static void withdraw(struct bypass *bypass, struct link *link)
{
    atomic_store_explicit(&bypass->said[link->peer].to, 0, memory_order_release);
    link->state = LINK_NONE;
    bypass->links_pending--;
}

/* The peer has said that it is ready, too: see whether what it says can be. */
static void bring_up(struct bypass *bypass, struct link *link)
{
    const struct area_link *said = heard(bypass, link);
    const struct area_header *header = (const struct area_header *)link->area;
    uint64_t offset = said->ring_offset;
    uint64_t slots = said->ring_slots;
    link->session = said->session;
    bypass->links_pending--;
    bypass->links_up++;
    bypass->changes++;
    link->state = LINK_UP;
    if (header->magic != AREA_MAGIC || !link_intact(link) || slots < RING_SLOTS_MIN ||
        slots > RING_SLOTS_MAX || (slots & (slots - 1)) != 0 || offset % CACHE_LINE != 0 ||
        offset > bypass->area_bytes - slots * sizeof(struct slot)) {
        link_down(bypass, link, BYPASS_E_PROTOCOL);
        return;
    }
    link->in = (const struct slot *)(link->area + offset);
    link->in_slots = (uint32_t)slots;
    bypass->window->ops->ring(bypass->window, link->peer);
}

/* End all receives that only this peer, or nobody at all any more, could have satisfied. */
static void end_receives(struct bypass *bypass, const struct link *link)
{
    struct request_list keep;
    struct bypass_request *request = NULL;
    int32_t nobody = bypass->strict || (bypass->links_up == 0 && bypass->links_pending == 0);
    list_init(&keep);
    while ((request = list_take(&bypass->receives)) != NULL) {
        if (request->peer == (int32_t)link->peer || (request->peer == BYPASS_ANY_PEER && nobody)) {
            request_end(request, link->error);
        } else {
            list_append(&keep, request);
        }
    }
    bypass->receives = keep;
    if (keep.first == NULL) {
        list_init(&bypass->receives);
    }
}

/* End a link that is up, and all that goes on over it. */
void link_down(struct bypass *bypass, struct link *link, int32_t error)
{
    if (link->state != LINK_UP) {
        return;
    }
    link->state = LINK_DOWN;
    link->error = error;
    bypass->links_up--;
    bypass->changes++;
    bypass->stats.links_lost++;
    atomic_store_explicit(&bypass->said[link->peer].to, 0, memory_order_release);
    bypass->window->ops->ring(bypass->window, link->peer);
    list_end(&link->outgoing, error);
    list_end(&link->waiting, error);
    list_end(&link->streaming, error);
    list_end(&link->unacknowledged, error);
    list_end(&link->answers, error);
    list_end(&link->granted, error);
    unexpected_forget(bypass, (int32_t)link->peer, 0);
    end_receives(bypass, link);
}

static void check(struct bypass *bypass, struct link *link)
{
    uint32_t now = state_of(bypass, link);
    if (link->state == LINK_NONE && now != 0) {
        offer(bypass, link, now);
    }
    if (link->state == LINK_OFFERED) {
        if (now != link->incarnation) {
            withdraw(bypass, link);
        } else if (atomic_load_explicit(&heard(bypass, link)->to, memory_order_acquire) ==
                   bypass->incarnation) {
            bring_up(bypass, link);
        }
    } else if (link->state == LINK_UP) {
        if (now != link->incarnation ||
            atomic_load_explicit(&heard(bypass, link)->to, memory_order_acquire) !=
                bypass->incarnation ||
            heard(bypass, link)->session != link->session) {
            link_down(bypass, link, BYPASS_E_PEER_GONE);
        }
    }
}

/* Look who came and who left. */
void links_check(struct bypass *bypass)
{
    if (bypass->window->ops->refresh != NULL) {
        bypass->window->ops->refresh(bypass->window);
    }
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        if (peer != bypass->id) {
            check(bypass, &bypass->links[peer]);
        }
    }
}

/* Links that were up and are not any more. */
int32_t links_lost(const struct bypass *bypass)
{
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        if (bypass->links[peer].state == LINK_DOWN) {
            return bypass->links[peer].error;
        }
    }
    return 0;
}

int32_t bypass_link(const struct bypass *bypass, uint32_t peer)
{
    if (peer >= bypass->peers) {
        return BYPASS_E_INVALID;
    }
    return peer == bypass->id ? BYPASS_OK : link_error(&bypass->links[peer]);
}

int32_t bypass_connect(struct bypass *bypass, uint32_t peer, uint64_t timeout)
{
    if (peer >= bypass->peers) {
        return BYPASS_E_INVALID;
    }
    struct link *link = &bypass->links[peer];
    struct patience patience = {.timeout = timeout};
    if (peer == bypass->id) {
        return BYPASS_OK;
    }
    if (link->state == LINK_DOWN) {
        link->state = LINK_NONE;
    }
    links_check(bypass);
    while (link->state != LINK_UP) {
        if (link->state == LINK_DOWN) {
            return link->error;
        }
        int32_t rested = rest(bypass, &patience);
        if (rested < 0) {
            return rested;
        }
    }
    return BYPASS_OK;
}
