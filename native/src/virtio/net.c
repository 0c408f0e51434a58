/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1): features, transmission, and the way onto the bus. */
#include "virtio/net.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define TX_BUDGET 256u /* frames before somebody else has a turn */
#define BIT(n) (1ull << (n))

enum { CONFIG_PAIRS = 8, CONFIG_MTU = 10, CONFIG_BYTES = 12 }; /* 5.1.4 */

/* ------------------------------------------------------------------ transmission */

static enum vh_net_result send_chain(struct vh_net *net)
{
    const struct vh_chain *chain = &net->tx_chain;
    struct virtio_net_hdr_v1 header; /* a copy: what is checked is what is used */
    if (!net->link_up || chain->out_bytes < VH_NET_HEADER + VH_NET_FRAME_MIN ||
        chain->out_bytes > VH_NET_HEADER + VH_NET_FRAME_MAX) {
        return VH_NET_DROPPED;
    }
    uint32_t bytes = (uint32_t)chain->out_bytes - VH_NET_HEADER;
    (void)vh_chain_read(chain, 0, &header, sizeof(header));
    if (!vh_net_header_check(&header, bytes, vh_net_offloads(net->virtio.features_acked, false))) {
        return VH_NET_DROPPED;
    }
    int count = vh_chain_slice(chain, false, VH_NET_HEADER, bytes, net->tx_iov + 1, VH_CHAIN_IOV);
    if (count < 0) {
        return VH_NET_DROPPED;
    }
    return net->backend->ops->send(net->backend, &header, net->tx_iov, (uint32_t)count + 1, bytes);
}

/* What the back end kept of an earlier frame goes first. Whether there is room now. */
static bool flush(struct vh_net *net)
{
    if (!net->backend->delayed || !net->link_up) {
        return true;
    }
    enum vh_net_result result = net->backend->ops->flush(net->backend);
    if (result == VH_NET_DEAD) {
        vh_net_link_down(net);
    }
    return result != VH_NET_AGAIN;
}

static void transmit(struct vh_net *net)
{
    bool sent = false;
    net->tx_again = false;
    if (!flush(net)) {
        return;
    }
    for (uint32_t turn = 0;; turn++) {
        if (turn == TX_BUDGET) {
            net->tx_again = true;
            break;
        }
        if (!net->tx_held && vh_virtio_pop(&net->virtio, VH_NET_TXQ, &net->tx_chain) != 1) {
            break;
        }
        enum vh_net_result result = send_chain(net);
        net->tx_held = result == VH_NET_AGAIN;
        if (net->tx_held) {
            break;
        }
        if (result == VH_NET_DEAD) {
            vh_net_link_down(net);
        }
        net->tx_dropped += result != VH_NET_DONE;
        vh_virtio_push(&net->virtio, VH_NET_TXQ, &net->tx_chain, 0);
        sent = true;
    }
    if (sent) {
        vh_virtio_notify(&net->virtio, VH_NET_TXQ);
    }
}

/* ------------------------------------------------------------------ the descriptor */

/* A hang-up is reported although nobody waits for it, again and again; with EPOLLET only once. */
static void watch_for(struct vh_net *net, uint32_t events)
{
    events = events == 0 ? (uint32_t)EPOLLET : events;
    if (events != net->watched && net->virtio.vm != NULL) {
        vh_io_watch(net->virtio.vm, &net->source, events);
    }
    net->watched = events;
}

/* Wait for what can be dealt with: no frames while the driver has no buffers for them, no room
 * while nothing is to be sent. */
static void watch(struct vh_net *net)
{
    uint32_t events = 0;
    if (net->virtio.started && !net->virtio.broken && !net->uses_vhost) {
        if (net->link_up && !net->rx.starved) {
            events |= EPOLLIN;
        }
        if (net->tx_again || (net->link_up && (net->tx_held || net->backend->delayed))) {
            events |= EPOLLOUT;
        }
    }
    watch_for(net, events);
}

static void ready(void *opaque, uint32_t events)
{
    struct vh_net *net = opaque;
    vh_virtio_lock(&net->virtio);
    if (net->virtio.started && !net->virtio.broken && !net->uses_vhost) {
        const uint32_t gone = EPOLLERR | EPOLLHUP;
        if ((events & (EPOLLOUT | gone)) != 0) {
            transmit(net);
        }
        if ((events & (EPOLLIN | gone)) != 0 && net->link_up) {
            vh_net_receive(net);
        }
    }
    watch(net);
    vh_virtio_unlock(&net->virtio);
}

