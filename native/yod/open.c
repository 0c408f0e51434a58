/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening files. What is there is first found with O_PATH, looked at, and only then opened for
 * real, through its descriptor: so a device is never opened by mistake, and nothing changes in
 * between.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "yod_internal.h"

#define CREATE_TRIES 4
#define WITHOUT_READER INT32_MIN
#define FIFO_RETRY_NS 10000000ull
/* O_LARGEFILE is 0 for 64-bit programs here, but the kernel shows and takes its bit. */
#define LARGEFILE 0100000u
#define KNOWN                                                                                      \
    ((uint32_t)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK |        \
                O_SYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |    \
                O_TMPFILE) |                                                                       \
     LARGEFILE)
#define ONLY_AT_OPEN                                                                               \
    ((uint32_t)(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW))

struct opening {
    struct yd_op *op;
    struct yd_file *base; /* where a relative path starts */
    uint32_t flags;
    uint32_t mode;
};

static bool is_temporary(uint32_t flags)
{
    return (flags & O_TMPFILE) == O_TMPFILE;
}

static bool modifies(uint32_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0 || is_temporary(flags);
}

int yd_place_open(const struct yd_place *place, uint32_t flags)
{
    char path[32];
    yd_proc_fd(place->fd, path);
    /* Its own name is behind us: O_NOFOLLOW would refuse the link in /proc. */
    uint32_t clean = flags & ~(uint32_t)(O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | LARGEFILE);
    int fd = open(path, (int)(clean | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), 0);
    return fd < 0 ? -errno : fd;
}

/* Take over fd. */
static int install(const struct opening *o, int fd, const struct yd_place *place, mode_t mode)
{
    struct yd_file *file = yd_file_new(fd, o->flags & ~ONLY_AT_OPEN);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->name = place->name;
    file->root = place->root;
    file->read_only = place->root == NULL || !place->root->writable;
    file->made = place->root == NULL;
    if ((o->flags & O_ACCMODE) != O_RDONLY && S_ISCHR(mode)) {
        file->read_only =
            true; /* one of the devices: its data is nobody's, its metadata the host's */
    }
    file->fifo = S_ISFIFO(mode);
    yd_file_classify(file, mode);
    return yd_fd_install(o->op->yod, file, 0, (o->flags & O_CLOEXEC) != 0);
}

/* The host's umask applies to what we create, whatever the guest's is. */
static void fix_mode(const struct vmmhpc_yod *yod, int fd, uint32_t mode)
{
    if ((mode & yod->host_umask & 0777) != 0) {
        (void)fchmod(fd, mode & 07777);
    }
}

static uint32_t masked(struct vmmhpc_yod *yod, uint32_t mode)
{
    (void)pthread_mutex_lock(&yod->lock);
    uint32_t result = mode & 07777 & ~yod->umask;
    (void)pthread_mutex_unlock(&yod->lock);
    return result;
}

static int open_existing(const struct opening *o, struct yd_place *place)
{
    mode_t mode = place->stat.st_mode;
    if ((o->flags & O_PATH) != 0) {
        int fd = place->fd; /* it is just that */
        place->fd = -1;
        return install(o, fd, place, mode);
    }
    if ((o->flags & O_CREAT) != 0 && (o->flags & O_EXCL) != 0) {
        return -EEXIST;
    }
    if (S_ISLNK(mode)) {
        return (o->flags & O_DIRECTORY) != 0 ? -ENOTDIR : -ELOOP;
    }
    if (S_ISDIR(mode) && (o->flags & O_CREAT) != 0) {
        return -EISDIR;
    }
    if (S_ISDIR(mode) && modifies(o->flags) && !is_temporary(o->flags)) {
        return -EISDIR;
    }
    if (S_ISSOCK(mode)) {
        return -ENXIO;
    }
    if (modifies(o->flags) && !place->root->writable) {
        return -EROFS;
    }
    uint32_t flags = o->flags;
    int fd = -1;
    if (is_temporary(flags)) {
        char path[32];
        yd_proc_fd(place->fd, path);
        uint32_t create = masked(o->op->yod, o->mode);
        fd = open(path, (int)((flags & ~(uint32_t)O_NOFOLLOW) | O_CLOEXEC), create);
        if (fd < 0) {
            return -errno;
        }
        fix_mode(o->op->yod, fd, create);
        mode = S_IFREG;
    } else {
        fd = yd_place_open(place, flags);
    }
    if (fd == -ENXIO && S_ISFIFO(mode) && (flags & O_NONBLOCK) == 0) {
        /* Nobody reads it yet. There is nothing to poll for: try again by and by. */
        o->op->retry_ns = vh_now_ns() + FIFO_RETRY_NS;
        return WITHOUT_READER;
    }
    return fd < 0 ? fd : install(o, fd, place, mode);
}

