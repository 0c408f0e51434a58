/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over PCI (virtio 1.2, 4.1), modern only. BAR 0 holds the common configuration, the
 * interrupt status, the device's configuration and the doorbells, a page each; BAR 2 is MSI-X's. A
 * doorbell is an ioeventfd while the device runs, so that a kick does not reach user space in the
 * vCPU's thread.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvm_irq.h"
#include "machine.h"
#include "pci/pci.h"
#include "virtio/pci_transport.h"

#define DEVICE_BASE 0x1040u /* 4.1.2: and the device's id */
#define REVISION 1u
#define NO_VECTOR 0xffffu
#define CAPABILITY_VENDOR 0x09u

enum { BAR_REGISTERS = 0, BAR_MSIX = 1 }; /* of bars[]: registers 0x10 and 0x18, "BAR 2" */

/* Pages of BAR 0. */
enum {
    PAGE_COMMON = 0x0000,
    PAGE_ISR = 0x1000,
    PAGE_DEVICE = 0x2000,
    PAGE_NOTIFY = 0x3000,
    PAGE_BYTES = 0x1000,
    BAR_BYTES = 0x4000,
    NOTIFY_STRIDE = 4,
};

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };

enum { STATUS_FEATURES_OK = 8, STATUS_DRIVER_OK = 4, STATUS_NEEDS_RESET = 64 };
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

/* 4.1.4.3, as the driver sees it. */
struct common {
    uint32_t device_feature_select;
    uint32_t device_feature;
    uint32_t driver_feature_select;
    uint32_t driver_feature;
    uint16_t config_vector;
    uint16_t num_queues;
    uint8_t device_status;
    uint8_t config_generation;
    uint16_t queue_select;
    uint16_t queue_size;
    uint16_t queue_vector;
    uint16_t queue_enable;
    uint16_t queue_notify_off;
    uint32_t queue_desc[2];
    uint32_t queue_driver[2];
    uint32_t queue_device[2];
    uint16_t queue_notify_data;
    uint16_t queue_reset;
};

static struct vh_virtio_pci *of(struct vh_pci_device *pci)
{
    return (struct vh_virtio_pci *)pci;
}

/* ------------------------------------------------------------------ interrupts */

static void interrupt(struct vh_virtio_pci *t, uint16_t vector, uint8_t reason)
{
    if (!vh_pci_msix_signal(&t->pci, vector)) {
        t->isr |= reason;
        uint16_t command = 0;
        memcpy(&command, t->pci.config + VH_PCI_COMMAND, sizeof(command));
        if ((command & VH_PCI_COMMAND_INTX_OFF) == 0) {
            vh_intx_set(&t->pci, true);
        }
    }
}

static void queue_interrupt(void *self, uint32_t queue)
{
    struct vh_virtio_pci *t = self;
    interrupt(t, t->doorbells[queue].vector, ISR_QUEUE);
}

static void config_interrupt(void *self)
{
    struct vh_virtio_pci *t = self;
    if (t->device->broken) {
        t->status |= STATUS_NEEDS_RESET;
    }
    t->generation++;
    if ((t->status & STATUS_DRIVER_OK) != 0) {
        interrupt(t, t->config_vector, ISR_CONFIG);
    }
}

static int call_fd(void *self, uint32_t queue)
{
    struct vh_virtio_pci *t = self;
    return vh_msix_fd(&t->pci, t->doorbells[queue].vector);
}

static const struct vh_virtio_transport transport = {
    .interrupt = queue_interrupt,
    .config_interrupt = config_interrupt,
    .call_fd = call_fd,
};

/* ------------------------------------------------------------------ doorbells */

