/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is: nothing here changes anything. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "yod_internal.h"

#define STATX_BASIC 0x7ffu
#define LINUX_STAT_BYTES 144
#define LINUX_STATFS_BYTES 120

_Static_assert(sizeof(struct stat) == LINUX_STAT_BYTES, "the C library's is the kernel's");
_Static_assert(sizeof(struct statfs) == LINUX_STATFS_BYTES, "the C library's is the kernel's");
_Static_assert(sizeof(struct statx) == 256, "the C library's is the kernel's");

/** Something to look at: an open file of the guest, or a place. */
struct subject {
    struct yd_file *file;
    struct yd_place place;
};

static void forget(struct subject *s)
{
    yd_file_unref(s->file);
    yd_place_close(&s->place);
    s->file = NULL;
}

/* Path argument i, or with AT_EMPTY_PATH and an empty one the descriptor itself. */
static int find(struct yd_op *op, uint64_t dirfd, uint32_t i, uint32_t flags, struct subject *s)
{
    char path[YD_PATH];
    struct yd_file *base = NULL;
    int result = 0;
    *s = (struct subject){.place = {.fd = -1}};
    path[0] = '\0';
    if (!yd_is_null(op, i) || (flags & AT_EMPTY_PATH) == 0) {
        result = yd_get_path(op, i, path);
    }
    if (result == 0) {
        result = yd_base(op, dirfd, path, &base);
    }
    if (result != 0) {
        return result;
    }
    if (path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0) {
        s->file = base;
        return base == NULL ? -ENOENT : 0;
    }
    result = yd_lookup(op->yod, base, path, (flags & AT_SYMLINK_NOFOLLOW) != 0 ? YD_NOFOLLOW : 0,
                       &s->place);
    yd_file_unref(base);
    return result;
}

/* For a name that yod makes: a descriptor of the host that has its metadata, -1, or -errno. */
static int stand_in(struct vmmhpc_yod *yod, const struct yd_name *name, bool *made, bool *owned)
{
    *made = true;
    *owned = true;
    if (yd_name_is_dir(name)) {
        return -1;
    }
    switch (name->node->kind) {
    case YD_NODE_TEXT:
        return yd_text_open(yod, name->node);
    case YD_NODE_EXE:
        *made = false;
        *owned = false;
        return yod->exe_fd;
    case YD_NODE_DEVICE: {
        int fd = open(name->node->path, O_PATH | O_CLOEXEC);
        *made = false;
        return fd < 0 ? -errno : fd;
    }
    case YD_NODE_TTY: {
        int fd = open("/dev/tty", O_PATH | O_CLOEXEC);
        *made = false;
        return fd < 0 ? -errno : fd;
    }
    default:
        return -1;
    }
}

/* A descriptor of the host to ask, or -1 where only the name is known; *made: yod's own. */
static int host_fd(struct vmmhpc_yod *yod, const struct subject *s, bool *made, bool *owned)
{
    *owned = false;
    if (s->file != NULL && s->file->fd >= 0) {
        *made =
            s->file->made && s->file->name.node != NULL && s->file->name.node->kind == YD_NODE_TEXT;
        return s->file->fd;
    }
    if (s->place.fd >= 0) {
        *made = false;
        return s->place.fd;
    }
    return stand_in(yod, s->file != NULL ? &s->file->name : &s->place.name, made, owned);
}

static const struct yd_name *name_of(const struct subject *s)
{
    return s->file != NULL ? &s->file->name : &s->place.name;
}

static int stat_subject(struct vmmhpc_yod *yod, const struct subject *s, struct stat *st)
{
    bool made = false;
    bool owned = false;
    int fd = host_fd(yod, s, &made, &owned);
    if (fd < -1) {
        return fd;
    }
    if (fd == -1) {
        yd_name_stat(yod, name_of(s), st);
        return 0;
    }
    int result = fstat(fd, st) != 0 ? -errno : 0;
    if (made) { /* a memfd stands for it, but whose and where that is must not show */
        struct stat own;
        yd_name_stat(yod, name_of(s), &own);
        own.st_size = st->st_size;
        *st = own;
    }
    if (owned) {
        (void)close(fd);
    }
    return result;
}

