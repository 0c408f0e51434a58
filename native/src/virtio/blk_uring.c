/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine for raw disks: io_uring, by its three system calls. All system calls come from the
 * thread that works on the device; the ring's eventfd wakes the I/O loop when something is done.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "virtio/blk_file.h"

/* A ring that loses nothing, and copies what it is given. */
#define NEEDED                                                                                     \
    (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |                    \
     IORING_FEAT_RW_CUR_POS)
/* Kernel threads for what cannot be done without waiting; else it may be one for each request. */
#define WORKERS 8u
/* The kernel is short of memory, or was interrupted: worth another try, but not for ever. */
#define TRIES 1000u

struct uring {
    struct vh_blk_engine engine; /* first */
    const struct vh_blk_raw *raw;
    int fd;
    uint8_t *ring;
    size_t ring_bytes;
    struct io_uring_sqe *sqes;
    size_t sqes_bytes;
    uint32_t *sq_head;
    uint32_t *sq_tail;
    uint32_t sq_mask;
    uint32_t *cq_head;
    uint32_t *cq_tail;
    uint32_t cq_mask;
    const struct io_uring_cqe *cqes;
    uint32_t queued; /* entries that the kernel was not told of yet */
    bool draining;
};

static int enter(const struct uring *uring, uint32_t count, uint32_t wait)
{
    long done = syscall(SYS_io_uring_enter, uring->fd, count, wait,
                        wait > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    return done < 0 ? -errno : (int)done;
}

/* ------------------------------------------------------------------ submission */

/* There is always room: no more than VH_BLK_REQUESTS are under way, with one entry each. */
static void queue(struct uring *uring, struct vh_blk_request *request)
{
    const struct vh_blk_raw *raw = uring->raw;
    uint32_t tail = *uring->sq_tail;
    struct io_uring_sqe *sqe = &uring->sqes[tail & uring->sq_mask];
    memset(sqe, 0, sizeof(*sqe));
    sqe->fd = raw->fd;
    sqe->user_data = (uintptr_t)request;
    if (request->op == VH_BLK_FLUSH || request->syncing) {
        sqe->opcode = IORING_OP_FSYNC;
        sqe->fsync_flags = IORING_FSYNC_DATASYNC;
    } else if (request->op == VH_BLK_READ || request->op == VH_BLK_WRITE) {
        sqe->opcode = request->op == VH_BLK_READ ? IORING_OP_READV : IORING_OP_WRITEV;
        sqe->fd = vh_blk_raw_fd(raw, &request->buffers, request->offset);
        sqe->off = request->offset;
        sqe->addr = (uintptr_t)request->buffers.iov;
        sqe->len = request->buffers.count;
    } else {
        sqe->opcode = IORING_OP_FALLOCATE;
        sqe->off = request->offset;
        sqe->addr = request->bytes;
        sqe->len = (uint32_t)vh_blk_fallocate_mode(request->op == VH_BLK_DISCARD, request->unmap,
                                                   request->second);
    }
    __atomic_store_n(uring->sq_tail, tail + 1, __ATOMIC_RELEASE);
    uring->queued++;
}

static void submit(struct vh_blk_engine *engine, struct vh_blk_request *request)
{
    struct uring *uring = (struct uring *)engine;
    request->tries = 0;
    request->second = false;
    request->syncing = false;
    engine->under_way++;
    queue(uring, request);
}

/* ------------------------------------------------------------------ completion */

static void finish(struct uring *uring, struct vh_blk_request *request, int failed)
{
    uring->engine.under_way--;
    request->done(request, failed);
}

static bool again(struct uring *uring, struct vh_blk_request *request)
{
    if (uring->draining) {
        finish(uring, request, ECANCELED);
    } else {
        queue(uring, request);
    }
    return true;
}

/* Whether the request goes on: interrupted, short, or with a second step. */
static bool goes_on(struct uring *uring, struct vh_blk_request *request, int32_t result)
{
    bool moves = !request->syncing && request->op <= VH_BLK_WRITE;
    if (result == -EINTR || result == -EAGAIN) {
        return request->tries++ < TRIES && again(uring, request);
    }
    if (result == -EOPNOTSUPP && request->op == VH_BLK_ZERO && !request->syncing &&
        !request->second) {
        request->second = true;
        return again(uring, request);
    }
    if (result < 0) {
        return false;
    }
    if (moves && result > 0) {
        vh_blk_advance(&request->buffers, (uint32_t)result);
        request->offset += (uint32_t)result;
        if (request->buffers.count > 0) {
            return again(uring, request);
        }
    }
    if (request->stable && !request->syncing && request->op != VH_BLK_READ &&
        request->op != VH_BLK_FLUSH && !(moves && result == 0)) {
        request->syncing = true;
        return again(uring, request);
    }
    return false;
}

static void complete(struct uring *uring, struct vh_blk_request *request, int32_t result)
{
    if (goes_on(uring, request, result)) {
        return;
    }
    int failed = result < 0 ? -result : 0;
    if (!request->syncing && request->op <= VH_BLK_WRITE && result == 0) {
        failed = EIO; /* the file became shorter */
    }
    if (request->op == VH_BLK_DISCARD && failed == EOPNOTSUPP) {
        failed = 0; /* a device may ignore it (virtio 1.2, 5.2.6.2) */
    }
    finish(uring, request, failed);
}

static bool collect(struct uring *uring)
{
    uint32_t head = *uring->cq_head;
    bool any = false;
    while (head != __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE)) {
        const struct io_uring_cqe *cqe = &uring->cqes[head & uring->cq_mask];
        struct vh_blk_request *request = (struct vh_blk_request *)(uintptr_t)cqe->user_data;
        int32_t result = cqe->res;
        head++;
        __atomic_store_n(uring->cq_head, head, __ATOMIC_RELEASE);
        complete(uring, request, result);
        any = true;
    }
    return any;
}

