/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2, 5.2): one queue; a request is parsed once, from copies of what the driver
 * wrote, and its data moves between guest memory and the disk without a copy.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "virtio/blk_file.h"

/* Chains taken in one turn of the I/O thread: other devices want their turn too. */
#define TURN (2 * VH_BLK_QUEUE)
#define WCE_OFFSET offsetof(struct virtio_blk_config, wce)

/* 5.2.6: what the driver writes in front of the data. */
struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

struct range {
    uint64_t sector;
    uint32_t count;
    uint32_t flags;
};

_Static_assert(sizeof(struct header) == 16 && sizeof(struct range) == 16, "5.2.6");

static struct vh_blk *from(struct vh_virtio *device)
{
    return (struct vh_blk *)device;
}

/* ------------------------------------------------------------------ answers */

static void release(struct vh_blk *blk, struct vh_blk_slot *slot)
{
    slot->next_free = blk->free_slots;
    blk->free_slots = slot;
}

/* The status is the last byte that the device may write (5.2.6). `data` bytes were written from the
 * first one on; the driver is told of no more than that, as between them there may be a gap. */
static void answer(struct vh_blk *blk, struct vh_blk_slot *slot, uint8_t status, uint64_t data)
{
    uint64_t at = slot->chain.in_bytes - 1;
    (void)vh_chain_write(&slot->chain, at, &status, 1);
    vh_virtio_push(&blk->virtio, 0, &slot->chain, (uint32_t)(data + (data == at ? 1 : 0)));
    release(blk, slot);
}

static void done(struct vh_blk_request *request, int failed)
{
    struct vh_blk_slot *slot = (struct vh_blk_slot *)request;
    struct vh_blk *blk = slot->blk;
    if (blk->stopping) {
        release(blk, slot); /* the driver has forgotten it */
        return;
    }
    uint8_t status = VIRTIO_BLK_S_OK;
    if (failed != 0) {
        status = failed == EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
    }
    bool filled = failed == 0 && request->op == VH_BLK_READ;
    answer(blk, slot, status, filled ? slot->chain.in_bytes - 1 : 0);
}

/* ------------------------------------------------------------------ requests */

/* 5.2.6.2: with a write-back cache a write is stable after a flush; else when it is completed. */
static bool writes_back(const struct vh_blk *blk)
{
    bool flushes = vh_virtio_has(&blk->virtio, VIRTIO_BLK_F_FLUSH);
    return vh_virtio_has(&blk->virtio, VIRTIO_BLK_F_CONFIG_WCE) && blk->wce_written ? blk->wce
                                                                                    : flushes;
}

static void begin(struct vh_blk *blk, struct vh_blk_slot *slot, enum vh_blk_op op)
{
    slot->request.op = op;
    slot->request.stable = op != VH_BLK_READ && op != VH_BLK_FLUSH && !writes_back(blk);
    blk->engine->ops->submit(blk->engine, &slot->request);
}

/* In sectors, where nothing wraps; the capacity times 512 fits. */
static bool in_range(const struct vh_blk *blk, uint64_t sector, uint64_t count)
{
    uint64_t capacity = blk->store->bytes / VH_BLK_SECTOR;
    return sector <= capacity && count <= capacity - sector;
}