void vh_net_link_down(struct vh_net *net)
{
    if (net->link_up) {
        net->link_up = false;
        net->virtio.config[VH_NET_CONFIG_STATUS] &= (uint8_t)~VIRTIO_NET_S_LINK_UP;
        vh_virtio_config_changed(&net->virtio);
    }
}

/* ------------------------------------------------------------------ operations */

static int32_t net_start(struct vh_virtio *device, struct vmmhpc_error *err)
{
    struct vh_net *net = (struct vh_net *)device;
    int32_t status = VMMHPC_OK;
    if (net->backend->ops->start != NULL) {
        status = net->backend->ops->start(net->backend,
                                          vh_net_offloads(net->virtio.features_acked, true), err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    if (net->uses_vhost) {
        return vh_net_vhost_start(net, err);
    }
    net->tx_again = true; /* look once: frames may have been made available before DRIVER_OK */
    watch(net);
    return VMMHPC_OK;
}

static void net_stop(struct vh_virtio *device)
{
    struct vh_net *net = (struct vh_net *)device;
    if (net->uses_vhost) {
        vh_vhost_stop(&net->vhost, device);
    }
    net->tx_held = false;
    net->tx_again = false;
    vh_net_rx_reset(&net->rx);
    if (net->silent) {
        net->silent = false;
        net->link_up = true;
        net->virtio.config[VH_NET_CONFIG_STATUS] |= VIRTIO_NET_S_LINK_UP;
    }
    watch_for(net, 0);
}

static void net_kick(struct vh_virtio *device, uint32_t index)
{
    struct vh_net *net = (struct vh_net *)device;
    if (index == VH_NET_TXQ && !net->tx_held && !net->backend->delayed) {
        transmit(net);
    } else if (index == VH_NET_RXQ && net->rx.starved && net->link_up) {
        vh_net_receive(net);
    }
    watch(net);
}

static void net_destroy(struct vh_virtio *device)
{
    struct vh_net *net = (struct vh_net *)device;
    vh_vhost_close(&net->vhost, device);
    if (device->vm != NULL && net->source.fd >= 0) {
        vh_io_remove(device->vm, &net->source);
    }
    if (net->backend != NULL) {
        net->backend->ops->destroy(net->backend);
    }
    if (net->fd >= 0) {
        (void)close(net->fd);
    }
    free(net->rx.spill);
    free(net);
}

static const struct vh_virtio_ops NET_OPS = {
    .start = net_start,
    .stop = net_stop,
    .kick = net_kick,
    .destroy = net_destroy,
};

/* ------------------------------------------------------------------ creation */

static int32_t check(const struct vmmhpc_net *config, struct vmmhpc_error *err)
{
    if (config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->size,
                       "struct vmmhpc_net has another size");
    }
    if ((config->flags & ~VMMHPC_NET_VHOST) != 0 ||
        (config->flags != 0 && config->kind != VMMHPC_NET_TAP)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->flags,
                       "flags 0x%x do not apply to a network of kind %u", config->flags,
                       config->kind);
    }
    if ((config->mac[0] & 1) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->mac[0],
                       "a MAC address that begins with %02x is a group's", config->mac[0]);
    }
    if (config->mtu != 0 && config->mtu < 68) { /* 5.1.4.1 */
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->mtu, "an MTU of %u is below 68",
                       config->mtu);
    }
    return VMMHPC_OK;
}

/* A MAC nobody chose: 02 (locally administered), 76 ('v'), then 32 random bits, so that among
 * thousands of machines on one network two alike are unlikely. */
static int32_t set_mac(struct vh_net *net, const uint8_t mac[6], struct vmmhpc_error *err)
{
    static const uint8_t zero[6];
    uint8_t *to = net->virtio.config;
    memcpy(to, mac, sizeof(zero));
    if (memcmp(mac, zero, sizeof(zero)) != 0) {
        return VMMHPC_OK;
    }
    to[0] = 0x02;
    to[1] = 0x76;
    if (getrandom(to + 2, 4, 0) != 4) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no random bytes for a MAC address");
    }
    return VMMHPC_OK;
}

static int32_t open_backend(struct vh_net *net, uint32_t kind, struct vmmhpc_error *err)
{
    switch (kind) {
    case VMMHPC_NET_TAP:
        return vh_net_tap_create(net->fd, &net->backend, err);
    case VMMHPC_NET_STREAM:
        return vh_net_stream_create(net->fd, &net->backend, err);
    case VMMHPC_NET_LINK:
        return vh_net_link_create(net->fd, &net->backend, err);
    default:
        return vh_fail(err, VMMHPC_E_INVALID, 0, kind, "no network is of kind %u", kind);
    }
}

