/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in a raw file or on a block device of the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/blk_file.h"
#include "vmmhpc_devices.h"

#define SECTOR 512u
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* ------------------------------------------------------------------ transfers */

uint64_t vh_blk_total(const struct vh_blk_buffers *buffers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < buffers->count; i++) {
        bytes += buffers->iov[i].iov_len;
    }
    return bytes;
}

void vh_blk_advance(struct vh_blk_buffers *buffers, uint64_t bytes)
{
    while (buffers->count > 0 && bytes >= buffers->iov[0].iov_len) {
        bytes -= buffers->iov[0].iov_len;
        buffers->iov++;
        buffers->count--;
    }
    if (buffers->count > 0 && bytes > 0) {
        buffers->iov[0].iov_base = (uint8_t *)buffers->iov[0].iov_base + bytes;
        buffers->iov[0].iov_len -= bytes;
    }
}

int vh_blk_raw_fd(const struct vh_blk_raw *raw, const struct vh_blk_buffers *buffers,
                  uint64_t offset)
{
    if (raw->direct_fd < 0) {
        return raw->fd;
    }
    /* What is not aligned goes through the page cache: the kernel keeps both views together. */
    uint64_t offsets = offset;
    uint64_t addresses = 0;
    for (uint32_t i = 0; i < buffers->count; i++) {
        offsets |= buffers->iov[i].iov_len;
        addresses |= (uintptr_t)buffers->iov[i].iov_base;
    }
    bool aligned =
        (offsets & (raw->direct_offset - 1)) == 0 && (addresses & (raw->direct_address - 1)) == 0;
    return aligned ? raw->direct_fd : raw->fd;
}

static int transfer(struct vh_blk_store *store, struct vh_blk_buffers buffers, uint64_t offset,
                    bool write)
{
    const struct vh_blk_raw *raw = (struct vh_blk_raw *)store;
    while (buffers.count > 0) {
        int fd = vh_blk_raw_fd(raw, &buffers, offset);
        ssize_t done = write ? pwritev(fd, buffers.iov, (int)buffers.count, (off_t)offset)
                             : preadv(fd, buffers.iov, (int)buffers.count, (off_t)offset);
        if (done < 0 && errno != EINTR) {
            return errno;
        }
        if (done == 0) {
            return EIO; /* the file became shorter */
        }
        if (done > 0) {
            vh_blk_advance(&buffers, (uint64_t)done);
            offset += (uint64_t)done;
        }
    }
    return 0;
}

static int raw_read(struct vh_blk_store *store, struct vh_blk_buffers to, uint64_t offset)
{
    return transfer(store, to, offset, false);
}

static int raw_write(struct vh_blk_store *store, struct vh_blk_buffers from, uint64_t offset)
{
    return transfer(store, from, offset, true);
}

static int raw_flush(struct vh_blk_store *store)
{
    const struct vh_blk_raw *raw = (struct vh_blk_raw *)store;
    return fdatasync(raw->fd) == 0 ? 0 : errno;
}

/* ------------------------------------------------------------------ discard and zero */

int vh_blk_fallocate_mode(bool discard, bool unmap, bool second)
{
    return (discard || unmap) != second ? PUNCH : ZERO;
}

static int allocate(const struct vh_blk_raw *raw, int mode, uint64_t offset, uint64_t bytes)
{
    int failed = 0;
    do {
        failed = fallocate(raw->fd, mode, (off_t)offset, (off_t)bytes) == 0 ? 0 : errno;
    } while (failed == EINTR);
    return failed;
}

static int raw_discard(struct vh_blk_store *store, uint64_t offset, uint64_t bytes)
{
    const struct vh_blk_raw *raw = (struct vh_blk_raw *)store;
    uint64_t range[2] = {offset, bytes};
    if (raw->device && ioctl(raw->fd, BLKDISCARD, range) == 0) {
        return 0;
    }
    int failed = allocate(raw, PUNCH, offset, bytes);
    return failed == EOPNOTSUPP ? 0 : failed; /* a device may ignore it (virtio 1.2, 5.2.6.2) */
}

static int raw_zero(struct vh_blk_store *store, uint64_t offset, uint64_t bytes, bool unmap)
{
    const struct vh_blk_raw *raw = (struct vh_blk_raw *)store;
    int failed = allocate(raw, vh_blk_fallocate_mode(false, unmap, false), offset, bytes);
    if (failed == EOPNOTSUPP) {
        failed = allocate(raw, vh_blk_fallocate_mode(false, unmap, true), offset, bytes);
    }
    return failed;
}

static void raw_close(struct vh_blk_store *store)
{
    struct vh_blk_raw *raw = (struct vh_blk_raw *)store;
    if (raw->direct_fd >= 0) {
        (void)close(raw->direct_fd);
    }
    if (raw->fd >= 0) {
        (void)close(raw->fd); /* and with it goes the lock */
    }
    free(raw);
}

static const struct vh_blk_store_ops raw_ops = {raw_read,    raw_write, raw_flush,
                                                raw_discard, raw_zero,  raw_close};

/* ------------------------------------------------------------------ opening */

static int32_t cannot(struct vmmhpc_error *err, int failed, const char *what, const char *path)
{
    int32_t code =
        failed == EACCES || failed == EPERM || failed == EROFS ? VMMHPC_E_PERMISSION : VMMHPC_E_IO;
    return vh_fail(err, code, failed, 0, "cannot %s disk %.150s", what, path);
}