static void transfer(struct vh_blk *blk, struct vh_blk_slot *slot, uint64_t sector, bool write)
{
    const struct vh_chain *chain = &slot->chain;
    struct vh_blk_request *request = &slot->request;
    uint64_t bytes = write ? chain->out_bytes - sizeof(struct header) : chain->in_bytes - 1;
    int pieces = vh_chain_slice(chain, !write, write ? sizeof(struct header) : 0, bytes, slot->iov,
                                VH_CHAIN_IOV);
    if (pieces < 0 || bytes % VH_BLK_SECTOR != 0 || !in_range(blk, sector, bytes / VH_BLK_SECTOR) ||
        (write && blk->store->read_only)) {
        answer(blk, slot, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    if (bytes == 0) {
        answer(blk, slot, VIRTIO_BLK_S_OK, 0);
        return;
    }
    request->offset = sector * VH_BLK_SECTOR;
    request->bytes = bytes;
    request->buffers = (struct vh_blk_buffers){slot->iov, (uint32_t)pieces};
    begin(blk, slot, write ? VH_BLK_WRITE : VH_BLK_READ);
}

/* DISCARD and WRITE_ZEROES, of one segment. */
static void clear(struct vh_blk *blk, struct vh_blk_slot *slot, bool discard)
{
    struct range range = {0};
    uint32_t feature = discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    bool whole =
        slot->chain.out_bytes == sizeof(struct header) + sizeof(range) &&
        vh_chain_read(&slot->chain, sizeof(struct header), &range, sizeof(range)) == sizeof(range);
    uint8_t status = VIRTIO_BLK_S_OK;
    if (!blk->store->read_only &&
        (!vh_virtio_has(&blk->virtio, feature) || (range.flags & ~known) != 0)) {
        status = VIRTIO_BLK_S_UNSUPP; /* 5.2.6.2 */
    } else if (blk->store->read_only || !whole || range.count > VH_BLK_RANGE_SECTORS ||
               !in_range(blk, range.sector, range.count)) {
        status = VIRTIO_BLK_S_IOERR;
    }
    if (status != VIRTIO_BLK_S_OK || range.count == 0) {
        answer(blk, slot, status, 0);
        return;
    }
    slot->request.offset = range.sector * VH_BLK_SECTOR;
    slot->request.bytes = (uint64_t)range.count * VH_BLK_SECTOR;
    slot->request.unmap = (range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
    begin(blk, slot, discard ? VH_BLK_DISCARD : VH_BLK_ZERO);
}

static void identify(struct vh_blk *blk, struct vh_blk_slot *slot)
{
    uint64_t room = slot->chain.in_bytes - 1;
    uint64_t bytes = room < sizeof(blk->serial) ? room : sizeof(blk->serial);
    (void)vh_chain_write(&slot->chain, 0, blk->serial, bytes);
    answer(blk, slot, VIRTIO_BLK_S_OK, bytes);
}

static void dispatch(struct vh_blk *blk, struct vh_blk_slot *slot)
{
    struct header header;
    if (slot->chain.in_bytes == 0) { /* nowhere to put an answer */
        release(blk, slot);
        vh_virtio_break(&blk->virtio);
        return;
    }
    if (vh_chain_read(&slot->chain, 0, &header, sizeof(header)) != sizeof(header)) {
        answer(blk, slot, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        transfer(blk, slot, header.sector, header.type == VIRTIO_BLK_T_OUT);
        break;
    case VIRTIO_BLK_T_FLUSH:
        begin(blk, slot, VH_BLK_FLUSH);
        break;
    case VIRTIO_BLK_T_GET_ID:
        identify(blk, slot);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        clear(blk, slot, header.type == VIRTIO_BLK_T_DISCARD);
        break;
    default:
        answer(blk, slot, VIRTIO_BLK_S_UNSUPP, 0);
        break;
    }
}

/* ------------------------------------------------------------------ the I/O thread */

/* Take chains while there are free slots: what is left waits in the ring until one is done. */
static bool take(struct vh_blk *blk, uint32_t *budget)
{
    while (blk->free_slots != NULL && *budget > 0) {
        struct vh_blk_slot *slot = blk->free_slots;
        if (vh_virtio_pop(&blk->virtio, 0, &slot->chain) <= 0) {
            return false;
        }
        blk->free_slots = slot->next_free;
        (*budget)--;
        dispatch(blk, slot);
    }
    return true;
}

/* The device's lock is held. */
static void work(struct vh_blk *blk)
{
    uint32_t budget = TURN;
    bool more = false;
    do {
        more = take(blk, &budget);
        blk->engine->ops->run(blk->engine); /* may already complete some, and free their slots */
    } while (more && budget > 0 && blk->free_slots != NULL);
    if (more && budget == 0) {
        (void)eventfd_write(blk->source.fd, 1); /* come back */
    } else if (blk->engine->under_way == 0) {
        eventfd_t count = 0;
        (void)eventfd_read(blk->source.fd, &count); /* all is reaped: no need to wake up for it */
    }
    vh_virtio_notify(&blk->virtio, 0);
}

static void kick(struct vh_virtio *device, uint32_t index)
{
    (void)index;
    work(from(device));
}

void vh_blk_ready(void *opaque, uint32_t events)
{
    struct vh_blk *blk = opaque;
    eventfd_t count = 0;
    (void)events;
    vh_virtio_lock(&blk->virtio);
    (void)eventfd_read(blk->source.fd, &count);
    blk->engine->ops->reap(blk->engine);
    work(blk);
    vh_virtio_unlock(&blk->virtio);
}

/* ------------------------------------------------------------------ configuration */

static void stop(struct vh_virtio *device)
{
    struct vh_blk *blk = from(device);
    blk->stopping = true;
    blk->engine->ops->drain(blk->engine);
    blk->stopping = false;
    blk->wce_written = false;
}

/* 5.2.5.2: it starts as the features say, which are known only now. */
static void config_read(struct vh_virtio *device, uint32_t offset, uint32_t bytes)
{
    (void)offset;
    (void)bytes;
    device->config[WCE_OFFSET] = writes_back(from(device)) ? 1 : 0;
}

static void config_write(struct vh_virtio *device, uint32_t offset, const uint8_t *data,
                         uint32_t bytes)
{
    struct vh_blk *blk = from(device);
    if (offset == WCE_OFFSET && bytes == 1 && vh_virtio_has(device, VIRTIO_BLK_F_CONFIG_WCE)) {
        blk->wce = (data[0] & 1) != 0;
        blk->wce_written = true;
    }
}

static void destroy(struct vh_virtio *device)
{
    struct vh_blk *blk = from(device);
    if (blk->watched_by != NULL) {
        vh_io_remove(blk->watched_by, &blk->source);
    }
    if (blk->engine != NULL) {
        blk->stopping = true;
        blk->engine->ops->drain(blk->engine);
        blk->engine->ops->close(blk->engine);
    }
    if (blk->store != NULL) {
        blk->store->ops->close(blk->store);
    }
    free(blk->slots);
    free(blk);
}

const struct vh_virtio_ops vh_blk_ops = {.stop = stop,
                                         .kick = kick,
                                         .config_read = config_read,
                                         .config_write = config_write,
                                         .destroy = destroy};

int32_t vh_blk_make_slots(struct vh_blk *blk, struct vmmhpc_error *err)
{
    blk->slots = calloc(VH_BLK_REQUESTS, sizeof(*blk->slots));
    if (blk->slots == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a disk");
    }
    for (uint32_t i = VH_BLK_REQUESTS; i > 0; i--) {
        blk->slots[i - 1].blk = blk;
        blk->slots[i - 1].request.done = done;
        release(blk, &blk->slots[i - 1]);
    }
    return VMMHPC_OK;
}

struct vh_io_source *vh_blk_source(struct vh_virtio *device)
{
    return &from(device)->source;
}