static void describe(struct vh_net *net, uint16_t mtu)
{
    struct vh_virtio *device = &net->virtio;
    device->ops = &NET_OPS;
    device->name = "net";
    device->id = VH_VIRTIO_NET;
    device->queue_count = 2;
    device->queue_size[VH_NET_RXQ] = VH_QUEUE_MAX;
    device->queue_size[VH_NET_TXQ] = VH_QUEUE_MAX;
    device->config_bytes = CONFIG_BYTES;
    device->config[VH_NET_CONFIG_STATUS] = VIRTIO_NET_S_LINK_UP;
    device->config[CONFIG_PAIRS] = 1;
    device->config[CONFIG_MTU] = (uint8_t)mtu;
    device->config[CONFIG_MTU + 1] = (uint8_t)(mtu >> 8);
    device->features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
                       BIT(VIRTIO_NET_F_MRG_RXBUF) | vh_net_features(net->backend->offloads);
    if (mtu != 0) {
        device->features |= BIT(VIRTIO_NET_F_MTU);
    }
}

static int32_t fill(const struct vh_files *files, struct vh_net *net,
                    const struct vmmhpc_net *config, struct vmmhpc_error *err)
{
    int32_t status = set_mac(net, config->mac, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    net->rx.spill = malloc(VH_NET_FRAME_MAX);
    if (net->rx.spill == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a network device");
    }
    net->fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 3);
    if (net->fd < 0) {
        return vh_fail(err, errno == EBADF ? VMMHPC_E_INVALID : VMMHPC_E_SYSCALL, errno,
                       (uint64_t)(uint32_t)config->fd, "cannot use descriptor %d for a network",
                       config->fd);
    }
    status = open_backend(net, config->kind, err);
    if (net->backend == NULL) {
        return status;
    }
    describe(net, config->mtu);
    return (config->flags & VMMHPC_NET_VHOST) != 0 ? vh_net_vhost_open(files, net, err) : VMMHPC_OK;
}

int32_t vh_net_create(const struct vh_files *files, const struct vmmhpc_net *config,
                      struct vh_net **result, struct vmmhpc_error *err)
{
    if (config == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no struct vmmhpc_net");
    }
    int32_t status = check(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_net *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a network device");
    }
    net->fd = -1;
    net->vhost.fd = -1;
    net->source.fd = -1;
    net->link_up = true;
    status = fill(files, net, config, err);
    if (status != VMMHPC_OK) {
        net_destroy(&net->virtio);
        return status;
    }
    net->source = (struct vh_io_source){.fd = net->fd, .ready = ready, .opaque = net};
    *result = net;
    return VMMHPC_OK;
}

int32_t vh_net_check_socket(int fd, int type, struct vmmhpc_error *err)
{
    int domain = 0;
    int found = 0;
    socklen_t bytes = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &found, &bytes) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(uint32_t)fd,
                       "the descriptor of a network of this kind has to be a socket");
    }
    if (domain != AF_UNIX || found != type) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)(uint32_t)fd,
                       "a network of this kind needs a UNIX socket of type %s",
                       type == SOCK_STREAM ? "SOCK_STREAM" : "SOCK_SEQPACKET");
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_add_net(struct vmmhpc *vm, const struct vmmhpc_net *config, uint32_t *id,
                       struct vmmhpc_error *err)
{
    struct vh_net *net = NULL;
    if (vm == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no machine");
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->add_net(vm, config, id, err);
    }
    int32_t status = vh_net_create(vm->files, config, &net, err);
    if (net == NULL) {
        return status;
    }
    /* First the source: once it is on the bus the device is the machine's. */
    if (!net->uses_vhost) {
        net->watched = EPOLLET;
        status = vh_io_add(vm, &net->source, net->watched, err);
    } else {
        net->source.fd = -1;
    }
    if (status != VMMHPC_OK) {
        net_destroy(&net->virtio);
        return status;
    }
    status = vh_virtio_add(vm, &net->virtio, id, err);
    if (status != VMMHPC_OK) {
        if (!net->uses_vhost) {
            vh_io_remove(vm, &net->source);
        }
        net->virtio.vm = NULL;
        net_destroy(&net->virtio);
    }
    return status;
}
