/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on descriptors themselves: dup, pipe, fcntl, ioctl. */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "yod_internal.h"

#define SETTABLE ((uint32_t)(O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME))
#define LARGEFILE 0100000u

int64_t yd_call_close(struct yd_op *op)
{
    return yd_fd_close(op->yod, op->args[0]);
}

int64_t yd_call_dup(struct yd_op *op)
{
    struct yd_file *file = yd_fd_get(op->yod, op->args[0]);
    return file == NULL ? -EBADF : yd_fd_install(op->yod, file, 0, false);
}

static int64_t replace(struct yd_op *op, bool close_on_exec)
{
    struct vmmhpc_yod *yod = op->yod;
    uint32_t to = (uint32_t)op->args[1];
    if (to >= yod->fd_limit) {
        return -EBADF;
    }
    struct yd_file *file = yd_fd_get(yod, op->args[0]);
    if (file == NULL) {
        return -EBADF;
    }
    (void)pthread_mutex_lock(&yod->lock);
    struct yd_file *before = yod->fds[to].file;
    yod->fds[to] = (struct yd_fd){file, close_on_exec};
    (void)pthread_mutex_unlock(&yod->lock);
    yd_file_unref(before);
    return to;
}

int64_t yd_call_dup2(struct yd_op *op)
{
    if ((uint32_t)op->args[0] != (uint32_t)op->args[1]) {
        return replace(op, false);
    }
    struct yd_file *file = yd_op_file(op, 0);
    return file == NULL ? -EBADF : (int64_t)(uint32_t)op->args[1];
}

int64_t yd_call_dup3(struct yd_op *op)
{
    uint32_t flags = (uint32_t)op->args[2];
    if ((flags & ~(uint32_t)O_CLOEXEC) != 0 || (uint32_t)op->args[0] == (uint32_t)op->args[1]) {
        return -EINVAL;
    }
    return replace(op, flags != 0);
}

/* -------------------------------------------------------------------------- pipes */

static int64_t do_pipe(struct yd_op *op, uint32_t flags)
{
    struct vmmhpc_yod *yod = op->yod;
    int ends[2];
    int32_t numbers[2] = {-1, -1};
    if ((flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) != 0) {
        return -EINVAL;
    }
    if (yd_memory(op, 0, sizeof(numbers)) == NULL) {
        return -EFAULT;
    }
    /* For us never blocking; the guest's own wish is in the file's flags. */
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK | (int)(flags & O_DIRECT)) != 0) {
        return -errno;
    }
    struct yd_file *files[2];
    for (uint32_t i = 0; i < 2; i++) {
        files[i] =
            yd_file_new(ends[i], (flags & ~(uint32_t)O_CLOEXEC) | (i == 0 ? O_RDONLY : O_WRONLY));
        if (files[i] != NULL) {
            files[i]->kind = YD_STREAM;
            files[i]->read_only = true;
        }
    }
    int result = -ENOMEM;
    for (uint32_t i = 0; i < 2 && files[0] != NULL && files[1] != NULL; i++) {
        result = yd_fd_install(yod, yd_file_ref(files[i]), 0, (flags & O_CLOEXEC) != 0);
        numbers[i] = result;
        if (result < 0) {
            break;
        }
    }
    if (result < 0 && numbers[0] >= 0) {
        (void)yd_fd_close(yod, (uint64_t)numbers[0]);
    }
    yd_file_unref(files[0]);
    yd_file_unref(files[1]);
    return result < 0 ? result : yd_put(op, 0, numbers, sizeof(numbers));
}

int64_t yd_call_pipe(struct yd_op *op)
{
    return do_pipe(op, 0);
}

int64_t yd_call_pipe2(struct yd_op *op)
{
    return do_pipe(op, (uint32_t)op->args[1]);
}

/* -------------------------------------------------------------------------- fcntl */

static int64_t set_flags(struct yd_op *op, struct yd_file *file, uint32_t wanted)
{
    struct vmmhpc_yod *yod = op->yod;
    uint32_t changed = (yd_file_flags(file, yod) ^ wanted) & SETTABLE & ~(uint32_t)O_NONBLOCK;
    if (file->kind == YD_PLAIN && changed != 0) {
        if (file->standard) {
            return -EPERM; /* the host's programs share this description */
        }
        int now = fcntl(file->fd, F_GETFL);
        if (now < 0 || fcntl(file->fd, F_SETFL,
                             (now & ~(int)SETTABLE) | O_NONBLOCK | (int)(wanted & SETTABLE)) != 0) {
            return -errno;
        }
    }
    (void)pthread_mutex_lock(&yod->lock);
    file->flags = (file->flags & ~SETTABLE) | (wanted & SETTABLE);
    (void)pthread_mutex_unlock(&yod->lock);
    return 0;
}

