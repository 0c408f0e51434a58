/* SPDX-License-Identifier: Apache-2.0 */
/* A signal handler's frame, laid out as Linux does on x86-64 (struct rt_sigframe): debuggers,
 * unwinders and language runtimes read it. From low to high addresses: the return address, struct
 * ucontext, siginfo; then, on a boundary of 64 bytes, the FPU state. */
#include "qk.h"

#define SA_RESTORER 0x4000000u
#define SA_ONSTACK 0x8000000u
#define RED_ZONE 128u /* that a leaf function may use below its stack pointer (System V ABI) */
#define UC_FP_XSTATE 1u
#define UC_SIGCONTEXT_SS 2u
#define UC_STRICT_RESTORE_SS 4u
#define XSTATE_MAGIC1 0x46505853u
#define XSTATE_MAGIC2 0x46505845u
#define SS_DISABLE 2u

struct ucontext {
    uint64_t flags, link;
    uint64_t stack;
    uint32_t stack_flags, pad;
    uint64_t stack_bytes;
    uint64_t registers[15]; /* r8 to rcx, as in struct frame */
    uint64_t rsp, rip, rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error, vector, old_mask, cr2, fpu, reserved[8];
    uint64_t mask;
};
struct sigframe {
    uint64_t return_address;
    struct ucontext uc;
    uint32_t siginfo[32];
};
_Static_assert(sizeof(struct ucontext) == 304 && sizeof(struct sigframe) == 440, "Linux's ABI");

/* In the bytes of the FXSAVE image that the CPU leaves to software. */
struct xstate_note {
    uint32_t magic, extended_bytes;
    uint64_t features;
    uint32_t bytes, pad[7];
};
#define NOTE_AT 464u
#define HEADER_AT 512u

static bool on_stack(const struct thread *t, uint64_t sp)
{
    return sp - t->stack < t->stack_bytes;
}

static bool push_fpu(struct thread *t, uint64_t at)
{
    static const uint32_t magic2 = XSTATE_MAGIC2;
    struct xstate_note note = {.magic = XSTATE_MAGIC1,
                               .extended_bytes = features.fpu_bytes + sizeof(magic2),
                               .features = features.xcr0,
                               .bytes = features.fpu_bytes};

    fpu_save(t);
    if (features.xsave) {
        memcpy(t->fpu + NOTE_AT, &note, sizeof(note));
        if (copy_out(at + features.fpu_bytes, &magic2, sizeof(magic2)) != 0) {
            return false;
        }
    }
    return copy_out(at, t->fpu, features.fpu_bytes) == 0;
}

/* The program may have put anything there: make it something that the CPU loads without a fault. */
static bool pop_fpu(struct thread *t, uint64_t at)
{
    struct xstate_note note;
    uint64_t header[8] = {3}; /* x87 and SSE */
    uint32_t magic2 = 0, mxcsr, mxcsr_mask;

    fpu_fresh(t);
    if (at != 0) {
        if (copy_in(t->fpu, at, 512) != 0) {
            return false;
        }
        memcpy(&note, t->fpu + NOTE_AT, sizeof(note));
        if (features.xsave && note.magic == XSTATE_MAGIC1 && note.bytes == features.fpu_bytes) {
            if (get_u32(at + note.bytes, &magic2) != 0) {
                return false;
            }
            if (magic2 == XSTATE_MAGIC2) {
                if (copy_in(t->fpu, at, note.bytes) != 0) {
                    return false;
                }
                memcpy(header, t->fpu + HEADER_AT, 8);
                header[0] &= note.features & features.xcr0;
            }
        }
        memcpy(t->fpu + HEADER_AT, header, sizeof(header));
        memcpy(&mxcsr, t->fpu + 24, 4);
        memcpy(&mxcsr_mask, pristine_fpu + 28, 4);
        mxcsr &= mxcsr_mask != 0 ? mxcsr_mask : 0xffbf; /* SDM 1, 11.6.6 */
        memcpy(t->fpu + 24, &mxcsr, 4);
    }
    fpu_load(t);
    return true;
}

bool sigframe_push(struct thread *t, const struct action *a, const uint32_t siginfo[32])
{
    struct frame *f = &t->frame;
    bool fault = f->vector < VEC_TIMER;
    bool was_on = on_stack(t, f->rsp);
    uint64_t sp = f->rsp - RED_ZONE;
    uint64_t fpu;
    struct sigframe s = {.return_address = a->restorer,
                         .uc = {.flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS |
                                         (features.xsave ? UC_FP_XSTATE : 0),
                                .stack = t->stack,
                                .stack_flags = t->stack_bytes == 0 ? SS_DISABLE : 0,
                                .stack_bytes = t->stack_bytes,
                                .rsp = f->rsp,
                                .rip = f->rip,
                                .rflags = f->rflags,
                                .cs = SEL_USER_CS,
                                .ss = SEL_USER_DS,
                                .error = fault ? f->error : 0,
                                .vector = fault ? f->vector : 0,
                                .cr2 = t->fault_address,
                                .old_mask = t->restore ? t->saved_mask : t->mask,
                                .mask = t->restore ? t->saved_mask : t->mask}};

    if ((a->flags & SA_ONSTACK) != 0 && t->stack_bytes != 0 && !was_on) {
        sp = t->stack + t->stack_bytes;
    }
    fpu = (sp - features.fpu_bytes - (features.xsave ? 4 : 0)) & ~63ull;
    sp = ((fpu - sizeof(s)) & ~15ull) - 8; /* as after a call */
    s.uc.fpu = fpu;
    memcpy(s.uc.registers, f, sizeof(s.uc.registers));
    memcpy(s.siginfo, siginfo, sizeof(s.siginfo));
    if ((a->flags & SA_RESTORER) == 0 || a->handler >= LWK_APP_HIGH ||
        (was_on && !on_stack(t, sp)) || !push_fpu(t, fpu) || copy_out(sp, &s, sizeof(s)) != 0) {
        return false;
    }
    t->restore = false;
    f->rdi = siginfo[0];
    f->rsi = sp + offsetof(struct sigframe, siginfo);
    f->rdx = sp + offsetof(struct sigframe, uc);
    f->rax = 0;
    f->rip = a->handler;
    f->rsp = sp;
    f->rflags &= ~(uint64_t)(FLAG_TF | FLAG_DF | FLAG_RF);
    f->vector = VEC_TIMER; /* no fault, and no call to restart, if there is a second signal */
    fpu_fresh(t);
    fpu_load(t);
    return true;
}

/* rt_sigreturn: the handler has returned to the restorer, so the return address is gone. */
bool sigframe_pop(struct thread *t)
{
    struct frame *f = &t->frame;
    struct ucontext uc;

    if (copy_in(&uc, f->rsp, sizeof(uc)) != 0 || uc.rip >= LWK_APP_HIGH || !pop_fpu(t, uc.fpu)) {
        return false;
    }
    memcpy(f, uc.registers, sizeof(uc.registers));
    f->rsp = uc.rsp;
    f->rip = uc.rip;
    f->rflags = (uc.rflags & FLAGS_USER) | FLAG_FIXED | FLAG_IF;
    f->vector = VEC_TIMER; /* SYSRET would lose rcx and r11 */
    t->mask = uc.mask;
    if (!on_stack(t, f->rsp)) {
        t->stack = uc.stack;
        t->stack_bytes = uc.stack_flags == SS_DISABLE ? 0 : uc.stack_bytes;
    }
    return true;
}
