/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio devices. A queue is saved as one number: how many chains were answered. What was taken and
 * not answered yet is taken again, and nothing is lost by it: a disk is given time to finish, and
 * the others answer in order and have done nothing yet with a chain that they hold (but for output
 * of a console, whose progress is saved).
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "snapshot.h"
#include "virtio/blk.h"
#include "virtio/hvc.h"
#include "virtio/net.h"
#include "virtio/pci_transport.h"

#define NO_VECTOR 0xffffu
#define DRAIN_MS 60000
#define MAC_BYTES 6u
#define BALLOON_CONFIG_BYTES 8u /* num_pages, actual */

/* saved_virtio.flags */
#define STARTED 1u
#define BROKEN 2u

struct saved_queue {
    uint64_t desc_gpa;
    uint64_t avail_gpa;
    uint64_t used_gpa;
    uint16_t size;
    uint16_t enabled;
    uint16_t vector;
    uint16_t answered; /* chains, modulo 2^16 */
};

struct saved_virtio {
    uint32_t id;
    uint32_t queue_count;
    uint64_t features_acked;
    uint64_t driver_features;
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
    uint8_t status;
    uint8_t generation;
    uint8_t isr;
    uint8_t flags; /* STARTED, BROKEN */
    uint32_t config_bytes;
    uint32_t reserved;
    uint64_t own[2]; /* of the kind of device */
    uint8_t config[VH_VIRTIO_CONFIG_BYTES];
    struct saved_queue queues[VH_VIRTIO_QUEUES];
};

/* ------------------------------------------------------------------ what is under way */

static bool blk_is_idle(struct vh_blk *blk)
{
    vh_virtio_lock(&blk->virtio);
    const struct vh_virtqueue *queue = &blk->virtio.queues[0];
    bool idle = blk->engine->under_way == 0 &&
                (!blk->virtio.started || queue->next_avail == queue->next_used);
    vh_virtio_unlock(&blk->virtio);
    return idle;
}

/* What the I/O thread would do. The guest does not run, so this ends. */
static int32_t drain_blk(struct vh_blk *blk, struct vmmhpc_error *err)
{
    uint64_t end = vh_now_ns() + DRAIN_MS * 1000000ull;
    while (!blk_is_idle(blk)) {
        struct pollfd p = {.fd = blk->source.fd, .events = POLLIN};
        (void)vh_poll(&p, 1, 100);
        blk->source.ready(blk->source.opaque, EPOLLIN);
        if (vh_now_ns() > end) {
            return vh_fail(err, VMMHPC_E_TIMEOUT, 0, blk->engine->under_way,
                           "a disk does not finish its requests");
        }
    }
    return VMMHPC_OK;
}

int32_t vh_snap_drain_virtio(struct vh_virtio_pci *pci, struct vmmhpc_error *err)
{
    struct vh_virtio *device = pci->device;
    if (device->kicked_elsewhere) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, device->id,
                       "virtio %s cannot be saved: the host's kernel has its state (vhost)",
                       device->name);
    }
    if (device->unsaved) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, device->id,
                       "virtio %s cannot be saved: it is read-only, and what the guest wrote to it "
                       "nevertheless is its own",
                       device->name);
    }
    return device->id == VH_VIRTIO_BLK ? drain_blk((struct vh_blk *)device, err) : VMMHPC_OK;
}

/* ------------------------------------------------------------------ saving */

static void save_own(struct vh_virtio *device, struct saved_virtio *saved)
{
    if (device->id == VH_VIRTIO_BLK) {
        const struct vh_blk *blk = (const struct vh_blk *)device;
        saved->own[0] = (blk->wce_written ? 1u : 0u) | (blk->wce ? 2u : 0u);
    } else if (device->id == VH_VIRTIO_CONSOLE) {
        const struct vh_hvc_end *out = &((const struct vh_hvc *)device)->out;
        saved->own[0] = out->busy ? out->done : out->resume_at;
    } else if (device->id == VH_VIRTIO_NET) {
        saved->own[0] = ((const struct vh_net *)device)->silent ? 1 : 0;
    }
}

