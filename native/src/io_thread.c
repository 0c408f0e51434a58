/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's one I/O thread: it pumps the console and carries out resets and stops. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

/* A guest prints byte by byte: let some gather, so that a line costs one wake-up and one write. */
#define GATHER_NS 1000000

void vh_io_wake(struct vmmhpc *vm)
{
    (void)eventfd_write(vm->wake_fd, 1);
}

/* False where the socket is full. Records are small enough to go whole or not at all. A stream
 * whose reader has gone is closed. sendmsg(): the one call that every thread of a confined process
 * has for sockets. */
static bool send_record(struct vh_event_stream *stream, const struct vmmhpc_event *event)
{
    struct iovec iov = {(void *)(uintptr_t)event, sizeof(*event)};
    const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        return true;
    }
    if (errno == EAGAIN) {
        return false;
    }
    (void)close(stream->fd);
    *stream = (struct vh_event_stream){.fd = -1};
    return true;
}

void vh_events_init(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        vm->streams[i] = (struct vh_event_stream){.fd = -1};
    }
}

void vh_send_event(struct vmmhpc *vm, uint32_t type, uint64_t arg)
{
    struct vmmhpc_event event = {.type = type, .arg = arg, .time_ns = vh_now_ns()};
    if (vm->event_hook.tell != NULL) {
        vm->event_hook.tell(vm->event_hook.opaque, &event);
    }
    (void)pthread_mutex_lock(&vm->event_lock);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        struct vh_event_stream *stream = &vm->streams[i];
        if (stream->fd < 0 || (stream->late_event.type == 0 && send_record(stream, &event))) {
            continue;
        }
        /* Nobody reads. What counts is the state in the end: the I/O thread sends it later. */
        if (stream->fd >= 0 && type == VMMHPC_EVENT_STATE) {
            stream->late_event = event;
            vh_io_wake(vm);
        }
    }
    (void)pthread_mutex_unlock(&vm->event_lock);
}

/* Try again; how many descriptors to wait for were written to fds (at most VH_EVENT_STREAMS). */
static uint32_t send_late_events(struct vmmhpc *vm, struct pollfd *fds)
{
    uint32_t count = 0;
    (void)pthread_mutex_lock(&vm->event_lock);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        struct vh_event_stream *stream = &vm->streams[i];
        if (stream->late_event.type == 0) {
            continue;
        }
        if (send_record(stream, &stream->late_event)) {
            stream->late_event.type = 0;
        } else {
            fds[count++] = (struct pollfd){.fd = stream->fd, .events = POLLOUT};
        }
    }
    (void)pthread_mutex_unlock(&vm->event_lock);
    return count;
}

static bool destroying(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->lock);
    bool result = vm->destroying;
    (void)pthread_mutex_unlock(&vm->lock);
    return result;
}

/* Wait for device work only, until the console's output has had time to gather. */
static void gather(struct vmmhpc *vm)
{
    uint64_t end = vh_now_ns() + GATHER_NS;
    for (uint64_t now = 0; (now = vh_now_ns()) < end;) {
        struct timespec left = {0, (long)(end - now)};
        struct pollfd device = {.fd = vh_io_poll_fd(vm), .events = POLLIN};
        if (ppoll(&device, 1, &left, NULL) > 0) {
            vh_io_dispatch(vm);
        }
    }
}

static void *io_main(void *arg)
{
    struct vmmhpc *vm = arg;
    for (;;) {
        bool finished = vh_lifecycle_step(vm);
        vh_modules_step(vm);
        vh_console_pump(vm);
        bool told = finished && vh_console_finish(vm);
        if (finished && destroying(vm)) {
            return NULL;
        }
        /* poll() passes over descriptor -1. */
        struct pollfd fds[2 + VH_CONSOLE_POLLS + VH_EVENT_STREAMS] = {
            {.fd = vm->wake_fd, .events = POLLIN}, {.fd = vh_io_poll_fd(vm), .events = POLLIN}};
        uint32_t count = 2;
        count += told ? 0 : vh_console_poll(vm, fds + count);
        count += send_late_events(vm, fds + count);
        if (vh_poll(fds, count, -1) < 0 && errno != EINTR) {
            return NULL; /* cannot happen with valid descriptors */
        }
        if ((fds[1].revents & POLLIN) != 0) {
            vh_io_dispatch(vm);
        }
        eventfd_t wakes = 0;
        if (eventfd_read(vm->wake_fd, &wakes) == 0 && !finished) {
            gather(vm);
        }
    }
}

int32_t vh_io_thread_start(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    return vh_thread_start(&vm->threads, VH_THREAD_IO, &vm->io_thread, io_main, vm, "vmmhpc-io",
                           err);
}

/* A reader that went while nothing happened is noticed here: its stream is free again. */
static void drop_deserted(struct vh_event_stream *stream)
{
    struct pollfd reader = {.fd = stream->fd};
    if (stream->fd >= 0 && vh_poll(&reader, 1, 0) == 1) {
        (void)close(stream->fd);
        *stream = (struct vh_event_stream){.fd = -1};
    }
}

int32_t vmmhpc_open_events(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->events(vm, fd, err);
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create a socket pair");
    }
    struct vh_event_stream *stream = NULL;
    (void)pthread_mutex_lock(&vm->event_lock);
    for (uint32_t i = 0; stream == NULL && i < VH_EVENT_STREAMS; i++) {
        drop_deserted(&vm->streams[i]);
        stream = vm->streams[i].fd < 0 ? &vm->streams[i] : NULL;
    }
    if (stream != NULL) {
        *stream = (struct vh_event_stream){.fd = pair[0]};
    }
    (void)pthread_mutex_unlock(&vm->event_lock);
    if (stream == NULL) {
        (void)close(pair[0]);
        (void)close(pair[1]);
        return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_EVENT_STREAMS,
                       "a machine has at most %u streams of events", VH_EVENT_STREAMS);
    }
    *fd = pair[1];
    return VMMHPC_OK;
}