static void widen(const struct stat *st, struct statx *stx)
{
    *stx = (struct statx){
        .stx_mask = STATX_BASIC,
        .stx_blksize = (uint32_t)st->st_blksize,
        .stx_nlink = (uint32_t)st->st_nlink,
        .stx_uid = st->st_uid,
        .stx_gid = st->st_gid,
        .stx_mode = (uint16_t)st->st_mode,
        .stx_ino = st->st_ino,
        .stx_size = (uint64_t)st->st_size,
        .stx_blocks = (uint64_t)st->st_blocks,
        .stx_dev_major = major(st->st_dev),
        .stx_dev_minor = minor(st->st_dev),
        .stx_rdev_major = major(st->st_rdev),
        .stx_rdev_minor = minor(st->st_rdev),
    };
}

static int statx_subject(struct vmmhpc_yod *yod, const struct subject *s, uint32_t flags,
                         uint32_t mask, struct statx *stx)
{
    bool made = false;
    bool owned = false;
    int fd = host_fd(yod, s, &made, &owned);
    if (fd < -1) {
        return fd;
    }
    int result = 0;
    if (fd == -1 || made) {
        struct stat st;
        result = stat_subject(yod, s, &st);
        if (result == 0) {
            widen(&st, stx);
        }
    } else {
        memset(stx, 0, sizeof(*stx));
        result = (int)syscall(SYS_statx, fd, "",
                              AT_EMPTY_PATH | (flags & (AT_STATX_SYNC_TYPE | AT_NO_AUTOMOUNT)),
                              mask, stx);
        result = result != 0 ? -errno : 0;
    }
    if (owned && fd >= 0) {
        (void)close(fd);
    }
    return result;
}

static int64_t do_stat(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint32_t to,
                       uint64_t flags)
{
    struct subject s;
    struct stat st;
    memset(&st, 0, sizeof(st));
    if (((uint32_t)flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)) !=
        0) {
        return -EINVAL;
    }
    int result = find(op, dirfd, path_at, (uint32_t)flags, &s);
    if (result == 0) {
        result = stat_subject(op->yod, &s, &st);
    }
    forget(&s);
    return result != 0 ? result : yd_put(op, to, &st, sizeof(st));
}

int64_t yd_call_stat(struct yd_op *op)
{
    return do_stat(op, (uint64_t)AT_FDCWD, 0, 1, 0);
}

int64_t yd_call_lstat(struct yd_op *op)
{
    return do_stat(op, (uint64_t)AT_FDCWD, 0, 1, AT_SYMLINK_NOFOLLOW);
}

int64_t yd_call_newfstatat(struct yd_op *op)
{
    return do_stat(op, op->args[0], 1, 2, op->args[3]);
}

int64_t yd_call_fstat(struct yd_op *op)
{
    struct subject s = {.file = yd_fd_get(op->yod, op->args[0]), .place = {.fd = -1}};
    struct stat st;
    if (s.file == NULL) {
        return -EBADF;
    }
    int result = stat_subject(op->yod, &s, &st);
    forget(&s);
    return result != 0 ? result : yd_put(op, 1, &st, sizeof(st));
}

int64_t yd_call_statx(struct yd_op *op)
{
    struct subject s;
    struct statx stx;
    uint32_t flags = (uint32_t)op->args[2];
    if ((flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT |
                             AT_STATX_SYNC_TYPE)) != 0 ||
        (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) {
        return -EINVAL;
    }
    int result = find(op, op->args[0], 1, flags, &s);
    if (result == 0) {
        result = statx_subject(op->yod, &s, flags, (uint32_t)op->args[3], &stx);
    }
    forget(&s);
    return result != 0 ? result : yd_put(op, 4, &stx, sizeof(stx));
}

