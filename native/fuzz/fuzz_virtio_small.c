/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small devices (rng, console, balloon, pmem) and a hostile driver. The input: one byte for the
 * device, one for its features, two for the length of an image of the rings (queue i in page i),
 * the image, and then steps of 4 bytes: change guest memory, make chains available, kick, access
 * the configuration, reset, and what the host's side does. What must hold: a broken device works
 * again only after a reset, interrupts come only from one that is started, and configuration that
 * is not the driver's stays as it is.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/small.h"

#define HEAD ((size_t)4)
#define STEP ((size_t)4)
#define QUEUES 5u
#define QUEUE_PAGE 0x1000u
#define RINGS_BYTES ((size_t)QUEUES * QUEUE_PAGE)
#define QUEUE_SIZE 16u
#define AVAIL 0x400u /* in a queue's page */
#define USED 0x800u

#define F_VERSION_1 (1ull << 32)

enum { RNG, HVC, BALLOON, PMEM, KINDS };

static struct {
    struct vh_memory memory;
    int kick_fds[QUEUES];
    int pmem_fd;
    struct vh_virtio *device;
    uint32_t kind;
    int host_fd; /* the console's other side */
    uint64_t target;
    uint64_t interrupts;
    uint64_t config_interrupts;
    bool told_broken;
} rig;

static void interrupt(void *self, uint32_t queue)
{
    MUST(self == &rig && queue < rig.device->queue_count && rig.device->started);
    rig.interrupts++;
}

static void config_interrupt(void *self)
{
    MUST(self == &rig);
    if (rig.device->broken) {
        MUST(!rig.told_broken || rig.kind == BALLOON); /* a new target is told too */
        rig.told_broken = true;
    }
    rig.config_interrupts++;
}

static int call_fd(void *self, uint32_t queue)
{
    (void)self;
    (void)queue;
    return -1;
}

static const struct vh_virtio_transport transport = {interrupt, config_interrupt, call_fd};

static void once(void)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory specs[3];

    if (rig.memory.slot_count != 0) {
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        specs[i] =
            (struct vmmhpc_memory){.size = sizeof(specs[i]),
                                   .bytes = VH_MIB,
                                   .backing = i == 1 ? VMMHPC_BACKING_MEMFD : VMMHPC_BACKING_ANON,
                                   .numa_node = -1};
    }
    MUST(vh_memory_create(&rig.memory, specs, 3, &err) == VMMHPC_OK);
    for (uint32_t i = 0; i < QUEUES; i++) {
        rig.kick_fds[i] = eventfd(0, EFD_NONBLOCK);
        MUST(rig.kick_fds[i] >= 0);
    }
    rig.pmem_fd = memfd_create("pmem", 0);
    MUST(rig.pmem_fd >= 0 && ftruncate(rig.pmem_fd, 2 * VH_MIB) == 0);
}

static int32_t make_pmem(uint8_t options, struct vmmhpc_error *err)
{
    char path[64];
    struct vmmhpc_pmem config = {.size = sizeof(config),
                                 .flags = (options & 1) != 0 ? VMMHPC_PMEM_READ_ONLY : 0,
                                 .path = path};

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.pmem_fd);
    return vh_pmem_new(NULL, &config, &rig.device, err);
}

static int32_t make_hvc(uint8_t options, struct vmmhpc_error *err)
{
    struct vmmhpc_hvc config = {.size = sizeof(config), .in_fd = -1, .out_fd = -1, .columns = 80};
    int pair[2];

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    config.in_fd = (options & 1) != 0 ? pair[0] : -1;
    config.out_fd = (options & 2) != 0 ? pair[0] : -1;
    config.rows = options & 4;
    int32_t status = vh_hvc_new(&config, &rig.device, err);
    (void)close(pair[0]);
    rig.host_fd = pair[1];
    return status;
}

static void make_device(uint32_t kind, uint8_t options)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t status = VMMHPC_OK;

    rig.kind = kind;
    rig.host_fd = -1;
    rig.target = 0;
    rig.interrupts = 0;
    rig.config_interrupts = 0;
    rig.told_broken = false;
    if (kind == RNG) {
        status = vh_rng_new(&rig.device, &err);
    } else if (kind == HVC) {
        status = make_hvc(options, &err);
    } else if (kind == BALLOON) {
        status = vh_balloon_new(&rig.device, &err);
    } else {
        status = make_pmem(options, &err);
    }
    MUST(status == VMMHPC_OK);
    MUST(vh_virtio_init(rig.device, &err) == VMMHPC_OK);
    rig.device->transport = &transport;
    rig.device->transport_self = &rig;
    for (uint32_t i = 0; i < rig.device->queue_count; i++) {
        rig.device->queues[i].kick_fd = rig.kick_fds[i];
    }
}

static void start(uint8_t features)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtio *device = rig.device;
    uint64_t choice = F_VERSION_1 | (uint64_t)(features & 3u) << 28 | (features >> 2u);

    device->features_acked = choice & vh_virtio_offered(device);
    MUST(vh_virtio_may_ack(device, device->features_acked));
    for (uint32_t i = 0; i < device->queue_count; i++) {
        uint64_t page = (uint64_t)i * QUEUE_PAGE;

        device->queues[i].size = QUEUE_SIZE;
        device->queues[i].desc_gpa = page;
        device->queues[i].avail_gpa = page + AVAIL;
        device->queues[i].used_gpa = page + USED;
        device->queues[i].enabled = true;
    }
    vh_virtio_lock(device);
    MUST(vh_virtio_start(device, &rig.memory, &err) == VMMHPC_OK);
    vh_virtio_unlock(device);
}