static void bind_doorbells(struct vh_virtio_pci *t, bool on)
{
    for (uint32_t i = 0; i < t->device->queue_count; i++) {
        struct vh_doorbell *doorbell = &t->doorbells[i];
        uint64_t gpa = t->notify_gpa + (uint64_t)NOTIFY_STRIDE * i;
        bool want = on && t->notify_gpa != VH_PCI_NOWHERE && t->device->queues[i].enabled;
        if (want && !doorbell->bound) {
            /* Where KVM refuses, writes come to bar_access() and do the same, more slowly. */
            doorbell->bound =
                vh_ioeventfd_bind(t->pci.vm, doorbell->source.fd, gpa, NULL) == VMMHPC_OK;
        } else if (!want && doorbell->bound) {
            vh_ioeventfd_unbind(t->pci.vm, doorbell->source.fd, gpa);
            doorbell->bound = false;
        }
    }
}

static void rung(void *opaque, uint32_t events)
{
    struct vh_doorbell *doorbell = opaque;
    eventfd_t count = 0;
    (void)events;
    if (eventfd_read(doorbell->source.fd, &count) == 0) {
        vh_virtio_kicked(doorbell->pci->device, (uint32_t)(doorbell - doorbell->pci->doorbells));
    }
}

static void bar_moved(struct vh_pci_device *pci, uint32_t bar, uint64_t gpa)
{
    struct vh_virtio_pci *t = of(pci);
    if (bar != BAR_REGISTERS) {
        return;
    }
    vh_virtio_lock(t->device);
    bind_doorbells(t, false);
    t->notify_gpa = gpa == VH_PCI_NOWHERE ? gpa : gpa + PAGE_NOTIFY;
    bind_doorbells(t, t->device->started);
    vh_virtio_unlock(t->device);
}

/* ------------------------------------------------------------------ common configuration */

static void reset_registers(struct vh_virtio_pci *t)
{
    bind_doorbells(t, false);
    vh_virtio_reset(t->device);
    t->driver_features = 0;
    t->device_feature_select = 0;
    t->driver_feature_select = 0;
    t->queue_select = 0;
    t->config_vector = NO_VECTOR;
    t->status = 0;
    t->isr = 0;
    vh_intx_set(&t->pci, false);
    for (uint32_t i = 0; i < t->device->queue_count; i++) {
        eventfd_t count = 0;
        t->doorbells[i].vector = NO_VECTOR;
        (void)eventfd_read(t->doorbells[i].source.fd, &count);
    }
}

static uint32_t half(uint64_t value, uint32_t select)
{
    return select > 1 ? 0 : (uint32_t)(value >> (32 * select));
}

static struct common read_common(struct vh_virtio_pci *t)
{
    struct vh_virtio *device = t->device;
    struct common c = {
        .device_feature_select = t->device_feature_select,
        .device_feature = half(vh_virtio_offered(device), t->device_feature_select),
        .driver_feature_select = t->driver_feature_select,
        .driver_feature = half(t->driver_features, t->driver_feature_select),
        .config_vector = t->config_vector,
        .num_queues = (uint16_t)device->queue_count,
        .device_status = t->status,
        .config_generation = t->generation,
        .queue_select = t->queue_select,
    };
    if (t->queue_select < device->queue_count) {
        const struct vh_virtqueue *queue = &device->queues[t->queue_select];
        c.queue_size = queue->size != 0 ? queue->size : device->queue_size[t->queue_select];
        c.queue_vector = t->doorbells[t->queue_select].vector;
        c.queue_enable = queue->enabled;
        c.queue_notify_off = t->queue_select;
        memcpy(c.queue_desc, &queue->desc_gpa, 8);
        memcpy(c.queue_driver, &queue->avail_gpa, 8);
        memcpy(c.queue_device, &queue->used_gpa, 8);
    }
    return c;
}

