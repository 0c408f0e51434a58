/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read(2), write(2) and their relatives. A buffer that is contiguous in memory is shipped as it is.
 * Several that are small together go through the bounce buffer in one call. Several large ones are
 * shipped one by one; as the second read of a stream may block where Linux would return what came
 * with the first, poll() is asked before.
 */
#include <asm/poll.h>
#include <linux/signal.h>
#include <linux/uio.h>

#include "ship.h"

#define LARGEST 0x7ffff000u /* of one call, as Linux */
#define VECTORS 1024u
#define STREAM UINT64_MAX

/* Go on to the next buffer that is not empty: 1, 0 at the end, or -EFAULT. */
static int64_t advance(struct transfer *t)
{
    while (t->left == 0 && t->iovs > 0) {
        struct iovec next;
        if (!user_read(&next, t->iov, sizeof(next))) {
            return -EFAULT;
        }
        t->va = (uint64_t)(uintptr_t)next.iov_base;
        t->left = next.iov_len;
        t->iov += sizeof(next);
        t->iovs--;
    }
    t->left = least(t->left, t->room);
    return t->left > 0 ? 1 : 0;
}

static uint32_t prot_of(const struct transfer *t)
{
    return t->write ? PROT_READ : PROT_WRITE;
}

static void step_on(struct transfer *t, uint64_t bytes)
{
    t->va += bytes;
    t->left -= bytes;
    t->room -= bytes;
    t->sum += bytes;
    if (t->offset != STREAM) {
        t->offset += bytes;
    }
}

/* The bytes that can be moved, counted no further than `limit`, and in how many pieces. */
static uint64_t measure(struct transfer t, uint64_t limit, uint32_t *pieces)
{
    *pieces = 0;
    while (t.sum < limit && advance(&t) == 1) {
        uint64_t got;
        if (user_piece(t.va, t.left, prot_of(&t), &got) == NO_MEMORY) {
            break;
        }
        (*pieces)++;
        step_on(&t, got);
    }
    return t.sum;
}

/* Between the application's buffers and the bounce buffer; how many bytes could be. */
static uint64_t bounce(const struct job *job, uint64_t bytes)
{
    struct transfer t = job->transfer;
    uint8_t *at = job_bounce(job);

    while (t.sum < bytes && advance(&t) == 1) {
        uint64_t piece = least(t.left, bytes - t.sum);
        if (t.write ? !user_read(at + t.sum, t.va, piece) : !user_write(t.va, at + t.sum, piece)) {
            break;
        }
        step_on(&t, piece);
    }
    return t.sum;
}

static int64_t fail(const struct job *job, int64_t error)
{
    if (error == -EPIPE && job->transfer.write) {
        qk_signal(SIGPIPE, job->tid);
    }
    return job->transfer.sum > 0 ? (int64_t)job->transfer.sum : error;
}

static void fill(struct job *job, uint64_t pa, uint64_t bytes)
{
    struct transfer *t = &job->transfer;
    bool stream = t->offset == STREAM;
    uint32_t call =
        t->write ? (stream ? __NR_write : __NR_pwrite64) : (stream ? __NR_read : __NR_pread64);

    job_call(job, call);
    job_value(job, 0, t->fd);
    job_memory(job, 1, pa, bytes);
    job_value(job, 2, bytes);
    job_value(job, 3, stream ? 0 : t->offset);
    t->piece = bytes;
}

static int64_t ship_piece(struct job *job)
{
    struct transfer *t = &job->transfer;
    uint64_t got;
    uint64_t pa = user_piece(t->va, t->left, prot_of(t), &got);

    if (pa == NO_MEMORY) {
        return fail(job, -EFAULT);
    }
    fill(job, pa, got);
    return PENDING;
}

static int64_t ask(struct job *job)
{
    struct pollfd fd = {.fd = (int)job->transfer.fd, .events = POLLIN};

    memcpy(job_bounce(job), &fd, sizeof(fd));
    job_call(job, __NR_poll);
    job_memory(job, 0, job_bounce_pa(job), sizeof(fd));
    job_value(job, 1, 1);
    job->transfer.polling = true;
    return PENDING;
}

static int64_t piece_done(struct job *job, int64_t result)
{
    struct transfer *t = &job->transfer;

    if (t->polling) {
        t->polling = false;
        return result > 0 ? ship_piece(job) : (int64_t)t->sum;
    }
    if (result < 0) {
        return fail(job, result);
    }
    uint64_t moved = least((uint64_t)result, t->piece);
    step_on(t, moved);
    if (moved < t->piece || job->cancelled || advance(t) != 1) {
        return (int64_t)t->sum;
    }
    return t->write || t->offset != STREAM ? ship_piece(job) : ask(job);
}

static int64_t bounced(struct job *job, int64_t result)
{
    if (result <= 0) {
        return fail(job, result);
    }
    uint64_t moved = least((uint64_t)result, job->transfer.piece);
    if (!job->transfer.write) {
        moved = bounce(job, moved);
    }
    return moved > 0 ? (int64_t)moved : -EFAULT;
}

/* As Linux checks a vector before it looks at a byte. */
static int64_t check_vector(const struct transfer *t)
{
    uint64_t total = 0;

    if (t->iovs > VECTORS) {
        return -EINVAL;
    }
    for (uint64_t i = 0; i < t->iovs; i++) {
        struct iovec at;
        if (!user_read(&at, t->iov + i * sizeof(at), sizeof(at))) {
            return -EFAULT;
        }
        total += at.iov_len;
        if (at.iov_len > INT64_MAX || total > INT64_MAX) {
            return -EINVAL;
        }
    }
    return 0;
}

static int64_t describe(struct transfer *t, const struct pct_event *event)
{
    uint64_t call = event->call;
    const uint64_t *args = event->args;

    *t = (struct transfer){.fd = (uint32_t)args[0], .room = LARGEST, .offset = STREAM};
    t->write = call == __NR_write || call == __NR_pwrite64 || call == __NR_writev ||
               call == __NR_pwritev || call == __NR_pwritev2;
    if (call != __NR_read && call != __NR_write && call != __NR_readv && call != __NR_writev) {
        bool current = (call == __NR_preadv2 || call == __NR_pwritev2) && args[3] == STREAM;
        if (!current && (int64_t)args[3] < 0) {
            return -EINVAL;
        }
        t->offset = args[3];
    }
    if ((call == __NR_preadv2 || call == __NR_pwritev2) && args[5] != 0) {
        return -EOPNOTSUPP;
    }
    if (call == __NR_read || call == __NR_write || call == __NR_pread64 || call == __NR_pwrite64) {
        t->va = args[1];
        t->left = args[2];
        return 0;
    }
    t->iov = args[1];
    t->iovs = args[2];
    return check_vector(t);
}

int64_t transfer_prepare(struct job *job, const struct pct_event *event)
{
    struct transfer *t = &job->transfer;
    uint32_t pieces;

    int64_t failed = describe(t, event);
    if (failed != 0) {
        return failed;
    }
    int64_t more = advance(t);
    if (more < 0) {
        return more;
    }
    job->step = piece_done;
    if (more == 0) {
        fill(job, YOD_NO_ADDRESS, 0);
        return PENDING;
    }
    uint64_t bytes = measure(*t, BOUNCE_BYTES + 1, &pieces);
    if (pieces < 2 || bytes > BOUNCE_BYTES) {
        return ship_piece(job);
    }
    if (t->write) {
        bytes = bounce(job, bytes);
    }
    fill(job, job_bounce_pa(job), bytes);
    job->step = bounced;
    return PENDING;
}
