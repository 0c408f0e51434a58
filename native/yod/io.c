/* SPDX-License-Identifier: Apache-2.0 */
/* Data: straight between the host's files and the guest's memory. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include "yod_internal.h"

#define FLOCK_RETRY_NS 10000000ull
/* A transfer is made in such pieces, so that the end of the machine does not wait for a large one.
 */
#define PIECE (16u << 20)
#define TRANSFER_MAX 0x7ffff000ull /* Linux's */

static void count(atomic_uint_least64_t *counter, int64_t bytes)
{
    if (bytes > 0) {
        (void)atomic_fetch_add_explicit(counter, (uint64_t)bytes, memory_order_relaxed);
    }
}

enum direction { IN, OUT };

/* An error may have sent this thread a signal, also where part was written before (server.c). */
static int64_t failed(struct yd_op *op, int error)
{
    if (error == EPIPE) {
        op->raised = SIGPIPE;
    } else if (error == EFBIG) {
        op->raised = SIGXFSZ;
    }
    return -error;
}

static ssize_t move(const struct yd_file *file, enum direction way, char *memory, size_t bytes,
                    off_t offset)
{
    if (offset >= 0) {
        return way == IN ? pread(file->fd, memory, bytes, offset)
                         : pwrite(file->fd, memory, bytes, offset);
    }
    return way == IN ? read(file->fd, memory, bytes) : write(file->fd, memory, bytes);
}

/* offset: -1 for the file's own position. */
static int64_t transfer(struct yd_op *op, const struct yd_file *file, enum direction way,
                        char *memory, uint64_t bytes, off_t offset)
{
    uint64_t done = 0;
    while (done < bytes) {
        size_t piece = bytes - done < PIECE ? bytes - done : PIECE;
        ssize_t moved =
            move(file, way, memory + done, piece, offset < 0 ? -1 : offset + (off_t)done);
        if (moved < 0) {
            int64_t error = failed(op, errno);
            return done > 0 ? (int64_t)done : error;
        }
        done += (uint64_t)moved;
        if ((size_t)moved < piece || atomic_load(&op->yod->closing)) {
            break;
        }
    }
    return (int64_t)done;
}

/* The buffer, argument 1, of the size in argument 2. */
static int buffer(const struct yd_op *op, char **memory, uint64_t *bytes)
{
    uint64_t wanted = op->args[2] < TRANSFER_MAX ? op->args[2] : TRANSFER_MAX;
    *bytes = 0;
    *memory = wanted == 0 ? NULL : yd_buffer(op, 1, wanted, bytes);
    if (op->args[2] > INT64_MAX) {
        return -EINVAL;
    }
    return wanted == 0 || *memory != NULL ? 0 : -EFAULT;
}

static int64_t stream_in(struct yd_op *op, struct yd_file *file, char *memory, uint64_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    bool wait = (yd_file_flags(file, op->yod) & O_NONBLOCK) == 0;
    int64_t got = yd_stream_read(file, memory, bytes);
    struct pollfd p = {.fd = file->fd, .events = POLLIN};
    if (got == 0 && wait && file->fifo && poll(&p, 1, 0) == 0) {
        got = -EAGAIN; /* no end yet, but no writer either */
    }
    if (got == -EAGAIN && wait) {
        return yd_wait_for(op, POLLIN);
    }
    return got;
}

/* A blocking write writes all of it. */
static int64_t stream_out(struct yd_op *op, struct yd_file *file, const char *memory,
                          uint64_t bytes)
{
    bool wait = (yd_file_flags(file, op->yod) & O_NONBLOCK) == 0;
    for (;;) {
        int64_t put = yd_stream_write(file, memory + op->done, bytes - op->done);
        if (put == -EAGAIN && wait) {
            return yd_wait_for(op, POLLOUT);
        }
        if (put < 0) {
            (void)failed(op, (int)-put);
            return op->done > 0 ? (int64_t)op->done : put;
        }
        op->done += (uint64_t)put;
        if (op->done >= bytes || put == 0) {
            return (int64_t)op->done;
        }
    }
}

