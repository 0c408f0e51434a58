/* SPDX-License-Identifier: Apache-2.0 */
/* Frames through a tap device: the host's kernel does checksums and segments, and checks the
 * headers that it is given. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "virtio/net_backend.h"
#include "vmmhpc_devices.h"

struct tap {
    struct vh_net_backend base;
    uint32_t to_guest; /* offloads that the guest takes */
};

static int32_t tap_start(struct vh_net_backend *backend, uint32_t offloads,
                         struct vmmhpc_error *err)
{
    struct tap *tap = (struct tap *)backend;
    /* The kernel knows both or none of these. */
    if ((offloads & VH_NET_USO) != VH_NET_USO) {
        offloads &= ~(uint32_t)VH_NET_USO;
    }
    tap->to_guest = offloads;
    if (ioctl(backend->fd, TUNSETOFFLOAD, (unsigned long)offloads) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, offloads, "cannot set a tap's offloads");
    }
    return VMMHPC_OK;
}

static enum vh_net_result tap_send(struct vh_net_backend *backend, struct virtio_net_hdr_v1 *header,
                                   struct iovec *iov, uint32_t count, uint32_t bytes)
{
    (void)bytes;
    iov[0] = (struct iovec){header, sizeof(*header)};
    ssize_t sent = 0;
    do {
        sent = writev(backend->fd, iov, (int)count);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return VH_NET_DONE;
    }
    /* EIO: the interface is down; EAGAIN: its queue is full. As with a cable, frames get lost. */
    return errno == EBADFD ? VH_NET_DEAD : VH_NET_DROPPED;
}

static enum vh_net_result tap_receive(struct vh_net_backend *backend,
                                      struct virtio_net_hdr_v1 *header, struct iovec *iov,
                                      uint32_t count, uint32_t *bytes)
{
    const struct tap *tap = (const struct tap *)backend;
    iov[0] = (struct iovec){header, sizeof(*header)};
    ssize_t got = 0;
    do {
        got = readv(backend->fd, iov, (int)count);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN ? VH_NET_AGAIN : VH_NET_DEAD;
    }
    if ((size_t)got <= sizeof(*header)) {
        return VH_NET_DROPPED;
    }
    if ((tap->to_guest & TUN_F_CSUM) == 0) {
        memset(header, 0, sizeof(*header)); /* DATA_VALID is set nevertheless: 5.1.6.4.1 */
    }
    *bytes = (uint32_t)((size_t)got - sizeof(*header));
    return VH_NET_DONE;
}

static void tap_destroy(struct vh_net_backend *backend)
{
    free(backend);
}

/* What this kernel can do: nothing tells, so try. */
static uint32_t find_offloads(int fd)
{
    static const uint32_t extras[] = {TUN_F_UFO, VH_NET_USO};
    uint32_t offloads = TUN_F_CSUM | VH_NET_TSO;
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < VH_COUNT(extras); i++) {
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(offloads | extras[i])) == 0) {
            offloads |= extras[i];
        }
    }
    (void)ioctl(fd, TUNSETOFFLOAD, 0ul); /* until a driver chooses */
    return offloads;
}

static int32_t prepare(int fd, struct vmmhpc_error *err)
{
    struct ifreq request;
    int bytes = (int)sizeof(struct virtio_net_hdr_v1);
    memset(&request, 0, sizeof(request));
    if (ioctl(fd, TUNGETIFF, &request) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(uint32_t)fd,
                       "the descriptor is not an open tap device's");
    }
    const int needed = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if ((request.ifr_flags & needed) != needed) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)(uint16_t)request.ifr_flags,
                       "%.16s has to be opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR",
                       request.ifr_name);
    }
    if (ioctl(fd, TUNSETVNETHDRSZ, &bytes) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, (uint64_t)bytes,
                       "%.16s cannot have headers of %d bytes", request.ifr_name, bytes);
    }
    /* readv() has no flag for this that all kernels have for a tap. */
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot make %.16s non-blocking",
                       request.ifr_name);
    }
    return VMMHPC_OK;
}

int32_t vh_net_tap_create(int fd, struct vh_net_backend **backend, struct vmmhpc_error *err)
{
    static const struct vh_net_backend_ops ops = {
        .start = tap_start,
        .send = tap_send,
        .receive = tap_receive,
        .destroy = tap_destroy,
    };
    int32_t status = prepare(fd, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a tap");
    }
    tap->base.ops = &ops;
    tap->base.fd = fd;
    tap->base.offloads = find_offloads(fd);
    *backend = &tap->base;
    return VMMHPC_OK;
}

static int32_t open_failed(int failed, const char *name, struct vmmhpc_error *err)
{
    int32_t code = VMMHPC_E_SYSCALL;
    const char *why = "";
    if (failed == EPERM || failed == EACCES) {
        code = VMMHPC_E_PERMISSION;
        why = ": it takes CAP_NET_ADMIN, or a tap that was made for this user";
    } else if (failed == ENOENT || failed == ENODEV || failed == ENXIO) {
        code = VMMHPC_E_UNSUPPORTED;
        why = ": the host has no /dev/net/tun";
    } else if (failed == EBUSY) {
        code = VMMHPC_E_OVERLAP;
        why = ": somebody else has it open";
    } else if (failed == EINVAL) {
        code = VMMHPC_E_INVALID;
        why = ": it exists, but is no tap with one queue";
    }
    return vh_fail(err, code, failed, 0, "cannot open tap \"%s\"%s", name, why);
}

int32_t vmmhpc_tap_open(char name[16], int32_t *fd, struct vmmhpc_error *err)
{
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    if (name == NULL || fd == NULL || memchr(name, 0, IFNAMSIZ) == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a tap's name has at most 15 bytes");
    }
    int opened = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0) {
        return open_failed(errno, name, err);
    }
    memcpy(request.ifr_name, name, strlen(name));
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(opened, TUNSETIFF, &request) != 0) {
        int failed = errno;
        (void)close(opened);
        return open_failed(failed, name, err);
    }
    memcpy(name, request.ifr_name, IFNAMSIZ);
    name[IFNAMSIZ - 1] = 0;
    *fd = opened;
    return VMMHPC_OK;
}
