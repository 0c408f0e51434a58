/* SPDX-License-Identifier: Apache-2.0 */
/* The current directory and the umask: the guest's own, not the process's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "yod_internal.h"

/* Takes the reference. */
static void set_cwd(struct vmmhpc_yod *yod, struct yd_file *file)
{
    (void)pthread_mutex_lock(&yod->lock);
    struct yd_file *before = yod->cwd;
    yod->cwd = file;
    (void)pthread_mutex_unlock(&yod->lock);
    yd_file_unref(before);
}

int64_t yd_call_chdir(struct yd_op *op)
{
    struct vmmhpc_yod *yod = op->yod;
    char path[YD_PATH];
    struct yd_file *base = NULL;
    struct yd_place place;
    int result = yd_get_path(op, 0, path);
    if (result == 0) {
        result = yd_base(op, (uint64_t)AT_FDCWD, path, &base);
    }
    if (result == 0) {
        result = yd_lookup(yod, base, path, YD_DIRECTORY, &place);
        yd_file_unref(base);
    }
    if (result != 0) {
        return result;
    }
    if (place.fd >= 0 &&
        syscall(SYS_faccessat2, place.fd, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) != 0) {
        result = -errno;
        yd_place_close(&place);
        return result;
    }
    struct yd_file *file = yd_file_new(place.fd, O_PATH);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->kind = place.fd < 0 ? YD_LISTING : YD_PLAIN;
    file->name = place.name;
    file->root = place.root;
    file->made = place.fd < 0;
    file->read_only = place.root == NULL || !place.root->writable;
    set_cwd(yod, file);
    return 0;
}

int64_t yd_call_fchdir(struct yd_op *op)
{
    struct yd_file *file = yd_fd_get(op->yod, op->args[0]);
    struct stat info;
    int result = 0;
    if (file == NULL) {
        return -EBADF;
    }
    if (file->kind != YD_LISTING) {
        if (fstat(file->fd, &info) != 0 || !S_ISDIR(info.st_mode)) {
            result = -ENOTDIR;
        } else if (file->root == NULL) {
            result = -EACCES; /* handed over as a standard stream, and not beneath a root */
        } else if (syscall(SYS_faccessat2, file->fd, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) != 0) {
            result = -errno;
        }
    }
    if (result != 0) {
        yd_file_unref(file);
        return result;
    }
    set_cwd(op->yod, file);
    return 0;
}

int64_t yd_call_getcwd(struct yd_op *op)
{
    struct vmmhpc_yod *yod = op->yod;
    char path[YD_PATH];
    const struct yd_root *root = NULL;
    struct stat info;
    (void)pthread_mutex_lock(&yod->lock);
    struct yd_file *cwd = yd_file_ref(yod->cwd);
    (void)pthread_mutex_unlock(&yod->lock);
    int result = 0;
    if (cwd == NULL) {
        return -ENOENT;
    }
    if (cwd->kind == YD_LISTING) {
        (void)snprintf(path, sizeof(path), "%.*s", (int)cwd->name.length, cwd->name.node->path);
        if (path[0] == '\0') {
            memcpy(path, "/", 2);
        }
    } else if (fstat(cwd->fd, &info) != 0 || info.st_nlink == 0) {
        result = -ENOENT; /* removed */
    } else {
        result = yd_guest_path(yod, cwd->fd, path, &root);
    }
    yd_file_unref(cwd);
    if (result != 0) {
        return result;
    }
    size_t bytes = strlen(path) + 1;
    if (bytes > op->args[1]) {
        return -ERANGE;
    }
    result = yd_put(op, 0, path, bytes);
    return result != 0 ? result : (int64_t)bytes;
}

int64_t yd_call_umask(struct yd_op *op)
{
    (void)pthread_mutex_lock(&op->yod->lock);
    uint32_t before = op->yod->umask;
    op->yod->umask = (uint32_t)op->args[0] & 0777;
    (void)pthread_mutex_unlock(&op->yod->lock);
    return before;
}
