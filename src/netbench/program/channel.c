/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include "copy.h"

#include <errno.h>

#define LOAD(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define STORE(to, value) __atomic_store_n(to, value, __ATOMIC_RELEASE)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What a slot takes of the ring: whole lines, so that no two slots share one. */
static uint64_t ring_share(uint64_t bytes)
{
    return (bytes + CHANNEL_LINE - 1) / CHANNEL_LINE * CHANNEL_LINE;
}

static void ring_write(struct channel *c, const uint8_t *data, uint64_t bytes)
{
    const uint64_t at = c->written % c->ring_bytes;
    const uint64_t first = least(bytes, c->ring_bytes - at);
    copy(c->own_ring + at, data, first);
    copy(c->own_ring, data + first, bytes - first);
    c->written += ring_share(bytes);
}

static void ring_read(struct channel *c, uint64_t from, uint8_t *data, uint64_t bytes)
{
    const uint64_t at = from % c->ring_bytes;
    const uint64_t first = least(bytes, c->ring_bytes - at);
    copy(data, c->their_ring + at, first);
    copy(data + first, c->their_ring, bytes - first);
}

/* After a store that the other side may sleep for. The fence is the other half of the one in
 * sleep(): either it sees the store, or this sees that it sleeps. */
static void wake_for(struct channel *c, uint32_t what)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((LOAD(&c->theirs->waits) & what) != 0) {
        c->wake(c);
    }
}

static int has_room(const struct channel *c, uint64_t bytes)
{
    const uint64_t taken = LOAD(&c->theirs->taken);
    const uint64_t freed = taken == 0 ? 0 : c->ends[(taken - 1) % CHANNEL_SLOTS];
    return c->sent - taken < CHANNEL_SLOTS && c->written - freed + bytes <= c->ring_bytes;
}

static int64_t channel_put(struct stream *stream, const void *data, uint64_t bytes)
{
    struct channel *c = (struct channel *)stream;
    struct channel_slot *slot = &c->own->slots[c->sent % CHANNEL_SLOTS];
    const uint64_t part = least(bytes, CHANNEL_CHUNK);
    if (!has_room(c, part <= CHANNEL_INLINE ? 0 : ring_share(part))) {
        return 0;
    }
    if (part <= CHANNEL_INLINE) {
        copy_words(slot->data, data, part);
    } else {
        ring_write(c, data, part);
    }
    slot->bytes = part;
    c->ends[c->sent % CHANNEL_SLOTS] = c->written;
    c->sent++;
    STORE(&slot->number, c->sent);
    if (c->wake != 0) {
        wake_for(c, STREAM_READ);
    }
    return (int64_t)part;
}

static const struct channel_slot *next_slot(const struct channel *c)
{
    const struct channel_slot *slot = &c->theirs->slots[c->received % CHANNEL_SLOTS];
    return LOAD(&slot->number) == c->received + 1 ? slot : 0;
}

/* One slot less to read. Who waits for room is woken when there is much of it, or nothing left to
 * do here. */
static void take(struct channel *c)
{
    c->received++;
    c->got = 0;
    STORE(&c->own->taken, c->received);
    if (c->wake != 0 && (c->received % (CHANNEL_SLOTS / 2) == 0 || next_slot(c) == 0)) {
        wake_for(c, STREAM_WRITE);
    }
}

static int64_t channel_get(struct stream *stream, void *data, uint64_t bytes)
{
    struct channel *c = (struct channel *)stream;
    const struct channel_slot *slot = next_slot(c);
    if (slot == 0) {
        return 0;
    }
    const uint64_t all = LOAD(&slot->bytes); /* once: it may change meanwhile */
    if (all > CHANNEL_CHUNK || all < c->got) {
        return -EPROTO; /* others may write it: whatever it says, nothing beyond the ring is read */
    }
    const uint64_t part = least(bytes, all - c->got);
    if (all <= CHANNEL_INLINE) {
        copy_words(data, slot->data + c->got, part);
    } else {
        ring_read(c, c->read + c->got, data, part);
    }
    c->got += part;
    if (c->got == all) {
        c->read += all <= CHANNEL_INLINE ? 0 : ring_share(all);
        take(c);
    }
    return (int64_t)part;
}

static int64_t channel_wait(struct stream *stream, uint32_t want)
{
    struct channel *c = (struct channel *)stream;
    if (c->wake == 0) {
        return c->rest(c);
    }
    int64_t rc = 0;
    STORE(&c->own->waits, want);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const int ready = ((want & STREAM_READ) != 0 && next_slot(c) != 0) ||
                      ((want & STREAM_WRITE) != 0 && has_room(c, CHANNEL_CHUNK));
    if (!ready) {
        rc = c->rest(c);
    }
    STORE(&c->own->waits, 0u);
    return rc;
}

static int64_t spin(struct channel *c)
{
    (void)c;
    __builtin_ia32_pause();
    return 0;
}

_Static_assert(sizeof(struct channel_control) <= CHANNEL_CONTROL, "it fits");

void channel_init(struct channel *c, const struct channel_window *window, uint32_t self,
                  uint32_t partner)
{
    const uint64_t last = self > partner ? self : partner;
    const int common = (last + 1) * CHANNEL_CONTROL <= window->common_bytes;
    uint8_t *own = window->areas + self * window->area_bytes;
    uint8_t *theirs = window->areas + partner * window->area_bytes;
    uint8_t *own_control = common ? window->common + (uint64_t)self * CHANNEL_CONTROL : own;
    uint8_t *their_control = common ? window->common + (uint64_t)partner * CHANNEL_CONTROL : theirs;
    *c = (struct channel){
        .stream = {.put = channel_put, .get = channel_get, .wait = channel_wait},
        .own = (struct channel_control *)(void *)own_control,
        .theirs = (const struct channel_control *)(const void *)their_control,
        .own_ring = own + CHANNEL_CONTROL,
        .their_ring = theirs + CHANNEL_CONTROL,
        .ring_bytes = window->area_bytes - CHANNEL_CONTROL,
        .rest = spin,
    };
    for (uint64_t i = 0; i < CHANNEL_SLOTS; i++) {
        STORE(&c->own->slots[i].number, 0u);
    }
    STORE(&c->own->waits, 0u);
    STORE(&c->own->taken, 0u);
}
