// SPDX-License-Identifier: Apache-2.0
/*
 * A peer that wishes this one ill. It shares a window with an endpoint, and writes into its own
 * area what it likes: who it is, its side of the link, acknowledgements, slots, anything. Between
 * that the endpoint sends, receives, puts, gets and waits. Each 16 bytes of the input are one step.
 *
 * What must hold: no access outside of anything (ASan), every request ends or is under way, what is
 * kept of messages stays below its limit, and closing comes to an end.
 */
#include "endpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AREA BYPASS_AREA_MIN
#define AREAS 8192u /* in the file: window_file.c */
#define FILE_BYTES (AREAS + 2 * AREA)
#define RING_OFFSET AREA_RINGS
#define RING_SLOTS 16u
#define REQUESTS 24u
#define KEPT 4096u /* bytes of messages that nobody asked for */
#define BUFFER_MOST 40000u
#define REGIONS 4u

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct step {
    uint8_t what;
    uint8_t more;
    uint16_t small;
    uint32_t number;
    uint64_t wide;
};

/* The window, as the hostile peer has it: it is peer 1. */
static struct {
    int fd;
    char path[32];
    uint8_t *bytes;
    uint32_t posted; /* slots */
} window = {.fd = -1};

/* The endpoint and what is its caller's. */
struct victim {
    struct bypass *bypass;
    struct bypass_request requests[REQUESTS];
    uint8_t *buffers[REQUESTS];
    uint32_t used;
    uint8_t regions[REGIONS][256];
    uint8_t *heap; /* of bypass_alloc() */
};

static uint64_t inputs;
static uint64_t successes; /* with a message that came */

static void report(void)
{
    fprintf(stderr, "v3m-fuzz inputs=%llu successes=%llu\n", (unsigned long long)inputs,
            (unsigned long long)successes);
}

static _Atomic uint32_t *states(void)
{
    return (_Atomic uint32_t *)(void *)window.bytes;
}

static uint8_t *area(void)
{
    return window.bytes + AREAS + AREA;
}

static struct area_header *header(void)
{
    return (struct area_header *)(void *)area();
}

/* What it says of its link with the endpoint. */
static struct area_link *said(void)
{
    return (struct area_link *)(void *)(area() + AREA_LINKS);
}

static void window_open(void)
{
    window.fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(window.fd >= 0);
    snprintf(window.path, sizeof(window.path), "/proc/self/fd/%d", window.fd);
    MUST(ftruncate(window.fd, FILE_BYTES) == 0);
    window.bytes = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, window.fd, 0);
    MUST(window.bytes != MAP_FAILED);
    /* Alive, for the endpoint. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    MUST(fcntl(window.fd, F_OFD_SETLK, &lock) == 0);
    (void)atexit(report);
}

/* Come, as an honest peer does. */
static void come(uint32_t incarnation)
{
    header()->magic = AREA_MAGIC;
    header()->incarnation = incarnation;
    said()->ring_offset = RING_OFFSET;
    said()->ring_slots = RING_SLOTS;
    said()->session++;
    said()->consumed = 0;
    said()->to = states()[0];
    states()[1] = incarnation;
    memset(area() + RING_OFFSET, 0, RING_SLOTS * sizeof(struct slot));
    window.posted = 0;
}

/* The slot that the endpoint looks at next, if all is as come() left it; its contents are the
 * input's, though mostly within the area. */
static void post(const struct step *step)
{
    struct slot *slot = (struct slot *)(void *)(area() + RING_OFFSET) + window.posted % RING_SLOTS;
    int wild = (step->small & 0x8000) != 0;
    slot->kind = step->more % (SLOT_FLUSH + 2);
    slot->tag = step->small & 3;
    slot->length = (uint8_t)(step->small >> 4 & 0x3f);
    if (slot->kind == SLOT_INLINE) {
        memset(slot->u.bytes, (int)step->number, sizeof(slot->u.bytes));
    } else {
        slot->u.data = (struct slot_data){
            .offset = wild ? step->wide : step->wide & (AREA - 1),
            .length = step->number & ((step->small & 0x4000) != 0 ? UINT32_MAX : 0xfff),
            .total = (step->small & 0x2000) != 0 ? step->wide >> 16 : step->number & 0xffff,
            .target = wild ? step->wide : step->wide >> 16 & 0xff,
            .region = (uint32_t)(step->wide >> 24) % (REGIONS + 1),
            .id = (uint32_t)(step->wide >> 32) & 7,
            .last = step->more >> 7,
        };
    }
    slot->sequence = ++window.posted;
}

static void write_header(const struct step *step)
{
    struct area_region *region = &header()->regions[step->small % REGIONS];
    switch (step->more % 6) {
    case 0:
        header()->magic = step->number;
        break;
    case 1:
        header()->incarnation = step->number;
        break;
    case 2:
        header()->may_sleep = 1;
        header()->sleeping = step->number;
        break;
    case 3:
        region->length = step->wide;
        break;
    case 4:
        region->offset = step->wide;
        break;
    default: /* one that can be */
        region->offset = step->wide % AREA;
        region->length = step->number % AREA;
        break;
    }
}

static void write_link(const struct step *step, const struct bypass *bypass)
{
    switch (step->more % 7) {
    case 0:
        said()->to = step->number;
        break;
    case 1:
        said()->ring_offset = step->number;
        break;
    case 2:
        said()->ring_slots = step->number % 3 == 0 ? step->number : 1u << step->number % 32;
        break;
    case 3:
        said()->session = step->number;
        break;
    case 4:
        said()->consumed = step->wide;
        break;
    default: /* all, or some, of what was sent has been taken */
        said()->consumed = bypass->links[1].posted - step->small % 4;
        break;
    }
}