static void write_status(struct vh_virtio_pci *t, uint8_t value)
{
    struct vh_virtio *device = t->device;
    if (value == 0) {
        reset_registers(t);
        return;
    }
    uint8_t raised = value & (uint8_t)~t->status;
    if ((raised & STATUS_FEATURES_OK) != 0) {
        if (vh_virtio_may_ack(device, t->driver_features)) {
            device->features_acked = t->driver_features;
        } else {
            value &= (uint8_t)~STATUS_FEATURES_OK; /* the driver reads it back: 3.1.1 */
        }
    }
    /* Only a reset takes back what was said. */
    t->status |= value;
    if ((raised & STATUS_DRIVER_OK) != 0 && (t->status & STATUS_FEATURES_OK) != 0) {
        if (vh_virtio_start(device, &t->pci.vm->memory, NULL) == VMMHPC_OK) {
            bind_doorbells(t, true);
            /* A driver may have kicked before. */
            for (uint32_t i = 0; i < device->queue_count && !device->kicked_elsewhere; i++) {
                (void)eventfd_write(t->doorbells[i].source.fd, 1);
            }
        }
    }
}

static uint16_t checked_vector(const struct vh_virtio_pci *t, uint16_t vector)
{
    return vector < t->pci.msix.count ? vector : NO_VECTOR;
}

static void put_half(uint64_t *target, uint32_t which, uint32_t value)
{
    *target = which == 0 ? (*target & ~(uint64_t)UINT32_MAX) | value
                         : (*target & UINT32_MAX) | (uint64_t)value << 32;
}

static void write_queue(struct vh_virtio_pci *t, uint32_t offset, uint32_t value)
{
    struct vh_virtio *device = t->device;
    if (t->queue_select >= device->queue_count) {
        return;
    }
    struct vh_virtqueue *queue = &device->queues[t->queue_select];
    uint16_t most = device->queue_size[t->queue_select];
    if (offset == offsetof(struct common, queue_vector)) {
        t->doorbells[t->queue_select].vector = checked_vector(t, (uint16_t)value);
        return;
    }
    if (queue->enabled || device->started) {
        return; /* 4.1.4.3.2: not after it was enabled */
    }
    switch (offset) {
    case offsetof(struct common, queue_size):
        if (value != 0 && value <= most && (value & (value - 1)) == 0) {
            queue->size = (uint16_t)value;
        }
        break;
    case offsetof(struct common, queue_enable):
        queue->size = queue->size != 0 ? queue->size : most;
        queue->enabled = value == 1;
        break;
    case offsetof(struct common, queue_desc):
    case offsetof(struct common, queue_desc) + 4:
        put_half(&queue->desc_gpa, offset != offsetof(struct common, queue_desc), value);
        break;
    case offsetof(struct common, queue_driver):
    case offsetof(struct common, queue_driver) + 4:
        put_half(&queue->avail_gpa, offset != offsetof(struct common, queue_driver), value);
        break;
    case offsetof(struct common, queue_device):
    case offsetof(struct common, queue_device) + 4:
        put_half(&queue->used_gpa, offset != offsetof(struct common, queue_device), value);
        break;
    default:
        break;
    }
}

/* One register, of the width that 4.1.3.1 has for it; anything else is ignored. */
static void write_common(struct vh_virtio_pci *t, uint32_t offset, uint32_t bytes, uint32_t value)
{
    static const uint8_t widths[sizeof(struct common)] = {
        [offsetof(struct common, device_feature_select)] = 4,
        [offsetof(struct common, driver_feature_select)] = 4,
        [offsetof(struct common, driver_feature)] = 4,
        [offsetof(struct common, config_vector)] = 2,
        [offsetof(struct common, device_status)] = 1,
        [offsetof(struct common, queue_select)] = 2,
        [offsetof(struct common, queue_size)] = 2,
        [offsetof(struct common, queue_vector)] = 2,
        [offsetof(struct common, queue_enable)] = 2,
        [offsetof(struct common, queue_desc)] = 4,
        [offsetof(struct common, queue_desc) + 4] = 4,
        [offsetof(struct common, queue_driver)] = 4,
        [offsetof(struct common, queue_driver) + 4] = 4,
        [offsetof(struct common, queue_device)] = 4,
        [offsetof(struct common, queue_device) + 4] = 4,
    };
    if (offset >= sizeof(widths) || widths[offset] != bytes) {
        return;
    }
    switch (offset) {
    case offsetof(struct common, device_feature_select):
        t->device_feature_select = value;
        break;
    case offsetof(struct common, driver_feature_select):
        t->driver_feature_select = value;
        break;
    case offsetof(struct common, driver_feature):
        if ((t->status & STATUS_FEATURES_OK) == 0 && t->driver_feature_select < 2) {
            put_half(&t->driver_features, t->driver_feature_select, value);
        }
        break;
    case offsetof(struct common, config_vector):
        t->config_vector = checked_vector(t, (uint16_t)value);
        break;
    case offsetof(struct common, device_status):
        write_status(t, (uint8_t)value);
        break;
    case offsetof(struct common, queue_select):
        t->queue_select = (uint16_t)value;
        break;
    default:
        write_queue(t, offset, value);
        break;
    }
}

