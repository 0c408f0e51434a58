/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console with its one port (virtio 1.2, 5.3). Back-pressure both ways: output that the host
 * does not take stays in the guest's buffer, input that the guest has no buffer for stays with the
 * host. Bytes go between descriptor and guest memory without a copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"
#include "virtio/hvc.h"
#include "virtio/small.h"

enum { RECEIVE = 0, TRANSMIT = 1 };
#define QUEUE_SIZE 64u

#define F_SIZE (1ull << 0)
#define F_EMERG_WRITE (1ull << 2)

/* 5.3.4: struct virtio_console_config */
#define CONFIG_COLUMNS 0u
#define CONFIG_ROWS 2u
#define CONFIG_PORTS 4u
#define CONFIG_EMERG_WRITE 8u
#define CONFIG_BYTES 12u

#define TURN_BYTES (256ull * 1024) /* before other descriptors have their turn */
/* What is written in one go without blocking: a pipe that polls as writable has room for PIPE_BUF,
 * a terminal for a few hundred bytes. Files do not block. */
#define PIPE_BYTES 4096u
#define TERMINAL_BYTES 512u
#define FILE_BYTES 65536u

static struct vh_hvc *of(struct vh_virtio *device)
{
    return (struct vh_hvc *)device;
}

/* ------------------------------------------------------------------ descriptors */

/* epoll reports that the other side has left whatever is waited for: level-triggered that would not
 * end. */
static void watch(const struct vh_hvc *hvc, struct vh_hvc_end *end, uint32_t events)
{
    events = events == 0 ? (uint32_t)EPOLLET : events;
    if (hvc->virtio.vm != NULL && end->source.fd >= 0 && end->watched != events) {
        end->watched = events;
        vh_io_watch(hvc->virtio.vm, &end->source, events);
    }
}

/* Without changing the descriptor's flags, which other processes may share. */
static int ready(const struct vh_hvc_end *end, short events)
{
    struct pollfd p = {.fd = end->fd, .events = events};
    return vh_poll(&p, 1, 0) == 1 ? p.revents : 0;
}

/* Bytes that were taken; 0: not now; negative: the reader has gone. */
static ssize_t write_some(struct vh_hvc_end *end, struct iovec *iov, int count)
{
    ssize_t written = 0;
    if (end->is_socket) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        written = sendmsg(end->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        int events = ready(end, POLLOUT);
        if ((events & (POLLERR | POLLNVAL)) != 0) {
            return -1; /* and no SIGPIPE */
        }
        if ((events & POLLOUT) == 0) {
            return 0;
        }
        written = writev(end->fd, iov, count);
    }
    return written < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : written;
}

/* Likewise; negative: the end of input. */
static ssize_t read_some(struct vh_hvc_end *end, struct iovec *iov, int count)
{
    ssize_t bytes = 0;
    if (end->is_socket) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        bytes = recvmsg(end->fd, &message, MSG_DONTWAIT);
    } else {
        if (ready(end, POLLIN) == 0) {
            return 0;
        }
        bytes = readv(end->fd, iov, count);
    }
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return bytes > 0 ? bytes : -1;
}

/* ------------------------------------------------------------------ output */

/* Send what is left of a chain, at most *budget bytes. False: it is not done. */
static bool send_chain(struct vh_hvc *hvc, uint64_t *budget)
{
    struct vh_hvc_end *out = &hvc->out;
    struct iovec iov[VH_CHAIN_IOV];
    while (!out->gone && out->done < out->chain.out_bytes) {
        uint64_t bytes = out->chain.out_bytes - out->done;
        bytes = bytes < out->at_once ? bytes : out->at_once;
        int count = vh_chain_slice(&out->chain, false, out->done, bytes, iov, VH_CHAIN_IOV);
        ssize_t written = write_some(out, iov, count);
        if (written == 0) {
            watch(hvc, out, EPOLLOUT);
            return false;
        }
        if (written < 0) {
            out->gone = true; /* the rest is dropped, as without a reader */
            break;
        }
        out->done += (uint64_t)written;
        *budget -= *budget < (uint64_t)written ? *budget : (uint64_t)written;
        if (*budget == 0 && out->done < out->chain.out_bytes) {
            vh_small_again(&hvc->virtio, TRANSMIT);
            return false;
        }
    }
    return true;
}

