/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: kvmclock (Linux Documentation/virt/kvm/x86/msr.rst) or the bare TSC, in the same form.
 * Reading them takes no exit. And the calls that tell the time. */
#include "qk.h"

#define MSR_KVM_WALL_CLOCK 0x4b564d00u
#define MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define KVM_CLOCKSOURCE2 (1u << 3)
#define CLOCK_STABLE 1u /* the same on all CPUs */

static struct {
    uint32_t version, seconds, ns;
} wall __attribute__((aligned(4)));
static uint64_t unix_base; /* ns since 1970 at now_ns() == 0 */
static uint64_t latest;    /* where clocks of CPUs differ: time does not run backwards */

static uint64_t pa_of(const void *kernel)
{
    return (uint64_t)kernel - KERNEL_BASE;
}

static bool has_kvmclock(void)
{
    return (features.kvm & KVM_CLOCKSOURCE2) != 0;
}

void clock_init_cpu(struct cpu *c)
{
    if (has_kvmclock()) {
        wrmsr(MSR_KVM_SYSTEM_TIME, pa_of(&c->clock) | 1);
    } else {
        c->clock = cpus[0].clock;
    }
}

/* By channel 2 of the PIT, which counts at 1,193,182 Hz, for 10 ms; its output is bit 5 of port
 * 0x61. */
static uint64_t measure_tsc(void)
{
    const uint32_t count = 11932;
    uint64_t start;

    outb(0x61, (inb(0x61) & ~2) | 1);
    outb(0x43, 0xb0); /* channel 2, mode 0 */
    outb(0x42, count & 0xff);
    outb(0x42, count >> 8);
    start = rdtsc();
    for (uint32_t i = 0; i < 1000000; i++) {
        uint8_t status = inb(0x61);
        if (status == 0xff) {
            break; /* no PIT */
        }
        if ((status & 0x20) != 0) {
            return (rdtsc() - start) * 100;
        }
    }
    print("lwk: nothing tells the TSC's frequency, 1 GHz assumed\n");
    return NS;
}

/* CPUID leaves: TSC and crystal (SDM 2A, leaf 15H); hypervisors' timing leaf, in kHz. */
static uint64_t tsc_hz(void)
{
    struct cpuid r = {0};

    if (features.hypervisor && cpuid(0x40000000, 0).a >= 0x40000010) {
        r = cpuid(0x40000010, 0);
        if (r.a != 0) {
            return r.a * 1000ull;
        }
    }
    if (cpuid(0, 0).a >= 0x15) {
        r = cpuid(0x15, 0);
        if (r.a != 0 && r.b != 0 && r.c != 0) {
            return (uint64_t)r.c * r.b / r.a;
        }
    }
    return measure_tsc();
}

/* ns = ((ticks << shift) * mul) >> 32, with the largest mul that fits. */
static void make_clock(struct clock *k, uint64_t hz)
{
    uint64_t per_tick = (NS << 32) / hz;

    k->tsc = rdtsc();
    k->shift = 0;
    k->flags = CLOCK_STABLE;
    while (per_tick > UINT32_MAX) {
        per_tick >>= 1;
        k->shift++;
    }
    k->mul = (uint32_t)per_tick;
}

void clock_init(void)
{
    struct clock *k = &cpus[0].clock;

    if (has_kvmclock()) {
        clock_init_cpu(&cpus[0]);
        wrmsr(MSR_KVM_WALL_CLOCK, pa_of(&wall));
        info.tsc_hz = (NS << 32) / k->mul;
        info.tsc_hz = k->shift < 0 ? info.tsc_hz << -k->shift : info.tsc_hz >> k->shift;
        unix_base = wall.seconds * NS + wall.ns;
        return;
    }
    info.tsc_hz = tsc_hz();
    make_clock(k, info.tsc_hz);
    unix_base = machine.unix_ns;
}

