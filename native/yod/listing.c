/* SPDX-License-Identifier: Apache-2.0 */
/* Reading directories: the host's straight into the guest's memory, our own from the tree of names.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "yod_internal.h"

#define TYPE_DIRECTORY 4
#define TYPE_FILE 8
#define TYPE_LINK 10

/* getdents64: the type before the name; getdents: in the last byte of the record. Else alike. */
struct entry {
    uint64_t ino;
    int64_t next;
    uint16_t bytes;
    char rest[6 + 256];
};

static size_t fill(struct entry *entry, const struct stat *st, const char *name, size_t length,
                   uint64_t next, bool wide)
{
    char type = S_ISDIR(st->st_mode)   ? TYPE_DIRECTORY
                : S_ISLNK(st->st_mode) ? TYPE_LINK
                                       : TYPE_FILE;
    size_t bytes = (offsetof(struct entry, rest) + length + 2 + 7) & ~(size_t)7;
    memset(entry, 0, sizeof(*entry));
    entry->ino = st->st_ino;
    entry->next = (int64_t)next;
    entry->bytes = (uint16_t)bytes;
    memcpy(entry->rest + (wide ? 1 : 0), name, length);
    if (wide) {
        entry->rest[0] = type;
    } else {
        ((char *)entry)[bytes - 1] = type;
    }
    return bytes;
}

/* "." and "..", then what is in it. */
static size_t one(const struct vmmhpc_yod *yod, const struct yd_name *dir, uint64_t position,
                  bool wide, struct entry *entry)
{
    struct yd_name child;
    struct stat st;
    if (position < 2) {
        yd_name_stat(yod, dir, &st);
        return fill(entry, &st, "..", (size_t)position + 1, position + 1, wide);
    }
    if (!yd_name_child(yod, dir, position - 2, &child)) {
        return 0;
    }
    yd_name_stat(yod, &child, &st);
    size_t start = dir->length + 1;
    size_t length = child.length - start < 255 ? child.length - start : 255;
    return fill(entry, &st, child.node->path + start, length, position + 1, wide);
}

static int64_t list(struct yd_op *op, struct yd_file *file, char *to, uint64_t bytes, bool wide)
{
    struct vmmhpc_yod *yod = op->yod;
    struct entry entry;
    uint64_t done = 0;
    int64_t result = 0;
    (void)pthread_mutex_lock(&yod->lock);
    for (;;) {
        size_t length = one(yod, &file->name, file->position, wide, &entry);
        if (length == 0) {
            break;
        }
        if (length > bytes - done) {
            result = done == 0 ? -EINVAL : 0;
            break;
        }
        memcpy(to + done, &entry, length);
        done += length;
        file->position++;
    }
    (void)pthread_mutex_unlock(&yod->lock);
    return result != 0 ? result : (int64_t)done;
}

static int64_t read_directory(struct yd_op *op, bool wide)
{
    struct yd_file *file = yd_op_file(op, 0);
    uint64_t bytes = 0;
    if (file == NULL) {
        return -EBADF;
    }
    char *to = yd_buffer(op, 1, (uint32_t)op->args[2], &bytes);
    if (to == NULL) {
        return -EFAULT;
    }
    if (file->kind == YD_LISTING) {
        return (yd_file_flags(file, op->yod) & O_PATH) != 0 ? -EBADF
                                                            : list(op, file, to, bytes, wide);
    }
    long got = syscall(wide ? SYS_getdents64 : SYS_getdents, file->fd, to, bytes);
    return got < 0 ? -errno : got;
}

int64_t yd_call_getdents(struct yd_op *op)
{
    return read_directory(op, false);
}

int64_t yd_call_getdents64(struct yd_op *op)
{
    return read_directory(op, true);
}
