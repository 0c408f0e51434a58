/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts on pipes, terminals and sockets that never block.
 *
 * Most are on a description of our own, which is non-blocking. A shared one keeps its flags: there
 * an attempt asks the kernel not to wait (sockets; RWF_NOWAIT where the file knows it), and else
 * asks poll() and moves no more than a writable pipe or terminal takes.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "yod_internal.h"

#define SHARED_WRITE_MAX 512u /* a terminal that polls as writable has room for so much */
#define SHARED_PIPE_MAX 4096u /* PIPE_BUF */
#define ONE_ATTEMPT (1u << 20)

static bool ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) == 1;
}

static int64_t result_of(ssize_t moved)
{
    return moved >= 0 ? moved : -errno;
}

int64_t yd_stream_read(const struct yd_file *file, void *to, uint64_t bytes)
{
    if (bytes > ONE_ATTEMPT) {
        bytes = ONE_ATTEMPT;
    }
    if (file->kind == YD_SOCKET) {
        int64_t got = result_of(recv(file->fd, to, bytes, MSG_DONTWAIT));
        return got == -ENOTSOCK ? -EINVAL : got;
    }
    if (!file->shared) {
        return result_of(read(file->fd, to, bytes));
    }
    struct iovec piece = {to, bytes};
    int64_t got = result_of(preadv2(file->fd, &piece, 1, -1, RWF_NOWAIT));
    if (got != -EOPNOTSUPP && got != -EINVAL) {
        return got;
    }
    return ready(file->fd, POLLIN) ? result_of(read(file->fd, to, bytes)) : -EAGAIN;
}

int64_t yd_stream_write(const struct yd_file *file, const void *from, uint64_t bytes)
{
    if (bytes > ONE_ATTEMPT) {
        bytes = ONE_ATTEMPT;
    }
    if (file->kind == YD_SOCKET) {
        return result_of(send(file->fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    if (!file->shared) {
        return result_of(write(file->fd, from, bytes));
    }
    if (!ready(file->fd, POLLOUT)) {
        return -EAGAIN;
    }
    uint64_t most = isatty(file->fd) == 1 ? SHARED_WRITE_MAX : SHARED_PIPE_MAX;
    return result_of(write(file->fd, from, bytes < most ? bytes : most));
}

int64_t yd_wait_for(struct yd_op *op, short events)
{
    op->events = events;
    return YD_LATER;
}
