/* SPDX-License-Identifier: Apache-2.0 */
/* From the entry to the PCT's first instruction. */
#include "qk.h"

extern uint64_t boot_tsc;
void qk_main(uint32_t kind, uint64_t boot_pa);

struct lwk_info info __attribute__((section(".bss.info"))); /* qk.ld gives it pages of its own */

static void describe_cpu(void)
{
    struct cpuid r = cpuid(0, 0);

    memcpy(info.cpu_vendor, &r.b, 4);
    memcpy(info.cpu_vendor + 4, &r.d, 4);
    memcpy(info.cpu_vendor + 8, &r.c, 4);
    for (uint32_t i = 0; i < 3 && cpuid(0x80000000, 0).a >= 0x80000004; i++) {
        r = cpuid(0x80000002 + i, 0);
        memcpy(info.cpu_model + i * sizeof(r), &r, sizeof(r));
    }
}

/* On the CPU's own stack, with the QK's own page tables. */
static _Noreturn void run_pct(void)
{
    paging_pct();
    describe_cpu();
    smp_wait();
    info.cpus = cpu_count;
    lock();
    pct_start_thread();
    pct_post(1u << PCT_EVENT_START);
    return_to_frame(schedule());
}

/* kind, boot_pa: how entry.S was entered, and the loader's structure. */
void qk_main(uint32_t kind, uint64_t boot_pa)
{
    info.tsc_entry = boot_tsc;
    boot_parse(kind, boot_pa);
    features_init();
    acpi_parse();
    idt_init();
    pool_init();
    smp_prepare();
    paging_init(); /* the end of the one-to-one mapping */
    cpu_prepare(&cpus[0]);
    cpu_init(&cpus[0]);
    clock_init();
    apic_init();
    smp_start();
    timer_calibrate();
    if (machine.yod) {
        ioapic_route(YOD_GSI, VEC_YOD);
    }
    __asm__ volatile("mov %0, %%rsp; xor %%ebp, %%ebp; call *%1; ud2" ::"r"(cpus[0].stack),
                     "r"(run_pct));
    __builtin_unreachable();
}