/* ------------------------------------------------------------------- file systems */

static int64_t statfs_subject(struct yd_op *op, const struct subject *s)
{
    struct statfs info;
    memset(&info, 0, sizeof(info));
    int fd = s->file != NULL ? s->file->fd : s->place.fd;
    const struct yd_node *node = name_of(s)->node;
    if (node != NULL && node->kind != YD_NODE_EXE) {
        fd = -1;
    } else if (node != NULL) {
        fd = op->yod->exe_fd;
    }
    if (fd < 0) {
        info.f_type = PROC_SUPER_MAGIC;
        info.f_bsize = 4096;
        info.f_frsize = 4096;
        info.f_namelen = 255;
    } else if (fstatfs(fd, &info) != 0) {
        return -errno;
    }
    return yd_put(op, 1, &info, sizeof(info));
}

int64_t yd_call_statfs(struct yd_op *op)
{
    struct subject s;
    int64_t result = find(op, (uint64_t)AT_FDCWD, 0, 0, &s);
    if (result == 0) {
        result = statfs_subject(op, &s);
    }
    forget(&s);
    return result;
}

int64_t yd_call_fstatfs(struct yd_op *op)
{
    struct subject s = {.file = yd_fd_get(op->yod, op->args[0]), .place = {.fd = -1}};
    if (s.file == NULL) {
        return -EBADF;
    }
    int64_t result = statfs_subject(op, &s);
    forget(&s);
    return result;
}

/* ------------------------------------------------------------------------- access */

static int access_made(const struct yd_name *name, uint32_t mode)
{
    bool directory = yd_name_is_dir(name);
    bool device =
        !directory && (name->node->kind == YD_NODE_DEVICE || name->node->kind == YD_NODE_STREAM ||
                       name->node->kind == YD_NODE_TTY);
    if ((mode & W_OK) != 0 && !device) {
        return -EROFS;
    }
    bool executable = directory || name->node->kind == YD_NODE_EXE;
    return (mode & X_OK) != 0 && !executable ? -EACCES : 0;
}

static int64_t do_access(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint64_t mode,
                         uint64_t flags)
{
    struct subject s;
    if ((mode & ~7ull) != 0 ||
        ((uint32_t)flags & ~(uint32_t)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) {
        return -EINVAL;
    }
    int64_t result = find(op, dirfd, path_at, (uint32_t)flags, &s);
    if (result != 0) {
        forget(&s);
        return result;
    }
    int fd = s.file != NULL ? s.file->fd : s.place.fd;
    bool read_only =
        s.file != NULL ? s.file->read_only : s.place.root == NULL || !s.place.root->writable;
    mode_t type = 0;
    struct stat st;
    if (name_of(&s)->node != NULL) {
        result = access_made(name_of(&s), (uint32_t)mode);
    } else if (fstat(fd, &st) != 0) {
        result = -errno;
    } else {
        type = st.st_mode & S_IFMT;
        bool data = type == S_IFREG || type == S_IFDIR || type == S_IFLNK;
        if ((mode & W_OK) != 0 && read_only && data) {
            result = -EROFS;
        } else if (syscall(SYS_faccessat2, fd, "", (int)mode,
                           AT_EMPTY_PATH | ((uint32_t)flags & AT_EACCESS)) != 0) {
            result = -errno;
        }
    }
    forget(&s);
    return result;
}

int64_t yd_call_access(struct yd_op *op)
{
    return do_access(op, (uint64_t)AT_FDCWD, 0, op->args[1], 0);
}

int64_t yd_call_faccessat(struct yd_op *op)
{
    return do_access(op, op->args[0], 1, op->args[2], 0);
}

int64_t yd_call_faccessat2(struct yd_op *op)
{
    return do_access(op, op->args[0], 1, op->args[2], op->args[3]);
}

/* ----------------------------------------------------------------- symbolic links */

static int64_t put_text(struct yd_op *op, uint32_t to, uint64_t room, const char *text,
                        size_t bytes)
{
    if ((int32_t)room <= 0) {
        return -EINVAL;
    }
    size_t copied = bytes < room ? bytes : (size_t)room;
    int result = yd_put(op, to, text, copied);
    return result != 0 ? result : (int64_t)copied;
}

/* /proc/self/fd/N of the guest: its own name of the file, where there is one. */
static int own_descriptor(struct yd_op *op, const char *path, char target[YD_PATH])
{
    static const char prefix[] = "/proc/self/fd/";
    char *end = NULL;
    const struct yd_root *root = NULL;
    if (strncmp(path, prefix, sizeof(prefix) - 1) != 0) {
        return -ENOENT;
    }
    const char *digits = path + sizeof(prefix) - 1;
    unsigned long number = strtoul(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || number >= YD_FDS) {
        return -ENOENT;
    }
    struct yd_file *file = yd_fd_get(op->yod, number);
    if (file == NULL) {
        return -ENOENT;
    }
    int result = -ENOENT;
    struct stat st;
    if (file->name.node != NULL) {
        (void)snprintf(target, YD_PATH, "%.*s", (int)file->name.length, file->name.node->path);
        result = 0;
    } else if (file->root != NULL) {
        result = yd_guest_path(op->yod, file->fd, target, &root);
    } else if (fstat(file->fd, &st) == 0) {
        (void)snprintf(target, YD_PATH, "%s:[%llu]", S_ISSOCK(st.st_mode) ? "socket" : "pipe",
                       (unsigned long long)st.st_ino);
        result = S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode) ? 0 : -ENOENT;
    }
    yd_file_unref(file);
    return result;
}

