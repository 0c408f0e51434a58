/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, removing and moving names. The parent directory is found as every path is; the last
 * component then goes to the host's *at call, which neither follows a link in it nor leaves the
 * directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <unistd.h>

#include "yod_internal.h"

/* Directory of path argument i; *exists: the path is a name that yod makes, or a root. */
static int parent_of(struct yd_op *op, uint64_t dirfd, uint32_t i, struct yd_parent *parent)
{
    char path[YD_PATH];
    struct yd_file *base = NULL;
    parent->place.fd = -1;
    int result = yd_get_path(op, i, path);
    if (result == 0) {
        result = yd_base(op, dirfd, path, &base);
    }
    if (result != 0) {
        return result;
    }
    result = yd_lookup_parent(op->yod, base, path, parent);
    yd_file_unref(base);
    return result;
}

/* In a directory that yod makes nothing can be changed; but what is there is there. */
static int made_child(struct yd_op *op, const struct yd_parent *parent, int if_there)
{
    char path[2 * YD_PATH];
    struct yd_name child;
    size_t length = strlen(parent->name);
    while (length > 0 && parent->name[length - 1] == '/') {
        length--;
    }
    (void)snprintf(path, sizeof(path), "%.*s/%.*s", (int)parent->place.name.length,
                   parent->place.name.node->path, (int)length, parent->name);
    bool there = strcmp(parent->name, ".") == 0 || strcmp(parent->name, "..") == 0 ||
                 yd_name_find(op->yod, path, &child);
    return there ? if_there : -EROFS;
}

static bool writable(const struct yd_parent *parent)
{
    return parent->place.fd >= 0 && parent->place.root->writable;
}

