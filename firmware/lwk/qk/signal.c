/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals: who gets them, and what they do. Standard signals only, so one bit each for a thread and
 * for the process. There is no job control: to stop means to ignore. A handler runs by sigframe.c.
 */
#include "qk.h"

#define SIG_DFL 0u
#define SIG_IGN 1u
#define SA_NODEFER 0x40000000u
#define SA_RESTART 0x10000000u
#define SA_RESETHAND 0x80000000u

#define BIT(signal) (1ull << ((signal)-1))
#define UNBLOCKABLE (BIT(SIGKILL) | BIT(SIGSTOP))
#define HARMLESS                                                                                   \
    (BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGSTOP) | BIT(SIGTSTP) |     \
     BIT(SIGTTIN) | BIT(SIGTTOU))

enum { SI_USER = 0, SI_KERNEL = 0x80, SI_TKILL = -6 };

static bool is_ignored(uint32_t signal)
{
    uint64_t handler = app.action[signal - 1].handler;

    return handler == SIG_IGN || (handler == SIG_DFL && (HARMLESS & BIT(signal)) != 0);
}

/* ------------------------------------------------------------------ sending */

static bool would_take(const struct thread *t, uint32_t signal)
{
    return ((~t->mask | t->waited) & BIT(signal)) != 0;
}

/* t has an unblocked signal: it shall see it soon. */
static void interrupt(struct thread *t)
{
    switch (t->state) {
    case T_RUNNABLE:
        if (t->cpu->current == t) {
            kick(t->cpu);
        }
        break;
    case T_PCT:
        t->cancel = true;
        pct_post(1u << PCT_EVENT_CANCEL);
        break;
    default:
        wake(t, -EINTR);
        break;
    }
}

static void notify(struct thread *t, uint32_t signal)
{
    if (app.action[signal - 1].handler == SIG_DFL && (t->waited & BIT(signal)) == 0) {
        end_app(YOD_END_SIGNAL, 0, signal, t);
    } else {
        interrupt(t);
    }
}

void signal_thread(struct thread *t, uint32_t signal)
{
    if (!would_take(t, signal)) {
        t->pending |= BIT(signal);
    } else if (!is_ignored(signal) || (t->waited & BIT(signal)) != 0) {
        t->pending |= BIT(signal);
        notify(t, signal);
    }
}

/* To whichever thread takes it; outside: not sent by the application. */
void signal_process(uint32_t signal, bool outside)
{
    if (outside) {
        app.outside |= BIT(signal);
    } else {
        app.outside &= ~BIT(signal);
    }
    for (uint32_t i = 0; i < MAX_THREADS; i++) {
        struct thread *t = app.thread[i];
        if (t != NULL && would_take(t, signal)) {
            if (!is_ignored(signal) || (t->waited & BIT(signal)) != 0) {
                app.pending |= BIT(signal);
                notify(t, signal);
            }
            return;
        }
    }
    app.pending |= BIT(signal);
}

/* ----------------------------------------------------------------- delivery */

/* The lowest of these that is pending, which it is no longer; 0: none. */
static uint32_t take(struct thread *t, uint64_t among, uint32_t siginfo[32])
{
    uint64_t mine = t->pending & among;
    uint64_t all = mine | (app.pending & among);
    uint32_t signal = all != 0 ? (uint32_t)__builtin_ctzll(all) + 1 : 0;

    if (signal == 0) {
        return 0;
    }
    memset(siginfo, 0, 32 * sizeof(*siginfo));
    siginfo[0] = signal;
    if ((mine & BIT(signal)) != 0) {
        t->pending &= ~BIT(signal);
        siginfo[2] = (uint32_t)SI_TKILL;
        siginfo[4] = app.pid;
    } else {
        app.pending &= ~BIT(signal);
        siginfo[2] = (app.outside & BIT(signal)) != 0 ? SI_KERNEL : SI_USER;
        siginfo[4] = (app.outside & BIT(signal)) != 0 ? 0 : app.pid;
    }
    return signal;
}

/* Call the handler. False: its frame cannot be written, and the application has ended. */
static bool call_handler(struct thread *t, const uint32_t siginfo[32])
{
    uint32_t signal = siginfo[0];
    struct action *a = &app.action[signal - 1];

    if (!sigframe_push(t, a, siginfo)) {
        end_app(YOD_END_FAULT, 0, SIGSEGV, t);
        return false;
    }
    t->mask |= (a->mask | ((a->flags & SA_NODEFER) != 0 ? 0 : BIT(signal))) & ~UNBLOCKABLE;
    if ((a->flags & SA_RESETHAND) != 0) {
        a->handler = SIG_DFL;
    }
    return true;
}

/* The call is made again when the thread goes on: RIP is behind `syscall`, which has two bytes. */
static void restart(struct thread *t)
{
    if (t->restart && t->frame.vector == VEC_SYSCALL && t->frame.rax == (uint64_t)-EINTR) {
        t->frame.rax = t->frame.error;
        t->frame.rip -= 2;
    }
    t->restart = false;
}

