/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: from clone() or the PCT's QK_START to exit(), and the end of them all. */
#include "qk.h"

#define CLONE_VM 0x100u
#define CLONE_FS 0x200u
#define CLONE_FILES 0x400u
#define CLONE_SIGHAND 0x800u
#define CLONE_THREAD 0x10000u
#define CLONE_SYSVSEM 0x40000u
#define CLONE_SETTLS 0x80000u
#define CLONE_PARENT_SETTID 0x100000u
#define CLONE_CHILD_CLEARTID 0x200000u
#define CLONE_DETACHED 0x400000u /* without meaning; musl sets it */
#define CLONE_CHILD_SETTID 0x1000000u
#define CLONE_MUST (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define CLONE_MAY                                                                                  \
    (CLONE_MUST | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |      \
     CLONE_DETACHED | CLONE_CHILD_SETTID)

struct app app;

struct thread *thread_find(uint64_t tid)
{
    return tid - app.pid < MAX_THREADS ? app.thread[tid - app.pid] : NULL;
}

/* The first is the process's own; numbers are taken in turn, so that an old one is not soon
 * another's. */
static uint32_t free_slot(void)
{
    static uint32_t last;

    for (uint32_t i = 0; i < MAX_THREADS; i++) {
        uint32_t slot = (last + i) % MAX_THREADS;
        if (app.thread[slot] == NULL) {
            last = slot + 1;
            return slot;
        }
    }
    return MAX_THREADS;
}

/* With nothing set but its number; NULL: too many. */
struct thread *thread_new(void)
{
    uint32_t slot = free_slot();
    uint64_t page = slot < MAX_THREADS ? page_alloc(true) : 0;
    struct thread *t = direct(page);

    if (page == 0) {
        return NULL;
    }
    list_init(&t->link);
    list_init(&t->timer);
    t->tid = app.pid + slot;
    app.thread[slot] = t;
    info.threads = ++app.live;
    if (app.live > info.threads_max) {
        info.threads_max = app.live;
    }
    return t;
}

/* Its first CPU, where it is to run. */
static void thread_start(struct thread *t)
{
    t->cpu = least_loaded(t);
    t->cpu->threads++;
    ready(t, t->cpu, false);
}

int64_t start_app(uint64_t entry, uint64_t stack)
{
    struct thread *t;

    if (app.started || entry >= LWK_APP_HIGH || stack >= LWK_APP_HIGH) {
        return -EINVAL;
    }
    t = thread_new();
    if (t == NULL) {
        return -ENOMEM;
    }
    app.started = true;
    fpu_fresh(t);
    memset(t->allowed, 0xff, sizeof(t->allowed));
    t->frame.rip = entry;
    t->frame.rsp = stack;
    t->frame.cs = SEL_USER_CS;
    t->frame.ss = SEL_USER_DS;
    t->frame.rflags = FLAG_FIXED | FLAG_IF;
    thread_start(t);
    return 0;
}

/* (flags, stack, parent's tid, child's tid, tls). Processes are not to be had: the PCT says so. */
int64_t sys_clone(struct thread *t, const uint64_t a[6])
{
    uint32_t flags = (uint32_t)a[0] & ~0xffu;
    struct thread *child;

    if ((flags & CLONE_MUST) != CLONE_MUST || (flags & ~CLONE_MAY) != 0) {
        return call_pct(t);
    }
    if ((flags & CLONE_SETTLS) != 0 && a[4] >= LWK_APP_HIGH) {
        return -EPERM;
    }
    child = thread_new();
    if (child == NULL) {
        return -EAGAIN;
    }
    fpu_save(t);
    memcpy(child->fpu, t->fpu, sizeof(t->fpu));
    memcpy(child->allowed, t->allowed, sizeof(t->allowed));
    child->frame = t->frame;
    child->frame.rax = 0;
    child->frame.rsp = a[1] != 0 ? a[1] : t->frame.rsp;
    child->fs_base = (flags & CLONE_SETTLS) != 0 ? a[4] : rdmsr(MSR_FS_BASE);
    child->gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    child->mask = t->mask;
    if ((flags & CLONE_CHILD_CLEARTID) != 0) {
        child->clear_tid = a[3];
    }
    /* As in Linux, a bad address here is the caller's affair. */
    if ((flags & CLONE_PARENT_SETTID) != 0) {
        (void)copy_out(a[2], &child->tid, sizeof(child->tid));
    }
    if ((flags & CLONE_CHILD_SETTID) != 0) {
        (void)copy_out(a[3], &child->tid, sizeof(child->tid));
    }
    thread_start(child);
    return child->tid;
}

/* ------------------------------------------------------------------ the end */

/* The application's last moment: stop its threads, and leave it to the PCT to say why. t: whose
 * registers to show, the current thread, or NULL. */
void end_app(uint32_t end, int32_t status, uint32_t signal, const struct thread *t)
{
    struct pct_end *e = &app.end;

    if (app.dead) {
        return;
    }
    app.dead = true;
    sync_cpus();
    e->end = end;
    e->status = status;
    e->signal = signal;
    if (end != YOD_END_FAULT) {
        e->vector = UINT32_MAX;
    }
    if (t != NULL) {
        report_registers(&t->frame, e->registers);
        e->fs_base = t->cpu->current == t ? rdmsr(MSR_FS_BASE) : t->fs_base;
        e->tid = t->tid;
        e->cpu = t->cpu->number;
    }
    pct_post(1u << PCT_EVENT_END);
}

