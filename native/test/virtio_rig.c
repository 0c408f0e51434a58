/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_rig.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the transport */

static void count_interrupt(void *self, uint32_t queue)
{
    struct virtio_rig *rig = self;

    rig->rings[queue].interrupts++;
}

static void count_config(void *self)
{
    struct virtio_rig *rig = self;

    rig->config_interrupts++;
}

static int call_fd(void *self, uint32_t queue)
{
    struct virtio_rig *rig = self;

    if (rig->rings[queue].call_fd < 0) {
        rig->rings[queue].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return rig->rings[queue].call_fd;
}

static const struct vh_virtio_transport transport = {count_interrupt, count_config, call_fd};

struct virtio_rig *virtio_rig_new_memory(struct vh_virtio *device, const uint64_t *mib,
                                         uint32_t count, uint32_t backing)
{
    struct virtio_rig *rig = calloc(1, sizeof(*rig));
    struct vmmhpc_memory specs[VMMHPC_MEMORY_MAX] = {0};

    for (uint32_t i = 0; i < count; i++) {
        specs[i] = (struct vmmhpc_memory){.size = sizeof(specs[i]),
                                          .bytes = mib[i] * VH_MIB,
                                          .backing = backing,
                                          .numa_node = -1};
    }
    rig->err.size = sizeof(rig->err);
    CHECK_OK(vh_memory_create(&rig->memory, specs, count, &rig->err), &rig->err);
    rig->next_gpa = 0x10000;
    rig->device = device;
    CHECK_OK(vh_virtio_init(device, &rig->err), &rig->err);
    device->transport = &transport;
    device->transport_self = rig;
    for (uint32_t i = 0; i < VH_VIRTIO_QUEUES; i++) {
        rig->rings[i].call_fd = -1;
        if (i < device->queue_count) {
            device->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        }
    }
    return rig;
}

struct virtio_rig *virtio_rig_new(struct vh_virtio *device)
{
    uint64_t mib = 16;

    return virtio_rig_new_memory(device, &mib, 1, VMMHPC_BACKING_ANON);
}

void virtio_rig_free(struct virtio_rig *rig)
{
    struct vh_virtio *device = rig->device;

    virtio_rig_reset(rig);
    for (uint32_t i = 0; i < device->queue_count; i++) {
        (void)close(device->queues[i].kick_fd);
        if (rig->rings[i].call_fd >= 0) {
            (void)close(rig->rings[i].call_fd);
        }
    }
    (void)pthread_mutex_destroy(&device->lock);
    device->ops->destroy(device);
    vh_memory_destroy(&rig->memory);
    free(rig);
}

/* ------------------------------------------------------------------ guest memory */

uint64_t virtio_rig_alloc(struct virtio_rig *rig, uint64_t bytes)
{
    uint64_t alignment = bytes >= VH_PAGE ? VH_PAGE : 16;
    uint64_t gpa = (rig->next_gpa + alignment - 1) & ~(alignment - 1);

    rig->next_gpa = gpa + bytes;
    CHECK(rig->next_gpa <= rig->memory.slots[0].bytes);
    return gpa;
}

uint64_t virtio_rig_put(struct virtio_rig *rig, const void *data, uint64_t bytes)
{
    uint64_t gpa = virtio_rig_alloc(rig, bytes);

    memcpy(virtio_rig_at(rig, gpa, bytes), data, bytes);
    return gpa;
}

void *virtio_rig_at(struct virtio_rig *rig, uint64_t gpa, uint64_t bytes)
{
    void *at = vh_memory_at(&rig->memory, gpa, bytes);

    CHECK(at != NULL);
    return at;
}

/* ------------------------------------------------------------------ starting */

void virtio_rig_negotiate(struct virtio_rig *rig, uint64_t features)
{
    features |= RIG_F_VERSION_1 | RIG_F_INDIRECT;
    CHECK(vh_virtio_may_ack(rig->device, features));
    rig->device->features_acked = features;
    rig->event_idx = (features & RIG_F_EVENT_IDX) != 0;
}

void virtio_rig_queue(struct virtio_rig *rig, uint32_t queue, uint16_t size)
{
    struct rig_ring *ring = &rig->rings[queue];
    struct vh_virtqueue *device = &rig->device->queues[queue];
    int call = ring->call_fd;

    if (size == 0) {
        size = rig->device->queue_size[queue];
    }
    *ring = (struct rig_ring){.size = size, .call_fd = call};
    ring->desc_gpa = virtio_rig_alloc(rig, 16ull * size);
    ring->avail_gpa = virtio_rig_alloc(rig, 6ull + 2ull * size);
    ring->used_gpa = virtio_rig_alloc(rig, 6ull + 8ull * size);
    ring->desc = virtio_rig_at(rig, ring->desc_gpa, 16ull * size);
    ring->avail = virtio_rig_at(rig, ring->avail_gpa, 6ull + 2ull * size);
    ring->used = virtio_rig_at(rig, ring->used_gpa, 6ull + 8ull * size);
    device->size = size;
    device->desc_gpa = ring->desc_gpa;
    device->avail_gpa = ring->avail_gpa;
    device->used_gpa = ring->used_gpa;
    device->enabled = true;
}

int32_t virtio_rig_start(struct virtio_rig *rig, uint64_t features)
{
    int32_t status;

    virtio_rig_negotiate(rig, features);
    for (uint32_t i = 0; i < rig->device->queue_count; i++) {
        virtio_rig_queue(rig, i, 0);
    }
    vh_virtio_lock(rig->device);
    status = vh_virtio_start(rig->device, &rig->memory, &rig->err);
    vh_virtio_unlock(rig->device);
    return status;
}

void virtio_rig_reset(struct virtio_rig *rig)
{
    vh_virtio_lock(rig->device);
    vh_virtio_reset(rig->device);
    vh_virtio_unlock(rig->device);
}

/* ------------------------------------------------------------------ chains */

static void fill(struct rig_desc *desc, const struct rig_buffer *buffer, uint16_t next, bool last)
{
    desc->addr = buffer->gpa;
    desc->len = buffer->bytes;
    desc->flags = (uint16_t)((buffer->writable ? RIG_DESC_WRITE : 0) | (last ? 0 : RIG_DESC_NEXT));
    desc->next = next;
}

/* Free descriptors into list[0 ... count), or false. */
static bool take(struct rig_ring *ring, uint32_t count, uint16_t *list)
{
    uint32_t found = 0;

    for (uint16_t i = 0; i < ring->size && found < count; i++) {
        if (!ring->taken[i]) {
            list[found++] = i;
        }
    }
    if (found < count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ring->taken[list[i]] = true;
    }
    ring->chain_length[list[0]] = (uint16_t)count;
    return true;
}

void virtio_rig_make_available(struct virtio_rig *rig, uint32_t queue, uint16_t head)
{
    struct rig_ring *ring = &rig->rings[queue];

    ring->avail[2 + ring->avail[1] % ring->size] = head;
    __atomic_store_n(&ring->avail[1], (uint16_t)(ring->avail[1] + 1), __ATOMIC_RELEASE);
}

int virtio_rig_add(struct virtio_rig *rig, uint32_t queue, const struct rig_buffer *buffers,
                   uint32_t count)
{
    struct rig_ring *ring = &rig->rings[queue];
    uint16_t list[VH_QUEUE_MAX + 1];

    if (count == 0 || count > ring->size || !take(ring, count, list)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool last = i + 1 == count;

        fill(&ring->desc[list[i]], &buffers[i], last ? 0 : list[i + 1], last);
    }
    virtio_rig_make_available(rig, queue, list[0]);
    return list[0];
}

int virtio_rig_add_indirect(struct virtio_rig *rig, uint32_t queue,
                            const struct rig_buffer *buffers, uint32_t count)
{
    struct rig_ring *ring = &rig->rings[queue];
    uint64_t gpa = virtio_rig_alloc(rig, 16ull * count);
    struct rig_desc *table = virtio_rig_at(rig, gpa, 16ull * count);
    uint16_t head;

    if (!take(ring, 1, &head)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        fill(&table[i], &buffers[i], (uint16_t)(i + 1), i + 1 == count);
    }
    ring->desc[head] =
        (struct rig_desc){.addr = gpa, .len = 16 * count, .flags = RIG_DESC_INDIRECT};
    virtio_rig_make_available(rig, queue, head);
    return head;
}

/* ------------------------------------------------------------------ kicks and interrupts */

static uint16_t avail_event(const struct rig_ring *ring)
{
    return ring->used[2 + 4u * ring->size];
}

bool virtio_rig_kick(struct virtio_rig *rig, uint32_t queue)
{
    struct rig_ring *ring = &rig->rings[queue];
    uint16_t now = ring->avail[1];
    uint16_t before = ring->kicked_at;
    bool wanted = (ring->used[0] & 1) == 0;

    if (rig->event_idx) { /* 2.7.10: as vring_need_event() */
        wanted = (uint16_t)(now - avail_event(ring) - 1) < (uint16_t)(now - before);
    }
    ring->kicked_at = now;
    if (wanted) {
        vh_virtio_kicked(rig->device, queue);
    }
    return wanted;
}

void virtio_rig_force_kick(struct virtio_rig *rig, uint32_t queue)
{
    rig->rings[queue].kicked_at = rig->rings[queue].avail[1];
    vh_virtio_kicked(rig->device, queue);
}

bool virtio_rig_used(struct virtio_rig *rig, uint32_t queue, uint32_t *id, uint32_t *written)
{
    struct rig_ring *ring = &rig->rings[queue];
    uint32_t entry[2];

    if (__atomic_load_n(&ring->used[1], __ATOMIC_ACQUIRE) == ring->used_seen) {
        return false;
    }
    memcpy(entry, ring->used + 2 + 4u * (ring->used_seen % ring->size), sizeof(entry));
    ring->used_seen++;
    ring->avail[2 + ring->size] = ring->used_seen; /* used_event */
    if (CHECK(entry[0] < ring->size)) {
        /* The driver does not change descriptors meanwhile, so they can be followed. */
        uint32_t at = entry[0];

        for (uint32_t i = 0; i < ring->chain_length[entry[0]] && at < ring->size; i++) {
            ring->taken[at] = false;
            at = ring->desc[at].next;
        }
    }
    if (id != NULL) {
        *id = entry[0];
    }
    if (written != NULL) {
        *written = entry[1];
    }
    return true;
}

void virtio_rig_want_interrupts(struct virtio_rig *rig, uint32_t queue, bool wanted)
{
    rig->rings[queue].avail[0] = wanted ? 0 : 1;
}

uint32_t virtio_rig_interrupts(struct virtio_rig *rig, uint32_t queue)
{
    uint32_t count = rig->rings[queue].interrupts;

    rig->rings[queue].interrupts = 0;
    return count;
}

/* ------------------------------------------------------------------ configuration */

uint64_t virtio_rig_config(struct virtio_rig *rig, uint32_t offset, uint32_t bytes)
{
    struct vh_virtio *device = rig->device;
    uint64_t value = 0;

    vh_virtio_lock(device);
    if (device->ops->config_read != NULL) {
        device->ops->config_read(device, offset, bytes);
    }
    if (CHECK(offset + bytes <= device->config_bytes)) {
        memcpy(&value, device->config + offset, bytes);
    }
    vh_virtio_unlock(device);
    return value;
}

void virtio_rig_config_write(struct virtio_rig *rig, uint32_t offset, uint32_t bytes,
                             uint64_t value)
{
    struct vh_virtio *device = rig->device;
    uint8_t data[8];

    memcpy(data, &value, sizeof(data));
    vh_virtio_lock(device);
    if (device->ops->config_write != NULL) {
        device->ops->config_write(device, offset, data, bytes);
    }
    vh_virtio_unlock(device);
}

uint32_t virtio_rig_ready(struct vh_io_source *source, uint32_t events, int timeout_ms)
{
    /* EPOLLIN, EPOLLOUT, EPOLLERR and EPOLLHUP have the values of their poll() counterparts. */
    struct pollfd fd = {.fd = source->fd, .events = (short)events};

    if (poll(&fd, 1, timeout_ms) != 1) {
        return 0;
    }
    source->ready(source->opaque, (uint32_t)fd.revents);
    return (uint32_t)fd.revents;
}