/* What an interrupted call has left to do in its own address space. */
static void finish_call(struct thread *t)
{
    uint32_t siginfo[32];
    uint32_t signal;

    if (t->remaining != 0 && t->frame.rax == (uint64_t)-EINTR) {
        uint64_t now = now_ns();
        uint64_t rest = t->deadline > now ? t->deadline - now : 0;
        uint64_t pair[2] = {rest / NS, rest % NS};
        (void)copy_out(t->remaining, pair, sizeof(pair));
    }
    t->remaining = 0;
    if (t->waited != 0) {
        signal = take(t, t->waited, siginfo);
        t->waited = 0;
        if (signal != 0) {
            t->frame.rax = signal;
            if (t->waited_info != 0 && copy_out(t->waited_info, siginfo, sizeof(siginfo)) != 0) {
                t->frame.rax = (uint64_t)-EFAULT;
            }
        }
    }
}

/* t is about to go on in user mode. False: it is not, the application has ended. */
bool signal_deliver(struct thread *t)
{
    uint32_t siginfo[32];
    uint32_t signal;

    if ((t->remaining | t->waited) != 0) {
        finish_call(t);
    }
    while (((t->pending | app.pending) & ~t->mask) != 0) {
        signal = take(t, ~t->mask, siginfo);
        if (is_ignored(signal)) {
            continue;
        }
        if (app.action[signal - 1].handler == SIG_DFL) {
            end_app(YOD_END_SIGNAL, 0, signal, t);
            return false;
        }
        if ((app.action[signal - 1].flags & SA_RESTART) == 0) {
            t->restart = false;
        }
        restart(t);
        if (!call_handler(t, siginfo)) {
            return false;
        }
    }
    if (t->restart || t->restore) { /* no handler was called */
        restart(t);
        t->mask = t->restore ? t->saved_mask : t->mask;
        t->restore = false;
    }
    return true;
}

/* --------------------------------------------------------------- exceptions */

static uint32_t floating_point_code(struct thread *t, uint32_t vector)
{
    static const uint8_t codes[6] = {7, 7, 3,
                                     4, 5, 6}; /* FLTINV, (denormal), FLTDIV, OVF, UND, RES */
    uint32_t status, control;
    uint16_t x87[2];

    fpu_save(t);
    if (vector == VEC_MF) {
        memcpy(x87, t->fpu, sizeof(x87));
        control = x87[0];
        status = x87[1];
    } else {
        memcpy(&status, t->fpu + 24, sizeof(status));
        control = status >> 7;
    }
    for (uint32_t i = 0; i < 6; i++) {
        if ((status & ~control & 0x3f) >> i & 1) {
            return codes[i];
        }
    }
    return 0;
}

void signal_fault(struct thread *t, uint32_t vector, uint64_t cr2)
{
    uint32_t siginfo[32] = {0};
    uint64_t address = t->frame.rip;
    uint32_t signal = SIGSEGV;
    uint32_t code = SI_KERNEL;

    switch (vector) {
    case VEC_DE:
        signal = SIGFPE;
        code = 1; /* FPE_INTDIV */
        break;
    case VEC_MF:
    case VEC_XM:
        signal = SIGFPE;
        code = floating_point_code(t, vector);
        break;
    case VEC_UD:
        signal = SIGILL;
        code = 2; /* ILL_ILLOPN */
        break;
    case VEC_DB:
        signal = SIGTRAP;
        code = 2; /* TRAP_TRACE */
        break;
    case VEC_BP:
        signal = SIGTRAP;
        address = 0;
        break;
    case VEC_AC:
        signal = SIGBUS;
        code = 1; /* BUS_ADRALN */
        break;
    case VEC_SS:
        signal = SIGBUS;
        address = 0;
        break;
    case VEC_PF:
        code = (t->frame.error & 1) != 0 ? 2 : 1; /* SEGV_ACCERR, SEGV_MAPERR */
        address = cr2;
        break;
    default:
        address = 0;
        break;
    }
    siginfo[0] = signal;
    siginfo[2] = code;
    memcpy(&siginfo[4], &address, sizeof(address));
    t->fault_address = cr2;
    app.end.vector = vector;
    app.end.error_code = t->frame.error;
    app.end.fault_address = vector == VEC_PF ? cr2 : 0;
    if (app.action[signal - 1].handler <= SIG_IGN || (t->mask & BIT(signal)) != 0) {
        end_app(YOD_END_FAULT, 0, signal, t);
    } else {
        (void)call_handler(t, siginfo);
    }
}

/* -------------------------------------------------------------------- calls */

int64_t sys_rt_sigaction(struct thread *t, const uint64_t a[6])
{
    struct action new;
    uint32_t signal = (uint32_t)a[0];

    (void)t;
    if (a[3] != 8 || signal < 1 || signal > 64 || (a[1] != 0 && (BIT(signal) & UNBLOCKABLE) != 0)) {
        return -EINVAL;
    }
    if (a[1] != 0 && copy_in(&new, a[1], sizeof(new)) != 0) {
        return -EFAULT;
    }
    if (a[2] != 0 && copy_out(a[2], &app.action[signal - 1], sizeof(new)) != 0) {
        return -EFAULT;
    }
    if (a[1] != 0) {
        app.action[signal - 1] = new;
    }
    return 0;
}

