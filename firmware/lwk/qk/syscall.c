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

/* By Linux's numbers. 110 is getppid; 142 and 145 to 147 set and get parameters of the scheduler.
 */
/* clang-format off */
#define CALLS(X) \
    X(13, rt_sigaction) X(14, rt_sigprocmask) X(15, rt_sigreturn) X(24, sched_yield) \
    X(34, pause) X(35, nanosleep) X(36, getitimer) X(37, alarm) X(38, setitimer) X(39, getpid) \
    X(56, clone) X(60, exit) X(62, kill) X(96, gettimeofday) X(98, getrusage) X(100, times) \
    X(110, zero) X(127, rt_sigpending) X(128, rt_sigtimedwait) X(130, rt_sigsuspend) \
    X(131, sigaltstack) X(142, zero) X(143, sched_getparam) X(144, sched_setscheduler) \
    X(145, zero) X(146, sched_priority) X(147, sched_priority) X(148, sched_rr_interval) \
    X(158, arch_prctl) X(186, gettid) X(200, tkill) X(201, time) X(202, futex) \
    X(203, sched_setaffinity) X(204, sched_getaffinity) X(218, set_tid_address) \
    X(219, restart_syscall) X(228, clock_gettime) X(229, clock_getres) X(230, clock_nanosleep) \
    X(231, exit_group) X(234, tgkill) X(273, set_robust_list) X(309, getcpu)
/* clang-format on */

#define POSITION(number, name) AT_##number,
#define INDEX(number, name) [number] = AT_##number,
#define FUNCTION(number, name) sys_##name,
enum { AT_NONE, CALLS(POSITION) };
static const uint8_t position[] = {CALLS(INDEX)};
static syscall_fn *const functions[] = {NULL, CALLS(FUNCTION)};

struct frame *user_syscall(struct frame *f)
{
    struct cpu *c = this_cpu();
    struct thread *t = c->current;
    const uint64_t a[6] = {f->rdi, f->rsi, f->rdx, f->r10, f->r8, f->r9};
    uint64_t call = f->error;
    syscall_fn *fn = call < sizeof(position) ? functions[position[call]] : NULL;
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