static void reset(void)
{
    vh_virtio_lock(rig.device);
    vh_virtio_reset(rig.device);
    vh_virtio_unlock(rig.device);
    rig.told_broken = false;
    MUST(!rig.device->started && !rig.device->broken);
}

static void kick(uint32_t queue)
{
    bool broken = rig.device->broken;
    uint64_t interrupts = rig.interrupts;
    eventfd_t again = 0;

    (void)eventfd_read(rig.kick_fds[queue], &again);
    if (queue < rig.device->queue_count) {
        vh_virtio_kicked(rig.device, queue);
    }
    MUST(!broken || (rig.device->broken && rig.interrupts == interrupts));
}

static void access_config(const uint8_t *data)
{
    struct vh_virtio *device = rig.device;
    uint8_t value[8] = {data[2], data[3], data[2], data[3], 0, 0, 0, 0};
    uint32_t offset = data[1] & 31u;
    uint32_t bytes = 1u << (data[1] >> 5u & 3u);
    uint8_t before[VH_VIRTIO_CONFIG_BYTES];

    memcpy(before, device->config, sizeof(before));
    vh_virtio_lock(device);
    if (device->ops->config_read != NULL) {
        device->ops->config_read(device, offset, bytes);
    }
    /* A transport does not let through what is not all inside. */
    if (device->ops->config_write != NULL && offset + bytes <= device->config_bytes) {
        device->ops->config_write(device, offset, value, bytes);
    }
    vh_virtio_unlock(device);
    if (rig.kind == BALLOON) { /* `actual` is the driver's */
        memcpy(before + 4, device->config + 4, 4);
    }
    MUST(memcmp(before, device->config, sizeof(before)) == 0);
}

/* The host's side of a device. */
static void host(const uint8_t *data)
{
    struct vmmhpc_balloon_state state = {.size = sizeof(state)};
    uint8_t buffer[4096];

    if (rig.kind == BALLOON) {
        rig.target = (uint64_t)data[2] << 12;
        vh_balloon_set_target(rig.device, rig.target + data[3]);
        vh_balloon_state(rig.device, &state);
        MUST(state.target_bytes == rig.target);
    } else if (rig.kind == HVC && rig.host_fd >= 0) {
        switch (data[1] & 3u) {
        case 0:
            memset(buffer, data[2], sizeof(buffer));
            (void)send(rig.host_fd, buffer, data[3] * 8u, MSG_NOSIGNAL);
            break;
        case 1:
            (void)recv(rig.host_fd, buffer, data[3] * 8u + 1u, 0);
            break;
        case 2: {
            struct vh_io_source *source = vh_hvc_source(rig.device, (data[2] & 1u) != 0);

            source->ready(source->opaque, data[3]);
            break;
        }
        default:
            if (data[2] == 7 && data[3] == 7) {
                (void)close(rig.host_fd);
                rig.host_fd = -1;
            }
            break;
        }
    }
}

static void step(const uint8_t *data)
{
    uint8_t *ram = vh_memory_at(&rig.memory, 0, RINGS_BYTES);
    uint32_t queue = data[1] % QUEUES;
    size_t at = ((size_t)data[1] << 8 | data[2]) % RINGS_BYTES;

    switch (data[0] & 7u) {
    case 0:
        ram[at] = data[3];
        break;
    case 1: { /* more chains */
        uint8_t *idx = ram + (size_t)queue * QUEUE_PAGE + AVAIL + 2;
        uint16_t value;

        memcpy(&value, idx, sizeof(value));
        value = (uint16_t)(value + (data[2] & 7u));
        memcpy(idx, &value, sizeof(value));
        kick(queue);
        break;
    }
    case 2:
    case 3:
        kick(queue);
        break;
    case 4:
        access_config(data);
        break;
    case 5:
    case 6:
        host(data);
        break;
    default:
        if ((data[1] & 7u) == 0) {
            reset();
            memset(ram, 0, data[2] > 127 ? RINGS_BYTES : 0);
            if ((data[2] & 1u) == 0) {
                start(data[3]);
            }
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    bool worked = false;

    if (bytes < HEAD) {
        return 0;
    }
    once();
    uint8_t *ram = vh_memory_at(&rig.memory, 0, RINGS_BYTES);
    memset(ram, 0, RINGS_BYTES);
    size_t image = (size_t)(data[2] | data[3] << 8);
    image = image < bytes - HEAD ? image : bytes - HEAD;
    memcpy(ram, data + HEAD, image < RINGS_BYTES ? image : RINGS_BYTES);
    make_device(data[0] % KINDS, data[0] >> 2);
    start(data[1]);
    for (size_t at = HEAD + image; bytes - at >= STEP && at < HEAD + image + 2000 * STEP;
         at += STEP) {
        step(data + at);
        for (uint32_t i = 0; i < rig.device->queue_count; i++) {
            worked |= rig.device->queues[i].next_used > 0;
        }
    }
    reset();
    (void)pthread_mutex_destroy(&rig.device->lock);
    rig.device->ops->destroy(rig.device);
    if (rig.host_fd >= 0) {
        (void)close(rig.host_fd);
    }
    fuzz_count(worked);
    return 0;
}