/* What is under the name itself: a slash at its end would have a link followed, out of sight. */
static int look(const struct yd_parent *parent, struct stat *info)
{
    char name[YD_PATH];
    size_t length = strlen(parent->name);
    while (length > 0 && parent->name[length - 1] == '/') {
        length--;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)length, parent->name);
    return fstatat(parent->place.fd, name, info, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

static bool pinned(const struct yd_op *op, const struct yd_parent *parent)
{
    struct stat info;
    return op->yod->pinned_count > 0 && look(parent, &info) == 0 && yd_is_pinned(op->yod, &info);
}

/* Something that may be there already: it is a better answer than EROFS, and `mkdir -p` needs it.
 */
static int refuse_new(struct yd_op *op, const struct yd_parent *parent)
{
    struct stat info;
    if (parent->place.fd < 0) {
        return made_child(op, parent, -EEXIST);
    }
    return look(parent, &info) == 0 ? -EEXIST : -EROFS;
}

static int refuse_old(struct yd_op *op, const struct yd_parent *parent)
{
    struct stat info;
    if (parent->place.fd < 0) {
        int result = made_child(op, parent, -EBUSY);
        return result == -EROFS ? -ENOENT : result;
    }
    int result = look(parent, &info);
    return result == 0 ? -EROFS : result;
}

/* --------------------------------------------------------------------------- mkdir */

static int64_t do_mkdir(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint64_t mode)
{
    struct vmmhpc_yod *yod = op->yod;
    struct yd_parent parent;
    int result = parent_of(op, dirfd, path_at, &parent);
    if (result != 0) {
        return result;
    }
    if (!writable(&parent)) {
        result = refuse_new(op, &parent);
        yd_place_close(&parent.place);
        return result;
    }
    (void)pthread_mutex_lock(&yod->lock);
    uint32_t wanted = (uint32_t)mode & 01777 & ~yod->umask;
    (void)pthread_mutex_unlock(&yod->lock);
    result = mkdirat(parent.place.fd, parent.name, wanted) != 0 ? -errno : 0;
    if (result == 0 && (wanted & yod->host_umask) != 0) { /* see open.c */
        char path[32];
        struct stat made;
        int fd = yd_open_beneath(parent.place.fd, parent.name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0,
                                 RESOLVE_NO_SYMLINKS);
        if (fd >= 0 && fstat(fd, &made) == 0) { /* it may have inherited a group */
            yd_proc_fd(fd, path);
            (void)chmod(path, wanted | (made.st_mode & S_ISGID));
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    yd_place_close(&parent.place);
    return result;
}

int64_t yd_call_mkdir(struct yd_op *op)
{
    return do_mkdir(op, (uint64_t)AT_FDCWD, 0, op->args[1]);
}

int64_t yd_call_mkdirat(struct yd_op *op)
{
    return do_mkdir(op, op->args[0], 1, op->args[2]);
}

/* -------------------------------------------------------------------------- unlink */

static int64_t do_unlink(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint64_t flags)
{
    struct yd_parent parent;
    if (((uint32_t)flags & ~(uint32_t)AT_REMOVEDIR) != 0) {
        return -EINVAL;
    }
    int result = parent_of(op, dirfd, path_at, &parent);
    if (result != 0) {
        return result;
    }
    if (!writable(&parent)) {
        result = refuse_old(op, &parent);
    } else if ((flags & AT_REMOVEDIR) != 0 && pinned(op, &parent)) {
        result = -EBUSY;
    } else {
        result = unlinkat(parent.place.fd, parent.name, (int)flags) != 0 ? -errno : 0;
    }
    yd_place_close(&parent.place);
    return result;
}

int64_t yd_call_unlink(struct yd_op *op)
{
    return do_unlink(op, (uint64_t)AT_FDCWD, 0, 0);
}

int64_t yd_call_rmdir(struct yd_op *op)
{
    return do_unlink(op, (uint64_t)AT_FDCWD, 0, AT_REMOVEDIR);
}

int64_t yd_call_unlinkat(struct yd_op *op)
{
    return do_unlink(op, op->args[0], 1, op->args[2]);
}

/* -------------------------------------------------------------------------- rename */

static int64_t do_rename(struct yd_op *op, uint64_t from_fd, uint32_t from_at, uint64_t to_fd,
                         uint32_t to_at, uint64_t flags)
{
    struct yd_parent from;
    struct yd_parent to;
    if (((uint32_t)flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        return -EINVAL;
    }
    int result = parent_of(op, from_fd, from_at, &from);
    if (result != 0) {
        return result;
    }
    result = parent_of(op, to_fd, to_at, &to);
    if (result != 0) {
        yd_place_close(&from.place);
        return result;
    }
    if (!writable(&from)) {
        result = refuse_old(op, &from);
    } else if (!writable(&to)) {
        result = to.place.fd < 0 ? made_child(op, &to, -EBUSY) : -EROFS;
    } else if (pinned(op, &from) || pinned(op, &to)) {
        result = -EBUSY;
    } else {
        result = renameat2(from.place.fd, from.name, to.place.fd, to.name, (unsigned)flags) != 0
                     ? -errno
                     : 0;
    }
    yd_place_close(&from.place);
    yd_place_close(&to.place);
    return result;
}

int64_t yd_call_rename(struct yd_op *op)
{
    return do_rename(op, (uint64_t)AT_FDCWD, 0, (uint64_t)AT_FDCWD, 1, 0);
}

int64_t yd_call_renameat(struct yd_op *op)
{
    return do_rename(op, op->args[0], 1, op->args[2], 3, 0);
}

int64_t yd_call_renameat2(struct yd_op *op)
{
    return do_rename(op, op->args[0], 1, op->args[2], 3, op->args[4]);
}

/* ---------------------------------------------------------------------------- links */

static int64_t do_link(struct yd_op *op, uint64_t from_fd, uint32_t from_at, uint64_t to_fd,
                       uint32_t to_at, uint64_t flags)
{
    char path[YD_PATH];
    char own[32];
    struct yd_file *base = NULL;
    struct yd_place from;
    struct yd_parent to;
    if (((uint32_t)flags & ~(uint32_t)AT_SYMLINK_FOLLOW) != 0) {
        return -EINVAL; /* AT_EMPTY_PATH would name a file that is out of sight by now */
    }
    int result = yd_get_path(op, from_at, path);
    if (result == 0) {
        result = yd_base(op, from_fd, path, &base);
    }
    if (result != 0) {
        return result;
    }
    result =
        yd_lookup(op->yod, base, path, (flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : YD_NOFOLLOW, &from);
    yd_file_unref(base);
    if (result != 0) {
        return result;
    }
    result = parent_of(op, to_fd, to_at, &to);
    if (result == 0) {
        /* A second name in a writable root would make the file writable: both ends must be. */
        if (from.fd < 0 || !from.root->writable) {
            result = -EROFS;
        } else if (!writable(&to)) {
            result = refuse_new(op, &to);
        } else {
            yd_proc_fd(from.fd, own);
            result =
                linkat(AT_FDCWD, own, to.place.fd, to.name, AT_SYMLINK_FOLLOW) != 0 ? -errno : 0;
        }
        yd_place_close(&to.place);
    }
    yd_place_close(&from);
    return result;
}

int64_t yd_call_link(struct yd_op *op)
{
    return do_link(op, (uint64_t)AT_FDCWD, 0, (uint64_t)AT_FDCWD, 1, 0);
}

int64_t yd_call_linkat(struct yd_op *op)
{
    return do_link(op, op->args[0], 1, op->args[2], 3, op->args[4]);
}

static int64_t do_symlink(struct yd_op *op, uint64_t dirfd, uint32_t path_at)
{
    char target[YD_PATH];
    struct yd_parent parent;
    int result = yd_get_path(op, 0, target);
    if (result == 0) {
        result = parent_of(op, dirfd, path_at, &parent);
    }
    if (result != 0) {
        return result;
    }
    if (!writable(&parent)) {
        result = refuse_new(op, &parent);
    } else {
        result = symlinkat(target, parent.place.fd, parent.name) != 0 ? -errno : 0;
    }
    yd_place_close(&parent.place);
    return result;
}

int64_t yd_call_symlink(struct yd_op *op)
{
    return do_symlink(op, (uint64_t)AT_FDCWD, 1);
}

int64_t yd_call_symlinkat(struct yd_op *op)
{
    return do_symlink(op, op->args[1], 2);
}