/* The kernel took none of what is left: it never will. */
static void fail_queued(struct uring *uring)
{
    uint32_t head = __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE);
    uint32_t tail = *uring->sq_tail;
    __atomic_store_n(uring->sq_tail, head, __ATOMIC_RELEASE);
    uring->queued = 0;
    for (; head != tail; head++) {
        uint64_t data = uring->sqes[head & uring->sq_mask].user_data;
        finish(uring, (struct vh_blk_request *)(uintptr_t)data, EIO);
    }
}

/* Give the kernel what is queued. Much is done when that returns: reads from the page cache. */
static void turn(struct vh_blk_engine *engine)
{
    struct uring *uring = (struct uring *)engine;
    uint32_t tries = 0;
    do {
        while (uring->queued > 0) {
            int done = enter(uring, uring->queued, 0);
            if (done > 0) {
                uring->queued -= (uint32_t)done;
                tries = 0;
            } else if (done != -EINTR && tries++ >= TRIES) {
                fail_queued(uring);
            } else if (done != -EINTR) {
                (void)sched_yield();
            }
        }
    } while (collect(uring) && uring->queued > 0);
}

static void drain(struct vh_blk_engine *engine)
{
    struct uring *uring = (struct uring *)engine;
    uring->draining = true;
    if (uring->queued > 0) {
        fail_queued(uring);
    }
    while (engine->under_way > 0) {
        if (!collect(uring)) {
            (void)enter(uring, 0, 1);
        }
    }
    uring->draining = false;
}

/* ------------------------------------------------------------------ setting up */

static void close_uring(struct vh_blk_engine *engine)
{
    struct uring *uring = (struct uring *)engine;
    if (uring->ring != NULL) {
        (void)munmap(uring->ring, uring->ring_bytes);
    }
    if (uring->sqes != NULL) {
        (void)munmap(uring->sqes, uring->sqes_bytes);
    }
    if (uring->fd >= 0) {
        (void)close(uring->fd);
    }
    if (engine->event_fd >= 0) {
        (void)close(engine->event_fd);
    }
    free(uring);
}

static void *map(const struct uring *uring, size_t bytes, uint64_t what)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, uring->fd,
                    (off_t)what);
    return at == MAP_FAILED ? NULL : at;
}

static uint32_t *word(const struct uring *uring, uint32_t offset)
{
    return (uint32_t *)(void *)(uring->ring + offset);
}

