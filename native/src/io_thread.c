/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's one I/O thread: it pumps the console and carries out resets and stops. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

/* Room for a TypeScript or C handler's own needs; untouched pages cost nothing. */
#define STACK_BYTES ((size_t)256 * 1024)
/* A guest prints byte by byte: let some gather, so that a line costs one wake-up and one write. */
#define GATHER_NS 1000000

int32_t vh_thread_start(pthread_t *thread, void *(*start)(void *), void *arg, const char *name,
                        struct vmmhpc_error *err)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int failed = pthread_attr_init(&attr);
    if (failed == 0) {
        (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
        /* The process's signals belong to its own threads. */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(thread, &attr, start, arg);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        (void)pthread_attr_destroy(&attr);
    }
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, failed, 0, "cannot create thread %s", name);
    }
    (void)pthread_setname_np(*thread, name);
    return VMMHPC_OK;
}

void vh_io_wake(struct vmmhpc *vm)
{
    (void)eventfd_write(vm->wake_fd, 1);
}

/* False where the socket is full. Records are small enough to go whole or not at all. */
static bool send_record(int fd, const struct vmmhpc_event *event)
{
    return send(fd, event, sizeof(*event), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

void vh_send_event(struct vmmhpc *vm, uint32_t type, uint64_t arg)
{
    struct vmmhpc_event event = {.type = type, .arg = arg, .time_ns = vh_now_ns()};
    (void)pthread_mutex_lock(&vm->event_lock);
    if (vm->event_fd >= 0 && (vm->late_event.type != 0 || !send_record(vm->event_fd, &event))) {
        /* Nobody reads. What counts is the state in the end: the I/O thread sends it later. */
        if (type == VMMHPC_EVENT_STATE) {
            vm->late_event = event;
            vh_io_wake(vm);
        }
    }
    (void)pthread_mutex_unlock(&vm->event_lock);
}

/* Try again; the descriptor to wait for, or -1. */
static int send_late_event(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->event_lock);
    if (vm->late_event.type != 0 && send_record(vm->event_fd, &vm->late_event)) {
        vm->late_event.type = 0;
    }
    int fd = vm->late_event.type != 0 ? vm->event_fd : -1;
    (void)pthread_mutex_unlock(&vm->event_lock);
    return fd;
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
        vh_console_pump(vm);
        bool told = finished && vh_console_finish(vm);
        if (finished && destroying(vm)) {
            return NULL;
        }
        /* poll() passes over descriptor -1. */
        struct pollfd fds[5] = {{.fd = vm->wake_fd, .events = POLLIN},
                                {.fd = vh_io_poll_fd(vm), .events = POLLIN},
                                {.fd = send_late_event(vm), .events = POLLOUT}};
        uint32_t extra = told ? 0 : vh_console_poll(vm, fds + 3);
        if (poll(fds, 3 + extra, -1) < 0 && errno != EINTR) {
            return NULL; /* cannot happen with valid descriptors */
        }
        if ((fds[1].revents & POLLIN) != 0) {
            vh_io_dispatch(vm);
        }
        eventfd_t count = 0;
        if (eventfd_read(vm->wake_fd, &count) == 0 && !finished) {
            gather(vm);
        }
    }
}

int32_t vh_io_thread_start(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    return vh_thread_start(&vm->io_thread, io_main, vm, "vmmhpc-io", err);
}

int32_t vmmhpc_open_events(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create a socket pair");
    }
    (void)pthread_mutex_lock(&vm->event_lock);
    if (vm->event_fd >= 0) {
        (void)close(vm->event_fd);
    }
    vm->event_fd = pair[0];
    vm->late_event.type = 0;
    (void)pthread_mutex_unlock(&vm->event_lock);
    *fd = pair[1];
    return VMMHPC_OK;
}
