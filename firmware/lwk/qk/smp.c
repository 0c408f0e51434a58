/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the other CPUs (SDM 3A, 9.4.4), and making them do something now. */
#include "qk.h"

/* A page below 1 MiB; nothing of the loader's is needed any more by then. */
#define TRAMPOLINE 0x8000ull
#define ICR_INIT 0x4500u /* each with "level assert" */
#define ICR_STARTUP 0x4600u
#define ICR_FIXED 0x4000u
#define ICR_NMI 0x4400u
#define WAIT_NS (NS / 2)

extern const uint8_t trampoline[], trampoline_end[];
void ap_main(uint32_t slot);

uint64_t ap_next; /* entry.S: the next CPU to arrive takes this stack: */
uint64_t ap_stacks[MAX_CPUS];
uint64_t ap_efer;
static bool too_late;
static bool stopping;

/* Before the QK's own page tables are in use: these don't have the first megabyte. */
void smp_prepare(void)
{
    ap_efer = rdmsr(MSR_EFER);
    memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
}

/* All at once. Real processors need 10 ms after INIT and a second SIPI; virtual ones neither. */
void smp_start(void)
{
    for (uint32_t i = 1; i < cpu_count; i++) {
        cpu_prepare(&cpus[i]);
        ap_stacks[i - 1] = cpus[i].stack;
    }
    for (uint32_t i = 1; i < cpu_count; i++) {
        apic_send(cpus[i].apic_id, ICR_INIT);
    }
    for (uint32_t k = 0; k < (features.hypervisor ? 1 : 2); k++) {
        busy_wait(features.hypervisor ? 0 : 10000000);
        for (uint32_t i = 1; i < cpu_count; i++) {
            apic_send(cpus[i].apic_id, ICR_STARTUP | TRAMPOLINE >> 12);
        }
    }
}

/* A CPU that has arrived, on a stack that was the next free one, not that of its number. */
void ap_main(uint32_t slot)
{
    uint32_t id = apic_id();

    for (uint32_t i = 1; i < cpu_count; i++) {
        struct cpu *c = &cpus[i];
        if (c->apic_id == id && !c->up) {
            c->stack = ap_stacks[slot];
            cpu_init(c);
            apic_init_cpu();
            clock_init_cpu(c);
            lock();
            c->up = !too_late;
            if (c->up) {
                return_to_frame(schedule());
            }
            unlock();
        }
    }
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* Those that have not come by then are left out, so CPUs keep their numbers only if none is
 * missing. */
void smp_wait(void)
{
    uint64_t start = now_ns();
    uint32_t up = 1;

    for (uint32_t i = 1; i < cpu_count; i++) {
        while (!__atomic_load_n(&cpus[i].up, __ATOMIC_ACQUIRE) && now_ns() - start < WAIT_NS) {
            pause();
        }
    }
    lock();
    too_late = true;
    while (up < cpu_count && cpus[up].up) {
        up++;
    }
    cpu_count = up;
    unlock();
}

/* --------------------------------------------------------------------- IPIs */

/*
 * Make a CPU look at its queue and signals, if it is idle or in user mode. The interrupt is sent
 * when the lock is free again: it takes an exit, and the CPU it wakes wants the lock.
 */
void kick(struct cpu *c)
{
    if (c != this_cpu() && !c->kicked) {
        c->kicked = true; /* until it looks */
        this_cpu()->to_kick[c->number / 64] |= 1ull << c->number % 64;
    }
}

void send_kicks(struct cpu *self)
{
    for (uint32_t i = 0; i < (cpu_count + 63) / 64; i++) {
        while (self->to_kick[i] != 0) {
            uint32_t bit = (uint32_t)__builtin_ctzll(self->to_kick[i]);
            self->to_kick[i] &= self->to_kick[i] - 1;
            apic_send(cpus[i * 64 + bit].apic_id, ICR_FIXED | VEC_IPI);
        }
    }
}

/* Answer sync_cpus(); by whoever enters the QK by an interrupt, or waits for the lock. */
void sync_poll(struct cpu *c)
{
    if (__atomic_load_n(&c->flush, __ATOMIC_ACQUIRE) != 0) {
        write_cr(3, read_cr(3));
        __atomic_store_n(&c->flush, 0, __ATOMIC_RELEASE);
    }
}

/*
 * Every other CPU that runs the application has entered the QK once since, and its TLB forgotten
 * the application's pages. Those that do not run it flush before they do. The lock is held, so
 * nobody else asks at the same time, and whoever waits for it answers.
 */
void sync_cpus(void)
{
    struct cpu *self = this_cpu();

    for (uint32_t i = 0; i < cpu_count; i++) {
        struct cpu *c = &cpus[i];
        if (c->current == NULL || c->current == &pct) {
            c->stale = true;
        } else if (c != self) {
            __atomic_store_n(&c->flush, 1, __ATOMIC_RELEASE);
            apic_send(c->apic_id, ICR_FIXED | VEC_IPI);
        }
    }
    for (uint32_t i = 0; i < cpu_count; i++) {
        while (__atomic_load_n(&cpus[i].flush, __ATOMIC_ACQUIRE) != 0) {
            pause();
        }
    }
}

/* For panic(): by NMI, as they may wait with interrupts off. */
void stop_others(void)
{
    __atomic_store_n(&stopping, true, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < cpu_count; i++) {
        if (cpus[i].up && cpus[i].apic_id != apic_id()) {
            apic_send(cpus[i].apic_id, ICR_NMI);
        }
    }
}

/* Other NMIs mean nothing to us. */
void nmi(void)
{
    while (__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
        __asm__ volatile("cli; hlt");
    }
}
