/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a path to a file, and never out of the roots.
 *
 * What lies outside the roots and is not one of the names that yod makes does not exist: ENOENT,
 * however it was reached. The kernel keeps a lookup beneath a directory (openat2, RESOLVE_BENEATH);
 * what it refuses as leading out may still be legal, through another root or an absolute link, so
 * it is resolved once more by hand (walk.c), and what comes out of that is opened without following
 * any link.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "yod_internal.h"

#define EAGAIN_MAX 32 /* a rename somewhere disturbed a lookup with ".." */
#define WALKS_MAX 8   /* links appeared between a walk and its open */

int yd_open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve,
    };
    for (int i = 0; i < EAGAIN_MAX; i++) {
        long fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
        if (fd >= 0) {
            return (int)fd;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
    }
    return -EXDEV; /* by hand there is no ".." */
}

void yd_place_close(struct yd_place *place)
{
    if (place->fd >= 0) {
        (void)close(place->fd);
        place->fd = -1;
    }
}

/* File systems that show the host's kernel and its other processes, wherever they are mounted. */
static bool shows_host(int fd)
{
    static const unsigned long types[] = {
        PROC_SUPER_MAGIC,
        SYSFS_MAGIC,
        CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC,
        DEBUGFS_MAGIC,
        TRACEFS_MAGIC,
        SECURITYFS_MAGIC,
        SELINUX_MAGIC,
        SMACK_MAGIC,
        EFIVARFS_MAGIC,
        PSTOREFS_MAGIC,
        BPF_FS_MAGIC,
        BINFMTFS_MAGIC,
        DEVPTS_SUPER_MAGIC,
        NSFS_MAGIC,
        0x62656570 /* configfs */,
        0x65735543 /* fusectl */,
        0x19800202 /* mqueue */,
    };
    struct statfs info;
    if (fstatfs(fd, &info) != 0) {
        return true;
    }
    for (size_t i = 0; i < VH_COUNT(types); i++) {
        if ((unsigned long)info.f_type == types[i]) {
            return true;
        }
    }
    return false;
}

int yd_place_check(struct vmmhpc_yod *yod, struct yd_place *place)
{
    int result = 0;
    if (fstat(place->fd, &place->stat) != 0) {
        result = -errno;
    } else if (S_ISCHR(place->stat.st_mode) || S_ISBLK(place->stat.st_mode) ||
               shows_host(place->fd)) {
        result = -EXDEV;
    } else if (yod->nested) {
        char path[YD_PATH];
        if (yd_guest_path(yod, place->fd, path, &place->root) != 0) {
            result = -ENOENT;
        }
    }
    if (result != 0) {
        yd_place_close(place);
    }
    return result;
}

static uint64_t open_flags(uint32_t flags)
{
    return O_PATH | ((flags & YD_NOFOLLOW) != 0 ? O_NOFOLLOW : 0) |
           ((flags & YD_DIRECTORY) != 0 ? O_DIRECTORY : 0);
}

int yd_place_at(struct vmmhpc_yod *yod, const char *path, uint32_t flags, struct yd_place *place)
{
    const struct yd_root *root = yd_root_match(yod, path);
    *place = (struct yd_place){.fd = -1};
    if (root == NULL) {
        if (!yd_name_find(yod, path, &place->name)) {
            return -ENOENT;
        }
        return (flags & YD_DIRECTORY) != 0 && !yd_name_is_dir(&place->name) ? -ENOTDIR : 0;
    }
    const char *rest = path + root->length;
    while (*rest == '/') {
        rest++;
    }
    place->root = root;
    place->fd = yd_open_beneath(root->fd, *rest == '\0' ? "." : rest, open_flags(flags), 0,
                                RESOLVE_NO_SYMLINKS);
    if (place->fd < 0) {
        int result = place->fd;
        place->fd = -1;
        return result;
    }
    int result = yd_place_check(yod, place);
    return result == -EXDEV ? -ENOENT : result;
}

/* The way by hand, again where somebody was renaming. */
static int slow(struct vmmhpc_yod *yod, const char *path, uint32_t flags, struct yd_place *place)
{
    char target[YD_PATH];
    int result = -EAGAIN;
    for (int i = 0; i < WALKS_MAX; i++) {
        result = yd_walk(yod, path, flags, target);
        if (result != 0) {
            return result;
        }
        result = yd_place_at(yod, target, flags, place);
        if (result != -ELOOP && result != -EXDEV) {
            return result;
        }
    }
    return -EAGAIN;
}

/* "name/" and "name/." mean the directory that a link leads to. */
static bool means_directory(const char *path)
{
    size_t length = strlen(path);
    if (length > 1 && path[length - 1] == '.' && path[length - 2] == '/') {
        length--;
    }
    return length > 0 && path[length - 1] == '/';
}

/* ELOOP too: it may be one of /proc's links, which only look like links. */
static bool leads_out(int result)
{
    return result == -EXDEV || result == -ELOOP;
}