int64_t sys_exit_group(struct thread *t, const uint64_t a[6])
{
    end_app(YOD_END_EXIT, (int32_t)(a[0] & 0xff), 0, t);
    return NO_RESULT;
}

/* Locks that a thread held when it ended (Linux Documentation/locking/robust-futex-ABI.rst). */
static void release_robust(struct thread *t)
{
    enum { WAITERS = 0x80000000, OWNER_DIED = 0x40000000, TID = 0x3fffffff };
    struct {
        uint64_t next, offset, pending;
    } head;
    uint64_t entry;

    if (t->robust_list == 0 || copy_in(&head, t->robust_list, sizeof(head)) != 0) {
        return;
    }
    entry = head.next;
    for (uint32_t i = 0; i <= 2048; i++) {
        bool last = entry == t->robust_list || i == 2048;
        uint64_t word = (last ? head.pending : entry & ~1ull) + head.offset;
        uint32_t value;

        if (last && head.pending == 0) {
            return;
        }
        if (get_u32(word, &value) != 0) {
            return;
        }
        while ((value & TID) == t->tid) {
            uint32_t seen = value;
            if (cmpxchg_u32(word, &seen, (value & WAITERS) | OWNER_DIED) != 0) {
                return;
            }
            if (seen == value) {
                if ((value & WAITERS) != 0) {
                    (void)futex_wake(word, 1, UINT32_MAX);
                }
                break;
            }
            value = seen;
        }
        if (last || copy_in(&entry, entry & ~1ull, sizeof(entry)) != 0) {
            return;
        }
    }
}

int64_t sys_exit(struct thread *t, const uint64_t a[6])
{
    static const uint32_t zero;
    struct cpu *c = this_cpu();

    release_robust(t);
    if (t->clear_tid != 0 && copy_out(t->clear_tid, &zero, sizeof(zero)) == 0) {
        (void)futex_wake(t->clear_tid, 1, UINT32_MAX);
    }
    if (app.live == 1) {
        return sys_exit_group(t, a);
    }
    info.threads = --app.live;
    app.thread[t->tid - app.pid] = NULL;
    app.dead_tsc += t->cpu_tsc + rdtsc() - c->since;
    t->cpu->threads--;
    c->current = NULL;
    if (c->loaded == t) {
        c->loaded = NULL;
    }
    /* Nobody refers to it now but tss.rsp0, and that is set before user mode is entered again. */
    page_free((uint64_t)t - DIRECT_BASE);
    return NO_RESULT;
}

int64_t sys_set_tid_address(struct thread *t, const uint64_t a[6])
{
    t->clear_tid = a[0];
    return t->tid;
}

int64_t sys_set_robust_list(struct thread *t, const uint64_t a[6])
{
    if (a[1] != 24) {
        return -EINVAL;
    }
    t->robust_list = a[0];
    return 0;
}

/* ----------------------------------------------------------------- affinity */

/* As much of a mask as Linux would have for so many CPUs. */
static uint32_t mask_bytes(void)
{
    return (cpu_count + 63) / 64 * 8;
}

int64_t sys_sched_getaffinity(struct thread *t, const uint64_t a[6])
{
    struct thread *of = a[0] == 0 ? t : thread_find((uint32_t)a[0]);
    uint64_t mask[MAX_CPUS / 64] = {0};

    if (of == NULL) {
        return -ESRCH;
    }
    if ((uint32_t)a[1] < mask_bytes() || a[1] % 8 != 0) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < cpu_count; i++) {
        mask[i / 64] |= of->allowed[i / 64] & 1ull << i % 64;
    }
    return copy_out(a[2], mask, mask_bytes()) != 0 ? -EFAULT : (int64_t)mask_bytes();
}

int64_t sys_sched_setaffinity(struct thread *t, const uint64_t a[6])
{
    struct thread *of = a[0] == 0 ? t : thread_find((uint32_t)a[0]);
    uint64_t mask[MAX_CPUS / 64] = {0};
    uint32_t bytes = (uint32_t)a[1] < mask_bytes() ? (uint32_t)a[1] : mask_bytes();
    bool any = false;

    if (of == NULL) {
        return -ESRCH;
    }
    if (copy_in(mask, a[2], bytes) != 0) {
        return -EFAULT;
    }
    for (uint32_t i = 0; i < cpu_count; i++) {
        any = any || (mask[i / 64] >> i % 64 & 1) != 0;
    }
    if (!any) {
        return -EINVAL;
    }
    memcpy(of->allowed, mask, sizeof(mask));
    if (of->state == T_RUNNABLE && !may_run_on(of, of->cpu)) {
        if (of->cpu->current == of) {
            kick(of->cpu); /* it moves by itself: choose() */
        } else {
            list_remove(&of->link);
            place(of);
        }
    }
    return 0;
}

int64_t sys_sched_yield(struct thread *t, const uint64_t a[6])
{
    (void)a;
    t->cpu->resched = !list_empty(&t->cpu->queue);
    return 0;
}