/* The peer's turn. */
static void attack(const struct step *step, const struct bypass *bypass)
{
    switch (step->what >> 4) {
    case 0:
        come(step->number);
        break;
    case 1:
        states()[1] = step->number;
        break;
    case 2:
        write_header(step);
        break;
    case 3:
    case 4:
        write_link(step, bypass);
        break;
    case 5:
        memcpy(area() + step->number % (AREA - sizeof(step->wide)), &step->wide,
               sizeof(step->wide));
        break;
    case 6:
        window.posted = step->number;
        break;
    default:
        post(step);
        break;
    }
}

/* A request with a buffer of so many bytes; NULL: none is left. */
static struct bypass_request *request(struct victim *victim, uint64_t bytes)
{
    if (victim->used == REQUESTS) {
        return NULL;
    }
    uint8_t *buffer = calloc(1, bytes + 1);
    MUST(buffer != NULL);
    victim->buffers[victim->used] = buffer;
    return &victim->requests[victim->used++];
}

static void start(struct victim *victim, const struct step *step)
{
    struct bypass *bypass = victim->bypass;
    uint64_t length = step->number % BUFFER_MOST;
    uint64_t tag = step->small & 3;
    int32_t peer = (step->small & 4) != 0 ? BYPASS_ANY_PEER : 1;
    struct bypass_request *next = request(victim, length);
    if (next == NULL) {
        return;
    }
    uint8_t *buffer = victim->buffers[victim->used - 1];
    int lies_in_area = (step->small & 8) != 0 && victim->heap != NULL && length <= 10000;
    const uint8_t *data = lies_in_area ? victim->heap : buffer;
    int32_t code = 0;
    switch (step->more % 3) {
    case 0:
        code = bypass_irecv(bypass, peer, tag, step->small >> 4 & 3, buffer, length, next);
        break;
    case 1:
        code =
            bypass_isend(bypass, 1, tag, data, length, step->small >> 4 & BYPASS_SYNCHRONOUS, next);
        break;
    default:
        code = bypass_put(bypass, 1, tag, step->wide % 512, data, length, next);
        break;
    }
    MUST(code <= 0);
}

/* The endpoint's turn. */
static void act(struct victim *victim, const struct step *step)
{
    struct bypass *bypass = victim->bypass;
    struct bypass_status status;
    struct bypass_event event;
    uint8_t got[64];
    switch (step->what >> 4) {
    case 0:
        (void)bypass_connect(bypass, 1, 0);
        break;
    case 1:
        (void)bypass_rest(bypass, 1);
        break;
    case 2:
        (void)bypass_get(bypass, 1, step->small % REGIONS, step->wide, got, step->more % 65);
        break;
    case 3:
        (void)bypass_expose(bypass, step->small % REGIONS, victim->regions[step->small % REGIONS],
                            step->number % (sizeof(victim->regions[0]) + 1),
                            step->more & BYPASS_PUT_EVENTS);
        break;
    case 4:
        (void)bypass_event(bypass, &event, 0);
        (void)bypass_probe(bypass, BYPASS_ANY_PEER, step->small & 3, 0, 0, &status);
        break;
    case 5:
        if (victim->used != 0) {
            (void)bypass_cancel(bypass, &victim->requests[step->small % victim->used]);
        }
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        start(victim, step);
        break;
    default:
        (void)bypass_progress(bypass);
        break;
    }
}

static void check(const struct victim *victim)
{
    MUST(victim->bypass->unexpected_kept <= KEPT);
    for (uint32_t i = 0; i < victim->used; i++) {
        const struct bypass_request *done = &victim->requests[i];
        MUST(done->result <= BYPASS_PENDING && done->result >= BYPASS_E_UNCONNECTED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct victim victim = {0};
    struct bypass_stats stats;
    if (window.fd < 0) {
        window_open();
    }
    struct bypass_config config = {.size = sizeof(config),
                                   .window = BYPASS_WINDOW_FILE,
                                   .path = window.path,
                                   .wait = BYPASS_WAIT_INTERRUPT,
                                   .spins = 1,
                                   .unexpected_bytes = KEPT};
    MUST(bypass_file_create(window.path, 2, AREA) == BYPASS_OK);
    MUST(bypass_open(&config, &victim.bypass) == BYPASS_OK);
    victim.heap = bypass_alloc(victim.bypass, 10000);
    /* It begins well. */
    come(1);
    (void)bypass_connect(victim.bypass, 1, 0);
    MUST(bypass_link(victim.bypass, 1) == BYPASS_OK);
    struct step step;
    for (; bytes >= sizeof(step); data += sizeof(step), bytes -= sizeof(step)) {
        memcpy(&step, data, sizeof(step));
        if ((step.what & 1) != 0) {
            attack(&step, victim.bypass);
        } else {
            act(&victim, &step);
        }
        check(&victim);
    }
    bypass_stats(victim.bypass, &stats);
    inputs++;
    successes += stats.received_messages != 0 ? 1 : 0;
    /* It leaves; what is under way with it ends, and nobody waits for it. */
    states()[1] = 0;
    bypass_close(victim.bypass);
    for (uint32_t i = 0; i < victim.used; i++) {
        free(victim.buffers[i]);
    }
    return 0;
}
