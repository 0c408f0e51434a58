// SPDX-License-Identifier: Apache-2.0
/* Endpoints: how the area is divided, coming and leaving. */
#include "endpoint.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS_BEFORE_SLEEP = 2000,
    SPINS_BEFORE_YIELD = 20000,
    EAGER_BYTES = 8 << 10,
    UNEXPECTED_BYTES = 16 << 20,
    STAGE_PARTS = 4, /* what is staged at a time is at most this part of the staging space */
    LEAVE_TIME = 2000000,
};

/* A number for this time of being there that differs from those before. */
static uint32_t new_incarnation(const struct bypass_window *window)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t number = (uint32_t)now.tv_nsec ^ ((uint32_t)now.tv_sec << 16);
    uint32_t last = atomic_load_explicit(&window->states[window->id], memory_order_relaxed);
    number = number == 0 ? 1 : number;
    return number == last ? number ^ 0x80000001u : number;
}

/* Rings and staging space for each peer, and the heap. */
static int32_t divide(struct bypass *bypass, uint64_t heap_bytes)
{
    uint64_t usable = bypass->area_bytes - AREA_RINGS;
    uint64_t heap = heap_bytes == 0 ? bypass->area_bytes / 4 : heap_bytes;
    if (heap >= usable) {
        return BYPASS_E_MEMORY;
    }
    uint64_t share =
        (usable - heap) / (bypass->peers > 1 ? bypass->peers - 1 : 1) & ~(CACHE_LINE - 1ull);
    uint32_t slots = RING_SLOTS_MIN;
    while (slots < RING_SLOTS_MAX && (uint64_t)slots * 2 * sizeof(struct slot) * 4 <= share) {
        slots *= 2;
    }
    uint64_t ring_bytes = slots * sizeof(struct slot);
    if (share < ring_bytes + (uint64_t)STAGE_PARTS * CACHE_LINE) {
        return BYPASS_E_MEMORY;
    }
    uint8_t *at = bypass->area + AREA_RINGS;
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        struct link *link = &bypass->links[peer];
        if (peer == bypass->id) {
            continue;
        }
        link->slots = slots;
        link->ring = (struct slot *)at;
        link->stage = at + ring_bytes;
        link->stage_bytes = share - ring_bytes;
        link->staged = calloc(slots, sizeof(uint64_t));
        if (link->staged == NULL) {
            return BYPASS_E_MEMORY;
        }
        at += share;
    }
    uint64_t longest = (share - ring_bytes) / STAGE_PARTS;
    bypass->eager_bytes = bypass->eager_bytes < longest ? bypass->eager_bytes : longest;
    return heap_init(bypass, (uint64_t)(at - bypass->area));
}

static int32_t start(struct bypass *bypass, const struct bypass_config *config)
{
    struct bypass_window *window = bypass->window;
    bypass->id = window->id;
    bypass->peers = window->peers;
    bypass->area_bytes = window->area_bytes;
    if (window->peers < 1 || window->peers > BYPASS_PEERS_MAX || window->id >= window->peers ||
        window->area_bytes < BYPASS_AREA_MIN || window->area_bytes > UINT32_MAX) {
        return BYPASS_E_UNSUPPORTED;
    }
    bypass->area = window->areas + window->area_bytes * window->id;
    bypass->header = (struct area_header *)bypass->area;
    bypass->said = (struct area_link *)(bypass->area + AREA_LINKS);
    bypass->eager_bytes = config->eager_bytes == 0 ? EAGER_BYTES : config->eager_bytes;
    bypass->unexpected_bytes =
        config->unexpected_bytes == 0 ? UNEXPECTED_BYTES : config->unexpected_bytes;
    bypass->strict = config->strict;
    bypass->spins = config->spins != 0   ? config->spins
                    : bypass->interrupts ? SPINS_BEFORE_SLEEP
                                         : SPINS_BEFORE_YIELD;
    bypass->looks = bypass->spins;
    bypass->incarnation = new_incarnation(window);
    list_init(&bypass->receives);
    bypass->unexpected_end = &bypass->unexpected;
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        struct link *link = &bypass->links[peer];
        link->peer = peer;
        link->area = window->areas + window->area_bytes * peer;
        list_init(&link->outgoing);
        list_init(&link->waiting);
        list_init(&link->streaming);
        list_init(&link->unacknowledged);
        list_init(&link->answers);
        list_init(&link->granted);
    }
    return divide(bypass, config->heap_bytes);
}

/* Say that this peer is there. Others read nothing here before the state says so. */
static void appear(struct bypass *bypass)
{
    memset(bypass->area, 0, AREA_RINGS);
    bypass->header->magic = AREA_MAGIC;
    bypass->header->may_sleep = (uint32_t)bypass->interrupts;
    for (uint32_t region = 0; region < BYPASS_REGIONS; region++) {
        bypass->header->regions[region].offset = NOT_IN_AREA;
    }
    atomic_store_explicit(&bypass->header->incarnation, bypass->incarnation, memory_order_release);
    bypass->window->ops->set_state(bypass->window, bypass->incarnation);
    links_check(bypass);
}