int64_t yd_call_read(struct yd_op *op)
{
    struct yd_file *file = yd_op_file(op, 0);
    char *memory = NULL;
    uint64_t bytes = 0;
    if (file == NULL) {
        return -EBADF;
    }
    if (file->kind == YD_LISTING) {
        return -EISDIR;
    }
    int64_t result = buffer(op, &memory, &bytes);
    if (result == 0 && file->kind == YD_PLAIN) {
        result =
            bytes == 0 ? move(file, IN, NULL, 0, -1) : transfer(op, file, IN, memory, bytes, -1);
        result = result < 0 && bytes == 0 ? -errno : result;
    } else if (result == 0) {
        result = stream_in(op, file, memory, bytes);
    }
    if (result != YD_LATER) {
        count(&op->yod->bytes_read, result);
    }
    return result;
}

int64_t yd_call_write(struct yd_op *op)
{
    struct yd_file *file = yd_op_file(op, 0);
    char *memory = NULL;
    uint64_t bytes = 0;
    if (file == NULL || file->kind == YD_LISTING) {
        return -EBADF;
    }
    int64_t result = buffer(op, &memory, &bytes);
    if (result == 0 && file->kind == YD_PLAIN) {
        result =
            bytes == 0 ? move(file, OUT, NULL, 0, -1) : transfer(op, file, OUT, memory, bytes, -1);
        result = result < 0 && bytes == 0 ? -errno : result;
    } else if (result == 0) {
        result = bytes == 0 ? 0 : stream_out(op, file, memory, bytes);
    }
    if (result != YD_LATER) {
        count(&op->yod->bytes_written, result);
    }
    return result;
}

static int64_t at_offset(struct yd_op *op, enum direction way)
{
    struct yd_file *file = yd_op_file(op, 0);
    char *memory = NULL;
    uint64_t bytes = 0;
    if (file == NULL) {
        return -EBADF;
    }
    if (file->kind == YD_LISTING) {
        return way == IN ? -EISDIR : -EBADF;
    }
    if (file->kind != YD_PLAIN) {
        return -ESPIPE;
    }
    if ((int64_t)op->args[3] < 0) {
        return -EINVAL;
    }
    int64_t end = 0;
    int64_t result = buffer(op, &memory, &bytes);
    if (result != 0) {
        return result;
    }
    if (__builtin_add_overflow((int64_t)op->args[3], (int64_t)bytes, &end)) {
        return -EINVAL;
    }
    if (bytes == 0) {
        result = move(file, way, NULL, 0, (off_t)op->args[3]);
        return result < 0 ? -errno : result;
    }
    return transfer(op, file, way, memory, bytes, (off_t)op->args[3]);
}

int64_t yd_call_pread64(struct yd_op *op)
{
    int64_t result = at_offset(op, IN);
    count(&op->yod->bytes_read, result);
    return result;
}

int64_t yd_call_pwrite64(struct yd_op *op)
{
    int64_t result = at_offset(op, OUT);
    count(&op->yod->bytes_written, result);
    return result;
}

/* A directory that yod makes: positions count its entries. */
static int64_t seek_listing(struct yd_op *op, struct yd_file *file)
{
    int64_t result = (int64_t)op->args[1];
    int from = (int)op->args[2];
    (void)pthread_mutex_lock(&op->yod->lock);
    if ((from != SEEK_SET && from != SEEK_CUR) ||
        (from == SEEK_CUR && __builtin_add_overflow(result, (int64_t)file->position, &result)) ||
        result < 0) {
        result = -EINVAL;
    }
    if (result >= 0) {
        file->position = (uint64_t)result;
    }
    (void)pthread_mutex_unlock(&op->yod->lock);
    return result;
}

