/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's descriptors, and the open files behind them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "yod_internal.h"

#define MEMORY_DEVICES 1u /* major number of /dev/null, zero, full, random, urandom */

struct yd_file *yd_file_new(int fd, uint32_t flags)
{
    struct yd_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return NULL;
    }
    atomic_init(&file->references, 1);
    file->fd = fd;
    file->flags = flags;
    return file;
}

struct yd_file *yd_file_ref(struct yd_file *file)
{
    if (file != NULL) {
        (void)atomic_fetch_add(&file->references, 1);
    }
    return file;
}

void yd_file_unref(struct yd_file *file)
{
    if (file != NULL && atomic_fetch_sub(&file->references, 1) == 1) {
        if (file->fd >= 0) {
            (void)close(file->fd);
        }
        free(file);
    }
}

struct yd_file *yd_fd_get(struct vmmhpc_yod *yod, uint64_t fd)
{
    struct yd_file *file = NULL;
    uint32_t number = (uint32_t)fd; /* an int in the guest: the upper half means nothing */
    (void)pthread_mutex_lock(&yod->lock);
    if (number < YD_FDS) {
        file = yd_file_ref(yod->fds[number].file);
    }
    (void)pthread_mutex_unlock(&yod->lock);
    return file;
}

struct yd_file *yd_op_file(struct yd_op *op, uint32_t i)
{
    if (op->file == NULL) {
        op->file = yd_fd_get(op->yod, op->args[i]);
    }
    return op->file;
}

int yd_fd_install(struct vmmhpc_yod *yod, struct yd_file *file, uint32_t least, bool close_on_exec)
{
    int result = -EMFILE;
    (void)pthread_mutex_lock(&yod->lock);
    for (uint32_t i = least; i < yod->fd_limit; i++) {
        if (yod->fds[i].file == NULL) {
            yod->fds[i] = (struct yd_fd){file, close_on_exec};
            result = (int)i;
            break;
        }
    }
    (void)pthread_mutex_unlock(&yod->lock);
    if (result < 0) {
        yd_file_unref(file);
    }
    return result;
}

int64_t yd_fd_close(struct vmmhpc_yod *yod, uint64_t fd)
{
    struct yd_file *file = NULL;
    uint32_t number = (uint32_t)fd;
    (void)pthread_mutex_lock(&yod->lock);
    if (number < YD_FDS) {
        file = yod->fds[number].file;
        yod->fds[number].file = NULL;
    }
    (void)pthread_mutex_unlock(&yod->lock);
    yd_file_unref(file);
    return file != NULL ? 0 : -EBADF;
}

uint32_t yd_file_flags(struct yd_file *file, struct vmmhpc_yod *yod)
{
    (void)pthread_mutex_lock(&yod->lock);
    uint32_t flags = file->flags;
    (void)pthread_mutex_unlock(&yod->lock);
    return flags;
}

/* Terminals and other devices than those of memory; and anonymous inodes, such as eventfds. */
static bool may_block(const struct yd_file *file, mode_t mode)
{
    struct stat info;
    if (S_ISCHR(mode)) {
        return fstat(file->fd, &info) == 0 && major(info.st_rdev) != MEMORY_DEVICES;
    }
    return !S_ISREG(mode) && !S_ISDIR(mode) && !S_ISBLK(mode) && !S_ISLNK(mode);
}

void yd_file_classify(struct yd_file *file, mode_t mode)
{
    file->kind = may_block(file, mode) ? YD_STREAM : YD_PLAIN;
    if (S_ISSOCK(mode)) {
        file->kind = YD_SOCKET;
    }
    if ((file->flags & O_PATH) != 0) {
        file->kind = YD_PLAIN;
    } else if (file->kind == YD_STREAM && !file->shared) {
        int flags = fcntl(file->fd, F_GETFL);
        if (flags >= 0 && (flags & O_NONBLOCK) == 0) {
            (void)fcntl(file->fd, F_SETFL, flags | O_NONBLOCK);
        }
    }
}

/* A pipe or terminal that others use too gets an open file description of its own where the host
 * allows it, so that it can be non-blocking for us alone. Where it does not: stream.c. */
static int own_description(int fd, mode_t mode, int flags)
{
    char path[32];
    if (!S_ISFIFO(mode) && !(S_ISCHR(mode) && isatty(fd) == 1)) {
        return -1;
    }
    yd_proc_fd(fd, path);
    return open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int standard(struct vmmhpc_yod *yod, uint32_t number, int32_t from)
{
    struct stat info;
    int flags = fcntl(from, F_GETFL);
    if (flags < 0 || fstat(from, &info) != 0) {
        return -errno;
    }
    int fd = own_description(from, info.st_mode, flags);
    bool shared = fd < 0;
    if (shared) {
        fd = fcntl(from, F_DUPFD_CLOEXEC, 3);
    }
    if (fd < 0) {
        return -errno;
    }
    struct yd_file *file = yd_file_new(
        fd, (uint32_t)flags & (O_ACCMODE | O_APPEND | O_PATH)); /* blocking, for the guest */
    if (file == NULL) {
        return -ENOMEM;
    }
    file->shared = shared;
    file->standard = true;
    yd_file_classify(file, info.st_mode);
    yod->fds[number].file = file;
    return 0;
}

int yd_fds_standard(struct vmmhpc_yod *yod, const int32_t fds[3])
{
    for (uint32_t i = 0; i < 3; i++) {
        int result = fds[i] < 0 ? 0 : standard(yod, i, fds[i]);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}
