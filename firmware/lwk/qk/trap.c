/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions and interrupts. */
#include "qk.h"

extern uint8_t halt_here[], halt_end[]; /* trap_entry.S */
extern uint8_t user_code[], user_code_end[], user_fault[];
struct frame *user_trap(struct frame *f);
void kernel_trap(struct frame *f);

/* Before the lock is taken, as whoever holds it may wait for us. */
static void interrupt(struct cpu *c, uint32_t vector)
{
    switch (vector) {
    case VEC_TIMER:
        c->timer_fired = true;
        break;
    case VEC_YOD:
        c->yod_fired = true;
        break;
    case VEC_IPI:
        sync_poll(c);
        break;
    case VEC_SHM ... VEC_SHM + LWK_SHM_VECTORS - 1:
        c->shm_fired |= 1u << (vector - VEC_SHM);
        break;
    default:
        return; /* spurious: no EOI (SDM 3A, 11.9) */
    }
    apic_eoi();
}

/* From user mode: f is the thread's own frame, except for NMI and #MC. */
struct frame *user_trap(struct frame *f)
{
    uint64_t cr2 = f->vector == VEC_PF ? read_cr(2) : 0;
    struct cpu *c = this_cpu();

    if (f->vector == VEC_NMI) {
        nmi();
        return f;
    }
    if (f->vector >= VEC_TIMER) {
        interrupt(c, (uint32_t)f->vector);
        lock();
        return schedule();
    }
    if (f->vector == VEC_MC || c->current == &pct) {
        panic(f, f->vector == VEC_MC ? "machine check" : "exception in the PCT");
    }
    lock();
    if (!app.dead) {
        signal_fault(c->current, (uint32_t)f->vector, cr2);
    }
    return schedule();
}

/* From the QK: an interrupt of the idle loop, or a user address that is not accessible; else our
 * fault. */
void kernel_trap(struct frame *f)
{
    if (f->vector == VEC_NMI) {
        nmi();
    } else if (f->vector >= VEC_TIMER) {
        interrupt(this_cpu(), (uint32_t)f->vector);
        if (f->rip == (uint64_t)halt_here) {
            f->rip = (uint64_t)halt_end;
        }
    } else if ((f->vector == VEC_PF || f->vector == VEC_GP || f->vector == VEC_AC) &&
               f->rip >= (uint64_t)user_code && f->rip < (uint64_t)user_code_end) {
        f->rip = (uint64_t)user_fault;
    } else {
        panic(f, "exception in the QK");
    }
}
