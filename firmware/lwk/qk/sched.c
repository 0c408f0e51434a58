/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread runs where. Each CPU has a queue; a thread stays with its CPU, but goes to an idle
 * one when it wakes and its own is busy, and an idle CPU takes what waits elsewhere. There is a
 * time slice only while somebody waits for the CPU, and no timer interrupt otherwise.
 *
 * Leaving a thread saves what is not in its frame: FPU, fs and gs bases. The PCT leaves these
 * alone, so they stay in the registers while it runs.
 */
#include "qk.h"

static bool locked;
static uint32_t idle_cpus;

/* Not a fair lock: with virtual CPUs, fairness would hand it to one that does not run. */
void lock(void)
{
    while (__atomic_test_and_set(&locked, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&locked, __ATOMIC_RELAXED)) {
            sync_poll(this_cpu());
            pause();
        }
    }
}

void unlock(void)
{
    __atomic_clear(&locked, __ATOMIC_RELEASE);
    send_kicks(this_cpu());
}

/* ------------------------------------------------------------------- queues */

static void move(struct thread *t, struct cpu *c)
{
    t->cpu->threads--;
    c->threads++;
    t->cpu = c;
}

/* t may run on c; c learns of it if it would not look by itself. */
void ready(struct thread *t, struct cpu *c, bool front)
{
    bool first = list_empty(&c->queue);

    move(t, c);
    t->state = T_RUNNABLE;
    list_insert(front ? c->queue.next : &c->queue, &t->link);
    if (first) {
        kick(c);
    }
}

static bool is_free(const struct cpu *c)
{
    return c->current == NULL && list_empty(&c->queue);
}

/* Runnable again, and free to go where it may run at once. */
void place(struct thread *t)
{
    struct cpu *home = may_run_on(t, t->cpu) ? t->cpu : least_loaded(t);

    if (!is_free(home) && idle_cpus > 0) {
        for (uint32_t i = 0; i < cpu_count; i++) {
            if (is_free(&cpus[i]) && may_run_on(t, &cpus[i])) {
                home = &cpus[i];
                break;
            }
        }
    }
    ready(t, home, false);
}

/* By threads that belong to a CPU, asleep or not: programs wake their threads together. */
struct cpu *least_loaded(const struct thread *t)
{
    struct cpu *best = NULL;

    for (uint32_t i = 0; i < cpu_count; i++) {
        if (may_run_on(t, &cpus[i]) && (best == NULL || cpus[i].threads < best->threads)) {
            best = &cpus[i];
        }
    }
    return best;
}

/* What another CPU has waiting and cannot run now. */
static struct thread *steal(const struct cpu *c)
{
    for (uint32_t i = 0; i < cpu_count; i++) {
        for (struct link *l = cpus[i].queue.next; l != &cpus[i].queue; l = l->next) {
            struct thread *t = thread_of(l, link);
            if (cpus[i].current != NULL && may_run_on(t, c)) {
                return t;
            }
        }
    }
    return NULL;
}

/* ------------------------------------------------------------ sleep and wake */

/* The thread does not run on: schedule() will see that it is not runnable. */
void wait(struct thread *t, enum thread_state state, uint64_t deadline)
{
    struct link *at = &t->cpu->sleepers;

    t->state = state;
    t->deadline = deadline;
    if (deadline == NEVER) {
        return;
    }
    do {
        at = at->next;
    } while (at != &t->cpu->sleepers && thread_of(at, timer)->deadline <= deadline);
    list_insert(at, &t->timer);
}

void wake(struct thread *t, int64_t result)
{
    list_remove(&t->timer);
    list_remove(&t->link);
    t->frame.rax = (uint64_t)result;
    place(t);
}

/* The timer has fired. */
void expire(struct cpu *c)
{
    uint64_t now = now_ns();

    c->armed = NEVER;
    c->ticks++;
    while (!list_empty(&c->sleepers)) {
        struct thread *t = thread_of(c->sleepers.next, timer);
        if (t->deadline > now) {
            break;
        }
        if (t->state == T_PCT) {
            list_remove(&t->timer);
            t->cancel = true;
            pct_post(1u << PCT_EVENT_CANCEL);
            continue;
        }
        wake(t, t->state == T_FUTEX ? -ETIMEDOUT : t->state == T_SIGNAL ? -EAGAIN : 0);
    }
    if (c->slice <= now) {
        c->resched = !list_empty(&c->queue);
        c->slice = NEVER;
    }
    if (c == &cpus[0] && app.alarm <= now) {
        app.alarm = app.alarm_every != 0 ? now + app.alarm_every : NEVER;
        signal_process(SIGALRM, true);
    }
}

