/* SPDX-License-Identifier: Apache-2.0 */
/* Modes, owners, times: only of files beneath a writable root. */
#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include "yod_internal.h"

/** A file whose metadata may change: a descriptor, maybe O_PATH, and who owns it. */
struct target {
    int fd;
    struct yd_file *file;
    struct yd_place place;
};

static void forget(struct target *t)
{
    yd_file_unref(t->file);
    yd_place_close(&t->place);
    t->file = NULL;
}

static int may_change(struct target *t)
{
    bool refused = t->file != NULL ? t->file->read_only || t->file->standard
                                   : t->place.root == NULL || !t->place.root->writable;
    t->fd = t->file != NULL ? t->file->fd : t->place.fd;
    if (refused) {
        forget(t);
    }
    return refused ? -EROFS : 0;
}

static int by_descriptor(struct yd_op *op, uint64_t fd, bool path_too, struct target *t)
{
    *t = (struct target){.place = {.fd = -1}, .file = yd_fd_get(op->yod, fd)};
    if (t->file == NULL) {
        return -EBADF;
    }
    if (!path_too && (yd_file_flags(t->file, op->yod) & O_PATH) != 0) {
        forget(t);
        return -EBADF;
    }
    return may_change(t);
}

static int by_path(struct yd_op *op, uint64_t dirfd, uint32_t i, uint32_t flags, struct target *t)
{
    char path[YD_PATH];
    struct yd_file *base = NULL;
    *t = (struct target){.place = {.fd = -1}};
    int result = yd_get_path(op, i, path);
    if (result == 0) {
        result = yd_base(op, dirfd, path, &base);
    }
    if (result != 0) {
        return result;
    }
    if (path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0) {
        t->file = base;
        return base == NULL ? -ENOENT : may_change(t);
    }
    result = yd_lookup(op->yod, base, path, (flags & AT_SYMLINK_NOFOLLOW) != 0 ? YD_NOFOLLOW : 0,
                       &t->place);
    yd_file_unref(base);
    return result != 0 ? result : may_change(t);
}

/* --------------------------------------------------------------------------- modes */

static int64_t do_chmod(struct target *t, uint64_t mode)
{
    char path[32];
    yd_proc_fd(t->fd, path); /* fchmod() refuses an O_PATH descriptor */
    int64_t result = chmod(path, (mode_t)mode & 07777) != 0 ? -errno : 0;
    forget(t);
    return result;
}

int64_t yd_call_chmod(struct yd_op *op)
{
    struct target t;
    int result = by_path(op, (uint64_t)AT_FDCWD, 0, 0, &t);
    return result != 0 ? result : do_chmod(&t, op->args[1]);
}

int64_t yd_call_fchmodat(struct yd_op *op)
{
    struct target t;
    int result = by_path(op, op->args[0], 1, 0, &t);
    return result != 0 ? result : do_chmod(&t, op->args[2]);
}

int64_t yd_call_fchmod(struct yd_op *op)
{
    struct target t;
    int result = by_descriptor(op, op->args[0], false, &t);
    return result != 0 ? result : do_chmod(&t, op->args[1]);
}

/* -------------------------------------------------------------------------- owners */

static int64_t do_chown(struct target *t, uint64_t uid, uint64_t gid)
{
    int64_t result = fchownat(t->fd, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH) != 0 ? -errno : 0;
    forget(t);
    return result;
}

int64_t yd_call_chown(struct yd_op *op)
{
    struct target t;
    int result = by_path(op, (uint64_t)AT_FDCWD, 0, 0, &t);
    return result != 0 ? result : do_chown(&t, op->args[1], op->args[2]);
}

int64_t yd_call_lchown(struct yd_op *op)
{
    struct target t;
    int result = by_path(op, (uint64_t)AT_FDCWD, 0, AT_SYMLINK_NOFOLLOW, &t);
    return result != 0 ? result : do_chown(&t, op->args[1], op->args[2]);
}

int64_t yd_call_fchownat(struct yd_op *op)
{
    struct target t;
    uint32_t flags = (uint32_t)op->args[4];
    if ((flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) {
        return -EINVAL;
    }
    int result = by_path(op, op->args[0], 1, flags, &t);
    return result != 0 ? result : do_chown(&t, op->args[2], op->args[3]);
}

int64_t yd_call_fchown(struct yd_op *op)
{
    struct target t;
    int result = by_descriptor(op, op->args[0], false, &t);
    return result != 0 ? result : do_chown(&t, op->args[1], op->args[2]);
}

/* --------------------------------------------------------------------------- times */

static int64_t set_times(struct target *t, const struct timespec times[2])
{
    int64_t result = utimensat(t->fd, "", times, AT_EMPTY_PATH) != 0 ? -errno : 0;
    forget(t);
    return result;
}

int64_t yd_call_utimensat(struct yd_op *op)
{
    struct target t;
    struct timespec times[2];
    bool now = yd_is_null(op, 2);
    uint32_t flags = (uint32_t)op->args[3];
    int result = now ? 0 : yd_get(op, 2, times, sizeof(times));
    if (result != 0) {
        return result;
    }
    if ((flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) {
        return -EINVAL;
    }
    /* futimens() passes no path. */
    result = yd_is_null(op, 1) ? by_descriptor(op, op->args[0], false, &t)
                               : by_path(op, op->args[0], 1, flags, &t);
    return result != 0 ? result : set_times(&t, now ? NULL : times);
}

static int64_t set_timevals(struct yd_op *op, uint64_t dirfd, uint32_t path_at)
{
    struct target t;
    struct timeval from[2];
    struct timespec times[2];
    bool now = yd_is_null(op, path_at + 1);
    int result = now ? 0 : yd_get(op, path_at + 1, from, sizeof(from));
    for (uint32_t i = 0; i < 2 && result == 0 && !now; i++) {
        if (from[i].tv_usec < 0 || from[i].tv_usec >= 1000000) {
            return -EINVAL;
        }
        times[i] = (struct timespec){from[i].tv_sec, from[i].tv_usec * 1000};
    }
    if (result == 0) {
        result = yd_is_null(op, path_at) ? by_descriptor(op, dirfd, false, &t)
                                         : by_path(op, dirfd, path_at, 0, &t);
    }
    return result != 0 ? result : set_times(&t, now ? NULL : times);
}

int64_t yd_call_utimes(struct yd_op *op)
{
    return set_timevals(op, (uint64_t)AT_FDCWD, 0);
}

int64_t yd_call_futimesat(struct yd_op *op)
{
    return set_timevals(op, op->args[0], 1);
}

int64_t yd_call_utime(struct yd_op *op)
{
    struct target t;
    struct utimbuf from;
    bool now = yd_is_null(op, 1);
    int result = now ? 0 : yd_get(op, 1, &from, sizeof(from));
    if (result == 0) {
        result = by_path(op, (uint64_t)AT_FDCWD, 0, 0, &t);
    }
    if (result != 0) {
        return result;
    }
    if (now) {
        return set_times(&t, NULL);
    }
    struct timespec times[2] = {{from.actime, 0}, {from.modtime, 0}};
    return set_times(&t, times);
}
