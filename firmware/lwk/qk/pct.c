/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCT: events to it, and its calls. It runs on the CPU that posts an event while it is idle;
 * further events wait until it asks. An idle PCT is one that has found nothing by QK_NEXT: when it
 * is started again it makes that call again.
 */
#include "qk.h"

struct thread pct __attribute__((aligned(64)));

static struct link calls; /* threads whose call the PCT has not fetched */
static uint32_t posted;   /* other events, by bit */

void pct_start_thread(void)
{
    extern uint8_t pct_start[];

    app.alarm = NEVER;
    list_init(&calls);
    list_init(&pct.link);
    list_init(&pct.timer);
    pct.cpu = this_cpu();
    pct.state = T_SIGNAL;
    pct.frame.rip = (uint64_t)pct_start;
    pct.frame.rsp = LWK_PCT_STACK;
    pct.frame.cs = SEL_USER_CS;
    pct.frame.ss = SEL_USER_DS;
    pct.frame.rflags = FLAG_FIXED | FLAG_IF;
}

static void pct_wake_here(void)
{
    if (pct.state != T_RUNNABLE) {
        pct.state = T_RUNNABLE;
        pct.cpu = this_cpu();
    }
}

void pct_post(uint32_t kinds)
{
    posted |= kinds;
    pct_wake_here();
}

int64_t call_pct(struct thread *t)
{
    t->fetched = false;
    t->cancel = false;
    t->restart = true; /* if it ends with -EINTR */
    wait(t, T_PCT, NEVER);
    list_insert(&calls, &t->link);
    pct_wake_here();
    return NO_RESULT;
}

/* ------------------------------------------------------------------- events */

static bool take_posted(uint32_t kind)
{
    bool was = (posted >> kind & 1) != 0;

    posted &= ~(1u << kind);
    return was;
}

static void sum_counters(void)
{
    info.ticks = info.switches = 0;
    memset(info.calls, 0, sizeof(info.calls));
    for (uint32_t i = 0; i < cpu_count; i++) {
        info.ticks += cpus[i].ticks;
        info.switches += cpus[i].switches;
        for (uint32_t k = 0; k < LWK_CALLS; k++) {
            info.calls[k] += cpus[i].calls[k];
        }
    }
}

/* A thread whose fetched call should end soon. */
static struct thread *take_cancel(void)
{
    for (uint32_t i = 0; i < MAX_THREADS && (posted >> PCT_EVENT_CANCEL & 1) != 0; i++) {
        struct thread *t = app.thread[i];
        if (t != NULL && t->state == T_PCT && t->fetched && t->cancel) {
            t->cancel = false;
            return t;
        }
    }
    posted &= ~(1u << PCT_EVENT_CANCEL);
    return NULL;
}

static bool next_event(struct pct_event *e)
{
    struct thread *t;

    memset(e, 0, sizeof(*e));
    if (take_posted(PCT_EVENT_START)) {
        e->kind = PCT_EVENT_START;
    } else if (take_posted(PCT_EVENT_END)) {
        sum_counters();
        e->kind = PCT_EVENT_END;
        e->end = app.end;
        e->tid = app.end.tid;
    } else if (take_posted(PCT_EVENT_SHIPPED)) {
        e->kind = PCT_EVENT_SHIPPED;
    } else if (take_posted(PCT_EVENT_SHM)) {
        e->kind = PCT_EVENT_SHM;
    } else if ((t = take_cancel()) != NULL) {
        e->kind = PCT_EVENT_CANCEL;
        e->tid = t->tid;
        e->args[0] = t->deadline != NEVER && list_empty(&t->timer);
    } else if (!list_empty(&calls) && !app.dead) {
        const struct frame *f;
        t = thread_of(calls.next, link);
        f = &t->frame;
        list_remove(&t->link);
        t->fetched = true;
        if (t->cancel) {
            posted |= 1u << PCT_EVENT_CANCEL;
        }
        e->kind = PCT_EVENT_CALL;
        e->tid = t->tid;
        e->call = f->error;
        e->args[0] = f->rdi;
        e->args[1] = f->rsi;
        e->args[2] = f->rdx;
        e->args[3] = f->r10;
        e->args[4] = f->r8;
        e->args[5] = f->r9;
    } else {
        return false;
    }
    return true;
}

static int64_t qk_next(uint64_t out)
{
    struct pct_event event;

    if (next_event(&event)) {
        return copy_out(out, &event, sizeof(event));
    }
    pct.state = T_SIGNAL;
    pct.frame.rip -= 2; /* make this call again; rax still holds its number */
    return NO_RESULT;
}

