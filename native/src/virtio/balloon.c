/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon: memory that the guest does without goes back to the host (virtio 1.2, 5.5), by
 * inflating on request and by free-page reporting. A page that was given back reads as zero and
 * comes again when the guest touches it, so deflating needs nothing of the device.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"
#include "virtio/small.h"

enum { INFLATE = 0, DEFLATE = 1 };
/*
 * 5.5.2 numbers the reporting queue 4, behind two that exist only with features that are not
 * offered here. Linux numbers those that exist: there it is queue 2. As nothing else can be in 2, 3
 * or 4, all of them are taken for it.
 */
#define QUEUES 5u
#define QUEUE_SIZE 128u
#define REPORTING_QUEUE_SIZE 32u

#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING (1ull << 5)

/* 5.5.4: struct virtio_balloon_config, without what other features add */
#define CONFIG_NUM_PAGES 0u
#define CONFIG_ACTUAL 4u
#define CONFIG_BYTES 8u

#define PFN_SHIFT 12u
#define PFN_BATCH 256u
/* Linux sends 256 at once, FreeBSD 1024; an endless list would keep the I/O thread. */
#define PFN_MOST 16384u

struct balloon {
    struct vh_virtio virtio;
    uint64_t reported_bytes;
};

static struct balloon *of(struct vh_virtio *device)
{
    return (struct balloon *)device;
}

static uint32_t get32(const struct vh_virtio *device, uint32_t offset)
{
    uint32_t value = 0;
    memcpy(&value, device->config + offset, sizeof(value));
    return value;
}

static void put32(struct vh_virtio *device, uint32_t offset, uint32_t value)
{
    memcpy(device->config + offset, &value, sizeof(value));
}

/* Give [host, +bytes), whole pages within one slot, back. Where the host does not take them nothing
 * is lost but memory. */
static void drop(const struct vh_memory *memory, uint8_t *host, uint64_t bytes)
{
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];
        uint64_t offset = (uintptr_t)host - slot->host;
        if ((uintptr_t)host < slot->host || offset >= slot->bytes) {
            continue;
        }
        if (slot->fd < 0) {
            if (!memory->restored) {
                (void)madvise(host, bytes, MADV_DONTNEED);
            }
        } else {
            (void)fallocate(slot->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            (off_t)(slot->fd_offset + offset), (off_t)bytes);
        }
        return;
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* Neighbours go together: one system call for them, and huge pages stay whole. False: not RAM. */
static bool inflate(const struct vh_memory *memory, uint32_t *pfns, uint32_t count)
{
    uint8_t *from = NULL;
    uint64_t bytes = 0;
    qsort(pfns, count, sizeof(*pfns), compare);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *page = vh_memory_at(memory, (uint64_t)pfns[i] << PFN_SHIFT, VH_PAGE);
        if (page == NULL) {
            return false;
        }
        bool same_slot =
            bytes > 0 && page == from + bytes &&
            vh_memory_at(memory, ((uint64_t)pfns[i] << PFN_SHIFT) - bytes, bytes + VH_PAGE) == from;
        if (same_slot) {
            bytes += VH_PAGE;
            continue;
        }
        if (bytes > 0) {
            drop(memory, from, bytes);
        }
        from = page;
        bytes = VH_PAGE;
    }
    if (bytes > 0) {
        drop(memory, from, bytes);
    }
    return true;
}

/* 5.5.6: the chain holds page numbers. False: it holds what no driver would put there. */
static bool inflate_chain(const struct vh_memory *memory, const struct vh_chain *chain)
{
    uint32_t pfns[PFN_BATCH];
    if (chain->out_bytes > (uint64_t)PFN_MOST * sizeof(pfns[0])) {
        return false;
    }
    for (uint64_t at = 0; at < chain->out_bytes; at += sizeof(pfns)) {
        size_t bytes = vh_chain_read(chain, at, pfns, sizeof(pfns));
        if (!inflate(memory, pfns, (uint32_t)(bytes / sizeof(pfns[0])))) {
            return false;
        }
    }
    return true;
}

/* 5.5.6.7: the buffers themselves are the free pages. */
static uint64_t report_chain(const struct vh_memory *memory, const struct vh_chain *chain)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < chain->in_count; i++) {
        const struct iovec *iov = &chain->iov[chain->out_count + i];
        uint64_t before = -(uintptr_t)iov->iov_base & (VH_PAGE - 1); /* to the next whole page */
        if (iov->iov_len < before + VH_PAGE) {
            continue;
        }
        uint64_t bytes = vh_align_down(iov->iov_len - before, VH_PAGE);
        drop(memory, (uint8_t *)iov->iov_base + before, bytes);
        total += bytes;
    }
    return total;
}