static int64_t close_on_exec(struct yd_op *op, bool set, bool value)
{
    struct vmmhpc_yod *yod = op->yod;
    uint32_t fd = (uint32_t)op->args[0];
    int64_t result = -EBADF;
    (void)pthread_mutex_lock(&yod->lock);
    if (fd < YD_FDS && yod->fds[fd].file != NULL) {
        result = !set && yod->fds[fd].close_on_exec ? FD_CLOEXEC : 0;
        yod->fds[fd].close_on_exec = set ? value : yod->fds[fd].close_on_exec;
    }
    (void)pthread_mutex_unlock(&yod->lock);
    return result;
}

int64_t yd_call_fcntl(struct yd_op *op)
{
    struct yd_file *file = yd_op_file(op, 0);
    uint64_t value = op->args[2];
    if (file == NULL) {
        return -EBADF;
    }
    switch ((int)op->args[1]) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if (value >= op->yod->fd_limit) {
            return -EINVAL;
        }
        return yd_fd_install(op->yod, yd_file_ref(file), (uint32_t)value,
                             (int)op->args[1] == F_DUPFD_CLOEXEC);
    case F_GETFD:
        return close_on_exec(op, false, false);
    case F_SETFD:
        return close_on_exec(op, true, (value & FD_CLOEXEC) != 0);
    case F_GETFL:
        return yd_file_flags(file, op->yod) | LARGEFILE;
    case F_SETFL:
        return set_flags(op, file, (uint32_t)value);
    case F_GETPIPE_SZ: {
        int size = file->kind == YD_STREAM ? fcntl(file->fd, F_GETPIPE_SZ) : -1;
        return size < 0 ? -EBADF : size;
    }
    default:
        /* Record locks belong to a process, and many guests may share one: not provided. */
        return -EINVAL;
    }
}

/* -------------------------------------------------------------------------- ioctl */

static int64_t get_terminal(struct yd_op *op, const struct yd_file *file)
{
    struct termios settings; /* the kernel's */
    if (ioctl(file->fd, TCGETS, &settings) != 0) {
        return -errno;
    }
    return yd_put(op, 2, &settings, sizeof(settings));
}

/* Never TCSETSW or TCSETSF: they would wait here, in the vCPU, until the terminal took all output.
 */
static int64_t set_terminal(struct yd_op *op, const struct yd_file *file, uint32_t request)
{
    struct termios settings;
    int result = yd_get(op, 2, &settings, sizeof(settings));
    if (result != 0) {
        return result;
    }
    if (request == TCSETSF) {
        (void)ioctl(file->fd, TCFLSH, TCIFLUSH);
    }
    return ioctl(file->fd, TCSETS, &settings) != 0 ? -errno : 0;
}

static int64_t get_window(struct yd_op *op, const struct yd_file *file)
{
    struct winsize size;
    if (ioctl(file->fd, TIOCGWINSZ, &size) != 0) {
        return -errno;
    }
    return yd_put(op, 2, &size, sizeof(size));
}

static int64_t get_readable(struct yd_op *op, const struct yd_file *file)
{
    int bytes = 0;
    if (ioctl(file->fd, FIONREAD, &bytes) != 0) {
        return -errno;
    }
    return yd_put(op, 2, &bytes, sizeof(bytes));
}

int64_t yd_call_ioctl(struct yd_op *op)
{
    struct yd_file *file = yd_op_file(op, 0);
    int32_t on = 0;
    if (file == NULL) {
        return -EBADF;
    }
    uint32_t request = (uint32_t)op->args[1];
    if (request == FIOCLEX || request == FIONCLEX) {
        return close_on_exec(op, true, request == FIOCLEX);
    }
    if (request == FIONBIO) {
        int result = yd_get(op, 2, &on, sizeof(on));
        uint32_t flags = yd_file_flags(file, op->yod);
        return result != 0
                   ? result
                   : set_flags(op, file,
                               on != 0 ? flags | O_NONBLOCK : flags & ~(uint32_t)O_NONBLOCK);
    }
    if (file->fd < 0 || (yd_file_flags(file, op->yod) & O_PATH) != 0) {
        return -ENOTTY;
    }
    switch (request) {
    case TCGETS:
        return get_terminal(op, file);
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return set_terminal(op, file, request);
    case TIOCGWINSZ:
        return get_window(op, file);
    case FIONREAD:
        return get_readable(op, file);
    default:
        return -ENOTTY;
    }
}