/* ------------------------------------------------------------ names that yod makes */

static int open_stream(const struct opening *o, uint32_t number, bool terminal)
{
    struct yd_file *file = yd_fd_get(o->op->yod, number);
    if (file == NULL) {
        return -ENXIO;
    }
    if (terminal && (file->fd < 0 || isatty(file->fd) != 1)) {
        yd_file_unref(file);
        return -ENXIO;
    }
    return yd_fd_install(o->op->yod, file, 0, (o->flags & O_CLOEXEC) != 0);
}

static int open_device(const struct opening *o, const struct yd_place *place)
{
    struct stat info;
    int fd = open(place->name.node->path,
                  (int)((o->flags & (O_ACCMODE | O_PATH)) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &info) != 0 || !S_ISCHR(info.st_mode)) {
        (void)close(fd);
        return -ENXIO;
    }
    return install(o, fd, place, info.st_mode);
}

static int open_listing(const struct opening *o, const struct yd_place *place)
{
    struct yd_file *file = yd_file_new(-1, o->flags & ~ONLY_AT_OPEN);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->kind = YD_LISTING;
    file->name = place->name;
    file->read_only = true;
    file->made = true;
    return yd_fd_install(o->op->yod, file, 0, (o->flags & O_CLOEXEC) != 0);
}

static int open_exe(const struct opening *o, const struct yd_place *place)
{
    char path[32];
    struct stat info;
    if (modifies(o->flags)) {
        return -ETXTBSY;
    }
    yd_proc_fd(o->op->yod->exe_fd, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | (int)(o->flags & O_PATH));
    if (fd < 0 || fstat(fd, &info) != 0) {
        int failed = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return -failed;
    }
    struct yd_place bare = {.fd = -1, .name = place->name};
    int result = install(o, fd, &bare, info.st_mode);
    return result;
}

static int open_made(const struct opening *o, struct yd_place *place)
{
    const struct yd_name *name = &place->name;
    if ((o->flags & O_CREAT) != 0 && (o->flags & O_EXCL) != 0) {
        return -EEXIST;
    }
    if (yd_name_is_dir(name) || name->node->kind == YD_NODE_ROOT) {
        bool change = modifies(o->flags) || (o->flags & O_CREAT) != 0;
        return change && (o->flags & O_PATH) == 0 ? -EISDIR : open_listing(o, place);
    }
    switch (name->node->kind) {
    case YD_NODE_STREAM:
        return open_stream(o, name->node->number, false);
    case YD_NODE_TTY:
        return open_stream(o, 0, true);
    case YD_NODE_DEVICE:
        return open_device(o, place);
    case YD_NODE_EXE:
        return open_exe(o, place);
    case YD_NODE_SELF_EXE:
        return -ELOOP; /* else it was followed */
    default:
        break;
    }
    if (modifies(o->flags)) {
        return -EROFS;
    }
    int fd = yd_text_open(o->op->yod, name->node);
    return fd < 0 ? fd : install(o, fd, place, S_IFREG);
}

/* ------------------------------------------------------------------------ creating */