static void kick(struct vh_virtio *device, uint32_t index)
{
    const struct vh_memory *memory = device->queues[index].memory;
    struct vh_chain chain;
    uint32_t chains = 0;
    while (vh_virtio_pop(device, index, &chain) > 0) {
        if (index == INFLATE && !inflate_chain(memory, &chain)) {
            vh_virtio_break(device);
            return;
        }
        if (index > DEFLATE && vh_virtio_has(device, 5)) {
            of(device)->reported_bytes += report_chain(memory, &chain);
        }
        vh_virtio_push(device, index, &chain, 0);
        if (++chains == VH_SMALL_CHAINS) {
            vh_small_again(device, index);
            break;
        }
    }
    vh_virtio_notify(device, index);
}

/* 5.5.4: of the driver's to write is `actual` only. */
static void config_write(struct vh_virtio *device, uint32_t offset, const uint8_t *data,
                         uint32_t bytes)
{
    if (offset >= CONFIG_ACTUAL && bytes <= CONFIG_BYTES && offset <= CONFIG_BYTES - bytes) {
        memcpy(device->config + offset, data, bytes);
    }
}

/* After a reset the guest has all of its memory; what it is asked for stands. */
static void stop(struct vh_virtio *device)
{
    put32(device, CONFIG_ACTUAL, 0);
}

static void destroy(struct vh_virtio *device)
{
    free(device);
}

static const struct vh_virtio_ops ops = {
    .stop = stop,
    .kick = kick,
    .config_write = config_write,
    .destroy = destroy,
};

int32_t vh_balloon_new(struct vh_virtio **device, struct vmmhpc_error *err)
{
    struct balloon *balloon = calloc(1, sizeof(*balloon));
    if (balloon == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*balloon), "no memory for a device");
    }
    struct vh_virtio *virtio = &balloon->virtio;
    virtio->ops = &ops;
    virtio->name = "balloon";
    virtio->id = VH_VIRTIO_BALLOON;
    virtio->queue_count = QUEUES;
    for (uint32_t i = 0; i < QUEUES; i++) {
        virtio->queue_size[i] = i > DEFLATE ? REPORTING_QUEUE_SIZE : QUEUE_SIZE;
    }
    virtio->features = F_DEFLATE_ON_OOM | F_REPORTING;
    virtio->config_bytes = CONFIG_BYTES;
    *device = virtio;
    return VMMHPC_OK;
}

void vh_balloon_set_target(struct vh_virtio *device, uint64_t bytes)
{
    vh_virtio_lock(device);
    put32(device, CONFIG_NUM_PAGES, (uint32_t)(bytes >> PFN_SHIFT));
    vh_virtio_config_changed(device);
    vh_virtio_unlock(device);
}

void vh_balloon_state(struct vh_virtio *device, struct vmmhpc_balloon_state *state)
{
    vh_virtio_lock(device);
    state->target_bytes = (uint64_t)get32(device, CONFIG_NUM_PAGES) << PFN_SHIFT;
    state->actual_bytes = (uint64_t)get32(device, CONFIG_ACTUAL) << PFN_SHIFT;
    state->reported_bytes = of(device)->reported_bytes;
    vh_virtio_unlock(device);
}

int32_t vmmhpc_add_balloon(struct vmmhpc *vm, uint32_t *id, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->add_plain(vm, VH_REMOTE_BALLOON, id, err);
    }
    struct vh_virtio *device = NULL;
    if (vh_virtio_find(vm, VH_VIRTIO_BALLOON) != NULL) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has a balloon already");
    }
    int32_t status = vh_balloon_new(&device, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vh_virtio_add(vm, device, id, err);
    if (status != VMMHPC_OK) {
        destroy(device);
    }
    return status;
}

int32_t vmmhpc_balloon_set(struct vmmhpc *vm, uint64_t bytes, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->balloon_set(vm, bytes, err);
    }
    struct vh_virtio *device = vh_virtio_find(vm, VH_VIRTIO_BALLOON);
    if (device == NULL) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has no balloon");
    }
    if (bytes > vm->memory.total || bytes >> PFN_SHIFT > UINT32_MAX) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, bytes,
                       "a balloon of %llu MiB is larger than the machine's memory",
                       (unsigned long long)(bytes >> 20));
    }
    vh_balloon_set_target(device, bytes);
    return VMMHPC_OK;
}

int32_t vmmhpc_balloon_get(struct vmmhpc *vm, struct vmmhpc_balloon_state *state,
                           struct vmmhpc_error *err)
{
    if (state->size != sizeof(*state)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, state->size, "balloon state: bad structure size");
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->balloon_get(vm, state, err);
    }
    struct vh_virtio *device = vh_virtio_find(vm, VH_VIRTIO_BALLOON);
    if (device == NULL) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has no balloon");
    }
    vh_balloon_state(device, state);
    return VMMHPC_OK;
}
