/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of names that yod makes: the machine's /proc, /sys and /dev, the executable, and the
 * directories on the way to a root. Leaves in a sorted array; a directory is whatever is above one.
 */
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "yod_internal.h"

#define NODE_INODES 0x100000u

/* By components: what is in a directory follows it at once. */
static int order(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    int left = *a == '/' ? 1 : (unsigned char)*a + (*a == '\0' ? 0 : 1);
    int right = *b == '/' ? 1 : (unsigned char)*b + (*b == '\0' ? 0 : 1);
    return left - right;
}

static int order_nodes(const void *a, const void *b)
{
    return order(((const struct yd_node *)a)->path, ((const struct yd_node *)b)->path);
}

int32_t yd_node_add(struct vmmhpc_yod *yod, const char *path, enum yd_node_kind kind,
                    uint32_t number, yd_make make, bool changes)
{
    if ((yod->node_count & (yod->node_count - 1)) == 0) { /* doubles */
        size_t room = yod->node_count == 0 ? 1 : (size_t)yod->node_count * 2;
        struct yd_node *larger = realloc(yod->nodes, room * sizeof(*larger));
        if (larger == NULL) {
            return VMMHPC_E_NO_MEMORY;
        }
        yod->nodes = larger;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return VMMHPC_E_NO_MEMORY;
    }
    yod->nodes[yod->node_count++] = (struct yd_node){
        .path = copy, .kind = kind, .number = number, .make = make, .changes = changes, .fd = -1};
    return VMMHPC_OK;
}

int32_t yd_nodes_make(struct vmmhpc_yod *yod, struct vmmhpc_error *err)
{
    int32_t status = yd_synthetic_nodes(yod);
    if (status == VMMHPC_OK && yod->exe != NULL) {
        status = yd_node_add(yod, yod->exe, YD_NODE_EXE, 0, NULL, false);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < yod->root_count; i++) {
        const char *path = yod->roots[i].path;
        status = yd_node_add(yod, path[0] == '\0' ? "/" : path, YD_NODE_ROOT, i, NULL, false);
    }
    if (status != VMMHPC_OK) {
        return vh_fail(err, status, 0, yod->node_count, "no memory for /proc and /sys");
    }
    qsort(yod->nodes, yod->node_count, sizeof(*yod->nodes), order_nodes);
    return VMMHPC_OK;
}

void yd_nodes_free(struct vmmhpc_yod *yod)
{
    for (uint32_t i = 0; i < yod->node_count; i++) {
        if (yod->nodes[i].fd >= 0) {
            (void)close(yod->nodes[i].fd);
        }
        free(yod->nodes[i].path);
    }
    free(yod->nodes);
    yod->nodes = NULL;
    yod->node_count = 0;
}

/* First node that is not before path. */
static uint32_t lower_bound(const struct vmmhpc_yod *yod, const char *path)
{
    uint32_t low = 0;
    uint32_t high = yod->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order(yod->nodes[middle].path, path) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool yd_name_find(const struct vmmhpc_yod *yod, const char *path, struct yd_name *name)
{
    size_t length = path[0] == '/' && path[1] == '\0' ? 0 : strlen(path);
    uint32_t at = length == 0 ? 0 : lower_bound(yod, path);
    if (at >= yod->node_count || !yd_beneath(yod->nodes[at].path, path, length)) {
        return false;
    }
    *name = (struct yd_name){&yod->nodes[at], length};
    return true;
}

bool yd_name_child(const struct vmmhpc_yod *yod, const struct yd_name *dir, uint64_t index,
                   struct yd_name *child)
{
    const char *above = dir->node->path;
    const char *last = NULL;
    size_t last_length = 0;
    uint32_t at = (uint32_t)(dir->node - yod->nodes);
    for (; at < yod->node_count; at++) {
        const char *path = yod->nodes[at].path;
        if (strncmp(path, above, dir->length) != 0 ||
            (path[dir->length] != '/' && path[dir->length] != '\0')) {
            return false;
        }
        size_t part = path[dir->length] == '\0' ? 0 : strcspn(path + dir->length + 1, "/");
        if (part == 0) {
            continue; /* the directory itself */
        }
        const char *part_at = path + dir->length + 1;
        if (last != NULL && last_length == part && strncmp(part_at, last, part) == 0) {
            continue;
        }
        last = part_at;
        last_length = part;
        if (index-- == 0) {
            *child = (struct yd_name){&yod->nodes[at], dir->length + 1 + part};
            return true;
        }
    }
    return false;
}

void yd_name_stat(const struct vmmhpc_yod *yod, const struct yd_name *name, struct stat *st)
{
    bool directory = yd_name_is_dir(name) || name->node->kind == YD_NODE_ROOT;
    *st = (struct stat){
        .st_dev = makedev(0, 4),
        /* The same for each way to a directory: the first node in it is its name. */
        .st_ino = NODE_INODES + (uint64_t)(name->node - yod->nodes) * 256 + (name->length & 255),
        .st_nlink = directory ? 2 : 1,
        .st_mode = directory ? S_IFDIR | 0555 : S_IFREG | 0444,
        .st_blksize = 4096,
        .st_mtim.tv_sec = 0,
    };
    if (!directory &&
        (name->node->kind == YD_NODE_SELF_EXE || name->node->kind == YD_NODE_STREAM)) {
        st->st_mode = S_IFLNK | 0777;
    }
}