static void pump_out(struct vh_hvc *hvc)
{
    struct vh_virtio *virtio = &hvc->virtio;
    struct vh_hvc_end *out = &hvc->out;
    uint64_t budget = TURN_BYTES;
    for (uint32_t chains = 0;; chains++) {
        if (chains == VH_SMALL_CHAINS || budget == 0) {
            vh_small_again(virtio, TRANSMIT);
            break;
        }
        if (!out->busy && vh_virtio_pop(virtio, TRANSMIT, &out->chain) <= 0) {
            watch(hvc, out, 0);
            break;
        }
        out->done = out->busy ? out->done : out->resume_at;
        out->resume_at = 0;
        out->busy = true;
        if (!send_chain(hvc, &budget)) {
            break;
        }
        out->busy = false;
        vh_virtio_push(virtio, TRANSMIT, &out->chain, 0);
    }
    vh_virtio_notify(virtio, TRANSMIT);
}

/* ------------------------------------------------------------------ input */

/* Fill one chain. False: there is no input now, or never again, or the guest takes none. */
static bool receive_chain(struct vh_hvc *hvc, uint64_t *budget)
{
    struct vh_virtio *virtio = &hvc->virtio;
    struct vh_hvc_end *in = &hvc->in;
    struct iovec iov[VH_CHAIN_IOV];
    if (in->gone || (!in->busy && vh_virtio_pop(virtio, RECEIVE, &in->chain) <= 0)) {
        watch(hvc, in, 0); /* until the guest kicks */
        return false;
    }
    in->busy = true;
    uint64_t bytes = in->chain.in_bytes < FILE_BYTES ? in->chain.in_bytes : FILE_BYTES;
    ssize_t got = 0;
    if (bytes > 0) {
        int count = vh_chain_slice(&in->chain, true, 0, bytes, iov, VH_CHAIN_IOV);
        got = read_some(in, iov, count);
        if (got <= 0) {
            in->gone = got < 0;
            watch(hvc, in, in->gone ? 0 : EPOLLIN);
            return false;
        }
    }
    in->busy = false;
    vh_virtio_push(virtio, RECEIVE, &in->chain, (uint32_t)got);
    *budget -= *budget < (uint64_t)got ? *budget : (uint64_t)got;
    return true;
}

static void pump_in(struct vh_hvc *hvc)
{
    uint64_t budget = TURN_BYTES;
    for (uint32_t chains = 0; receive_chain(hvc, &budget); chains++) {
        if (chains == VH_SMALL_CHAINS || budget == 0) {
            vh_small_again(&hvc->virtio, RECEIVE);
            break;
        }
    }
    vh_virtio_notify(&hvc->virtio, RECEIVE);
}

/* ------------------------------------------------------------------ the device */

static void kick(struct vh_virtio *device, uint32_t index)
{
    if (index == RECEIVE) {
        pump_in(of(device));
    } else {
        pump_out(of(device));
    }
}

static void in_ready(void *opaque, uint32_t events)
{
    struct vh_hvc *hvc = opaque;
    (void)events; /* looked at again where bytes are moved */
    vh_virtio_lock(&hvc->virtio);
    pump_in(hvc);
    vh_virtio_unlock(&hvc->virtio);
}

static void out_ready(void *opaque, uint32_t events)
{
    struct vh_hvc *hvc = opaque;
    (void)events;
    vh_virtio_lock(&hvc->virtio);
    if (hvc->out.busy) {
        pump_out(hvc);
    } else {
        watch(hvc, &hvc->out, 0);
    }
    vh_virtio_unlock(&hvc->virtio);
}

/* 5.3.5: a character that comes out at once, also before the driver is there; from a vCPU's thread,
 * so it does not wait. */
static void config_write(struct vh_virtio *device, uint32_t offset, const uint8_t *data,
                         uint32_t bytes)
{
    struct vh_hvc_end *out = &of(device)->out;
    if (offset == CONFIG_EMERG_WRITE && bytes > 0 && !out->gone) {
        uint8_t character = data[0];
        struct iovec iov = {&character, 1};
        out->gone = write_some(out, &iov, 1) < 0;
    }
}

/* Linux reads the size only when it is told that it changed. */
static int32_t start(struct vh_virtio *device, struct vmmhpc_error *err)
{
    (void)err;
    if ((device->features_acked & F_SIZE) != 0) {
        vh_virtio_config_changed(device);
    }
    return VMMHPC_OK;
}

static void stop(struct vh_virtio *device)
{
    struct vh_hvc *hvc = of(device);
    hvc->in.busy = false; /* nothing was read into it */
    hvc->out.busy = false;
    watch(hvc, &hvc->in, 0);
    watch(hvc, &hvc->out, 0);
}

static void close_end(struct vh_hvc *hvc, struct vh_hvc_end *end)
{
    if (hvc->virtio.vm != NULL && end->source.fd >= 0) {
        vh_io_remove(hvc->virtio.vm, &end->source);
    }
    if (end->fd >= 0) {
        (void)close(end->fd);
    }
}