/* The next interrupt that this CPU needs, if any. One that comes too early does no harm, and to
 * take it back would cost an exit. */
static void program_timer(struct cpu *c)
{
    uint64_t next = list_empty(&c->sleepers) ? NEVER : thread_of(c->sleepers.next, timer)->deadline;
    uint64_t now = 0;

    if (c == &cpus[0] && app.alarm < next) {
        next = app.alarm;
    }
    if (c->current == NULL || list_empty(&c->queue)) {
        c->slice = NEVER;
    } else if (c->slice == NEVER && c->current != &pct) {
        now = now_ns();
        c->slice = now + SLICE_NS;
    }
    next = c->slice < next ? c->slice : next;
    if (next < c->armed) {
        timer_arm(now != 0 ? now : now_ns(), next);
        c->armed = next;
    }
}

/* ------------------------------------------------------------------- switch */

static void leave(struct cpu *c)
{
    struct thread *t = c->current;

    c->current = NULL;
    if (t == NULL || t == &pct) {
        return;
    }
    t->cpu_tsc += rdtsc() - c->since;
    fpu_save(t);
    if (features.fsgsbase) {
        __asm__ volatile("rdfsbase %0" : "=r"(t->fs_base));
        t->gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    }
}

static void enter(struct cpu *c, struct thread *t)
{
    uint64_t cr3 = t == &pct ? pct_cr3 : app.cr3;

    c->current = t;
    c->tss.rsp0 = (uint64_t)(&t->frame + 1);
    if (c->cr3 != cr3 || c->stale) {
        write_cr(3, cr3);
        c->cr3 = cr3;
        c->stale = false;
    }
    if (t == &pct) {
        return;
    }
    if (c->loaded != t || t->loaded_on != c) {
        fpu_load(t);
        wrmsr(MSR_FS_BASE, t->fs_base);
        wrmsr(MSR_KERNEL_GS_BASE, t->gs_base); /* user mode's, while we are in the QK */
        c->loaded = t;
        t->loaded_on = c;
        c->switches++;
    }
    c->since = rdtsc();
}

/* Give up what runs here, unless it may go on. */
static void put_current(struct cpu *c, bool pct_waits)
{
    struct thread *t = c->current;

    leave(c);
    if (t == NULL || t == &pct || t->state != T_RUNNABLE || app.dead) {
        return;
    }
    if (may_run_on(t, c)) {
        ready(t, c, pct_waits);
    } else {
        place(t);
    }
}

/* The thread to run now; NULL: none. */
static struct thread *choose(struct cpu *c)
{
    struct thread *t = c->current;
    bool pct_waits = pct.state == T_RUNNABLE && pct.cpu == c;

    if (t == &pct && pct_waits) {
        return t;
    }
    if (t != NULL && t != &pct && t->state == T_RUNNABLE && !app.dead && !pct_waits &&
        may_run_on(t, c) && !(c->resched && !list_empty(&c->queue))) {
        return t;
    }
    put_current(c, pct_waits);
    if (pct_waits) {
        return &pct; /* the time slice goes on */
    }
    c->resched = false;
    c->slice = NEVER;
    if (app.dead) {
        return NULL;
    }
    t = list_empty(&c->queue) ? steal(c) : thread_of(c->queue.next, link);
    if (t != NULL) {
        list_remove(&t->link);
        move(t, c);
    }
    return t;
}

/* Interrupts that came while the CPU was idle or in user mode. */
static void handle_interrupts(struct cpu *c)
{
    c->kicked = false;
    if (c->timer_fired) {
        c->timer_fired = false;
        expire(c);
    }
    if (c->yod_fired) {
        c->yod_fired = false;
        pct_post(1u << PCT_EVENT_SHIPPED);
    }
    if (c->shm_fired != 0) {
        shm_count(c->shm_fired);
        c->shm_fired = 0;
    }
}

static void idle(struct cpu *c)
{
    idle_cpus++;
    program_timer(c);
    unlock();
    halt();
    lock();
    idle_cpus--;
}

/* With the lock held, which is released: the frame to go on with in user mode. */
struct frame *schedule(void)
{
    struct cpu *c = this_cpu();

    for (;;) {
        struct thread *t;

        handle_interrupts(c);
        t = choose(c);
        if (t == NULL) {
            idle(c);
            continue;
        }
        if (c->current != t) {
            enter(c, t);
        }
        if (t != &pct && !signal_deliver(t)) {
            continue;
        }
        program_timer(c);
        unlock();
        return &t->frame;
    }
}
