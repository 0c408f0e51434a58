// SPDX-License-Identifier: Apache-2.0
/*
 * The ring to a peer, in one's own area: slots, the staging space that goes with them, and the
 * doorbell. A slot is free again when the peer's acknowledgement, in its area, has passed it, and
 * so is what was staged for it: both are given out and come back in order.
 */
#include "endpoint.h"

/* Read how much the peer has taken. Negative: it says what cannot be. */
int32_t ring_refresh(struct bypass *bypass, struct link *link)
{
    const struct area_link *said = (const struct area_link *)(link->area + AREA_LINKS) + bypass->id;
    uint64_t taken = atomic_load_explicit(&said->consumed, memory_order_acquire);
    if (taken == link->acknowledged) {
        return 0;
    }
    if (taken < link->acknowledged || taken > link->posted) {
        link_down(bypass, link, link_intact(link) ? BYPASS_E_PROTOCOL : BYPASS_E_PEER_GONE);
        return link->error;
    }
    link->acknowledged = taken;
    link->stage_taken = link->staged[(taken - 1) & (link->slots - 1)];
    while (link->unacknowledged.first != NULL && link->unacknowledged.first->position <= taken) {
        request_end(list_take(&link->unacknowledged), BYPASS_OK);
    }
    return 0;
}

/* The next slot, if it is free. */
struct slot *ring_slot(struct bypass *bypass, struct link *link)
{
    if (link->posted - link->acknowledged == link->slots &&
        (ring_refresh(bypass, link) < 0 || link->posted - link->acknowledged == link->slots)) {
        bypass->stats.stalls++;
        return NULL;
    }
    return &link->ring[link->posted & (link->slots - 1)];
}

/* Give the slot to the peer: all of it is visible before its sequence is. */
void ring_post(struct bypass *bypass, struct link *link, struct slot *slot)
{
    link->staged[link->posted & (link->slots - 1)] = link->stage_given;
    link->posted++;
    atomic_store_explicit(&slot->sequence, (uint32_t)link->posted, memory_order_release);
    ring_notify(bypass, link, SLEEPS_FOR_MESSAGES);
}

/* How much can be staged in one piece. */
uint64_t ring_stage_room(const struct link *link)
{
    uint64_t at = link->stage_given % link->stage_bytes;
    uint64_t free = link->stage_bytes - (link->stage_given - link->stage_taken);
    uint64_t to_end = link->stage_bytes - at;
    if (free <= to_end) {
        return free;
    }
    return to_end > free - to_end ? to_end : free - to_end;
}

/* Space for bytes, or NULL. What is given out belongs to the slot that is posted next. */
uint8_t *ring_stage(struct link *link, uint64_t bytes)
{
    uint64_t rounded = (bytes + CACHE_LINE - 1) & ~(uint64_t)(CACHE_LINE - 1);
    uint64_t at = link->stage_given % link->stage_bytes;
    uint64_t skipped = at + rounded > link->stage_bytes ? link->stage_bytes - at : 0;
    if (link->stage_given + skipped + rounded - link->stage_taken > link->stage_bytes) {
        return NULL;
    }
    link->stage_given += skipped + rounded;
    return link->stage + (skipped != 0 ? 0 : at);
}

/* Let the peer know how much of its ring has been taken. */
void ring_acknowledge(struct bypass *bypass, struct link *link)
{
    if (link->published != link->taken) {
        link->published = link->taken;
        atomic_store_explicit(&bypass->said[link->peer].consumed, link->taken,
                              memory_order_release);
        ring_notify(bypass, link, SLEEPS_FOR_CREDITS);
    }
}

/* Something for the peer has been written: wake it, if it sleeps for that and nobody has done so.
 */
void ring_notify(struct bypass *bypass, struct link *link, uint32_t what)
{
    const struct area_header *header = (const struct area_header *)link->area;
    if (header->may_sleep == 0) {
        return;
    }
    /* What was written must be visible before this looks whether the peer sleeps; it does likewise
     * the other way round. One of both sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t sleeping = atomic_load_explicit(&header->sleeping, memory_order_relaxed);
    if ((sleeping & what) != 0 && sleeping >> 2 != link->rung) {
        link->rung = sleeping >> 2;
        bypass->stats.doorbells++;
        bypass->window->ops->ring(bypass->window, link->peer);
    }
}
