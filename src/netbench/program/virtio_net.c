/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_net.h"

#include <errno.h>
#include <stddef.h>

#define LOAD(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define STORE(to, value) __atomic_store_n(to, value, __ATOMIC_RELEASE)

/* Where V3M has bus 0's configuration space, and where payloads put this function's registers. */
#define ECAM UINT64_C(0xe0000000)
#define BAR UINT64_C(0xc1000000)

enum {
    FUNCTION_BYTES = 0x8000, /* from one device's function 0 to the next one's */
    DEVICES = 32,
    VENDOR_DEVICE = 0x10411af4, /* 4.1.2: 0x1040 and the device's type, 1 */
    CONFIG_COMMAND = 0x04,
    CONFIG_BAR = 0x10,
    CONFIG_CAPABILITIES = 0x34,
    COMMAND_MEMORY_MASTER = 6,
    CAPABILITY_VENDOR = 9,
    CAP_COMMON = 1, /* 4.1.4 */
    CAP_NOTIFY = 2,
    CAP_DEVICE = 4,
    STATUS_ACKNOWLEDGE = 1, /* 2.1 */
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    VERSION_1 = 1, /* feature 32: bit 0 of the second word */
    NO_VECTOR = 0xffff,
    DESC_WRITE = 2,
    AVAIL_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
    HEADER = 12, /* 5.1.6: struct virtio_net_hdr, with num_buffers */
    PAGE = 4096,
};

/* 4.1.4.3 */
struct virtio_common {
    uint32_t device_feature_select, device_feature;
    uint32_t driver_feature_select, driver_feature;
    uint16_t config_vector, num_queues;
    uint8_t device_status, config_generation;
    uint16_t queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
    uint32_t queue_desc[2], queue_driver[2], queue_device[2];
};

struct virtio_desc {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};

struct virtio_avail {
    uint16_t flags, index;
    uint16_t ring[VIRTIO_NET_SLOTS];
};

struct virtio_used {
    uint16_t flags, index;
    struct {
        uint32_t id, bytes;
    } ring[VIRTIO_NET_SLOTS];
};

/* What the capabilities point at. */
struct registers {
    volatile struct virtio_common *common;
    volatile uint8_t *doorbells;
    uint32_t stride;
    const volatile uint8_t *device;
};

static uint64_t config_find(void)
{
    for (uint64_t i = 0; i < DEVICES; i++) {
        const uint64_t at = ECAM + i * FUNCTION_BYTES;
        if (*(const volatile uint32_t *)at == VENDOR_DEVICE) {
            return at;
        }
    }
    return 0;
}

static uint8_t config_byte(uint64_t config, uint32_t offset)
{
    return *(const volatile uint8_t *)(config + offset);
}

static uint32_t config_word(uint64_t config, uint32_t offset)
{
    return *(const volatile uint32_t *)(config + offset);
}

/* All of V3M's registers are in BAR 0. */
static void registers_find(uint64_t config, struct registers *found)
{
    for (uint32_t at = config_byte(config, CONFIG_CAPABILITIES); at != 0;
         at = config_byte(config, at + 1)) {
        if (config_byte(config, at) != CAPABILITY_VENDOR || config_byte(config, at + 4) != 0) {
            continue;
        }
        const uint64_t address = BAR + config_word(config, at + 8);
        switch (config_byte(config, at + 3)) {
        case CAP_COMMON:
            found->common = (volatile struct virtio_common *)address;
            break;
        case CAP_NOTIFY:
            found->doorbells = (volatile uint8_t *)address;
            found->stride = config_word(config, at + 16);
            break;
        case CAP_DEVICE:
            found->device = (const volatile uint8_t *)address;
            break;
        default:
            break;
        }
    }
}

static void set_address(volatile uint32_t *at, const volatile void *memory)
{
    at[0] = (uint32_t)(uint64_t)memory;
    at[1] = (uint32_t)((uint64_t)memory >> 32);
}

/* Takes its memory from `*memory` on. */
static int64_t queue_open(struct virtio_net_queue *q, const struct registers *r, uint16_t index,
                          uint8_t **memory)
{
    r->common->queue_select = index;
    const uint16_t offered = r->common->queue_size;
    if (offered == 0 || (offered & (offered - 1)) != 0) {
        return -EIO;
    }
    q->index = index;
    q->slots = offered < VIRTIO_NET_SLOTS ? offered : VIRTIO_NET_SLOTS;
    q->offered = q->taken = 0;
    uint8_t *at = *memory;
    q->desc = (volatile struct virtio_desc *)at;
    at += PAGE;
    q->avail = (volatile struct virtio_avail *)at;
    at += PAGE;
    q->used = (volatile struct virtio_used *)at;
    at += PAGE;
    q->buffers = at;
    *memory = at + (size_t)VIRTIO_NET_SLOTS * VIRTIO_NET_BUFFER;
    q->avail->flags = AVAIL_NO_INTERRUPT;
    r->common->queue_size = q->slots;
    r->common->queue_vector = NO_VECTOR;
    set_address(r->common->queue_desc, q->desc);
    set_address(r->common->queue_driver, q->avail);
    set_address(r->common->queue_device, q->used);
    q->doorbell =
        (volatile uint16_t *)(r->doorbells + (uint64_t)r->common->queue_notify_off * r->stride);
    r->common->queue_enable = 1;
    return 0;
}

