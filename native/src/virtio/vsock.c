/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock through the host's vhost-vsock (virtio 1.2, 5.10): the kernel moves all data. */
#include <errno.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "machine.h"
#include "virtio/small.h"
#include "virtio/vhost.h"

#define PATH "/dev/vhost-vsock"

/* 5.10.2: receive, transmit, events. The last tells of a change of CID, which does not happen here:
 * the driver's buffers stay in it. */
#define QUEUES 3u
#define DATA_QUEUES 2u
#define QUEUE_SIZE 128u

#define F_SEQPACKET (1ull << 1)

#define CID_FIRST 3u
#define CID_LAST 0xfffffffeu /* all ones means any (VMADDR_CID_ANY) */

struct vsock {
    struct vh_virtio virtio;
    struct vh_vhost vhost;
};

static struct vsock *of(struct vh_virtio *device)
{
    return (struct vsock *)device;
}

static void set_running(const struct vsock *vsock, int running)
{
    (void)ioctl(vsock->vhost.fd, VHOST_VSOCK_SET_RUNNING, &running);
}

static int32_t start(struct vh_virtio *device, struct vmmhpc_error *err)
{
    struct vsock *vsock = of(device);
    int32_t status = vh_vhost_start(&vsock->vhost, device, 0, DATA_QUEUES,
                                    device->features_acked & vsock->vhost.features, err);
    const int running = 1;
    if (status == VMMHPC_OK && ioctl(vsock->vhost.fd, VHOST_VSOCK_SET_RUNNING, &running) != 0) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "vhost-vsock does not start");
        vh_vhost_stop(&vsock->vhost, device);
    }
    return status;
}

static void stop(struct vh_virtio *device)
{
    struct vsock *vsock = of(device);
    if (vsock->vhost.running > 0) {
        set_running(vsock, 0); /* waits for what is under way */
        vh_vhost_stop(&vsock->vhost, device);
    }
}

static void kick(struct vh_virtio *device, uint32_t index)
{
    (void)device; /* the kernel reads the data queues' kicks, and events need none */
    (void)index;
}

static void destroy(struct vh_virtio *device)
{
    vh_vhost_close(&of(device)->vhost, device);
    free(device);
}

static const struct vh_virtio_ops ops = {
    .start = start, .stop = stop, .kick = kick, .destroy = destroy};

static int32_t set_cid(const struct vsock *vsock, uint64_t cid, struct vmmhpc_error *err)
{
    if (ioctl(vsock->vhost.fd, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
        return VMMHPC_OK;
    }
    if (errno == EADDRINUSE) {
        return vh_fail(err, VMMHPC_E_OVERLAP, errno, cid, "vsock CID %llu is in use on this host",
                       (unsigned long long)cid);
    }
    return vh_fail(err, VMMHPC_E_SYSCALL, errno, cid, "cannot set vsock CID %llu",
                   (unsigned long long)cid);
}

int32_t vh_vsock_new(const struct vh_files *files, uint64_t cid, struct vh_virtio **device,
                     struct vmmhpc_error *err)
{
    if (cid < CID_FIRST || cid > CID_LAST) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, cid, "a vsock CID is 3 to 4294967294, not %llu",
                       (unsigned long long)cid);
    }
    struct vsock *vsock = calloc(1, sizeof(*vsock));
    if (vsock == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*vsock), "no memory for a device");
    }
    int32_t status = vh_vhost_open(files, &vsock->vhost, PATH, err);
    if (status == VMMHPC_OK) {
        status = set_cid(vsock, cid, err);
    }
    if (status != VMMHPC_OK) {
        destroy(&vsock->virtio);
        return status;
    }
    struct vh_virtio *virtio = &vsock->virtio;
    virtio->ops = &ops;
    virtio->name = "vsock";
    virtio->id = VH_VIRTIO_VSOCK;
    virtio->queue_count = QUEUES;
    for (uint32_t i = 0; i < QUEUES; i++) {
        virtio->queue_size[i] = QUEUE_SIZE;
    }
    virtio->features = vsock->vhost.features & F_SEQPACKET;
    virtio->kicked_elsewhere = true;
    virtio->config_bytes = sizeof(cid);
    memcpy(virtio->config, &cid, sizeof(cid)); /* 5.10.4: guest_cid */
    *device = virtio;
    return VMMHPC_OK;
}

int32_t vmmhpc_add_vsock(struct vmmhpc *vm, uint64_t cid, uint32_t *id, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->add_vsock(vm, cid, id, err);
    }
    struct vh_virtio *device = NULL;
    int32_t status = vh_vsock_new(vm->files, cid, &device, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vh_virtio_add(vm, device, id, err);
    if (status != VMMHPC_OK) {
        destroy(device);
    }
    return status;
}
