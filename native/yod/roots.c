/* SPDX-License-Identifier: Apache-2.0 */
/* The directories that the guest may see, and where in them an open file is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "yod_internal.h"

#define ROOTS_MAX 256u
#define DEPTH_MAX 2048u /* PATH_MAX / 2 */

void yd_proc_fd(int fd, char text[32])
{
    (void)snprintf(text, 32, "/proc/self/fd/%d", fd);
}

bool yd_beneath(const char *path, const char *directory, size_t length)
{
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* What these hold is the host's; the guest has its own (synthetic.c). */
static bool reserved(const char *path)
{
    return yd_beneath(path, "/proc", 5) || yd_beneath(path, "/sys", 4) ||
           yd_beneath(path, "/dev", 4);
}

const struct yd_root *yd_root_match(const struct vmmhpc_yod *yod, const char *path)
{
    const struct yd_root *best = NULL;
    for (uint32_t i = 0; i < yod->root_count; i++) {
        const struct yd_root *root = &yod->roots[i];
        if (yd_beneath(path, root->path, root->length) &&
            (!reserved(path) || reserved(root->path)) &&
            (best == NULL || root->length > best->length)) {
            best = root;
        }
    }
    return best;
}

/* Where an open file is on the host. */
static int host_path(int fd, char path[YD_PATH])
{
    char link[32];
    yd_proc_fd(fd, link);
    ssize_t bytes = readlink(link, path, YD_PATH - 1);
    if (bytes <= 0 || path[0] != '/') {
        return -ENOENT;
    }
    path[bytes] = '\0';
    return bytes == 1 ? 0 : (int)bytes; /* "/" is "" */
}

int yd_guest_path(const struct vmmhpc_yod *yod, int fd, char path[YD_PATH],
                  const struct yd_root **root)
{
    char target[YD_PATH];
    char base[YD_PATH];
    size_t best = 0;
    *root = NULL;
    if (host_path(fd, target) < 0) {
        return -ENOENT;
    }
    for (uint32_t i = 0; i < yod->root_count; i++) {
        /* Asked now: somebody may have moved the root. */
        int length = host_path(yod->roots[i].fd, base);
        if (length >= 0 && yd_beneath(target, base, (size_t)length) &&
            (*root == NULL || (size_t)length > best)) {
            *root = &yod->roots[i];
            best = (size_t)length;
        }
    }
    if (*root == NULL) {
        return -ENOENT;
    }
    const char *rest = target[best] == '/' && target[best + 1] == '\0' ? "" : target + best;
    int length = snprintf(path, YD_PATH, "%s%s", (*root)->path, rest);
    if (length >= (int)YD_PATH) {
        return -ENAMETOOLONG;
    }
    if (length == 0) {
        memcpy(path, "/", 2);
    }
    return 0;
}

bool yd_is_pinned(const struct vmmhpc_yod *yod, const struct stat *info)
{
    for (uint32_t i = 0; i < yod->pinned_count; i++) {
        if (yod->pinned[i].dev == info->st_dev && yod->pinned[i].ino == info->st_ino) {
            return true;
        }
    }
    return false;
}

static int32_t pin(struct vmmhpc_yod *yod, const struct stat *info, struct vmmhpc_error *err)
{
    struct yd_identity *larger =
        realloc(yod->pinned, (yod->pinned_count + 1) * sizeof(*yod->pinned));
    if (larger == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for the roots");
    }
    yod->pinned = larger;
    yod->pinned[yod->pinned_count++] = (struct yd_identity){info->st_dev, info->st_ino};
    return VMMHPC_OK;
}

/* A root inside another one is like a mount point: nobody may move it, or a directory on the way to
 * it, for its files would then count as the outer root's. */
static int32_t pin_way(struct vmmhpc_yod *yod, const struct yd_root *inner,
                       const struct yd_root *outer, struct vmmhpc_error *err)
{
    struct stat end;
    struct stat info;
    int32_t status = VMMHPC_OK;
    int fd = openat(inner->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fstat(outer->fd, &end) != 0) {
        fd = -1;
    }
    for (uint32_t depth = 0; fd >= 0 && depth < DEPTH_MAX && status == VMMHPC_OK; depth++) {
        if (fstat(fd, &info) != 0 || (info.st_dev == end.st_dev && info.st_ino == end.st_ino)) {
            break;
        }
        status = pin(yod, &info, err);
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        (void)close(fd);
        fd = up;
        if (up < 0 && status == VMMHPC_OK) {
            status = vh_fail(err, VMMHPC_E_PERMISSION, errno, 0,
                             "cannot see the directories between %.90s and %.90s", outer->path,
                             inner->path);
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}

static int32_t find_nested(struct vmmhpc_yod *yod, struct vmmhpc_error *err)
{
    char inner[YD_PATH];
    char outer[YD_PATH];
    for (uint32_t i = 0; i < yod->root_count; i++) {
        for (uint32_t j = 0; j < yod->root_count; j++) {
            int length = i == j ? -1 : host_path(yod->roots[j].fd, outer);
            if (length < 0 || host_path(yod->roots[i].fd, inner) <= length ||
                !yd_beneath(inner, outer, (size_t)length)) {
                continue;
            }
            yod->nested = true;
            int32_t status = pin_way(yod, &yod->roots[i], &yod->roots[j], err);
            if (status != VMMHPC_OK) {
                return status;
            }
        }
    }
    return VMMHPC_OK;
}

static bool normal(const char *path)
{
    if (path == NULL || path[0] != '/' || strlen(path) >= YD_PATH) {
        return false;
    }
    for (const char *at = path; *at != '\0'; at++) {
        if (at[0] != '/') {
            continue;
        }
        if (at[1] == '/' || (at[1] == '.' && (at[2] == '/' || at[2] == '\0')) ||
            (at[1] == '.' && at[2] == '.' && (at[3] == '/' || at[3] == '\0'))) {
            return false;
        }
    }
    return true;
}

static int32_t open_root(struct yd_root *root, const struct vmmhpc_yod_root *config,
                         struct vmmhpc_error *err)
{
    if (!normal(config->path)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "a root is an absolute path without '//', '.' and '..', not '%.120s'",
                       config->path == NULL ? "" : config->path);
    }
    root->path = strdup(config->path);
    if (root->path == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for the roots");
    }
    root->length = strlen(root->path);
    if (root->path[root->length - 1] == '/') {
        root->path[--root->length] = '\0';
    }
    if (yd_beneath(root->path, "/proc", 5) || yd_beneath(root->path, "/sys", 4)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "%.120s cannot be a root: /proc and /sys describe the virtual machine",
                       config->path);
    }
    root->writable = config->writable != 0;
    root->fd = open(config->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root->fd < 0) {
        int failed = errno;
        return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_INVALID, failed, 0,
                       "cannot open the root %.120s: %s", config->path, strerrordesc_np(failed));
    }
    return VMMHPC_OK;
}