int32_t vh_snap_save_virtio(struct vh_virtio_pci *pci, struct vh_snap_writer *writer,
                            struct vmmhpc_error *err)
{
    struct vh_virtio *device = pci->device;
    (void)err;
    vh_virtio_lock(device);
    struct saved_virtio saved = {
        .id = device->id,
        .queue_count = device->queue_count,
        .features_acked = device->features_acked,
        .driver_features = pci->driver_features,
        .device_feature_select = pci->device_feature_select,
        .driver_feature_select = pci->driver_feature_select,
        .queue_select = pci->queue_select,
        .config_vector = pci->config_vector,
        .status = pci->status,
        .generation = pci->generation,
        .isr = pci->isr,
        .flags = (uint8_t)((device->started ? STARTED : 0) | (device->broken ? BROKEN : 0)),
        .config_bytes = device->config_bytes,
    };
    memcpy(saved.config, device->config, sizeof(saved.config));
    for (uint32_t i = 0; i < device->queue_count; i++) {
        const struct vh_virtqueue *queue = &device->queues[i];
        saved.queues[i] = (struct saved_queue){
            .desc_gpa = queue->desc_gpa,
            .avail_gpa = queue->avail_gpa,
            .used_gpa = queue->used_gpa,
            .size = queue->size,
            .enabled = queue->enabled ? 1 : 0,
            .vector = pci->doorbells[i].vector,
            .answered = device->started ? queue->next_used : queue->base,
        };
    }
    save_own(device, &saved);
    vh_virtio_unlock(device);
    vh_snap_section(writer, VH_SNAP_VIRTIO, pci->pci.slot, &saved, sizeof(saved));
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ loading */

/* Its driver still has the first machine's address, and so would its frames. They go nowhere, and
 * the driver sees no link, until it is bound again and reads the address. */
static void silence(struct vh_net *net)
{
    if (net->link_up) {
        net->silent = true;
        net->link_up = false;
        net->virtio.config[VH_NET_CONFIG_STATUS] &= (uint8_t)~VIRTIO_NET_S_LINK_UP;
    }
}

/* Configuration is the new device's, but what the driver has written, or must not see change. */
static int32_t load_own(struct vh_virtio *device, const struct saved_virtio *saved, uint32_t slot,
                        uint32_t flags, struct vmmhpc_error *err)
{
    switch (device->id) {
    case VH_VIRTIO_BLK: {
        struct vh_blk *blk = (struct vh_blk *)device;
        uint64_t there = 0;
        uint64_t here = 0;
        memcpy(&there, saved->config + offsetof(struct virtio_blk_config, capacity), 8);
        memcpy(&here, device->config + offsetof(struct virtio_blk_config, capacity), 8);
        if (there != here) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, there,
                           "the snapshot is of another machine: the disk in slot %u has %llu "
                           "sectors there, %llu here",
                           slot, (unsigned long long)there, (unsigned long long)here);
        }
        blk->wce_written = (saved->own[0] & 1) != 0;
        blk->wce = (saved->own[0] & 2) != 0;
        break;
    }
    case VH_VIRTIO_NET: {
        /* The driver has another address than the device: as a clone, or when it was saved. */
        bool differs = (saved->own[0] & 1) != 0;
        if ((flags & VMMHPC_RESTORE_CLONE) == 0) {
            memcpy(device->config, saved->config, MAC_BYTES);
        } else {
            differs = differs || memcmp(device->config, saved->config, MAC_BYTES) != 0;
        }
        if (differs && (saved->flags & STARTED) != 0) {
            silence((struct vh_net *)device);
        }
        break;
    }
    case VH_VIRTIO_CONSOLE:
        ((struct vh_hvc *)device)->out.resume_at = saved->own[0];
        break;
    case VH_VIRTIO_BALLOON:
        memcpy(device->config, saved->config, BALLOON_CONFIG_BYTES);
        break;
    case VH_VIRTIO_PMEM:
        if (memcmp(device->config, saved->config, device->config_bytes) != 0) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, slot,
                           "the snapshot is of another machine: the pmem device in slot %u is "
                           "elsewhere",
                           slot);
        }
        break;
    default:
        break;
    }
    return VMMHPC_OK;
}

