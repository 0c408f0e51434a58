/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts through io_uring, whose operations no seccomp filter sees. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "monitor/breakout.h"
#include "virtio/blk_file.h"

/* Linux 5.19; older headers lack it. */
#define OP_SOCKET 45

/* Of the ring that is like a disk's. */
static struct io_uring_params disk_params;

int vh_breakout_make_ring(void)
{
    disk_params = (struct io_uring_params){.flags = IORING_SETUP_R_DISABLED};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &disk_params);
    if (fd >= 0 && !vh_blk_uring_restrict(fd)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* One entry through a ring of which nothing else is known: its result, or a negative errno. */
static int through(int fd, const struct io_uring_params *params, struct io_uring_sqe entry)
{
    size_t sq = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t cq = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    uint8_t *ring =
        mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqes = mmap(NULL, params->sq_entries * sizeof(entry),
                                     PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
    if (ring == MAP_FAILED || (void *)sqes == MAP_FAILED) {
        return -errno;
    }
    uint32_t *tail = (uint32_t *)(void *)(ring + params->sq_off.tail);
    uint32_t *head = (uint32_t *)(void *)(ring + params->cq_off.head);
    uint32_t *array = (uint32_t *)(void *)(ring + params->sq_off.array);
    uint32_t slot = *tail & (params->sq_entries - 1);
    sqes[slot] = entry;
    array[slot] = slot;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
        return -errno;
    }
    const struct io_uring_cqe *cqes =
        (const struct io_uring_cqe *)(const void *)(ring + params->cq_off.cqes);
    int result = cqes[*head & (params->cq_entries - 1)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

static const struct io_uring_sqe open_file = {.opcode = IORING_OP_OPENAT,
                                              .fd = AT_FDCWD,
                                              .addr = (uintptr_t) "/etc/passwd",
                                              .open_flags = O_RDONLY | O_CLOEXEC};

static int new_ring_open(const struct vh_breakout_world *world)
{
    (void)world;
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    int result = fd < 0 ? -errno : through(fd, &params, open_file);
    return result < 0 ? -result : 0;
}

static int new_ring_connect(const struct vh_breakout_world *world)
{
    struct sockaddr_un to;
    uint32_t length = vh_breakout_abstract(world, &to);
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0) {
        return errno;
    }
    struct io_uring_sqe make = {.opcode = OP_SOCKET, .fd = AF_UNIX, .off = SOCK_STREAM};
    int result = through(fd, &params, make);
    if (result >= 0) {
        struct io_uring_sqe join = {
            .opcode = IORING_OP_CONNECT, .fd = result, .addr = (uintptr_t)&to, .off = length};
        result = through(fd, &params, join);
    }
    return result < 0 ? -result : 0;
}

static int disk_ring_open(const struct vh_breakout_world *world)
{
    if (world->ring < 0) {
        return ENOSYS; /* no ring, no way through it */
    }
    int result = through(world->ring, &disk_params, open_file);
    return result < 0 ? -result : 0;
}

static int disk_ring_register(const struct vh_breakout_world *world)
{
    int fd = 0;
    return syscall(SYS_io_uring_register, world->ring, IORING_REGISTER_FILES, &fd, 1) < 0 ? errno
                                                                                          : 0;
}

const struct vh_breakout_attempt vh_breakout_rings[] = {
    {"new-ring-open", new_ring_open, VH_LAYER_ROOT, false},
    {"new-ring-connect", new_ring_connect, VH_LAYER_NET_NS, false},
    {"disk-ring-open", disk_ring_open, VH_LAYER_RING, false},
    {"disk-ring-register", disk_ring_register, VH_LAYER_RING, false},
};
const uint32_t vh_breakout_rings_count = VH_COUNT(vh_breakout_rings);