/* Give the device the next buffer, of so many bytes. */
static void offer(struct virtio_net_queue *q, uint32_t bytes, uint16_t flags)
{
    const uint16_t slot = q->offered % q->slots;
    q->desc[slot].address = (uint64_t)(q->buffers + (uint64_t)slot * VIRTIO_NET_BUFFER);
    q->desc[slot].bytes = bytes;
    q->desc[slot].flags = flags;
    q->avail->ring[slot] = slot;
    q->offered++;
    STORE(&q->avail->index, q->offered);
}

static void ring(const struct virtio_net_queue *q)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((LOAD(&q->used->flags) & USED_NO_NOTIFY) == 0) {
        *q->doorbell = q->index;
    }
}

int64_t virtio_net_open(struct virtio_net *net, uint8_t *memory)
{
    const uint64_t config = config_find();
    if (config == 0) {
        return -ENODEV;
    }
    *(volatile uint32_t *)(config + CONFIG_BAR) = (uint32_t)BAR;
    *(volatile uint32_t *)(config + CONFIG_BAR + 4) = 0;
    *(volatile uint16_t *)(config + CONFIG_COMMAND) = COMMAND_MEMORY_MASTER;
    struct registers r = {0};
    registers_find(config, &r);
    if (r.common == 0 || r.doorbells == 0 || r.device == 0) {
        return -EIO;
    }
    r.common->device_status = 0;
    r.common->device_status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    r.common->driver_feature_select = 0;
    r.common->driver_feature = 0;
    r.common->driver_feature_select = 1;
    r.common->driver_feature = VERSION_1;
    r.common->device_status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    if ((r.common->device_status & STATUS_FEATURES_OK) == 0) {
        return -EIO;
    }
    int64_t rc = queue_open(&net->receive, &r, 0, &memory);
    rc = rc == 0 ? queue_open(&net->send, &r, 1, &memory) : rc;
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < VIRTIO_NET_MAC; i++) {
        net->mac[i] = r.device[i];
    }
    r.common->device_status =
        STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
    while (net->receive.offered < net->receive.slots) {
        offer(&net->receive, VIRTIO_NET_BUFFER, DESC_WRITE);
    }
    ring(&net->receive);
    return 0;
}

uint8_t *virtio_net_room(struct virtio_net *net)
{
    struct virtio_net_queue *q = &net->send;
    /* Buffers come back in any order, but are used again in ours: the oldest one is free when as
     * many came back. With one frame after the other to one device they come in order. */
    q->taken = LOAD(&q->used->index);
    if ((uint16_t)(q->offered - q->taken) == q->slots) {
        return 0;
    }
    return q->buffers + (uint64_t)(q->offered % q->slots) * VIRTIO_NET_BUFFER + HEADER;
}

void virtio_net_send(struct virtio_net *net, uint32_t bytes)
{
    struct virtio_net_queue *q = &net->send;
    uint8_t *header = q->buffers + (uint64_t)(q->offered % q->slots) * VIRTIO_NET_BUFFER;
    for (uint32_t i = 0; i < HEADER; i++) {
        header[i] = 0;
    }
    offer(q, HEADER + bytes, 0);
    ring(q);
}

int virtio_net_sent(struct virtio_net *net)
{
    return LOAD(&net->send.used->index) == net->send.offered;
}

const uint8_t *virtio_net_frame(struct virtio_net *net, uint32_t n, uint32_t *bytes)
{
    const struct virtio_net_queue *q = &net->receive;
    if (n >= (uint16_t)(LOAD(&q->used->index) - q->taken)) {
        return 0;
    }
    const uint32_t at = (q->taken + n) % q->slots;
    const uint32_t slot = q->used->ring[at].id % q->slots;
    const uint32_t written = q->used->ring[at].bytes;
    *bytes = written < HEADER                      ? 0
             : written > HEADER + VIRTIO_NET_FRAME ? VIRTIO_NET_FRAME
                                                   : written - HEADER;
    return q->buffers + (uint64_t)slot * VIRTIO_NET_BUFFER + HEADER;
}

void virtio_net_done(struct virtio_net *net)
{
    struct virtio_net_queue *q = &net->receive;
    const uint16_t slot = (uint16_t)(q->used->ring[q->taken % q->slots].id % q->slots);
    q->taken++;
    q->avail->ring[q->offered % q->slots] = slot;
    q->offered++;
    STORE(&q->avail->index, q->offered);
    ring(q);
}
