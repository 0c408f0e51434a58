/* SPDX-License-Identifier: Apache-2.0 */
/* What all virtio devices share: features, start and reset, and the way to their queues. */
#include "virtio/virtio.h"

#include <string.h>

#define F_INDIRECT_DESC (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_VERSION_1 (1ull << 32)
#define F_COMMON (F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1)

int32_t vh_virtio_init(struct vh_virtio *device, struct vmmhpc_error *err)
{
    int failed = pthread_mutex_init(&device->lock, NULL);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, 0, "no lock for a virtio device");
    }
    for (uint32_t i = 0; i < VH_VIRTIO_QUEUES; i++) {
        device->queues[i].kick_fd = -1;
        vh_queue_reset(&device->queues[i]);
    }
    device->features_acked = 0;
    device->started = false;
    device->broken = false;
    return VMMHPC_OK;
}

uint64_t vh_virtio_offered(const struct vh_virtio *device)
{
    return device->features | F_COMMON;
}

/* 2.2: only what was offered; and this is no transitional device (6.1). */
bool vh_virtio_may_ack(const struct vh_virtio *device, uint64_t features)
{
    return (features & ~vh_virtio_offered(device)) == 0 && (features & F_VERSION_1) != 0;
}

int32_t vh_virtio_start(struct vh_virtio *device, struct vh_memory *memory,
                        struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    if (device->started || device->broken) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "virtio %s is started already", device->name);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < device->queue_count; i++) {
        struct vh_virtqueue *queue = &device->queues[i];
        queue->event_idx = (device->features_acked & F_EVENT_IDX) != 0;
        if (queue->enabled) {
            status = vh_queue_start(queue, memory, err);
        }
    }
    if (status == VMMHPC_OK) {
        device->started = true;
        status = device->ops->start == NULL ? VMMHPC_OK : device->ops->start(device, err);
    }
    if (status != VMMHPC_OK) {
        device->started = false;
        vh_virtio_break(device);
    }
    return status;
}

void vh_virtio_reset(struct vh_virtio *device)
{
    device->ops->stop(device);
    device->started = false;
    device->broken = false;
    device->features_acked = 0;
    for (uint32_t i = 0; i < device->queue_count; i++) {
        vh_queue_reset(&device->queues[i]);
    }
}

void vh_virtio_kicked(struct vh_virtio *device, uint32_t queue)
{
    vh_virtio_lock(device);
    if (device->started && !device->broken && device->queues[queue].enabled) {
        device->ops->kick(device, queue);
    }
    vh_virtio_unlock(device);
}

int vh_virtio_pop(struct vh_virtio *device, uint32_t queue, struct vh_chain *chain)
{
    if (!device->started || device->broken || !device->queues[queue].enabled) {
        return 0;
    }
    int found = vh_queue_pop(&device->queues[queue], chain);
    if (found < 0) {
        vh_virtio_break(device);
    }
    return found;
}

void vh_virtio_push(struct vh_virtio *device, uint32_t queue, const struct vh_chain *chain,
                    uint32_t written)
{
    if (device->started && device->queues[queue].enabled) {
        vh_queue_push(&device->queues[queue], chain->head, written);
    }
}

void vh_virtio_notify(struct vh_virtio *device, uint32_t queue)
{
    if (device->started && device->queues[queue].enabled &&
        vh_queue_wants_interrupt(&device->queues[queue])) {
        device->transport->interrupt(device->transport_self, queue);
    }
}

void vh_virtio_config_changed(struct vh_virtio *device)
{
    if (device->transport != NULL) {
        device->transport->config_interrupt(device->transport_self);
    }
}

void vh_virtio_break(struct vh_virtio *device)
{
    if (!device->broken) {
        device->broken = true;
        vh_virtio_config_changed(device);
    }
}

int vh_virtio_call_fd(struct vh_virtio *device, uint32_t queue)
{
    return device->transport->call_fd(device->transport_self, queue);
}