int64_t sys_rt_sigprocmask(struct thread *t, const uint64_t a[6])
{
    enum { BLOCK, UNBLOCK, SETMASK };
    uint64_t old = t->mask;
    uint64_t set;

    if (a[3] != 8) {
        return -EINVAL;
    }
    if (a[1] != 0) {
        if (copy_in(&set, a[1], sizeof(set)) != 0) {
            return -EFAULT;
        }
        switch ((uint32_t)a[0]) {
        case BLOCK:
            t->mask |= set & ~UNBLOCKABLE;
            break;
        case UNBLOCK:
            t->mask &= ~set;
            break;
        case SETMASK:
            t->mask = set & ~UNBLOCKABLE;
            break;
        default:
            return -EINVAL;
        }
    }
    return a[2] != 0 ? copy_out(a[2], &old, sizeof(old)) : 0;
}

int64_t sys_rt_sigpending(struct thread *t, const uint64_t a[6])
{
    uint64_t set = (t->pending | app.pending) & t->mask;

    return a[1] > 8 ? -EINVAL : copy_out(a[0], &set, a[1]);
}

int64_t sys_pause(struct thread *t, const uint64_t a[6])
{
    (void)a;
    if (((t->pending | app.pending) & ~t->mask) != 0) {
        return -EINTR;
    }
    wait(t, T_SIGNAL, NEVER);
    return NO_RESULT;
}

int64_t sys_rt_sigsuspend(struct thread *t, const uint64_t a[6])
{
    uint64_t set;

    if (a[1] != 8) {
        return -EINVAL;
    }
    if (copy_in(&set, a[0], sizeof(set)) != 0) {
        return -EFAULT;
    }
    t->saved_mask = t->mask;
    t->restore = true;
    t->mask = set & ~UNBLOCKABLE;
    return sys_pause(t, a);
}

int64_t sys_rt_sigtimedwait(struct thread *t, const uint64_t a[6])
{
    uint64_t deadline = NEVER;
    int64_t error;

    if (a[3] != 8) {
        return -EINVAL;
    }
    error = copy_in(&t->waited, a[0], sizeof(t->waited));
    if (error == 0 && a[2] != 0) {
        error = read_deadline(a[2], false, false, &deadline);
    }
    t->waited = error == 0 ? t->waited & ~UNBLOCKABLE : 0;
    t->waited_info = a[1];
    if (error != 0 || ((t->pending | app.pending) & t->waited) != 0) {
        return error; /* finish_call() takes the signal */
    }
    wait(t, T_SIGNAL, deadline);
    return NO_RESULT;
}

int64_t sys_sigaltstack(struct thread *t, const uint64_t a[6])
{
    enum { ONSTACK = 1, DISABLE = 2, LEAST = 2048 };
    bool on = t->frame.rsp - t->stack < t->stack_bytes;
    struct {
        uint64_t sp;
        uint32_t flags, pad;
        uint64_t bytes;
    } new, old = {t->stack, t->stack_bytes == 0 ? DISABLE : on ? ONSTACK : 0, 0, t->stack_bytes};

    if (a[0] != 0) {
        if (copy_in(&new, a[0], sizeof(new)) != 0) {
            return -EFAULT;
        }
        if (on) {
            return -EPERM;
        }
        if (new.flags > DISABLE) {
            return -EINVAL;
        }
        if (new.flags != DISABLE &&new.bytes < LEAST) {
            return -ENOMEM;
        }
        t->stack = new.flags == DISABLE ? 0 : new.sp;
        t->stack_bytes = new.flags == DISABLE ? 0 : new.bytes;
    }
    return a[1] != 0 ? copy_out(a[1], &old, sizeof(old)) : 0;
}

int64_t sys_kill(struct thread *t, const uint64_t a[6])
{
    int32_t pid = (int32_t)a[0];

    (void)t;
    if (a[1] > 64) {
        return -EINVAL;
    }
    /* The process, its group, all processes: there is one. */
    if (pid != (int32_t)app.pid && pid != 0 && pid != -1 && pid != -(int32_t)app.pid) {
        return -ESRCH;
    }
    if (a[1] != 0) {
        signal_process((uint32_t)a[1], false);
    }
    return 0;
}

int64_t sys_tgkill(struct thread *t, const uint64_t a[6])
{
    struct thread *to = thread_find((uint32_t)a[1]);

    (void)t;
    if (a[2] > 64 || (int32_t)a[0] <= 0 || (int32_t)a[1] <= 0) {
        return -EINVAL;
    }
    if (to == NULL || (uint32_t)a[0] != app.pid) {
        return -ESRCH;
    }
    if (a[2] != 0) {
        signal_thread(to, (uint32_t)a[2]);
    }
    return 0;
}

int64_t sys_tkill(struct thread *t, const uint64_t a[6])
{
    const uint64_t b[6] = {app.pid, a[0], a[1]};

    return sys_tgkill(t, b);
}
