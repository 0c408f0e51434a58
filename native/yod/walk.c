/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path resolution by hand, for what the kernel refuses to do beneath one directory: links with
 * absolute targets, ".." from one root to another. The result is only a name: it is opened beneath
 * its root without following links, so a race can make a lookup fail, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <unistd.h>

#include "yod_internal.h"

#define LINKS_MAX 40u /* Linux's */
#define AGAIN 1       /* a link was put in the place of a component */

struct walk {
    struct vmmhpc_yod *yod;
    uint32_t flags;
    uint32_t links;
    char *done; /* resolved so far; "" is "/" */
    size_t length;
    char rest[YD_TEXT];
};

static int follow(struct walk *w, const char *target)
{
    char longer[YD_TEXT];
    if (++w->links > LINKS_MAX) {
        return -ELOOP;
    }
    int length = snprintf(longer, sizeof(longer), "%s/%s", target, w->rest);
    if (length >= (int)sizeof(longer)) {
        return -ENAMETOOLONG;
    }
    memcpy(w->rest, longer, (size_t)length + 1);
    return AGAIN;
}

/* Back to the directory that the component just appended is in. */
static void drop(struct walk *w)
{
    while (w->length > 0 && w->done[--w->length] != '/') {
    }
    w->done[w->length] = '\0';
}

static int through_link(struct walk *w, int fd)
{
    char target[YD_PATH];
    ssize_t bytes = readlinkat(fd, "", target, sizeof(target) - 1);
    if (bytes < 0) {
        return -errno;
    }
    target[bytes] = '\0';
    if (target[0] == '/') {
        w->length = 0;
        w->done[0] = '\0';
    } else {
        drop(w);
    }
    return follow(w, target);
}

/* Look at the component just appended: 0 go on, AGAIN, or -errno. */
static int on_host(struct walk *w, const struct yd_root *root, bool last)
{
    const char *rest = w->done + root->length;
    struct stat info;
    while (*rest == '/') {
        rest++;
    }
    if (*rest == '\0') {
        return 0; /* a root is a directory under its own name, whatever is there on the host */
    }
    int fd = yd_open_beneath(root->fd, rest, O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS);
    if (fd < 0) {
        return fd == -ENOENT && last ? 0 : fd;
    }
    int result = fstat(fd, &info) != 0 ? -errno : 0;
    if (result == 0 && S_ISLNK(info.st_mode)) {
        result = through_link(w, fd);
    } else if (result == 0 && !S_ISDIR(info.st_mode) && !last) {
        result = -ENOTDIR;
    }
    (void)close(fd);
    return result;
}

static int made_by_yod(struct walk *w, bool last)
{
    struct yd_name name;
    if (!yd_name_find(w->yod, w->done, &name)) {
        return last ? 0 : -ENOENT;
    }
    if (!yd_name_is_dir(&name) && name.node->kind == YD_NODE_SELF_EXE) {
        w->length = 0;
        w->done[0] = '\0';
        return follow(w, w->yod->exe);
    }
    return yd_name_is_dir(&name) || last ? 0 : -ENOTDIR;
}

static int component(struct walk *w, const char *name, size_t bytes, bool last)
{
    if (bytes == 1 && name[0] == '.') {
        return 0;
    }
    if (bytes == 2 && name[0] == '.' && name[1] == '.') {
        drop(w);
        return 0;
    }
    if (w->length + 1 + bytes >= YD_PATH) {
        return -ENAMETOOLONG;
    }
    w->done[w->length++] = '/';
    memcpy(w->done + w->length, name, bytes);
    w->length += bytes;
    w->done[w->length] = '\0';
    if (last && (w->flags & YD_NOFOLLOW) != 0) {
        return 0;
    }
    const struct yd_root *root = yd_root_match(w->yod, w->done);
    return root != NULL ? on_host(w, root, last) : made_by_yod(w, last);
}

int yd_walk(struct vmmhpc_yod *yod, const char *path, uint32_t flags, char out[YD_PATH])
{
    struct walk w = {.yod = yod, .flags = flags, .done = out};
    char name[YD_TEXT];
    if (strlen(path) >= sizeof(w.rest)) {
        return -ENAMETOOLONG;
    }
    memcpy(w.rest, path, strlen(path) + 1);
    out[0] = '\0';
    for (;;) {
        size_t at = strspn(w.rest, "/");
        size_t bytes = strcspn(w.rest + at, "/");
        if (bytes == 0) {
            break;
        }
        size_t next = at + bytes + strspn(w.rest + at + bytes, "/");
        memcpy(name, w.rest + at, bytes);
        memmove(w.rest, w.rest + next, strlen(w.rest + next) + 1);
        int result = component(&w, name, bytes, w.rest[0] == '\0');
        if (result < 0) {
            return result;
        }
    }
    if (w.length == 0) {
        memcpy(out, "/", 2);
    }
    return 0;
}