/* ------------------------------------------------------------------ BAR 0 */

static uint64_t access_device(struct vh_virtio *device, uint32_t offset, uint32_t bytes,
                              uint32_t direction, uint64_t value)
{
    uint64_t result = 0;
    if (offset >= device->config_bytes || bytes > device->config_bytes - offset) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_WRITE) {
        if (device->ops->config_write != NULL) {
            device->ops->config_write(device, offset, (const uint8_t *)&value, bytes);
        }
        return 0;
    }
    if (device->ops->config_read != NULL) {
        device->ops->config_read(device, offset, bytes);
    }
    memcpy(&result, device->config + offset, bytes);
    return result;
}

static uint64_t access_common(struct vh_virtio_pci *t, uint32_t offset, uint32_t bytes,
                              uint32_t direction, uint64_t value)
{
    uint64_t result = 0;
    if (offset >= sizeof(struct common) || bytes > sizeof(struct common) - offset) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_READ) {
        struct common c = read_common(t);
        memcpy(&result, (const uint8_t *)&c + offset, bytes);
        return result;
    }
    /* A 64-bit write is two of 32: 4.1.3.1 lets a driver do either. */
    write_common(t, offset, bytes > 4 ? 4 : bytes, (uint32_t)value);
    if (bytes == 8) {
        write_common(t, offset + 4, 4, (uint32_t)(value >> 32));
    }
    return 0;
}

static uint64_t bar_access(struct vh_pci_device *pci, uint32_t bar, uint64_t offset, uint32_t bytes,
                           uint32_t direction, uint64_t value)
{
    struct vh_virtio_pci *t = of(pci);
    uint32_t in_page = (uint32_t)offset % PAGE_BYTES;
    uint64_t result = 0;
    (void)bar;
    vh_virtio_lock(t->device);
    switch (offset - in_page) {
    case PAGE_COMMON:
        result = access_common(t, in_page, bytes, direction, value);
        break;
    case PAGE_ISR:
        if (direction == VMMHPC_ACCESS_READ && in_page == 0) {
            result = t->isr; /* reading acknowledges: 4.1.4.5 */
            t->isr = 0;
            vh_intx_set(pci, false);
        }
        break;
    case PAGE_DEVICE:
        result = access_device(t->device, in_page, bytes, direction, value);
        break;
    default:
        if (direction == VMMHPC_ACCESS_WRITE && in_page / NOTIFY_STRIDE < t->device->queue_count) {
            (void)eventfd_write(t->doorbells[in_page / NOTIFY_STRIDE].source.fd, 1);
        }
        break;
    }
    vh_virtio_unlock(t->device);
    return result;
}

/* ------------------------------------------------------------------ configuration space */

/* Where 4.1.4.9's window points to, if it may be used. */
static bool window_target(const struct vh_virtio_pci *t, uint32_t *offset, uint32_t *bytes)
{
    const uint8_t *capability = t->pci.config + t->window;
    memcpy(offset, capability + 8, 4);
    memcpy(bytes, capability + 12, 4);
    return capability[4] == 0 && (*bytes == 1 || *bytes == 2 || *bytes == 4) &&
           *offset % *bytes == 0 && *offset < BAR_BYTES;
}

