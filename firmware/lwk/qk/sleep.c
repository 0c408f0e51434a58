/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait for a time, and the one interval timer. */
#include "qk.h"

#define TIMER_ABSTIME 1u

/* The monotonic ns at which a wait with this timespec ends. */
int64_t read_deadline(uint64_t from, bool absolute, bool realtime, uint64_t *deadline)
{
    uint64_t pair[2];
    uint64_t ns, now;

    if (copy_in(pair, from, sizeof(pair)) != 0) {
        return -EFAULT;
    }
    if (pair[0] >> 63 != 0 || pair[1] >= NS) {
        return -EINVAL;
    }
    *deadline = NEVER;
    if (pair[0] < NEVER / NS / 4) { /* 146 years */
        ns = pair[0] * NS + pair[1];
        now = realtime ? unix_now_ns() : now_ns();
        *deadline = now_ns() + (!absolute ? ns : ns > now ? ns - now : 0);
    }
    return 0;
}

static int64_t sleep_until(struct thread *t, uint64_t deadline, uint64_t remaining)
{
    if (deadline <= now_ns()) {
        return 0;
    }
    t->remaining = remaining;
    wait(t, T_SLEEP, deadline);
    return NO_RESULT;
}

int64_t sys_nanosleep(struct thread *t, const uint64_t a[6])
{
    uint64_t deadline;
    int64_t error = read_deadline(a[0], false, false, &deadline);

    return error != 0 ? error : sleep_until(t, deadline, a[1]);
}

/* (clock, flags, time, remaining time) */
int64_t sys_clock_nanosleep(struct thread *t, const uint64_t a[6])
{
    bool absolute = (a[1] & TIMER_ABSTIME) != 0;
    uint64_t deadline, ignored;
    int64_t error;

    if ((a[0] == 2 || a[0] == 3) || !clock_read(a[0], t, &ignored)) {
        return -EINVAL; /* not by CPU time */
    }
    error = read_deadline(a[2], absolute, a[0] == 0 || a[0] == 11, &deadline);
    return error != 0 ? error : sleep_until(t, deadline, absolute ? 0 : a[3]);
}

/* ---------------------------------------------------- alarm(), ITIMER_REAL */

static uint64_t alarm_rest(void)
{
    uint64_t now = now_ns();

    return app.alarm == NEVER ? 0 : app.alarm > now ? app.alarm - now : 1;
}

static void set_alarm(uint64_t ns, uint64_t every)
{
    app.alarm = ns == 0 ? NEVER : now_ns() + ns;
    app.alarm_every = every;
    kick(&cpus[0]); /* its timer interrupt makes the signal */
}

int64_t sys_alarm(struct thread *t, const uint64_t a[6])
{
    uint64_t rest = alarm_rest();

    (void)t;
    set_alarm((uint32_t)a[0] * NS, 0);
    return (int64_t)((rest + NS - 1) / NS);
}

static int64_t get_timer(uint64_t to)
{
    uint64_t rest = alarm_rest();
    uint64_t every = app.alarm == NEVER ? 0 : app.alarm_every;
    uint64_t value[4] = {every / NS, every % NS / 1000, rest / NS, rest % NS / 1000};

    return copy_out(to, value, sizeof(value));
}

int64_t sys_getitimer(struct thread *t, const uint64_t a[6])
{
    return (uint32_t)a[0] != 0 ? call_pct(t) : get_timer(a[1]);
}

int64_t sys_setitimer(struct thread *t, const uint64_t a[6])
{
    uint64_t value[4] = {0};

    if ((uint32_t)a[0] != 0) {
        return call_pct(t); /* CPU time: ENOSYS */
    }
    if (a[1] != 0 && copy_in(value, a[1], sizeof(value)) != 0) {
        return -EFAULT;
    }
    if (value[0] > NEVER / NS / 4 || value[2] > NEVER / NS / 4 || value[1] >= 1000000 ||
        value[3] >= 1000000) {
        return -EINVAL;
    }
    if (a[2] != 0 && get_timer(a[2]) != 0) {
        return -EFAULT;
    }
    set_alarm(value[2] * NS + value[3] * 1000, value[0] * NS + value[1] * 1000);
    return 0;
}