int64_t yd_call_lseek(struct yd_op *op)
{
    struct yd_file *file = yd_op_file(op, 0);
    if (file == NULL) {
        return -EBADF;
    }
    if (file->kind == YD_LISTING) {
        return seek_listing(op, file);
    }
    off_t at = lseek(file->fd, (off_t)op->args[1], (int)op->args[2]);
    return at < 0 ? -errno : at;
}

int64_t yd_call_ftruncate(struct yd_op *op)
{
    const struct yd_file *file = yd_op_file(op, 0);
    if (file == NULL) {
        return -EBADF;
    }
    if (file->read_only) {
        return -EROFS;
    }
    return ftruncate(file->fd, (off_t)op->args[1]) < 0 ? failed(op, errno) : 0;
}

int64_t yd_call_truncate(struct yd_op *op)
{
    char path[YD_PATH];
    struct yd_place place;
    struct yd_file *base = NULL;
    int result = yd_get_path(op, 0, path);
    if (result != 0) {
        return result;
    }
    result = yd_base(op, (uint64_t)AT_FDCWD, path, &base);
    if (result == 0) {
        result = yd_lookup(op->yod, base, path, 0, &place);
        yd_file_unref(base);
    }
    if (result != 0) {
        return result;
    }
    bool regular = S_ISREG(place.stat.st_mode);
    if (place.fd < 0 || !place.root->writable) {
        result = -EROFS;
    } else if (!regular || (int64_t)op->args[1] < 0) {
        result = S_ISDIR(place.stat.st_mode) ? -EISDIR : -EINVAL;
    } else {
        int fd = yd_place_open(&place, O_WRONLY);
        result = fd;
        if (fd >= 0) {
            result = ftruncate(fd, (off_t)op->args[1]) < 0 ? (int)failed(op, errno) : 0;
            (void)close(fd);
        }
    }
    yd_place_close(&place);
    return result;
}

int64_t yd_call_fallocate(struct yd_op *op)
{
    const struct yd_file *file = yd_op_file(op, 0);
    if (file == NULL) {
        return -EBADF;
    }
    if (file->read_only) {
        return -EROFS;
    }
    int result = fallocate(file->fd, (int)op->args[1], (off_t)op->args[2], (off_t)op->args[3]);
    return result < 0 ? failed(op, errno) : 0;
}

int64_t yd_call_fsync(struct yd_op *op)
{
    const struct yd_file *file = yd_op_file(op, 0);
    if (file == NULL) {
        return -EBADF;
    }
    return file->kind == YD_LISTING ? -EINVAL : fsync(file->fd) < 0 ? -errno : 0;
}

int64_t yd_call_fdatasync(struct yd_op *op)
{
    const struct yd_file *file = yd_op_file(op, 0);
    if (file == NULL) {
        return -EBADF;
    }
    return file->kind == YD_LISTING ? -EINVAL : fdatasync(file->fd) < 0 ? -errno : 0;
}

/* The file systems that the guest may have written to: the rest of the host is not its business. */
int64_t yd_call_sync(struct yd_op *op)
{
    for (uint32_t i = 0; i < op->yod->root_count; i++) {
        const struct yd_root *root = &op->yod->roots[i];
        int fd = root->writable ? openat(root->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            (void)syncfs(fd);
            (void)close(fd);
        }
    }
    return 0;
}

/* There is nothing to poll for: a lock is tried again every 10 ms. */
int64_t yd_call_flock(struct yd_op *op)
{
    const struct yd_file *file = yd_op_file(op, 0);
    int how = (int)op->args[1];
    if (file == NULL || file->kind == YD_LISTING) {
        return -EBADF;
    }
    if (flock(file->fd, how | LOCK_NB) == 0) {
        return 0;
    }
    if (errno != EWOULDBLOCK || (how & LOCK_NB) != 0) {
        return -errno;
    }
    op->retry_ns = vh_now_ns() + FLOCK_RETRY_NS;
    return YD_LATER;
}