static bool map_rings(struct uring *uring, const struct io_uring_params *params)
{
    size_t sq = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t cq = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    uring->ring_bytes = sq > cq ? sq : cq;
    uring->sqes_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
    uring->ring = map(uring, uring->ring_bytes, IORING_OFF_SQ_RING);
    uring->sqes = map(uring, uring->sqes_bytes, IORING_OFF_SQES);
    if (uring->ring == NULL || uring->sqes == NULL) {
        return false;
    }
    uring->sq_head = word(uring, params->sq_off.head);
    uring->sq_tail = word(uring, params->sq_off.tail);
    uring->sq_mask = *word(uring, params->sq_off.ring_mask);
    uring->cq_head = word(uring, params->cq_off.head);
    uring->cq_tail = word(uring, params->cq_off.tail);
    uring->cq_mask = *word(uring, params->cq_off.ring_mask);
    uring->cqes = (const struct io_uring_cqe *)(const void *)(uring->ring + params->cq_off.cqes);
    uint32_t *array = word(uring, params->sq_off.array);
    for (uint32_t i = 0; i < params->sq_entries; i++) {
        array[i] = i;
    }
    return true;
}

/* A sandbox may let a ring be made and not be used: see one entry through. */
static bool try_it(struct uring *uring)
{
    memset(&uring->sqes[0], 0, sizeof(uring->sqes[0])); /* IORING_OP_NOP */
    __atomic_store_n(uring->sq_tail, *uring->sq_tail + 1, __ATOMIC_RELEASE);
    int done = 0;
    do {
        done = enter(uring, 1, 1);
    } while (done == -EINTR);
    if (done != 1 || __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE) != *uring->cq_head + 1) {
        return false;
    }
    __atomic_store_n(uring->cq_head, *uring->cq_head + 1, __ATOMIC_RELEASE);
    return true;
}

/* What a ring does passes by seccomp filters: allow what a disk needs and no more, for ever. */
bool vh_blk_uring_restrict(int fd)
{
    static const uint8_t allowed[] = {IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
                                      IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_restriction restrictions[VH_COUNT(allowed)] = {{0}};
    for (uint32_t i = 0; i < VH_COUNT(allowed); i++) {
        restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
        restrictions[i].sqe_op = allowed[i];
    }
    return syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, restrictions,
                   VH_COUNT(allowed)) == 0 &&
           syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
}

static bool set_up(struct uring *uring)
{
    /* Disabled until it is restricted: kernels before 5.10 refuse. */
    struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
    uint32_t workers[2] = {WORKERS, WORKERS};
    uring->fd = (int)syscall(SYS_io_uring_setup, VH_BLK_REQUESTS, &params);
    if (uring->fd < 0) {
        return false;
    }
    if ((params.features & NEEDED) != NEEDED || params.sq_entries < VH_BLK_REQUESTS ||
        !map_rings(uring, &params)) {
        errno = EOPNOTSUPP;
        return false;
    }
    /* Kernels before 5.15 do not know it. */
    (void)syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2);
    uring->engine.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->engine.event_fd < 0 ||
        syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_EVENTFD, &uring->engine.event_fd,
                1) != 0 ||
        !vh_blk_uring_restrict(uring->fd)) {
        return false;
    }
    if (!try_it(uring)) {
        errno = EOPNOTSUPP;
        return false;
    }
    eventfd_t count = 0;
    (void)eventfd_read(uring->engine.event_fd, &count); /* of that try */
    return true;
}

static const struct vh_blk_engine_ops uring_ops = {submit, turn, turn, drain, close_uring};

int32_t vh_blk_uring_open(struct vh_blk_raw *raw, struct vh_blk_engine **engine,
                          struct vmmhpc_error *err)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    if (uring == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a disk");
    }
    uring->engine.ops = &uring_ops;
    uring->engine.event_fd = -1;
    uring->raw = raw;
    uring->fd = -1;
    if (!set_up(uring)) {
        int failed = errno;
        close_uring(&uring->engine);
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, failed, 0, "io_uring cannot be used here");
    }
    *engine = &uring->engine;
    return VMMHPC_OK;
}
