/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service thread: calls that would block wait here, in one poll(), and are tried again when it
 * says so, when their time is over, or when they are cancelled. It starts with the first such call.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "yod_internal.h"

#define STACK_BYTES ((size_t)256 * 1024)
/* A descriptor that says it is ready and is not gets left alone for a while: never a busy wait. */
#define BACKOFF_NS 1000000ull
#define BACKOFF_MAX 6u

/** What the thread saw of one operation, so that it can tell what happened to it. */
struct watched {
    bool included;
    uint32_t first; /* in the set for poll() */
    uint32_t count;
};

void yd_service_wake(struct vmmhpc_yod *yod)
{
    (void)eventfd_write(yod->wake_fd, 1);
}

static bool make_room(struct vmmhpc_yod *yod, uint32_t needed)
{
    if (needed <= yod->watch_room) {
        return true;
    }
    struct pollfd *larger = realloc(yod->watch, needed * sizeof(*larger));
    if (larger == NULL) {
        return false;
    }
    yod->watch = larger;
    yod->watch_room = needed;
    return true;
}

static void earlier(uint64_t *until, uint64_t time)
{
    *until = time < *until ? time : *until;
}

/* Add what a waiting operation waits for. */
static void watch(struct vmmhpc_yod *yod, const struct yd_op *op, uint64_t now,
                  struct watched *seen, uint32_t *count, uint64_t *until)
{
    seen->included = true;
    seen->first = *count;
    seen->count = 0;
    if (op->cancelled) {
        *until = now;
        return;
    }
    earlier(until, op->deadline_ns);
    if (op->retry_ns > now) {
        earlier(until, op->retry_ns);
        return;
    }
    if (op->set == NULL && op->events == 0) {
        *until = now; /* waits for time only, which has come */
        return;
    }
    uint32_t more = op->set != NULL ? op->set_count : 1;
    if (!make_room(yod, *count + more)) {
        earlier(until, now + BACKOFF_NS); /* without memory: by and by */
        return;
    }
    if (op->set != NULL) {
        memcpy(yod->watch + *count, op->set, more * sizeof(*op->set));
    } else {
        yod->watch[*count] = (struct pollfd){.fd = op->file->fd, .events = op->events};
    }
    seen->count = more;
    *count += more;
}

static int timeout_of(uint64_t now, uint64_t until)
{
    if (until == YD_FOREVER) {
        return -1;
    }
    uint64_t ms = until <= now ? 0 : (until - now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

static bool any_ready(const struct vmmhpc_yod *yod, const struct watched *seen)
{
    for (uint32_t i = 0; i < seen->count; i++) {
        if (yod->watch[seen->first + i].revents != 0) {
            return true;
        }
    }
    return false;
}

static int64_t outcome(struct yd_op *op, bool ready, bool cancelled)
{
    int64_t interrupted = op->done > 0 ? (int64_t)op->done : -EINTR;
    if (cancelled) {
        return interrupted;
    }
    uint64_t before = op->done;
    int64_t result = yd_try(op);
    if (result != YD_LATER) {
        return result;
    }
    if (ready && op->done == before) {
        op->refusals += op->refusals < BACKOFF_MAX ? 1 : 0;
        op->retry_ns = vh_now_ns() + (BACKOFF_NS << op->refusals);
    } else if (ready) {
        op->refusals = 0;
    }
    return YD_LATER;
}

static void attend(struct vmmhpc_yod *yod, uint32_t index, const struct watched *seen, uint64_t now)
{
    struct yd_op *op = &yod->ops[index];
    bool ready = any_ready(yod, seen);
    (void)pthread_mutex_lock(&yod->lock);
    bool cancelled = op->cancelled || atomic_load(&yod->closing);
    bool due =
        op->state == YD_OP_WAITING && seen->included &&
        (ready || cancelled || op->deadline_ns <= now || (seen->count == 0 && op->retry_ns <= now));
    if (due) {
        op->state = YD_OP_BUSY;
    }
    (void)pthread_mutex_unlock(&yod->lock);
    if (!due) {
        return;
    }
    int64_t result = outcome(op, ready, cancelled);
    if (result == YD_LATER) {
        (void)pthread_mutex_lock(&yod->lock);
        op->state = YD_OP_WAITING;
        (void)pthread_mutex_unlock(&yod->lock);
        return;
    }
    yd_finish(op, result);
    yd_pulse(yod);
}

static void *service_main(void *arg)
{
    struct vmmhpc_yod *yod = arg;
    struct watched seen[YOD_SLOTS];
    for (;;) {
        uint32_t count = 1;
        uint32_t waiting = 0;
        uint64_t now = vh_now_ns();
        uint64_t until = YD_FOREVER;
        (void)pthread_mutex_lock(&yod->lock);
        for (uint32_t i = 0; i < YOD_SLOTS; i++) {
            seen[i] = (struct watched){0};
            if (yod->ops[i].state == YD_OP_WAITING) {
                waiting++;
                watch(yod, &yod->ops[i], now, &seen[i], &count, &until);
            }
        }
        (void)pthread_mutex_unlock(&yod->lock);
        bool closing = atomic_load(&yod->closing);
        if (closing && waiting == 0) {
            return NULL;
        }
        yod->watch[0] = (struct pollfd){.fd = yod->wake_fd, .events = POLLIN};
        if (poll(yod->watch, count, closing ? 0 : timeout_of(now, until)) < 0) {
            /* EINTR cannot be (signals are blocked); without memory no descriptor is ready. */
            count = 0;
            for (uint32_t i = 0; i < YOD_SLOTS; i++) {
                seen[i].count = 0;
            }
        }
        eventfd_t told = 0;
        if (count > 0 && yod->watch[0].revents != 0) {
            (void)eventfd_read(yod->wake_fd, &told);
        }
        now = vh_now_ns();
        for (uint32_t i = 0; i < YOD_SLOTS; i++) {
            attend(yod, i, &seen[i], now);
        }
    }
}

/* Called with the lock held. */
static bool start(struct vmmhpc_yod *yod)
{
    if (yod->has_thread || atomic_load(&yod->closing) || !make_room(yod, 1)) {
        return yod->has_thread;
    }
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    yod->has_thread = pthread_create(&yod->thread, &attr, service_main, yod) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (yod->has_thread) {
        (void)pthread_setname_np(yod->thread, "vmmhpc-yod");
    }
    return yod->has_thread;
}

bool yd_service_take(struct yd_op *op)
{
    struct vmmhpc_yod *yod = op->yod;
    (void)pthread_mutex_lock(&yod->lock);
    bool taken = start(yod) && !atomic_load(&yod->closing);
    if (taken) {
        op->state = YD_OP_WAITING;
    }
    (void)pthread_mutex_unlock(&yod->lock);
    if (taken) {
        (void)atomic_fetch_add_explicit(&yod->waited, 1, memory_order_relaxed);
        yd_service_wake(yod);
    }
    return taken;
}

void yd_service_stop(struct vmmhpc_yod *yod)
{
    (void)pthread_mutex_lock(&yod->lock);
    atomic_store(&yod->closing, true);
    bool has_thread = yod->has_thread;
    yod->has_thread = false;
    (void)pthread_mutex_unlock(&yod->lock);
    if (has_thread) {
        yd_service_wake(yod);
        (void)pthread_join(yod->thread, NULL);
    }
    free(yod->watch);
    yod->watch = NULL;
    yod->watch_room = 0;
}
