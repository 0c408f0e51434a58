/* SPDX-License-Identifier: Apache-2.0 */
/* The application's system calls: those below are the QK's own, all others the PCT's. */
#include "qk.h"

struct frame *user_syscall(struct frame *f);

#define ARCH_SET_GS 0x1001u
#define ARCH_SET_FS 0x1002u
#define ARCH_GET_FS 0x1003u
#define ARCH_GET_GS 0x1004u

static int64_t sys_arch_prctl(struct thread *t, const uint64_t a[6])
{
    uint64_t value;

    switch (a[0]) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
        if (a[1] >= LWK_APP_HIGH) {
            return -EPERM;
        }
        wrmsr(a[0] == ARCH_SET_FS ? MSR_FS_BASE : MSR_KERNEL_GS_BASE, a[1]);
        *(a[0] == ARCH_SET_FS ? &t->fs_base : &t->gs_base) = a[1];
        return 0;
    case ARCH_GET_FS:
    case ARCH_GET_GS:
        value = rdmsr(a[0] == ARCH_GET_FS ? MSR_FS_BASE : MSR_KERNEL_GS_BASE);
        return copy_out(a[1], &value, sizeof(value));
    default:
        return -EINVAL;
    }
}

static int64_t sys_getpid(struct thread *t, const uint64_t a[6])
{
    (void)t, (void)a;
    return app.pid;
}

static int64_t sys_gettid(struct thread *t, const uint64_t a[6])
{
    (void)a;
    return t->tid;
}

static int64_t sys_getcpu(struct thread *t, const uint64_t a[6])
{
    static const uint32_t node;

    if (a[0] != 0 && copy_out(a[0], &t->cpu->number, sizeof(t->cpu->number)) != 0) {
        return -EFAULT;
    }
    return a[1] != 0 ? copy_out(a[1], &node, sizeof(node)) : 0;
}

static int64_t sys_zero(struct thread *t, const uint64_t a[6])
{
    (void)t, (void)a;
    return 0;
}

/* All threads are SCHED_OTHER, whose only priority is 0. */
static int64_t sys_sched_setscheduler(struct thread *t, const uint64_t a[6])
{
    (void)t;
    return a[1] == 0 ? 0 : -EPERM;
}

static int64_t sys_sched_getparam(struct thread *t, const uint64_t a[6])
{
    static const uint32_t priority;

    (void)t;
    return copy_out(a[1], &priority, sizeof(priority));
}

static int64_t sys_sched_priority(struct thread *t, const uint64_t a[6])
{
    (void)t;
    return a[0] == 0 ? 0 : -EINVAL;
}

static int64_t sys_sched_rr_interval(struct thread *t, const uint64_t a[6])
{
    static const uint64_t slice[2] = {0, SLICE_NS};

    (void)t;
    return copy_out(a[1], slice, sizeof(slice));
}

static int64_t sys_restart_syscall(struct thread *t, const uint64_t a[6])
{
    (void)t, (void)a;
    return -EINTR;
}

int64_t sys_rt_sigreturn(struct thread *t, const uint64_t a[6])
{
    (void)a;
    if (!sigframe_pop(t)) {
        end_app(YOD_END_FAULT, 0, SIGSEGV, t);
    }
    return NO_RESULT;
}

/* Without the lock: they look at nothing but the calling thread and the clock. */
static bool is_quick(uint64_t call)
{
    switch (call) {
    case 39:  /* getpid */
    case 96:  /* gettimeofday */
    case 158: /* arch_prctl */
    case 186: /* gettid */
    case 201: /* time */
    case 229: /* clock_getres */
    case 309: /* getcpu */
        return true;
    default:
        return false;
    }
}

/* By Linux's numbers. */
static syscall_fn *const calls[LWK_CALLS] = {
    [13] = sys_rt_sigaction,
    [14] = sys_rt_sigprocmask,
    [15] = sys_rt_sigreturn,
    [24] = sys_sched_yield,
    [34] = sys_pause,
    [35] = sys_nanosleep,
    [36] = sys_getitimer,
    [37] = sys_alarm,
    [38] = sys_setitimer,
    [39] = sys_getpid,
    [56] = sys_clone,
    [60] = sys_exit,
    [62] = sys_kill,
    [96] = sys_gettimeofday,
    [98] = sys_getrusage,
    [100] = sys_times,
    [110] = sys_zero, /* getppid */
    [127] = sys_rt_sigpending,
    [128] = sys_rt_sigtimedwait,
    [130] = sys_rt_sigsuspend,
    [131] = sys_sigaltstack,
    [142] = sys_zero, /* sched_setparam */
    [143] = sys_sched_getparam,
    [144] = sys_sched_setscheduler,
    [145] = sys_zero, /* sched_getscheduler */
    [146] = sys_sched_priority, /* sched_get_priority_max */
    [147] = sys_sched_priority, /* sched_get_priority_min */
    [148] = sys_sched_rr_interval,
    [158] = sys_arch_prctl,
    [186] = sys_gettid,
    [200] = sys_tkill,
    [201] = sys_time,
    [202] = sys_futex,
    [203] = sys_sched_setaffinity,
    [204] = sys_sched_getaffinity,
    [218] = sys_set_tid_address,
    [219] = sys_restart_syscall,
    [228] = sys_clock_gettime,
    [229] = sys_clock_getres,
    [230] = sys_clock_nanosleep,
    [231] = sys_exit_group,
    [234] = sys_tgkill,
    [273] = sys_set_robust_list,
    [274] = sys_get_robust_list,
    [309] = sys_getcpu,
};

struct frame *user_syscall(struct frame *f)
{
    struct cpu *c = this_cpu();
    struct thread *t = c->current;
    const uint64_t a[6] = {f->rdi, f->rsi, f->rdx, f->r10, f->r8, f->r9};
    uint64_t call = f->error;
    syscall_fn *fn = call < LWK_CALLS ? calls[call] : NULL;
    int64_t result;

    if (t == &pct) {
        lock();
        result = pct_call(f);
        if (result != NO_RESULT) {
            f->rax = (uint64_t)result;
        }
        return schedule();
    }
    if (call < LWK_CALLS) {
        c->calls[call]++;
    }
    if (is_quick(call) || (call == 228 && a[0] != 2)) {
        f->rax = (uint64_t)fn(t, a);
        return f;
    }
    lock();
    if (!app.dead) {
        t->restart = false;
        result = fn != NULL ? fn(t, a) : call_pct(t);
        if (result != NO_RESULT) {
            f->rax = (uint64_t)result;
        }
    }
    return schedule();
}