static int fast(struct vmmhpc_yod *yod, int dir, const struct yd_root *root, const char *path,
                uint32_t flags, struct yd_place *place)
{
    *place = (struct yd_place){.root = root};
    place->fd = yd_open_beneath(dir, path, open_flags(flags), 0, 0);
    if (place->fd < 0) {
        int result = place->fd;
        place->fd = -1;
        return result;
    }
    return yd_place_check(yod, place);
}

/* Absolute, with "." and empty components left out; true where ".." is among the others. */
static bool tidy(const char *path, char out[YD_PATH])
{
    bool up = false;
    size_t length = 0;
    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            up = true;
        }
        if (part > 0 && !(part == 1 && path[0] == '.')) {
            out[length++] = '/';
            memcpy(out + length, path, part);
            length += part;
        }
        path += part;
        path += *path == '/' ? 1 : 0;
    }
    if (length == 0) {
        out[length++] = '/';
    }
    out[length] = '\0';
    return up;
}

static int lookup_absolute(struct vmmhpc_yod *yod, const char *path, uint32_t flags,
                           struct yd_place *place)
{
    char clean[YD_PATH];
    bool up = tidy(path, clean);
    const struct yd_root *root = yd_root_match(yod, clean);
    if (root == NULL && !up) {
        int result = yd_place_at(yod, clean, flags, place);
        if (result != 0 || place->name.node->kind != YD_NODE_SELF_EXE ||
            (flags & YD_NOFOLLOW) != 0) {
            return result;
        }
    } else if (root != NULL) {
        const char *rest = clean + root->length;
        while (*rest == '/') {
            rest++;
        }
        int result = fast(yod, root->fd, root, *rest == '\0' ? "." : rest, flags, place);
        if (!leads_out(result)) {
            return result;
        }
    }
    return slow(yod, path, flags, place);
}

int yd_absolute(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path,
                char out[YD_TEXT])
{
    char start[YD_PATH];
    const struct yd_root *root = NULL;
    int length = 0;
    if (path[0] == '/') {
        length = snprintf(out, YD_TEXT, "%s", path);
    } else if (base->kind == YD_LISTING) {
        length =
            snprintf(out, YD_TEXT, "%.*s/%s", (int)base->name.length, base->name.node->path, path);
    } else {
        int result = yd_guest_path(yod, base->fd, start, &root);
        if (result != 0) {
            return result;
        }
        length = snprintf(out, YD_TEXT, "%s/%s", start, path);
    }
    return length >= (int)YD_TEXT ? -ENAMETOOLONG : 0;
}

int yd_lookup(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path, uint32_t flags,
              struct yd_place *place)
{
    char text[YD_TEXT];
    *place = (struct yd_place){.fd = -1};
    if (path[0] == '\0') {
        return -ENOENT;
    }
    if (means_directory(path)) {
        flags = (flags | YD_DIRECTORY) & ~YD_NOFOLLOW;
    }
    if (path[0] == '/') {
        return lookup_absolute(yod, path, flags, place);
    }
    if (base == NULL) {
        return -ENOENT;
    }
    if (base->kind != YD_LISTING) {
        if (base->root == NULL) {
            return -ENOENT;
        }
        int result = fast(yod, base->fd, base->root, path, flags, place);
        if (!leads_out(result)) {
            return result;
        }
    }
    int result = yd_absolute(yod, base, path, text);
    return result != 0 ? result : slow(yod, text, flags, place);
}

int yd_lookup_parent(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path,
                     struct yd_parent *parent)
{
    char directory[YD_PATH];
    size_t end = strlen(path);
    parent->place = (struct yd_place){.fd = -1};
    if (end == 0) {
        return -ENOENT;
    }
    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    /* Slashes at its end stay with the name: the kernel then insists on a directory. */
    (void)snprintf(parent->name, YD_PATH, "%s", end == 0 ? "." : path + start);
    (void)snprintf(directory, YD_PATH, "%.*s", (int)start, path);
    if (start == 0) {
        memcpy(directory, path[0] == '/' ? "/" : ".", 2);
    }
    return yd_lookup(yod, base, directory, YD_DIRECTORY, &parent->place);
}

int yd_base(struct yd_op *op, uint64_t dirfd, const char *path, struct yd_file **base)
{
    struct vmmhpc_yod *yod = op->yod;
    *base = NULL;
    if (path[0] == '/') {
        return 0;
    }
    if ((int)dirfd == AT_FDCWD) {
        (void)pthread_mutex_lock(&yod->lock);
        *base = yd_file_ref(yod->cwd);
        (void)pthread_mutex_unlock(&yod->lock);
        return 0;
    }
    *base = yd_fd_get(yod, dirfd);
    if (*base == NULL) {
        return -EBADF;
    }
    struct stat info;
    bool directory =
        (*base)->kind == YD_LISTING || (fstat((*base)->fd, &info) == 0 && S_ISDIR(info.st_mode));
    if (!directory && path[0] != '\0') {
        yd_file_unref(*base);
        *base = NULL;
        return -ENOTDIR;
    }
    return 0;
}