uint64_t now_ns(void)
{
    const volatile struct clock *k = &this_cpu()->clock;
    uint64_t ns, before;
    uint32_t version;
    uint8_t flags;

    do {
        version = k->version;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint64_t ticks = rdtsc();
        ticks = ticks > k->tsc ? ticks - k->tsc : 0;
        ticks = k->shift < 0 ? ticks >> -k->shift : ticks << k->shift;
        ns = k->ns + (uint64_t)(((unsigned __int128)ticks * k->mul) >> 32);
        flags = k->flags;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while ((version & 1) != 0 || version != k->version);
    if ((flags & CLOCK_STABLE) != 0) {
        return ns;
    }
    before = __atomic_load_n(&latest, __ATOMIC_RELAXED);
    do {
        if (ns <= before) {
            return before;
        }
    } while (!__atomic_compare_exchange_n(&latest, &before, ns, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return ns;
}

uint64_t unix_now_ns(void)
{
    return unix_base + now_ns();
}

void busy_wait(uint64_t ns)
{
    uint64_t start = now_ns();

    while (now_ns() - start < ns) {
        pause();
    }
}

/* -------------------------------------------------------------------- calls */

/* Linux's clock numbers. */
enum {
    REALTIME,
    MONOTONIC,
    PROCESS_CPU,
    THREAD_CPU,
    MONOTONIC_RAW,
    REALTIME_COARSE,
    MONOTONIC_COARSE,
    BOOTTIME,
    TAI = 11
};

static uint64_t tsc_to_ns(uint64_t ticks)
{
    return ticks / info.tsc_hz * NS + ticks % info.tsc_hz * NS / info.tsc_hz;
}

/* Threads that run on other CPUs count as of their last switch. */
static uint64_t thread_cpu(const struct thread *t)
{
    return t->cpu_tsc + (t->cpu->current == t ? rdtsc() - t->cpu->since : 0);
}

static uint64_t process_cpu(void)
{
    uint64_t ticks = app.dead_tsc;

    for (uint32_t i = 0; i < MAX_THREADS; i++) {
        ticks += app.thread[i] != NULL ? thread_cpu(app.thread[i]) : 0;
    }
    return tsc_to_ns(ticks);
}

bool clock_read(uint64_t id, struct thread *t, uint64_t *ns)
{
    switch (id) {
    case REALTIME:
    case REALTIME_COARSE:
    case TAI:
        *ns = unix_now_ns();
        return true;
    case MONOTONIC:
    case MONOTONIC_RAW:
    case MONOTONIC_COARSE:
    case BOOTTIME:
        *ns = now_ns();
        return true;
    case PROCESS_CPU:
        *ns = process_cpu();
        return true;
    case THREAD_CPU:
        *ns = tsc_to_ns(thread_cpu(t));
        return true;
    default:
        return false;
    }
}

static int64_t put_pair(uint64_t to, uint64_t ns, uint64_t unit)
{
    uint64_t pair[2] = {ns / NS, ns % NS / unit};

    return to == 0 ? 0 : copy_out(to, pair, sizeof(pair));
}

int64_t sys_clock_gettime(struct thread *t, const uint64_t a[6])
{
    uint64_t ns;

    return clock_read(a[0], t, &ns) ? put_pair(a[1], ns, 1) : -EINVAL;
}

int64_t sys_clock_getres(struct thread *t, const uint64_t a[6])
{
    uint64_t ns;

    return clock_read(a[0], t, &ns) ? put_pair(a[1], 1, 1) : -EINVAL;
}

int64_t sys_gettimeofday(struct thread *t, const uint64_t a[6])
{
    static const uint32_t utc[2];

    (void)t;
    if (a[1] != 0 && copy_out(a[1], utc, sizeof(utc)) != 0) {
        return -EFAULT;
    }
    return put_pair(a[0], unix_now_ns(), 1000);
}

int64_t sys_time(struct thread *t, const uint64_t a[6])
{
    uint64_t seconds = unix_now_ns() / NS;

    (void)t;
    if (a[0] != 0 && copy_out(a[0], &seconds, sizeof(seconds)) != 0) {
        return -EFAULT;
    }
    return (int64_t)seconds;
}

/* In clock ticks of 1/100 s, all of them user time: the QK's own share is not told apart. */
int64_t sys_times(struct thread *t, const uint64_t a[6])
{
    uint64_t ticks[4] = {process_cpu() / (NS / 100)};

    (void)t;
    if (a[0] != 0 && copy_out(a[0], ticks, sizeof(ticks)) != 0) {
        return -EFAULT;
    }
    return (int64_t)(now_ns() / (NS / 100));
}

int64_t sys_getrusage(struct thread *t, const uint64_t a[6])
{
    enum { SELF = 0, THREAD = 1, CHILDREN = 0xffffffff };
    uint64_t usage[18] = {0};
    uint64_t ns = 0;

    switch ((uint32_t)a[0]) {
    case SELF:
        ns = process_cpu();
        break;
    case THREAD:
        ns = tsc_to_ns(thread_cpu(t));
        break;
    case CHILDREN:
        break;
    default:
        return -EINVAL;
    }
    usage[0] = ns / NS;
    usage[1] = ns % NS / 1000;
    return copy_out(a[1], usage, sizeof(usage));
}