static void window_read(struct vh_pci_device *pci, uint32_t offset, uint32_t bytes)
{
    struct vh_virtio_pci *t = of(pci);
    uint32_t target = 0;
    uint32_t width = 0;
    (void)offset;
    (void)bytes;
    if (window_target(t, &target, &width)) {
        uint32_t value =
            (uint32_t)bar_access(pci, BAR_REGISTERS, target, width, VMMHPC_ACCESS_READ, 0);
        memcpy(pci->config + t->window + 16, &value, width);
    }
}

static void window_written(struct vh_pci_device *pci, uint32_t offset, uint32_t bytes)
{
    struct vh_virtio_pci *t = of(pci);
    uint32_t target = 0;
    uint32_t width = 0;
    (void)offset;
    (void)bytes;
    if (window_target(t, &target, &width)) {
        uint32_t value = 0;
        memcpy(&value, pci->config + t->window + 16, width);
        (void)bar_access(pci, BAR_REGISTERS, target, width, VMMHPC_ACCESS_WRITE, value);
    }
}

static uint32_t add_capability(struct vh_pci_device *pci, uint8_t type, uint32_t offset,
                               uint32_t length, uint32_t extra)
{
    uint32_t at = vh_pci_capability(pci, CAPABILITY_VENDOR, 16 + extra);
    if (at != 0) {
        pci->config[at + 2] = (uint8_t)(16 + extra);
        pci->config[at + 3] = type;
        memcpy(pci->config + at + 8, &offset, 4);
        memcpy(pci->config + at + 12, &length, 4);
    }
    return at;
}

/* 112 of the 192 bytes that there are for capabilities: nothing can fail. */
static void add_capabilities(struct vh_virtio_pci *t)
{
    struct vh_pci_device *pci = &t->pci;
    const uint32_t stride = NOTIFY_STRIDE;
    uint32_t notify = add_capability(pci, CAP_NOTIFY, PAGE_NOTIFY,
                                     t->device->queue_count * NOTIFY_STRIDE, sizeof(stride));
    t->window = add_capability(pci, CAP_PCI, 0, 0, 4);
    (void)add_capability(pci, CAP_COMMON, PAGE_COMMON, sizeof(struct common), 0);
    (void)add_capability(pci, CAP_ISR, PAGE_ISR, 1, 0);
    if (t->device->config_bytes != 0) {
        (void)add_capability(pci, CAP_DEVICE, PAGE_DEVICE, t->device->config_bytes, 0);
    }
    memcpy(pci->config + notify + 16, &stride, sizeof(stride));
    pci->writable[t->window + 4] = 0xff; /* bar */
    memset(pci->writable + t->window + 8, 0xff, 12);
    pci->hook_from = t->window + 16;
    pci->hook_end = t->window + 20;
}

/* ------------------------------------------------------------------ life */

static void reset(struct vh_pci_device *pci)
{
    struct vh_virtio_pci *t = of(pci);
    vh_virtio_lock(t->device);
    reset_registers(t);
    vh_virtio_unlock(t->device);
}

static void close_doorbells(struct vh_virtio_pci *t)
{
    for (uint32_t i = 0; i < t->device->queue_count; i++) {
        struct vh_doorbell *doorbell = &t->doorbells[i];
        if (doorbell->source.fd >= 0) {
            vh_io_remove(t->pci.vm, &doorbell->source);
            (void)close(doorbell->source.fd);
        }
        t->device->queues[i].kick_fd = -1;
    }
}

static void destroy(struct vh_pci_device *pci)
{
    struct vh_virtio_pci *t = of(pci);
    struct vh_virtio *device = t->device;
    vh_virtio_lock(device);
    device->ops->stop(device);
    device->started = false;
    vh_virtio_unlock(device);
    close_doorbells(t);
    (void)pthread_mutex_destroy(&device->lock);
    device->ops->destroy(device);
    free(t);
}