static void destroy(struct vh_virtio *device)
{
    struct vh_hvc *hvc = of(device);
    close_end(hvc, &hvc->in);
    close_end(hvc, &hvc->out);
    free(hvc);
}

static const struct vh_virtio_ops ops = {
    .start = start,
    .stop = stop,
    .kick = kick,
    .config_write = config_write,
    .destroy = destroy,
};

/* ------------------------------------------------------------------ making one */

/* Files and some devices are always ready, and epoll refuses them. */
static bool can_wait(int fd)
{
    struct epoll_event event = {.events = 0};
    int set = epoll_create1(EPOLL_CLOEXEC);
    bool can = set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0;
    if (set >= 0) {
        (void)close(set);
    }
    return can;
}

static int32_t open_end(struct vh_hvc_end *end, int fd, struct vmmhpc_error *err)
{
    struct stat info;
    end->fd = -1;
    end->source.fd = -1;
    end->gone = fd < 0;
    if (fd < 0) {
        return VMMHPC_OK;
    }
    end->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (end->fd < 0 || fstat(end->fd, &info) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(int64_t)fd,
                       "cannot attach the console: the descriptor is not open");
    }
    end->is_socket = S_ISSOCK(info.st_mode);
    end->at_once = end->is_socket || S_ISREG(info.st_mode) ? FILE_BYTES
                   : S_ISFIFO(info.st_mode)                ? PIPE_BYTES
                                                           : TERMINAL_BYTES;
    end->source.fd = can_wait(end->fd) ? end->fd : -1;
    return VMMHPC_OK;
}

static void set_config(struct vh_virtio *virtio, const struct vmmhpc_hvc *config)
{
    const uint32_t ports = 1;
    virtio->config_bytes = CONFIG_BYTES;
    virtio->features = F_EMERG_WRITE;
    memcpy(virtio->config + CONFIG_PORTS, &ports, sizeof(ports));
    if (config->columns != 0 && config->rows != 0) {
        virtio->features |= F_SIZE;
        memcpy(virtio->config + CONFIG_COLUMNS, &config->columns, sizeof(config->columns));
        memcpy(virtio->config + CONFIG_ROWS, &config->rows, sizeof(config->rows));
    }
}

int32_t vh_hvc_new(const struct vmmhpc_hvc *config, struct vh_virtio **device,
                   struct vmmhpc_error *err)
{
    if (config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->size, "console: bad structure size");
    }
    struct vh_hvc *hvc = calloc(1, sizeof(*hvc));
    if (hvc == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*hvc), "no memory for a device");
    }
    hvc->out.fd = -1;
    hvc->out.source.fd = -1;
    int32_t status = open_end(&hvc->in, config->in_fd, err);
    if (status == VMMHPC_OK) {
        status = open_end(&hvc->out, config->out_fd, err);
    }
    if (status != VMMHPC_OK) {
        destroy(&hvc->virtio);
        return status;
    }
    hvc->in.source.ready = in_ready;
    hvc->in.source.opaque = hvc;
    hvc->out.source.ready = out_ready;
    hvc->out.source.opaque = hvc;
    hvc->virtio.ops = &ops;
    hvc->virtio.name = "console";
    hvc->virtio.id = VH_VIRTIO_CONSOLE;
    hvc->virtio.queue_count = 2;
    hvc->virtio.queue_size[RECEIVE] = QUEUE_SIZE;
    hvc->virtio.queue_size[TRANSMIT] = QUEUE_SIZE;
    set_config(&hvc->virtio, config);
    *device = &hvc->virtio;
    return VMMHPC_OK;
}

struct vh_io_source *vh_hvc_source(struct vh_virtio *device, bool output)
{
    return output ? &of(device)->out.source : &of(device)->in.source;
}

static int32_t add_end(struct vmmhpc *vm, struct vh_hvc_end *end, struct vmmhpc_error *err)
{
    end->watched = EPOLLET;
    return end->source.fd < 0 ? VMMHPC_OK : vh_io_add(vm, &end->source, EPOLLET, err);
}

int32_t vmmhpc_add_hvc(struct vmmhpc *vm, const struct vmmhpc_hvc *config, uint32_t *id,
                       struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->add_hvc(vm, config, id, err);
    }
    struct vh_virtio *device = NULL;
    int32_t status = vh_hvc_new(config, &device, err);
    if (status != VMMHPC_OK || device == NULL) {
        return status;
    }
    device->vm = vm;
    status = add_end(vm, &of(device)->in, err);
    if (status == VMMHPC_OK) {
        status = add_end(vm, &of(device)->out, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_virtio_add(vm, device, id, err);
    }
    if (status != VMMHPC_OK) {
        destroy(device);
    }
    return status;
}
