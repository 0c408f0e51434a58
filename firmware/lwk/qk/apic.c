/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC (SDM 3A, chapter 11), as x2APIC where there is one; one pin of the IOAPIC; the timer.
 */
#include "qk.h"

/* Registers, numbered as in x2APIC mode; MMIO has them at 16 times that. */
enum {
    APIC_EOI = 0x0b,
    APIC_SVR = 0x0f,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31, /* MMIO only */
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_LINT0 = 0x35,
    APIC_TIMER_COUNT = 0x38,
    APIC_TIMER_NOW = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
};
#define SVR_ENABLE 0x100u
#define LVT_MASKED 0x10000u
#define LVT_DEADLINE 0x40000u
#define DIVIDE_16 0x3u
#define ICR_PENDING 0x1000u
#define BASE_X2APIC 0xc00u
#define BASE_ENABLE 0x800u

static volatile uint32_t *lapic;
static uint64_t
    timer_rate; /* of the one-shot timer: counts in 2^20 ns; or TSC ticks, by deadline */

static void apic_write(uint32_t reg, uint32_t value)
{
    if (features.x2apic) {
        wrmsr(MSR_X2APIC + reg, value);
    } else {
        lapic[reg * 4] = value;
    }
}

uint32_t apic_id(void)
{
    struct cpuid r = {0};

    if (cpuid(0, 0).a >= 0xb) {
        r = cpuid(0xb, 0);
    }
    return r.b != 0 ? r.d : cpuid(1, 0).b >> 24;
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

/* command: delivery mode and vector, as in the low half of the ICR. */
void apic_send(uint32_t id, uint32_t command)
{
    if (features.x2apic) {
        __asm__ volatile("mfence; lfence" ::
                             : "memory"); /* x2APIC writes don't wait for stores (11.12.3) */
        wrmsr(MSR_X2APIC + APIC_ICR, (uint64_t)id << 32 | command);
        return;
    }
    lapic[APIC_ICR_HIGH * 4] = id << 24;
    lapic[APIC_ICR * 4] = command;
    while ((lapic[APIC_ICR * 4] & ICR_PENDING) != 0) {
        pause();
    }
}

void apic_init_cpu(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) | BASE_ENABLE;

    wrmsr(MSR_APIC_BASE, features.x2apic ? base | BASE_X2APIC : base);
    apic_write(APIC_SVR, SVR_ENABLE | VEC_SPURIOUS);
    apic_write(APIC_LVT_LINT0, LVT_MASKED); /* no 8259 */
    if (features.tsc_deadline) {
        apic_write(APIC_LVT_TIMER, LVT_DEADLINE | VEC_TIMER);
        /* An MMIO write to the LVT and the MSR write that follows are not ordered (11.5.4.1). */
        __asm__ volatile("mfence" ::: "memory");
    } else {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_16);
        apic_write(APIC_LVT_TIMER, VEC_TIMER);
    }
}

void apic_init(void)
{
    if (!features.x2apic) {
        lapic = map_mmio(rdmsr(MSR_APIC_BASE) & PTE_ADDRESS);
    }
    if (machine.pic) {
        outb(0x21, 0xff);
        outb(0xa1, 0xff);
    }
    apic_init_cpu();
}

/* Edge, active high, to CPU 0 (82093AA data sheet). */
void ioapic_route(uint32_t gsi, uint32_t vector)
{
    volatile uint32_t *ioapic;
    uint32_t pin = gsi - machine.ioapic_gsi;

    if (machine.ioapic == 0) {
        return;
    }
    ioapic = map_mmio(machine.ioapic);
    ioapic[0] = 0x10 + 2 * pin + 1;
    ioapic[4] = cpus[0].apic_id << 24;
    ioapic[0] = 0x10 + 2 * pin;
    ioapic[4] = vector;
}

/* ------------------------------------------------------------------- timer */

/* TSC frequency in units of 2^32 ticks a ns, or the APIC timer's measured against the clock. */
void timer_calibrate(void)
{
    uint64_t start;

    if (features.tsc_deadline) {
        timer_rate = (info.tsc_hz / 1000 << 32) / 1000000;
        return;
    }
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_TIMER_COUNT, UINT32_MAX);
    start = now_ns();
    busy_wait(1000000);
    start = now_ns() - start;
    timer_rate = (features.x2apic ? rdmsr(MSR_X2APIC + APIC_TIMER_NOW) : lapic[APIC_TIMER_NOW * 4]);
    timer_rate = ((UINT32_MAX - timer_rate) << 32) / start;
    apic_write(APIC_TIMER_COUNT, 0);
    apic_write(APIC_LVT_TIMER, VEC_TIMER);
}

/* One interrupt at `deadline`, or some time before it if that is far away. */
void timer_arm(uint64_t now, uint64_t deadline)
{
    uint64_t ns = deadline > now ? deadline - now : 0;
    uint64_t count;

    ns = ns < 3600 * NS ? ns : 3600 * NS;
    count = (uint64_t)(((unsigned __int128)ns * timer_rate) >> 32) + 1;
    if (features.tsc_deadline) {
        wrmsr(MSR_TSC_DEADLINE, rdtsc() + count);
    } else {
        apic_write(APIC_TIMER_COUNT, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX);
    }
}