/* Of the open file description: it goes with the descriptor, even when the process is killed, and
 * holds against other machines of this process as well. */
static int32_t lock(const struct vh_blk_raw *raw, const char *path, struct vmmhpc_error *err)
{
    struct flock whole = {.l_type = raw->store.read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(raw->fd, F_OFD_SETLK, &whole) == 0) {
        return VMMHPC_OK;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return vh_fail(err, VMMHPC_E_IO, EBUSY, 0,
                       raw->store.read_only ? "disk %.150s is being written by another machine"
                                            : "disk %.150s is in use by another machine",
                       path);
    }
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL) {
        return VMMHPC_OK; /* a file system without locks */
    }
    return cannot(err, errno, "lock", path);
}

static int32_t measure(struct vh_blk_raw *raw, const char *path, struct vmmhpc_error *err)
{
    struct vh_blk_store *store = &raw->store;
    struct stat info;
    if (fstat(raw->fd, &info) != 0) {
        return cannot(err, errno, "examine", path);
    }
    raw->device = S_ISBLK(info.st_mode);
    if (!S_ISREG(info.st_mode) && !raw->device) {
        return vh_fail(err, VMMHPC_E_IO, 0, 0, "disk %.150s is neither a file nor a block device",
                       path);
    }
    store->bytes = (uint64_t)info.st_size;
    store->block_bytes = SECTOR;
    store->physical_bytes = 4096;
    if (raw->device) {
        int logical = 0;
        unsigned int physical = 0;
        if (ioctl(raw->fd, BLKGETSIZE64, &store->bytes) != 0 ||
            ioctl(raw->fd, BLKSSZGET, &logical) != 0 ||
            ioctl(raw->fd, BLKPBSZGET, &physical) != 0) {
            return cannot(err, errno, "measure", path);
        }
        store->block_bytes = (uint32_t)logical;
        store->physical_bytes = physical;
    }
    store->bytes &= ~(uint64_t)(SECTOR - 1);
    if (store->bytes == 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "disk %.150s is empty", path);
    }
    return VMMHPC_OK;
}

/* The smallest alignment with which a read of the first bytes succeeds; 0: none. */
static uint32_t probe(int fd, uint8_t *buffer, uint32_t length, bool address)
{
    for (uint32_t alignment = SECTOR; alignment <= 4096; alignment *= 2) {
        uint8_t *at = address ? buffer + alignment : buffer;
        if (vh_pread(fd, at, address ? length : alignment, 0) >= 0) {
            return alignment;
        }
    }
    return 0;
}

/* Past the page cache where that works: it is a wish, not a condition. */
static void open_direct(const struct vh_files *files, struct vh_blk_raw *raw, const char *path)
{
    uint8_t *buffer = aligned_alloc(4096, (size_t)3 * 4096);
    int fd = vh_open(files, path, (raw->store.read_only ? O_RDONLY : O_RDWR) | O_DIRECT);
    if (fd >= 0 && buffer != NULL) {
        raw->direct_offset = probe(fd, buffer, 0, false);
        raw->direct_address = probe(fd, buffer, raw->direct_offset, true);
    }
    free(buffer);
    struct stat other;
    struct stat mine;
    if (raw->direct_offset != 0 && raw->direct_address != 0 && fstat(fd, &other) == 0 &&
        fstat(raw->fd, &mine) == 0 && other.st_dev == mine.st_dev && other.st_ino == mine.st_ino) {
        raw->direct_fd = fd;
        if (raw->direct_offset > raw->store.block_bytes) {
            raw->store.block_bytes = raw->direct_offset;
        }
    } else if (fd >= 0) {
        (void)close(fd);
    }
}

/* Whether holes can be punched: tried behind the end, where there is nothing. */
static bool can_punch(const struct vh_blk_raw *raw)
{
    uint64_t end = 0;
    return raw->device || (vh_align_up(raw->store.bytes, VH_PAGE, &end) &&
                           allocate(raw, PUNCH, end, VH_PAGE) == 0);
}

static int32_t open_file(const struct vh_files *files, struct vh_blk_raw *raw, const char *path,
                         struct vmmhpc_error *err)
{
    /* O_NONBLOCK: a FIFO is refused, not waited for. */
    raw->fd =
        vh_open(files, path, (raw->store.read_only ? O_RDONLY : O_RDWR) | O_NOCTTY | O_NONBLOCK);
    if (raw->fd < 0) {
        return cannot(err, errno, "open", path);
    }
    int32_t status = measure(raw, path, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    /* With it io_uring would answer EAGAIN instead of waiting. */
    if (fcntl(raw->fd, F_SETFL, 0) != 0) {
        return cannot(err, errno, "open", path);
    }
    return lock(raw, path, err);
}

int32_t vh_blk_raw_open(const struct vh_files *files, const char *path, uint32_t flags,
                        struct vh_blk_raw **result, struct vmmhpc_error *err)
{
    struct vh_blk_raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a disk");
    }
    raw->store.ops = &raw_ops;
    raw->store.read_only = (flags & VMMHPC_BLK_READ_ONLY) != 0;
    raw->direct_fd = -1;
    int32_t status = open_file(files, raw, path, err);
    if (status != VMMHPC_OK) {
        raw_close(&raw->store);
        return status;
    }
    if ((flags & VMMHPC_BLK_DIRECT) != 0) {
        open_direct(files, raw, path);
    }
    raw->store.can_discard = !raw->store.read_only && can_punch(raw);
    *result = raw;
    return VMMHPC_OK;
}