/* -------------------------------------------------------------------- calls */

/* Whose call the PCT has; NULL: it has none of that thread. */
static struct thread *find_fetched(uint64_t tid)
{
    struct thread *t = thread_find(tid);

    return t != NULL && t->state == T_PCT && t->fetched ? t : NULL;
}

/* Back to its own CPU, where it was stopped for this: before others, unless its time is over. */
static int64_t qk_reply(uint64_t tid, uint64_t result)
{
    struct thread *t = find_fetched(tid);

    if (t == NULL) {
        return -ESRCH;
    }
    list_remove(&t->timer);
    t->frame.rax = result;
    t->fetched = t->cancel = false;
    if (may_run_on(t, t->cpu)) {
        ready(t, t->cpu, !t->cpu->resched);
    } else {
        place(t);
    }
    return 0;
}

static int64_t qk_timeout(uint64_t tid, uint64_t ns)
{
    struct thread *t = find_fetched(tid);

    if (t == NULL) {
        return -ESRCH;
    }
    list_remove(&t->timer);
    wait(t, T_PCT, now_ns() + (ns < NEVER / 4 ? ns : NEVER / 4));
    kick(t->cpu); /* its timer */
    return 0;
}

static int64_t qk_signal(uint64_t signal, uint64_t tid)
{
    struct thread *t = thread_find(tid);

    if (signal < 1 || signal > 64 || !app.started || app.dead || (tid != 0 && t == NULL)) {
        return -EINVAL;
    }
    if (tid != 0) {
        signal_thread(t, (uint32_t)signal);
    } else {
        signal_process((uint32_t)signal, true);
    }
    return 0;
}

static int64_t qk_yod_write(uint64_t reg, uint64_t value)
{
    if (!machine.yod || reg >= YOD_PORT_BYTES || reg % 4 != 0) {
        return -EINVAL;
    }
    if (reg == YOD_REG_QUEUE) {
        machine.queue = value << 12;
    }
    outl((uint16_t)(YOD_PORT + reg), (uint32_t)value);
    return 0;
}

static int64_t qk_console(uint64_t text, uint64_t bytes)
{
    char piece[128];

    while (bytes > 0) {
        uint64_t n = bytes < sizeof(piece) ? bytes : sizeof(piece);
        if (copy_in(piece, text, n) != 0) {
            return -EFAULT;
        }
        console_write(piece, n);
        text += n;
        bytes -= n;
    }
    return 0;
}

static int64_t qk_translate(uint64_t va, uint64_t bytes, uint64_t prot, uint64_t out)
{
    uint64_t found[2];
    int64_t error = app_translate(va, bytes, prot, found);

    return error != 0 ? error : copy_out(out, found, sizeof(found));
}

static int64_t qk_set_pid(uint64_t pid)
{
    if (app.started || pid == 0 || pid > 1u << 29) {
        return -EINVAL;
    }
    app.pid = (uint32_t)pid;
    return 0;
}

int64_t pct_call(const struct frame *f)
{
    switch (f->rax) {
    case QK_NEXT:
        return qk_next(f->rdi);
    case QK_REPLY:
        return qk_reply(f->rdi, f->rsi);
    case QK_MAP:
        return app_map(f->rdi, f->rsi, f->rdx, f->r10);
    case QK_UNMAP:
        return app_unmap(f->rdi, f->rsi);
    case QK_PROTECT:
        return app_protect(f->rdi, f->rsi, f->rdx);
    case QK_TRANSLATE:
        return qk_translate(f->rdi, f->rsi, f->rdx, f->r10);
    case QK_START:
        return start_app(f->rdi, f->rsi);
    case QK_DOORBELL:
        return qk_yod_write(YOD_REG_DOORBELL, f->rdi);
    case QK_YOD_WRITE:
        return qk_yod_write(f->rdi, f->rsi);
    case QK_SIGNAL:
        return qk_signal(f->rdi, f->rsi);
    case QK_CONSOLE:
        return qk_console(f->rdi, f->rsi);
    case QK_POWER_OFF:
        power_off();
    case QK_SET_PID:
        return qk_set_pid(f->rdi);
    case QK_SHM:
        return shm_find();
    case QK_TIMEOUT:
        return qk_timeout(f->rdi, f->rsi);
    default:
        return -ENOSYS;
    }
}