static int32_t check(const struct vh_virtio *device, const struct saved_virtio *saved,
                     uint32_t slot, struct vmmhpc_error *err)
{
    if (saved->id != device->id || saved->queue_count != device->queue_count ||
        saved->config_bytes != device->config_bytes) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, saved->id,
                       "the snapshot is of another machine: the device in slot %u is another one",
                       slot);
    }
    if (saved->features_acked != 0 &&
        !vmmhpc_snapshot_hooks()->virtio_may_ack(device, saved->features_acked)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, saved->features_acked,
                       "the snapshot is of another machine: virtio %s in slot %u lacks features "
                       "that its driver uses",
                       device->name, slot);
    }
    for (uint32_t i = 0; i < saved->queue_count; i++) {
        uint16_t size = saved->queues[i].size;
        if (size > device->queue_size[i] || (size & (size - 1)) != 0) {
            return vh_snap_damaged(err, VH_SNAP_VIRTIO, slot, "a queue has an impossible size");
        }
    }
    return VMMHPC_OK;
}

static uint16_t checked_vector(const struct vh_virtio_pci *pci, uint16_t vector)
{
    return vector < pci->pci.msix.count ? vector : NO_VECTOR;
}

static void load_registers(struct vh_virtio_pci *pci, const struct saved_virtio *saved)
{
    struct vh_virtio *device = pci->device;
    pci->driver_features = saved->driver_features;
    pci->device_feature_select = saved->device_feature_select;
    pci->driver_feature_select = saved->driver_feature_select;
    pci->queue_select = saved->queue_select;
    pci->config_vector = checked_vector(pci, saved->config_vector);
    pci->status = saved->status;
    pci->generation = saved->generation;
    pci->isr = saved->isr;
    device->features_acked = saved->features_acked;
    for (uint32_t i = 0; i < device->queue_count; i++) {
        struct vh_virtqueue *queue = &device->queues[i];
        const struct saved_queue *from = &saved->queues[i];
        queue->desc_gpa = from->desc_gpa;
        queue->avail_gpa = from->avail_gpa;
        queue->used_gpa = from->used_gpa;
        queue->size = from->size;
        queue->enabled = from->enabled != 0;
        queue->base = from->answered;
        pci->doorbells[i].vector = checked_vector(pci, from->vector);
    }
}

int32_t vh_snap_load_virtio(struct vh_virtio_pci *pci, const struct vh_snap_reader *reader,
                            uint32_t flags, struct vmmhpc_error *err)
{
    struct vh_virtio *device = pci->device;
    const uint32_t slot = pci->pci.slot;
    struct saved_virtio saved;
    int32_t status = vh_snap_get(reader, VH_SNAP_VIRTIO, slot, &saved, sizeof(saved), err);
    if (status == VMMHPC_OK && device->kicked_elsewhere) {
        status = vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, device->id,
                         "virtio %s cannot be restored: the host's kernel would have to have its "
                         "state (vhost)",
                         device->name);
    }
    if (status == VMMHPC_OK) {
        status = check(device, &saved, slot, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_virtio_lock(device);
    status = load_own(device, &saved, slot, flags, err);
    if (status == VMMHPC_OK) {
        load_registers(pci, &saved);
        device->broken = (saved.flags & BROKEN) != 0;
        if ((saved.flags & STARTED) != 0 && !device->broken) {
            status = vmmhpc_snapshot_hooks()->virtio_start(device, &pci->pci.vm->memory, err);
        }
    }
    vh_virtio_unlock(device);
    return status;
}

void vh_snap_wake_virtio(struct vh_virtio_pci *pci)
{
    struct vh_virtio *device = pci->device;
    vh_virtio_lock(device);
    for (uint32_t i = 0; device->started && i < device->queue_count; i++) {
        if (device->queues[i].enabled) {
            device->transport->interrupt(device->transport_self, i);
            (void)eventfd_write(pci->doorbells[i].source.fd, 1);
        }
    }
    if (device->id == VH_VIRTIO_NET && ((struct vh_net *)device)->silent) {
        device->transport->config_interrupt(device->transport_self);
    }
    vh_virtio_unlock(device);
}
