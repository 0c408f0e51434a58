/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extended state: XSAVE with all of XCR0, or FXSAVE. Neither QK nor PCT use these registers, so
 * a thread's state stays in them until another thread is to run here.
 */
#include "qk.h"

uint8_t pristine_fpu[512] __attribute__((aligned(16)));

#define MXCSR_RESET 0x1f80u
#define FCW_RESET 0x37fu

void fpu_init_cpu(void)
{
    if (features.xsave) {
        __asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)features.xcr0), "d"(0));
    }
    __asm__ volatile("fninit; fxsave64 (%0)" ::"r"(pristine_fpu) : "memory");
}

/* As after a power-on; the header says for XRSTOR that all parts are in their first state but x87
 * and SSE, which FXRSTOR reads as well. */
void fpu_fresh(struct thread *t)
{
    static const uint16_t fcw = FCW_RESET;
    static const uint32_t mxcsr = MXCSR_RESET;
    static const uint64_t parts = 0x3;

    memset(t->fpu, 0, sizeof(t->fpu));
    memcpy(t->fpu, &fcw, sizeof(fcw));
    memcpy(t->fpu + 24, &mxcsr, sizeof(mxcsr));
    memcpy(t->fpu + 512, &parts, sizeof(parts));
}

void fpu_save(struct thread *t)
{
    uint32_t low = (uint32_t)features.xcr0;

    if (features.xsaveopt) {
        __asm__ volatile("xsaveopt64 (%0)" ::"r"(t->fpu), "a"(low), "d"(0) : "memory");
    } else if (features.xsave) {
        __asm__ volatile("xsave64 (%0)" ::"r"(t->fpu), "a"(low), "d"(0) : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" ::"r"(t->fpu) : "memory");
    }
}

/* AMD's FXRSTOR and XRSTOR leave FIP, FDP and FOP alone while no x87 exception is pending, so they
 * would show another thread's (APM 2, 11.4.4). One application per VM: nobody to hide them from. */
void fpu_load(struct thread *t)
{
    if (features.xsave) {
        __asm__ volatile("xrstor64 (%0)" ::"r"(t->fpu), "a"((uint32_t)features.xcr0), "d"(0)
                         : "memory");
    } else {
        __asm__ volatile("fxrstor64 (%0)" ::"r"(t->fpu) : "memory");
    }
}
