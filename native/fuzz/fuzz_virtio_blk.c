/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk and a hostile driver: rings, chains and requests of any kind, on each engine and store,
 * down to the completion path. What must hold: nothing is lost (each request that was begun ends,
 * without the driver's help), no more are under way than there are slots, a reset leaves none, and
 * the file keeps its size. Each step is a byte that says what, and some that say how.
 */
#include "harness.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/blk.h"

#define DISK_BYTES (300u * 512u) /* no whole number of an overlay's clusters */
#define RING_DESC 0x1000u        /* guest addresses */
#define RING_AVAIL 0x2000u
#define RING_USED 0x3000u
#define BUFFERS 0x10000u
#define BUFFERS_MASK 0x3ffffu
#define STEPS 256u
#define PATIENCE_MS (-1) /* libFuzzer's own -timeout ends a wait for nothing */

enum { RAW_URING, RAW_THREAD, OVERLAY, DISKS };

static struct {
    struct vh_virtio *device;
    char path[64];
} disks[DISKS];
static struct vh_memory memory;
static uint32_t answered;

/* ------------------------------------------------------------------ the disks */

static void interrupt(void *self, uint32_t queue)
{
    (void)self;
    MUST(queue == 0);
    answered++;
}

static void config_interrupt(void *self)
{
    (void)self;
}

static const struct vh_virtio_transport transport = {interrupt, config_interrupt, NULL};

static void clean_up(void)
{
    for (uint32_t i = 0; i < DISKS; i++) {
        disks[i].device->ops->destroy(disks[i].device);
        (void)unlink(disks[i].path);
    }
}

static void make_file(char path[64])
{
    const char *where = getenv("TMPDIR");
    int fd;

    (void)snprintf(path, 64, "%.40s/v3m-fuzz-XXXXXX", where == NULL ? "/tmp" : where);
    fd = mkstemp(path);
    MUST(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
    (void)close(fd);
}

static void make_disks(void)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory spec = {.size = sizeof(spec), .bytes = 2 * VH_MIB, .numa_node = -1};
    char base[64];

    MUST(vh_memory_create(&memory, &spec, 1, &err) == VMMHPC_OK);
    make_file(base);
    for (uint32_t i = 0; i < DISKS; i++) {
        struct vmmhpc_blk config = {.size = sizeof(config), .path = disks[i].path};

        make_file(disks[i].path);
        config.flags = i == RAW_THREAD ? VMMHPC_BLK_NO_URING : 0;
        if (i == OVERLAY) {
            MUST(unlink(disks[i].path) == 0);
            MUST(vmmhpc_overlay_create(disks[i].path, base, &err) == VMMHPC_OK);
            config.overlay_path = disks[i].path;
            config.path = base;
        }
        MUST(vh_blk_new(NULL, &config, NULL, &disks[i].device, &err) == VMMHPC_OK);
        MUST(vh_virtio_init(disks[i].device, &err) == VMMHPC_OK);
        disks[i].device->transport = &transport;
    }
    (void)unlink(base); /* the overlay has it open */
    (void)atexit(clean_up);
}

/* ------------------------------------------------------------------ the driver */

struct input {
    const uint8_t *data;
    size_t bytes;
};

static uint8_t byte(struct input *input)
{
    if (input->bytes == 0) {
        return 0;
    }
    input->bytes--;
    return *input->data++;
}

static uint32_t number(struct input *input, uint32_t bytes)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < bytes; i++) {
        value = value << 8 | byte(input);
    }
    return value;
}

static uint8_t *guest(uint64_t gpa)
{
    return vh_memory_at(&memory, gpa, 1);
}

static void put16(uint64_t gpa, uint16_t value)
{
    memcpy(guest(gpa), &value, sizeof(value));
}

static uint16_t get16(uint64_t gpa)
{
    uint16_t value;

    memcpy(&value, guest(gpa), sizeof(value));
    return value;
}

static void start(struct vh_virtio *device, struct input *input)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtqueue *queue = &device->queues[0];

    vh_virtio_lock(device);
    vh_virtio_reset(device);
    MUST(((struct vh_blk *)device)->engine->under_way == 0);
    memset(guest(0), 0, BUFFERS);
    device->features_acked = vh_virtio_offered(device) &
                             ~((uint64_t)number(input, 2) << 9 | (uint64_t)(byte(input) & 1) << 29);
    queue->size = (uint16_t)(1u << (byte(input) % 9));
    queue->desc_gpa = RING_DESC;
    queue->avail_gpa = RING_AVAIL;
    queue->used_gpa = RING_USED;
    queue->enabled = true;
    MUST(vh_virtio_start(device, &memory, &err) == VMMHPC_OK);
    vh_virtio_unlock(device);
}

static void descriptor(uint32_t index, uint64_t addr, uint32_t bytes, uint16_t flags, uint16_t next)
{
    uint8_t *at = guest(RING_DESC + 16ull * index);

    memcpy(at, &addr, 8);
    memcpy(at + 8, &bytes, 4);
    memcpy(at + 12, &flags, 2);
    memcpy(at + 14, &next, 2);
}

