/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the I/O thread watches for devices, in one epoll set. */
#include "io_loop.h"

#include <errno.h>
#include <unistd.h>

#include "machine.h"

/* Level-triggered: what does not fit in one turn comes in the next. */
#define BATCH 16

/* EPOLLHUP and EPOLLERR come unasked: once, where nothing is waited for, and not again and again.
 */
static struct epoll_event wanted(struct vh_io_source *source, uint32_t events)
{
    return (struct epoll_event){.events = events == 0 ? EPOLLET : events, .data.ptr = source};
}

int32_t vh_io_add(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events,
                  struct vmmhpc_error *err)
{
    struct vh_io_loop *loop = &vm->io_loop;
    if (loop->epoll_fd < 0) {
        loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    }
    struct epoll_event event = wanted(source, events);
    if (loop->epoll_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, (uint64_t)(int64_t)source->fd,
                       "cannot watch a device's descriptor");
    }
    return VMMHPC_OK;
}

void vh_io_watch(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events)
{
    struct epoll_event event = wanted(source, events);
    (void)epoll_ctl(vm->io_loop.epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

void vh_io_remove(struct vmmhpc *vm, struct vh_io_source *source)
{
    if (vm->io_loop.epoll_fd >= 0) {
        (void)epoll_ctl(vm->io_loop.epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    }
}

int vh_io_poll_fd(const struct vmmhpc *vm)
{
    return atomic_load(&vm->state) == VMMHPC_STATE_RUNNING ? vm->io_loop.epoll_fd : -1;
}

void vh_io_dispatch(struct vmmhpc *vm)
{
    struct epoll_event events[BATCH];
    (void)pthread_mutex_lock(&vm->io_loop.lock);
    /* A pause that came meanwhile finds nothing at work. */
    if (atomic_load(&vm->state) == VMMHPC_STATE_RUNNING) {
        int count = epoll_wait(vm->io_loop.epoll_fd, events, BATCH, 0);
        for (int i = 0; i < count; i++) {
            const struct vh_io_source *source = events[i].data.ptr;
            source->ready(source->opaque, events[i].events);
        }
    }
    (void)pthread_mutex_unlock(&vm->io_loop.lock);
}

void vh_io_quiesce(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->io_loop.lock);
    (void)pthread_mutex_unlock(&vm->io_loop.lock);
}
