/* SPDX-License-Identifier: Apache-2.0 */
/* Queues in the hands of the host's kernel: the sequence of <linux/vhost.h>. */
#include "virtio/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* What decides how rings are read: INDIRECT_DESC, EVENT_IDX, VERSION_1. */
#define F_RINGS (1ull << 28 | 1ull << 29 | 1ull << 32)

static int32_t failed(struct vmmhpc_error *err, const char *what)
{
    return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "vhost: cannot %s", what);
}

int32_t vh_vhost_open(const struct vh_files *files, struct vh_vhost *vhost, const char *path,
                      struct vmmhpc_error *err)
{
    *vhost = (struct vh_vhost){.fd = vh_open(files, path, O_RDWR)};
    if (vhost->fd < 0) {
        switch (errno) {
        case ENOENT:
        case ENODEV: /* the file is there, the module is not */
        case ENXIO:
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0, "this host has no %s", path);
        case EACCES:
        case EPERM:
            return vh_fail(err, VMMHPC_E_PERMISSION, errno, 0, "no permission to open %s", path);
        default:
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot open %s", path);
        }
    }
    int32_t status = VMMHPC_OK;
    uint64_t features = 0;
    /* Its kernel threads use this process's memory and count towards its limits. */
    if (ioctl(vhost->fd, VHOST_SET_OWNER, NULL) != 0) {
        status = vh_fail(err, errno == ENOTTY ? VMMHPC_E_UNSUPPORTED : VMMHPC_E_SYSCALL, errno, 0,
                         "cannot become the owner of %s", path);
    } else if (ioctl(vhost->fd, VHOST_GET_FEATURES, &features) != 0) {
        status = failed(err, "ask for its features");
    }
    vhost->features = features;
    if (status != VMMHPC_OK) {
        (void)close(vhost->fd);
        vhost->fd = -1;
    }
    return status;
}

void vh_vhost_close(struct vh_vhost *vhost, struct vh_virtio *device)
{
    vh_vhost_stop(vhost, device);
    if (vhost->fd >= 0) {
        (void)close(vhost->fd);
        vhost->fd = -1;
    }
}

/* Guest addresses in the rings are translated by the kernel with the machine's slots. */
static int32_t set_memory(const struct vh_vhost *vhost, const struct vh_memory *memory,
                          struct vmmhpc_error *err)
{
    struct {
        uint32_t nregions;
        uint32_t padding;
        struct vhost_memory_region regions[VH_SLOT_MAX];
    } table = {.nregions = memory->slot_count};
    _Static_assert(sizeof(struct vhost_memory) == offsetof(__typeof__(table), regions), "layout");
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];
        table.regions[i] = (struct vhost_memory_region){
            .guest_phys_addr = slot->gpa,
            .memory_size = slot->bytes,
            .userspace_addr = slot->host,
        };
    }
    return ioctl(vhost->fd, VHOST_SET_MEM_TABLE, &table) == 0
               ? VMMHPC_OK
               : failed(err, "tell where guest memory is");
}

static int32_t set_ring(const struct vh_vhost *vhost, struct vh_virtio *device, uint32_t ring,
                        struct vmmhpc_error *err)
{
    const uint32_t index = vhost->first + ring;
    const struct vh_virtqueue *queue = &device->queues[index];
    struct vhost_vring_state size = {.index = ring, .num = queue->size};
    struct vhost_vring_state base = {.index = ring, .num = queue->next_avail};
    struct vhost_vring_addr address = {
        .index = ring,
        .desc_user_addr = (uintptr_t)queue->desc,
        .avail_user_addr = (uintptr_t)queue->avail,
        .used_user_addr = (uintptr_t)queue->used,
    };
    struct vhost_vring_file call = {.index = ring, .fd = vh_virtio_call_fd(device, index)};
    struct vhost_vring_file kick = {.index = ring, .fd = queue->kick_fd};
    if (!queue->enabled) {
        return vh_fail(err, VMMHPC_E_STATE, 0, index, "vhost: queue %u is not enabled", index);
    }
    if (ioctl(vhost->fd, VHOST_SET_VRING_NUM, &size) != 0 ||
        ioctl(vhost->fd, VHOST_SET_VRING_BASE, &base) != 0 ||
        ioctl(vhost->fd, VHOST_SET_VRING_ADDR, &address) != 0 ||
        ioctl(vhost->fd, VHOST_SET_VRING_CALL, &call) != 0 ||
        ioctl(vhost->fd, VHOST_SET_VRING_KICK, &kick) != 0) {
        return failed(err, "set up a ring");
    }
    return VMMHPC_OK;
}

static int32_t connect_rings(struct vh_vhost *vhost, struct vmmhpc_error *err)
{
    while (vhost->backend != NULL && vhost->connected < vhost->running) {
        int error = vhost->backend(vhost, vhost->opaque, vhost->connected, true);
        if (error != 0) {
            return vh_fail(err, VMMHPC_E_SYSCALL, error, vhost->connected,
                           "vhost: cannot connect ring %u", vhost->connected);
        }
        vhost->connected++;
    }
    return VMMHPC_OK;
}

int32_t vh_vhost_start(struct vh_vhost *vhost, struct vh_virtio *device, uint32_t first,
                       uint32_t count, uint64_t features, struct vmmhpc_error *err)
{
    if (vhost->fd < 0 || vhost->running > 0) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "vhost: closed, or started already");
    }
    features |= device->features_acked & F_RINGS;
    if ((features & ~vhost->features) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, features & ~vhost->features,
                       "vhost: the host's kernel lacks features 0x%llx",
                       (unsigned long long)(features & ~vhost->features));
    }
    if (ioctl(vhost->fd, VHOST_SET_FEATURES, &features) != 0) {
        return failed(err, "set features");
    }
    int32_t status = set_memory(vhost, device->queues[first].memory, err);
    vhost->first = first;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        vhost->running = i + 1; /* also where it fails halfway */
        status = set_ring(vhost, device, i, err);
    }
    if (status == VMMHPC_OK) {
        status = connect_rings(vhost, err);
    }
    if (status != VMMHPC_OK) {
        vh_vhost_stop(vhost, device);
    }
    return status;
}

void vh_vhost_stop(struct vh_vhost *vhost, struct vh_virtio *device)
{
    while (vhost->connected > 0) {
        vhost->connected--;
        (void)vhost->backend(vhost, vhost->opaque, vhost->connected, false);
    }
    while (vhost->running > 0) {
        uint32_t ring = --vhost->running;
        struct vhost_vring_file off = {.index = ring, .fd = VHOST_FILE_UNBIND};
        struct vhost_vring_state base = {.index = ring};
        (void)ioctl(vhost->fd, VHOST_SET_VRING_KICK, &off);
        (void)ioctl(vhost->fd, VHOST_SET_VRING_CALL, &off);
        if (ioctl(vhost->fd, VHOST_GET_VRING_BASE, &base) == 0) {
            device->queues[vhost->first + ring].next_avail = (uint16_t)base.num;
        }
    }
}