static const struct vh_pci_ops pci_ops = {
    .bar_access = bar_access,
    .bar_moved = bar_moved,
    .config_read = window_read,
    .config_written = window_written,
    .reset = reset,
    .destroy = destroy,
};

static int32_t open_doorbells(struct vh_virtio_pci *t, struct vmmhpc *vm, struct vmmhpc_error *err)
{
    struct vh_virtio *device = t->device;
    for (uint32_t i = 0; i < device->queue_count; i++) {
        t->doorbells[i] = (struct vh_doorbell){
            .pci = t,
            .vector = NO_VECTOR,
            .source = {.fd = -1, .ready = rung, .opaque = &t->doorbells[i]},
        };
    }
    for (uint32_t i = 0; i < device->queue_count; i++) {
        struct vh_doorbell *doorbell = &t->doorbells[i];
        doorbell->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (doorbell->source.fd < 0) {
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, i, "cannot create an eventfd");
        }
        device->queues[i].kick_fd = doorbell->source.fd;
        /* Where the host does the work (vhost) the kick is read there. */
        int32_t status =
            vh_io_add(vm, &doorbell->source, device->kicked_elsewhere ? 0 : EPOLLIN, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

/* 4.1.2.1, PCI class codes: what the device is to somebody who knows no virtio. */
static uint32_t class_of(uint32_t id)
{
    switch (id) {
    case VH_VIRTIO_NET:
        return 0x02000000;
    case VH_VIRTIO_BLK:
        return 0x01800000;
    case VH_VIRTIO_CONSOLE:
        return 0x07800000;
    case VH_VIRTIO_PMEM:
        return 0x05800000;
    default:
        return 0x00ff0000;
    }
}

int32_t vh_virtio_add(struct vmmhpc *vm, struct vh_virtio *device, uint32_t *id,
                      struct vmmhpc_error *err)
{
    struct vh_virtio_pci *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*t), "no memory for a device");
    }
    int32_t status = vh_virtio_init(device, err);
    if (status != VMMHPC_OK) {
        free(t);
        return status;
    }
    device->vm = vm;
    device->transport = &transport;
    device->transport_self = t;
    t->device = device;
    t->notify_gpa = VH_PCI_NOWHERE;
    t->config_vector = NO_VECTOR;
    t->pci = (struct vh_pci_device){
        .ops = &pci_ops,
        .vm = vm,
        .vendor_device = (DEVICE_BASE + device->id) << 16 | VH_VIRTIO_VENDOR,
        .class_revision = class_of(device->id) | REVISION,
        .subsystem = (DEVICE_BASE + device->id) << 16 | VH_VIRTIO_VENDOR,
        .bar_bytes = {[BAR_REGISTERS] = BAR_BYTES, [BAR_MSIX] = PAGE_BYTES},
        .msix_vectors = device->queue_count + 1,
        .msix_bar = BAR_MSIX,
    };
    status = open_doorbells(t, vm, err);
    if (status == VMMHPC_OK) {
        status = vh_pci_add(vm, &t->pci, err);
    }
    if (status != VMMHPC_OK) {
        close_doorbells(t);
        (void)pthread_mutex_destroy(&device->lock);
        device->transport = NULL;
        free(t);
        return status;
    }
    add_capabilities(t);
    if (id != NULL) {
        *id = t->pci.slot;
    }
    return VMMHPC_OK;
}

struct vh_virtio *vh_virtio_find(struct vmmhpc *vm, uint32_t id)
{
    for (uint32_t slot = 1; slot < vm->pci.count; slot++) {
        struct vh_pci_device *pci = vm->pci.devices[slot];
        if (pci->ops == &pci_ops && of(pci)->device->id == id) {
            return of(pci)->device;
        }
    }
    return NULL;
}