/* A request as a driver makes it, more or less. Buffers may overlap. */
static void request(struct vh_virtio *device, struct input *input)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 14, 99};
    uint16_t size = device->queues[0].size;
    uint16_t head = byte(input) & (size - 1);
    uint8_t shape = byte(input);
    uint32_t type = types[shape & 7];
    uint64_t at = BUFFERS + (number(input, 2) * 512 & BUFFERS_MASK);
    uint32_t bytes = (number(input, 2) & 0x3ff) * ((shape & 8) != 0 ? 512 : 1);
    uint64_t sector = byte(input);
    uint32_t count = byte(input);
    uint32_t flags = (shape & 16) != 0 ? byte(input) : 0;
    bool reads = type == 0 || type == 8;
    uint8_t *header = guest(at);

    if ((shape & 0x60) == 0x60) {
        sector = (uint64_t)number(input, 4) << 32 | number(input, 4);
    }
    memset(header, 0, 16);
    memcpy(header, &type, 4);
    memcpy(header + 8, &sector, 8);
    if (type == 11 || type == 13) {
        bytes = (shape & 8) != 0 ? bytes : 16;
        memcpy(header + 16, &sector, 8);
        memcpy(header + 24, &count, 4);
        memcpy(header + 28, &flags, 4);
    }
    /* Header and data in one piece, or in two; the status behind. */
    uint16_t second = (head + 1) & (size - 1);
    uint16_t third = (head + 2) & (size - 1);
    if (reads) {
        descriptor(head, at, 16, 1, second);
        descriptor(second, at + 16, bytes + 1, 2, 0);
    } else if ((shape & 0x80) != 0) {
        descriptor(head, at, 16 + bytes, 1, second);
        descriptor(second, at + 0x40000, 1, 2, 0);
    } else {
        descriptor(head, at, 16, 1, second);
        descriptor(second, at + 16, bytes, 1, third);
        descriptor(third, at + 0x40000, 1, 2, 0);
    }
    uint16_t idx = get16(RING_AVAIL + 2);
    put16(RING_AVAIL + 4 + 2ull * (idx & (size - 1)), head);
    put16(RING_AVAIL + 2, (uint16_t)(idx + 1));
}

/* Anything anywhere in the rings. */
static void scribble(struct input *input)
{
    uint32_t at = RING_DESC + number(input, 2) % (RING_USED + 0x1000 - RING_DESC);
    uint32_t bytes = 1 + (byte(input) & 31);

    for (uint32_t i = 0; i < bytes; i++) {
        *guest(at + i) = byte(input);
    }
}

static void configure(struct vh_virtio *device, struct input *input)
{
    uint8_t data[8] = {byte(input)};
    uint32_t offset = byte(input) % 60;

    vh_virtio_lock(device);
    device->ops->config_write(device, (offset & 1) != 0 ? 32 : offset, data, 1);
    device->ops->config_read(device, offset, 1);
    MUST(device->config[32] <= 1);
    vh_virtio_unlock(device);
}

/* ------------------------------------------------------------------ what must hold */

static void check(struct vh_virtio *device)
{
    const struct vh_blk *blk = (const struct vh_blk *)device;
    uint32_t idle = 0;

    for (const struct vh_blk_slot *slot = blk->free_slots; slot != NULL; slot = slot->next_free) {
        idle++;
    }
    MUST(idle + blk->engine->under_way == VH_BLK_REQUESTS);
}

static bool ready(struct vh_virtio *device, int timeout_ms)
{
    struct vh_io_source *source = vh_blk_source(device);
    struct pollfd fd = {.fd = source->fd, .events = POLLIN};

    if (poll(&fd, 1, timeout_ms) != 1) {
        return false;
    }
    source->ready(source->opaque, EPOLLIN);
    return true;
}

static void settle(struct vh_virtio *device)
{
    while (((struct vh_blk *)device)->engine->under_way > 0) {
        MUST(ready(device, PATIENCE_MS));
        check(device);
    }
}

static void check_file(uint32_t which)
{
    struct stat info;

    MUST(stat(disks[which].path, &info) == 0);
    MUST(which == OVERLAY ? info.st_size <= 64 << 20 : info.st_size == DISK_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {data, bytes};
    struct vh_virtio *device;
    uint32_t which;

    if (disks[0].device == NULL) {
        make_disks();
    }
    which = byte(&input) % DISKS;
    device = disks[which].device;
    answered = 0;
    start(device, &input);
    for (uint32_t i = 0; i < STEPS && input.bytes > 0; i++) {
        switch (byte(&input) & 15) {
        case 0:
            start(device, &input);
            break;
        case 1:
            scribble(&input);
            break;
        case 2:
            configure(device, &input);
            break;
        case 3:
            (void)ready(device, 0);
            break;
        case 4:
        case 5:
        case 6:
            vh_virtio_kicked(device, 0);
            break;
        case 7:
            settle(device);
            break;
        default:
            request(device, &input);
            break;
        }
        check(device);
    }
    vh_virtio_kicked(device, 0);
    settle(device);
    check_file(which);
    fuzz_count(answered > 0);
    return 0;
}
