/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-net: the host's kernel moves frames between the queues and a tap, without this process. */
#include <errno.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include "virtio/net.h"

static int set_backend(struct vh_vhost *vhost, void *opaque, uint32_t ring, bool on)
{
    const struct vh_net *net = opaque;
    struct vhost_vring_file file = {.index = ring, .fd = on ? net->fd : -1};
    return ioctl(vhost->fd, VHOST_NET_SET_BACKEND, &file) == 0 ? 0 : errno;
}

int32_t vh_net_vhost_open(const struct vh_files *files, struct vh_net *net,
                          struct vmmhpc_error *err)
{
    int32_t status = vh_vhost_open(files, &net->vhost, "/dev/vhost-net", err);
    if (status != VMMHPC_OK) {
        return status;
    }
    net->vhost.backend = set_backend;
    net->vhost.opaque = net;
    net->uses_vhost = true;
    net->virtio.kicked_elsewhere = true;
    /* It fills the receive buffers, so it has to know how to merge them. */
    const uint64_t merge = 1ull << VIRTIO_NET_F_MRG_RXBUF;
    if ((net->vhost.features & merge) == 0) {
        net->virtio.features &= ~merge;
    }
    return VMMHPC_OK;
}

int32_t vh_net_vhost_start(struct vh_net *net, struct vmmhpc_error *err)
{
    /* Offloads are between the guest and the tap, which was told; the rest of the features that
     * the kernel does not have do not concern it. */
    uint64_t features = net->virtio.features_acked & net->vhost.features;
    return vh_vhost_start(&net->vhost, &net->virtio, VH_NET_RXQ, 2, features, err);
}