static int read_made(struct yd_op *op, const struct yd_name *name, char target[YD_PATH])
{
    if (!yd_name_is_dir(name) && name->node->kind == YD_NODE_SELF_EXE) {
        (void)snprintf(target, YD_PATH, "%s", op->yod->exe);
        return 0;
    }
    if (!yd_name_is_dir(name) && name->node->kind == YD_NODE_STREAM) {
        (void)snprintf(target, YD_PATH, "/proc/self/fd/%u", name->node->number);
        return 0;
    }
    return -EINVAL;
}

static int64_t do_readlink(struct yd_op *op, uint64_t dirfd, uint32_t path_at, uint64_t room)
{
    char path[YD_PATH];
    char target[YD_PATH];
    struct subject s;
    int result = yd_get_path(op, path_at, path);
    if (result != 0) {
        return result;
    }
    if (own_descriptor(op, path, target) == 0) {
        return put_text(op, path_at + 1, room, target, strlen(target));
    }
    uint32_t flags = AT_SYMLINK_NOFOLLOW | (path[0] == '\0' ? AT_EMPTY_PATH : 0);
    result = find(op, dirfd, path_at, flags, &s);
    if (result != 0) {
        forget(&s);
        return result;
    }
    int fd = s.file != NULL ? s.file->fd : s.place.fd;
    ssize_t bytes = 0;
    if (name_of(&s)->node != NULL) {
        result = read_made(op, name_of(&s), target);
        bytes = result == 0 ? (ssize_t)strlen(target) : 0;
    } else {
        bytes = readlinkat(fd, "", target, sizeof(target));
        /* An empty path on what is no link is ENOENT; a path to it is EINVAL. */
        result = bytes >= 0 ? 0 : errno == ENOENT && path[0] != '\0' ? -EINVAL : -errno;
    }
    forget(&s);
    return result != 0 ? result : put_text(op, path_at + 1, room, target, (size_t)bytes);
}

int64_t yd_call_readlink(struct yd_op *op)
{
    return do_readlink(op, (uint64_t)AT_FDCWD, 0, op->args[2]);
}

int64_t yd_call_readlinkat(struct yd_op *op)
{
    return do_readlink(op, op->args[0], 1, op->args[3]);
}