int32_t yd_roots_open(struct vmmhpc_yod *yod, const struct vmmhpc_yod_config *config,
                      struct vmmhpc_error *err)
{
    if (config->root_count > ROOTS_MAX || (config->root_count > 0 && config->roots == NULL)) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, config->root_count, "more than %u roots", ROOTS_MAX);
    }
    yod->roots = calloc(config->root_count + 1, sizeof(*yod->roots));
    if (yod->roots == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for the roots");
    }
    for (uint32_t i = 0; i < config->root_count; i++) {
        yod->roots[i].fd = -1;
        yod->root_count = i + 1;
        int32_t status = open_root(&yod->roots[i], &config->roots[i], err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    int probe = yod->root_count == 0
                    ? 0
                    : yd_open_beneath(yod->roots[0].fd, ".", O_PATH | O_DIRECTORY, 0, 0);
    if (probe == -ENOSYS || probe == -EPERM) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, -probe, 0,
                       "this host has no openat2() (Linux 5.6), which keeps the application in its "
                       "directories");
    }
    if (yod->root_count != 0 && probe >= 0) {
        (void)close(probe);
    }
    return find_nested(yod, err);
}

void yd_roots_close(struct vmmhpc_yod *yod)
{
    for (uint32_t i = 0; i < yod->root_count; i++) {
        if (yod->roots[i].fd >= 0) {
            (void)close(yod->roots[i].fd);
        }
        free(yod->roots[i].path);
    }
    free(yod->roots);
    free(yod->pinned);
    yod->roots = NULL;
    yod->pinned = NULL;
    yod->root_count = 0;
}