static int32_t wants_interrupts(const struct bypass_config *config)
{
    const char *mode = getenv("BYPASS_WAIT");
    if (config->wait == BYPASS_WAIT_AUTO) {
        return mode == NULL || strcmp(mode, "poll") != 0;
    }
    return config->wait == BYPASS_WAIT_INTERRUPT;
}

/* What $BYPASS_WINDOW asks for. */
static uint32_t kind_of(const char *where)
{
    if (where == NULL) {
        /* Only the lightweight kernel has that file; its launcher says how many ranks there are. */
        const char *ranks = getenv("V3M_RANKS");
        return access("/dev/v3m-shm", F_OK) == 0          ? BYPASS_WINDOW_LWK
               : ranks != NULL && strcmp(ranks, "1") == 0 ? BYPASS_WINDOW_ALONE
                                                          : BYPASS_WINDOW_LINUX;
    }
    return strcmp(where, "linux") == 0       ? BYPASS_WINDOW_LINUX
           : strncmp(where, "file:", 5) == 0 ? BYPASS_WINDOW_FILE
           : strcmp(where, "lwk") == 0       ? BYPASS_WINDOW_LWK
           : strcmp(where, "alone") == 0     ? BYPASS_WINDOW_ALONE
                                             : UINT32_MAX;
}

static int32_t open_window(const struct bypass_config *config, int32_t waits,
                           struct bypass_window **out)
{
    const char *where = getenv("BYPASS_WINDOW");
    const char *file = where != NULL && strncmp(where, "file:", 5) == 0 ? where + 5 : NULL;
    switch (config->window == BYPASS_WINDOW_AUTO ? kind_of(where) : config->window) {
    case BYPASS_WINDOW_FILE:
        return bypass_window_file(config, config->path != NULL ? config->path : file, out);
    case BYPASS_WINDOW_LINUX:
        return bypass_window_linux(waits, out);
    case BYPASS_WINDOW_LWK:
        return bypass_window_lwk(waits, out);
    case BYPASS_WINDOW_ALONE:
        return bypass_window_alone(out);
    default:
        return BYPASS_E_INVALID;
    }
}

/* Give back what open() took; the state is 0 already, or was never set. */
static void destroy(struct bypass *bypass)
{
    for (uint32_t peer = 0; peer < BYPASS_PEERS_MAX; peer++) {
        free(bypass->links[peer].staged);
    }
    if (bypass->unexpected_end != NULL) {
        unexpected_forget(bypass, 0, 1);
    }
    heap_destroy(bypass);
    if (bypass->window != NULL) {
        bypass->window->ops->close(bypass->window);
    }
    free(bypass);
}

int32_t bypass_open(const struct bypass_config *config, struct bypass **out)
{
    if (config == NULL || config->size != sizeof(*config) || config->wait > BYPASS_WAIT_INTERRUPT) {
        return BYPASS_E_INVALID;
    }
    struct bypass *bypass = calloc(1, sizeof(*bypass));
    if (bypass == NULL) {
        return BYPASS_E_MEMORY;
    }
    int32_t waits = wants_interrupts(config);
    int32_t code = open_window(config, waits, &bypass->window);
    if (code == BYPASS_OK) {
        bypass->interrupts = waits && bypass->window->can_wait;
        code = start(bypass, config);
    }
    if (code != BYPASS_OK) {
        destroy(bypass);
        return code;
    }
    appear(bypass);
    *out = bypass;
    return BYPASS_OK;
}

static int32_t all_taken(const struct bypass *bypass)
{
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        const struct link *link = &bypass->links[peer];
        if (link->state == LINK_UP && link->acknowledged != link->posted) {
            return 0;
        }
    }
    return 1;
}

/* Wait until the others have what was sent: with this peer, its area disappears. */
static void drain(struct bypass *bypass)
{
    struct patience patience = {.timeout = LEAVE_TIME};
    for (uint32_t peer = 0; peer < bypass->peers; peer++) {
        struct link *link = &bypass->links[peer];
        if (link->state == LINK_UP && link->acknowledged != link->posted) {
            send_flush(bypass, link);
        }
    }
    while (!all_taken(bypass)) {
        for (uint32_t peer = 0; peer < bypass->peers; peer++) {
            struct link *link = &bypass->links[peer];
            if (link->state == LINK_UP) {
                ring_refresh(bypass, link);
            }
        }
        if (rest(bypass, &patience) < 0) {
            return;
        }
    }
}

void bypass_close(struct bypass *bypass)
{
    if (bypass != NULL) {
        drain(bypass);
        bypass->window->ops->set_state(bypass->window, 0);
        destroy(bypass);
    }
}

uint32_t bypass_id(const struct bypass *bypass)
{
    return bypass->id;
}

uint32_t bypass_peers(const struct bypass *bypass)
{
    return bypass->peers;
}

void bypass_stats(const struct bypass *bypass, struct bypass_stats *stats)
{
    *stats = bypass->stats;
}
