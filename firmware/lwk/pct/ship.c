/* SPDX-License-Identifier: Apache-2.0 */
#include "shm.h"

#define WAITING 1024u /* the QK has no more threads */
#define CANCEL_SLOT (YOD_SLOTS - 1)

/* A call that waits for a slot. */
struct waiting {
    uint64_t call;
    uint64_t args[6];
    uint32_t tid;
};

static struct job jobs[JOBS];
static struct waiting *waiting;
static uint32_t waiting_count;
static uint64_t bounce_pa;

bool ship_init(void)
{
    uint64_t waiting_pa = mm_own_pages(WAITING * sizeof(struct waiting));

    pct.queue_pa = mm_own_pages(sizeof(struct yod_queue));
    bounce_pa = mm_own_pages(JOBS * (uint64_t)BOUNCE_BYTES);
    if (waiting_pa == NO_MEMORY || pct.queue_pa == NO_MEMORY || bounce_pa == NO_MEMORY) {
        return false;
    }
    waiting = ram(waiting_pa);
    pct.queue = ram(pct.queue_pa);
    pct.queue->version = YOD_LAUNCH_VERSION;
    pct.queue->slots = YOD_SLOTS;
    for (uint32_t i = 0; i < JOBS; i++) {
        jobs[i].index = i;
    }
    return true;
}

struct yod_slot *job_slot(const struct job *job)
{
    return &pct.queue->slot[job->index];
}

uint64_t job_bounce_pa(const struct job *job)
{
    return bounce_pa + job->index * (uint64_t)BOUNCE_BYTES;
}

uint8_t *job_bounce(const struct job *job)
{
    return ram(job_bounce_pa(job));
}

void job_call(struct job *job, uint32_t call)
{
    struct yod_slot *slot = job_slot(job);

    *slot = (struct yod_slot){.call = call};
    job->bounced = 0;
    job->carries = 0;
}

bool ship_pins(uint64_t pa, uint64_t bytes)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        if (jobs[i].tid == 0) {
            continue;
        }
        const struct yod_slot *slot = job_slot(&jobs[i]);
        for (uint32_t n = 0; n < 6; n++) {
            if (slot->extent[n] != 0 && slot->args[n] < pa + bytes &&
                pa < slot->args[n] + slot->extent[n]) {
                return true;
            }
        }
    }
    return false;
}

/* Whether it was done on return from the doorbell. */
static bool post(uint32_t index)
{
    struct yod_slot *slot = &pct.queue->slot[index];

    pct.shipped++;
    if (pct.info->yod == 0) {
        slot->result = console_serve(slot);
        slot->state = YOD_SLOT_DONE;
        return true;
    }
    __atomic_store_n(&slot->state, YOD_SLOT_POSTED, __ATOMIC_RELEASE);
    (void)qk(QK_DOORBELL, index, 0, 0, 0);
    return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == YOD_SLOT_DONE;
}

static void end(struct job *job, int64_t result)
{
    uint32_t tid = job->tid;

    shm_follow(job, result);
    job_call(job, 0);
    job->tid = 0;
    mm_settle();
    reply(tid, job->call, result);
}

/* Ship what is in the slot, and what follows from it, until it has to wait or the job is at its
 * end. */
static void run(struct job *job)
{
    while (post(job->index)) {
        int64_t result = job->step(job, job_slot(job)->result);
        if (result != PENDING) {
            end(job, result);
            return;
        }
    }
}

static struct job *free_job(void)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        if (jobs[i].tid == 0) {
            return &jobs[i];
        }
    }
    return NULL;
}

static int64_t prepare(struct job *job, const struct pct_event *event)
{
    switch (event->call) {
    case __NR_read:
    case __NR_write:
    case __NR_pread64:
    case __NR_pwrite64:
    case __NR_readv:
    case __NR_writev:
    case __NR_preadv:
    case __NR_pwritev:
    case __NR_preadv2:
    case __NR_pwritev2:
        return transfer_prepare(job, event);
    case __NR_poll:
    case __NR_ppoll:
    case __NR_select:
    case __NR_pselect6:
        return poll_prepare(job, event);
    case __NR_mmap:
        return file_map_prepare(job, event);
    default:
        return shape_prepare(job, event);
    }
}

static int64_t begin(struct job *job, const struct pct_event *event)
{
    job->tid = event->tid;
    job->call = (uint32_t)event->call;
    job->cancelled = false;
    job->shm = false;
    job->step = job_carry;
    job_call(job, job->call);
    int64_t result = prepare(job, event);
    if (result == PENDING) {
        run(job);
    } else {
        job_call(job, 0);
        job->tid = 0;
    }
    return result;
}

int64_t ship_start(const struct pct_event *event)
{
    struct job *job = free_job();

    if (!shape_known(event->call)) {
        return -ENOSYS;
    }
    if (job != NULL) {
        return begin(job, event);
    }
    if (waiting_count == WAITING) {
        return -ENOMEM;
    }
    struct waiting *last = &waiting[waiting_count++];
    last->tid = event->tid;
    last->call = event->call;
    memcpy(last->args, event->args, sizeof(last->args));
    return PENDING;
}

static void forget(uint32_t index)
{
    waiting_count--;
    memmove(&waiting[index], &waiting[index + 1], (waiting_count - index) * sizeof(waiting[0]));
}

void ship_waiting(void)
{
    while (waiting_count > 0) {
        struct job *job = free_job();
        if (job == NULL) {
            return;
        }
        struct pct_event event = {.tid = waiting[0].tid, .call = waiting[0].call};
        memcpy(event.args, waiting[0].args, sizeof(event.args));
        forget(0);
        int64_t result = begin(job, &event);
        if (result != PENDING) {
            reply(event.tid, event.call, result);
        }
    }
}

/* Tell yod of jobs that should end, while the slot for it is free; the rest follows after an
 * interrupt. */
static void post_cancels(void)
{
    struct yod_slot *slot = &pct.queue->slot[CANCEL_SLOT];

    for (uint32_t i = 0; i < JOBS; i++) {
        struct job *job = &jobs[i];
        if (job->tid == 0 || !job->cancelled ||
            __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == YOD_SLOT_POSTED) {
            continue;
        }
        *slot = (struct yod_slot){.call = YOD_CALL_CANCEL};
        slot->args[0] = i;
        (void)post(CANCEL_SLOT);
    }
}

static void finish_done(void)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        struct job *job = &jobs[i];
        struct yod_slot *slot = job_slot(job);
        if (job->tid == 0 || __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != YOD_SLOT_DONE) {
            continue;
        }
        int64_t result = job->step(job, slot->result);
        if (result == PENDING) {
            run(job);
        } else {
            end(job, result);
        }
    }
}

void ship_cancel(uint32_t tid)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        if (jobs[i].tid == tid) {
            jobs[i].cancelled = true;
            post_cancels();
            return;
        }
    }
    for (uint32_t i = 0; i < waiting_count; i++) {
        if (waiting[i].tid == tid) {
            uint64_t call = waiting[i].call;
            forget(i);
            reply(tid, call, -EINTR);
            return;
        }
    }
}

void ship_interrupt(void)
{
    finish_done();
    post_cancels();
    uint64_t signals = __atomic_exchange_n(&pct.queue->signals, 0, __ATOMIC_ACQ_REL);
    for (uint32_t signal = 1; signals != 0; signal++, signals >>= 1) {
        if ((signals & 1) != 0) {
            qk_signal(signal, 0);
        }
    }
}
