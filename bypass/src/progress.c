// SPDX-License-Identifier: Apache-2.0
/* Making progress, and resting while there is none to be made. */
#include "endpoint.h"

#include <sched.h>

enum {
    LOOKS_PER_CHECK = 256, /* idle looks between two at who left */
    SLEEP_MAX = 1000000,   /* µs: nothing depends on it, it is for rings that got lost */
    SHORT_SLEEP = 100,     /* µs: looking on would have found it as soon */
    SHORT_WAIT = 10000,    /* µs: who waits no longer only tests, between work of its own */
    LEAST_PART = 64,       /* of `spins`: what is left where looking is in vain */
    ACKNOWLEDGE_PARTS = 4, /* of a ring, after which the sender hears of free slots */
};

/* Take what a peer has sent. Returns how many slots. */
static int32_t take(struct bypass *bypass, struct link *link)
{
    int32_t came = 0;
    while (link->state == LINK_UP) {
        const struct slot *slot = &link->in[link->taken & (link->in_slots - 1)];
        if (atomic_load_explicit(&slot->sequence, memory_order_acquire) !=
            (uint32_t)(link->taken + 1)) {
            break;
        }
        int32_t code = receive_slot(bypass, link, slot);
        if (code < 0) {
            /* What is nonsense may be the zeros of an area whose owner has just left. */
            link_down(bypass, link, link_intact(link) ? code : BYPASS_E_PEER_GONE);
            break;
        }
        if (code == 0) {
            bypass->stats.stalls++;
            break;
        }
        uint8_t kind = *(const volatile uint8_t *)&slot->kind;
        link->taken++;
        came++;
        /* Whoever sends short messages hears seldom, so that its line stays in its cache. */
        if (kind != SLOT_INLINE ||
            link->taken - link->published >= link->in_slots / ACKNOWLEDGE_PARTS) {
            ring_acknowledge(bypass, link);
        }
        if (came >= (int32_t)link->in_slots) {
            break; /* the others' turn */
        }
    }
    return came;
}

static int32_t has_to_send(const struct link *link)
{
    return link->outgoing.first != NULL || link->streaming.first != NULL ||
           link->answers.first != NULL || link->unacknowledged.first != NULL;
}

int32_t progress(struct bypass *bypass)
{
    int32_t came = 0;
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        struct link *link = &bypass->links[peer];
        if (link->state == LINK_UP) {
            came += take(bypass, link);
            if (has_to_send(link)) {
                uint64_t before = link->posted + link->acknowledged;
                send_push(bypass, link);
                bypass->changes += before != link->posted + link->acknowledged;
            }
        }
    }
    if (came != 0) {
        bypass->changes++;
        bypass->idle = 0;
    } else if (++bypass->idle % LOOKS_PER_CHECK == 0) {
        links_check(bypass);
    }
    return came;
}

/* How long it may still take; 0: the time is over. */
static uint64_t left(struct patience *patience)
{
    if (patience->timeout == BYPASS_FOREVER || patience->timeout == 0) {
        return patience->timeout;
    }
    uint64_t now = clock_now();
    if (patience->end == 0) {
        patience->end = now + patience->timeout < now ? UINT64_MAX : now + patience->timeout;
    }
    return now < patience->end ? patience->end - now : 0;
}

/*
 * Looking before sleeping pays where the one that is waited for runs at the same time. Where it has
 * no CPU of its own it keeps it from running. How long a sleep took tells: so the next looks are
 * more, or fewer.
 */
static void learn(struct bypass *bypass, uint64_t slept)
{
    uint64_t most = bypass->spins;
    uint64_t least = most / LEAST_PART + 1;
    uint64_t looks = slept < SHORT_SLEEP ? 2ull * bypass->looks : bypass->looks / 2;
    looks = looks < least ? least : looks;
    bypass->looks = (uint32_t)(looks < most ? looks : most);
}

/* Sleep until something comes. */
static void sleep_until(struct bypass *bypass, uint64_t timeout)
{
    uint32_t why = SLEEPS_FOR_MESSAGES;
    uint64_t before = bypass->changes;
    links_check(bypass);
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        struct link *link = &bypass->links[peer];
        if (link->state == LINK_UP) {
            ring_acknowledge(bypass, link);
            why |= has_to_send(link) ? SLEEPS_FOR_CREDITS : 0u;
        }
    }
    uint32_t word = (++bypass->sleeps << 2) | why;
    atomic_store_explicit(&bypass->header->sleeping, word, memory_order_relaxed);
    /* Others must see it before this looks a last time: see ring_notify(). */
    atomic_thread_fence(memory_order_seq_cst);
    progress(bypass);
    if (bypass->changes == before) {
        uint64_t began = clock_now();
        bypass->stats.sleeps++;
        bypass->window->ops->wait(bypass->window, timeout < SLEEP_MAX ? timeout : SLEEP_MAX);
        learn(bypass, clock_now() - began);
        links_check(bypass);
    }
    atomic_store_explicit(&bypass->header->sleeping, 0, memory_order_relaxed);
}

/* Let something come: called in loops that wait. BYPASS_E_TIMEOUT: their time is over. */
int32_t rest(struct bypass *bypass, struct patience *patience)
{
    uint64_t before = bypass->changes;
    progress(bypass);
    if (bypass->changes != before) {
        bypass->looked = 0;
        return BYPASS_OK;
    }
    if (patience->timeout == 0) {
        return BYPASS_E_TIMEOUT;
    }
    if (++bypass->looked < (patience->timeout < SHORT_WAIT ? bypass->spins : bypass->looks)) {
        __builtin_ia32_pause();
        return BYPASS_OK;
    }
    bypass->looked = 0;
    uint64_t time = left(patience);
    if (time == 0) {
        return BYPASS_E_TIMEOUT;
    }
    if (bypass->interrupts) {
        sleep_until(bypass, time);
    } else {
        sched_yield();
    }
    return BYPASS_OK;
}

int32_t bypass_progress(struct bypass *bypass)
{
    return progress(bypass);
}

int32_t bypass_rest(struct bypass *bypass, uint64_t timeout)
{
    struct patience patience = {.timeout = timeout};
    return rest(bypass, &patience);
}

int32_t bypass_test(struct bypass *bypass, struct bypass_request *request)
{
    if (request->result == BYPASS_PENDING) {
        progress(bypass);
    }
    return request->result;
}

int32_t bypass_wait(struct bypass *bypass, struct bypass_request *request, uint64_t timeout)
{
    struct patience patience = {.timeout = timeout};
    while (request->result == BYPASS_PENDING) {
        if (rest(bypass, &patience) < 0 && request->result == BYPASS_PENDING) {
            return BYPASS_E_TIMEOUT;
        }
    }
    return request->result;
}

const struct bypass_status *bypass_status(const struct bypass_request *request)
{
    return &request->status;
}