/* -EEXIST: something is there now, or a link that leads nowhere yet. */
static int create(const struct opening *o, const char *path)
{
    struct vmmhpc_yod *yod = o->op->yod;
    struct yd_parent parent;
    int result = yd_lookup_parent(yod, o->base, path, &parent);
    if (result != 0) {
        return result;
    }
    if (parent.place.fd < 0) {
        return -EROFS; /* a directory that yod makes */
    }
    if (!parent.place.root->writable) {
        result = -EROFS;
    } else {
        uint32_t mode = masked(yod, o->mode);
        uint32_t flags = (o->flags & ~(uint32_t)(O_PATH | LARGEFILE)) | O_CREAT | O_EXCL |
                         O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        int fd = openat(parent.place.fd, parent.name, (int)flags, mode);
        result = fd < 0 ? -errno : 0;
        if (fd >= 0) {
            fix_mode(yod, fd, mode);
            result = install(o, fd, &parent.place, S_IFREG);
        }
    }
    yd_place_close(&parent.place);
    return result;
}

static int open_at(const struct opening *o, const char *path)
{
    struct vmmhpc_yod *yod = o->op->yod;
    struct yd_place place;
    char target[YD_PATH];
    char text[YD_TEXT];
    uint32_t how = ((o->flags & O_NOFOLLOW) != 0 ? YD_NOFOLLOW : 0) |
                   ((o->flags & O_DIRECTORY) != 0 ? YD_DIRECTORY : 0);
    bool creates = (o->flags & O_CREAT) != 0 && (o->flags & O_PATH) == 0;
    if (creates && (o->flags & O_EXCL) != 0) {
        how |= YD_NOFOLLOW;
    }
    for (int i = 0; i < CREATE_TRIES; i++) {
        int result = yd_lookup(yod, o->base, path, how, &place);
        if (result == 0) {
            result = place.fd >= 0 ? open_existing(o, &place) : open_made(o, &place);
            yd_place_close(&place);
            return result;
        }
        if (result != -ENOENT || !creates) {
            return result;
        }
        result = create(o, path);
        if (result != -EEXIST || (o->flags & O_EXCL) != 0) {
            return result;
        }
        /* A link to a file that does not exist: create that. */
        result =
            o->base == NULL && path[0] != '/' ? -ENOENT : yd_absolute(yod, o->base, path, text);
        result = result != 0 ? result : yd_walk(yod, text, how, target);
        if (result != 0) {
            return result;
        }
        path = target;
    }
    return -EAGAIN;
}

static int64_t do_open(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint64_t flags,
                       uint64_t mode)
{
    char path[YD_PATH];
    struct opening o = {.op = op, .flags = (uint32_t)flags & KNOWN, .mode = (uint32_t)mode};
    int result = yd_get_path(op, path_at, path);
    if (result != 0) {
        return result;
    }
    if ((o.flags & O_PATH) != 0) {
        o.flags &= (uint32_t)(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if ((o.flags & O_CREAT) != 0 && (o.flags & O_DIRECTORY) != 0 && !is_temporary(o.flags)) {
        return -EINVAL;
    }
    if (path[0] == '\0') {
        return -ENOENT;
    }
    result = yd_base(op, dirfd, path, &o.base);
    if (result != 0) {
        return result;
    }
    result = open_at(&o, path);
    yd_file_unref(o.base);
    return result == WITHOUT_READER ? YD_LATER : result;
}

int64_t yd_call_open(struct yd_op *op)
{
    return do_open(op, (uint64_t)AT_FDCWD, 0, op->args[1], op->args[2]);
}

int64_t yd_call_openat(struct yd_op *op)
{
    return do_open(op, op->args[0], 1, op->args[2], op->args[3]);
}

int64_t yd_call_creat(struct yd_op *op)
{
    return do_open(op, (uint64_t)AT_FDCWD, 0, O_CREAT | O_WRONLY | O_TRUNC, op->args[1]);
}
