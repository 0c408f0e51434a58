/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues that the host's kernel works on (vhost-net, vhost-vsock): <linux/vhost.h>. A device that
 * uses this sets kicked_elsewhere, opens its file when it is created, calls vh_vhost_start() in
 * start() and vh_vhost_stop() in stop().
 */
#ifndef VH_VHOST_H
#define VH_VHOST_H

#include "files.h"
#include "virtio/virtio.h"

struct vh_vhost {
    int fd;            /* -1: closed */
    uint32_t first;    /* the device's queue that is ring 0 of the file */
    uint32_t running;  /* rings that were set up; 0: stopped */
    uint64_t features; /* what the host's kernel can do (VHOST_GET_FEATURES) */
    /**
     * Connect ring `ring` of the file with its other side, or take it off (VHOST_NET_SET_BACKEND
     * with -1): 0 or an errno. Called for each ring once all are set up, and in vh_vhost_stop()
     * for those that were connected. NULL: the device does it after vh_vhost_start().
     */
    int (*backend)(struct vh_vhost *vhost, void *opaque, uint32_t ring, bool on);
    void *opaque;       /* of backend() */
    uint32_t connected; /* rings for which backend(on) succeeded */
};

/** Open /dev/vhost-*, become its owner, ask for its features; backend and opaque are the caller's
 *  to set afterwards. E_UNSUPPORTED where the host has no such file or driver, E_PERMISSION where
 *  it may not be opened. vhost->fd is -1 on failure. */
int32_t vh_vhost_open(const struct vh_files *files, struct vh_vhost *vhost, const char *path,
                      struct vmmhpc_error *err);

/** Close it, stopped or not; also when it is closed already. */
void vh_vhost_close(struct vh_vhost *vhost, struct vh_virtio *device);

/**
 * Hand queues [first, first + count) of a device to the kernel as rings 0 ... count - 1: features,
 * guest memory, ring addresses, kick and call descriptors, then backend(). `features`: those to set
 * (VHOST_SET_FEATURES), usually device->features_acked less what the kernel does not need to know
 * about (VERSION_1, INDIRECT_DESC and EVENT_IDX are added as negotiated); E_UNSUPPORTED where the
 * kernel does not have one of them. The queues are enabled and started (device->ops->start() is
 * running). On failure nothing runs.
 */
int32_t vh_vhost_start(struct vh_vhost *vhost, struct vh_virtio *device, uint32_t first,
                       uint32_t count, uint64_t features, struct vmmhpc_error *err);

/** Take the queues back: when it returns the kernel touches neither them nor guest memory. Also
 *  when nothing runs. */
void vh_vhost_stop(struct vh_vhost *vhost, struct vh_virtio *device);

#endif
