/* SPDX-License-Identifier: Apache-2.0 */
/* How a vCPU meets what a debugger asked for. All of this runs in the vCPU's thread. */
#include <string.h>
#include <sys/ioctl.h>

#include "debug.h"
#include "machine.h"

void vh_debug_arm(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    if (atomic_load(&vm->debug) == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&vm->lock);
    struct vh_debug *debug = atomic_load(&vm->debug);
    if (debug != NULL) {
        struct kvm_guest_debug set = {0};
        struct vh_debug_vcpu *mine = &debug->vcpus[vcpu->index];
        bool steps = mine->action == VMMHPC_DEBUG_STEP_ONE;
        uint64_t dr[8];
        vh_debug_registers(debug, dr);
        memcpy(set.arch.debugreg, dr, sizeof(dr));
        set.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
        if ((dr[7] & 0xff) != 0 || mine->stray) {
            set.control |= KVM_GUESTDBG_USE_HW_BP;
        }
        if (steps || (debug->comparing && mine->action == VMMHPC_DEBUG_RUN)) {
            set.control |= KVM_GUESTDBG_SINGLESTEP;
            mine->stray = true;
        }
        if (steps && (debug->features & VMMHPC_DEBUG_BLOCKIRQ) != 0) {
            set.control |= 0x00100000; /* KVM_GUESTDBG_BLOCKIRQ, since Linux 5.16 */
        }
        (void)ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &set);
    }
    (void)pthread_mutex_unlock(&vm->lock);
}

/* Note why this vCPU stopped, and hold all. */
void vh_debug_stop_for(struct vh_vcpu *vcpu, uint32_t reason, const struct vh_break *met)
{
    struct vmmhpc *vm = vcpu->vm;
    struct vh_debug *debug = atomic_load(&vm->debug);
    debug->vcpus[vcpu->index].stop = (struct vmmhpc_debug_stop){
        .size = sizeof(struct vmmhpc_debug_stop),
        .reason = reason,
        .vcpu = vcpu->index,
        .kind = met == NULL ? 0 : met->kind,
        .address = met == NULL ? 0 : met->address,
    };
    vh_debug_set_actions(vm, NULL);
    vh_debug_notify(vm);
}

/* Met a breakpoint that is made in memory. */
static void stop_at(struct vh_vcpu *vcpu, const struct vh_break *met)
{
    vh_debug_stop_for(
        vcpu, met->kind == VMMHPC_BREAK_HARDWARE ? VMMHPC_DEBUG_HWBREAK : VMMHPC_DEBUG_BREAKPOINT,
        met);
}

/* The exception is the guest's own. */
static void inject(const struct vh_vcpu *vcpu, const struct kvm_debug_exit_arch *arch)
{
    const struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    struct kvm_guest_debug set = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};
    uint64_t dr[8];
    vh_debug_registers(debug, dr);
    memcpy(set.arch.debugreg, dr, sizeof(dr));
    if ((dr[7] & 0xff) != 0) {
        set.control |= KVM_GUESTDBG_USE_HW_BP;
    }
    if (arch->exception == 3) {
        set.control |= KVM_GUESTDBG_INJECT_BP;
    } else {
        struct kvm_debugregs guest;
        if (ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &guest) == 0) {
            guest.dr6 = arch->dr6;
            (void)ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &guest);
        }
        set.control |= KVM_GUESTDBG_INJECT_DB;
    }
    (void)ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &set);
}

/* A trap flag of ours that came back with flags the guest had saved: the step itself is over. */
static void clear_trap_flag(const struct vh_vcpu *vcpu)
{
    struct kvm_regs regs;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0) {
        regs.rflags &= ~0x100ull;
        (void)ioctl(vcpu->fd, KVM_SET_REGS, &regs);
    }
}

/* A debug exception (AMD64 manual, volume 2, 13.1.1.3). False: the run goes on, armed anew. */
static bool debug_exception(struct vh_vcpu *vcpu, const struct kvm_debug_exit_arch *arch)
{
    struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    const struct vh_debug_vcpu *mine = &debug->vcpus[vcpu->index];
    uint8_t resumed = debug->resumed[vcpu->index];
    for (uint32_t slot = 0; slot < VH_DEBUG_REGISTERS; slot++) {
        const struct vh_break *met = vh_debug_break_in(debug, slot);
        if (met != NULL && (arch->dr6 >> slot & 1) != 0) {
            vh_debug_stop_for(vcpu,
                              met->kind == VMMHPC_BREAK_HARDWARE ? VMMHPC_DEBUG_HWBREAK
                                                                 : VMMHPC_DEBUG_WATCH,
                              met);
            return true;
        }
    }
    if ((arch->dr6 & 0x4000) == 0) { /* not a single step */
        inject(vcpu, arch);
        return true;
    }
    const struct vh_break *changed = vh_debug_changed(vcpu->vm);
    if (changed != NULL) {
        vh_debug_stop_for(vcpu, VMMHPC_DEBUG_WATCH, changed);
    } else if (resumed == VMMHPC_DEBUG_STEP_ONE || debug->stepping_over) {
        vh_debug_stop_for(vcpu, VMMHPC_DEBUG_STEPPED, NULL);
    } else if (debug->comparing) {
        vh_debug_place(vcpu);
        return false;
    } else if (mine->stray) {
        clear_trap_flag(vcpu);
    } else {
        inject(vcpu, arch);
    }
    return true;
}

void vh_debug_exit(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    const struct kvm_debug_exit_arch arch = vcpu->run->debug.arch;
    bool done = true;
    (void)pthread_mutex_lock(&vm->lock);
    const struct vh_debug *debug = atomic_load(&vm->debug);
    if (debug != NULL && arch.exception == 3) {
        const struct vh_break *met = vh_debug_break_at(debug, arch.pc, false);
        if (met != NULL) {
            stop_at(vcpu, met);
        } else {
            inject(vcpu, &arch);
        }
    } else if (debug != NULL) {
        done = debug_exception(vcpu, &arch);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (!done) {
        vh_debug_arm(vcpu);
    }
}

/* Let KVM finish the OUT, and stand where it was. */
static void undo_trap(const struct vh_vcpu *vcpu, const struct kvm_regs *regs)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    (void)ioctl(vcpu->fd, KVM_RUN, 0);
    (void)ioctl(vcpu->fd, KVM_SET_REGS, regs);
}

/*
 * At a hook: the CPU has just taken INT3 as an exception. Where it came from a breakpoint, go back
 * as IRET would, to the breakpoint; nothing of the handler has run yet.
 */
static const struct vh_break *unwind(const struct vh_vcpu *vcpu, struct kvm_regs *regs,
                                     const struct kvm_sregs *sregs)
{
    struct vmmhpc *vm = vcpu->vm;
    uint64_t frame[5]; /* RIP, CS, RFLAGS, RSP, SS */
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t gpa = 0;
        bool user = false;
        const void *at = vh_debug_walk(&vm->memory, sregs, regs->rsp + 8 * i, &gpa, &user)
                             ? vh_memory_at(&vm->memory, gpa, 8)
                             : NULL;
        if (at == NULL) {
            return NULL;
        }
        memcpy(&frame[i], at, 8);
    }
    const struct vh_break *met = vh_debug_break_at(atomic_load(&vm->debug), frame[0] - 1, true);
    struct kvm_sregs back = *sregs;
    if (met == NULL || !vh_debug_descriptor(vcpu, sregs, (uint16_t)frame[1], &back.cs) ||
        !vh_debug_descriptor(vcpu, sregs, (uint16_t)frame[4], &back.ss) ||
        ioctl(vcpu->fd, KVM_SET_SREGS, &back) != 0) {
        return NULL;
    }
    regs->rip = frame[0] - 1;
    regs->rflags = frame[2] | 2;
    regs->rsp = frame[3];
    return met;
}

static bool at_hook(const struct vh_debug *debug, uint64_t address)
{
    for (uint32_t i = 0; i < debug->hook_count; i++) {
        if (debug->hooks[i].address == address) {
            return true;
        }
    }
    return false;
}

/*
 * How far the CPU has gone past a trap: 0 where KVM leaves RIP at an OUT until it is finished, the
 * trap's length where its emulator did the OUT. False: the OUT was none of ours.
 */
static bool trap_at(const struct vh_vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t address,
                    uint64_t *past)
{
    struct vmmhpc *vm = vcpu->vm;
    const struct vh_debug *debug = atomic_load(&vm->debug);
    uint64_t gpa = 0;
    bool user = false;
    *past = 0;
    if (vh_debug_break_at(debug, address, false) != NULL || at_hook(debug, address)) {
        return true;
    }
    const uint8_t *next = vh_debug_walk(&vm->memory, sregs, address, &gpa, &user)
                              ? vh_memory_at(&vm->memory, gpa, 1)
                              : NULL;
    if (next == NULL || *next == VH_TRAP_OUT || *next == VH_TRAP_OUT_DX) {
        return false; /* it is the guest's OUT that is being done */
    }
    const struct vh_break *met = vh_debug_break_at(debug, address - 1, false);
    if (met != NULL && met->patch_count == 1) {
        *past = 1;
        return true;
    }
    met = vh_debug_break_at(debug, address - 2, false);
    *past = 2;
    return vcpu->run->io.port == VH_TRAP_PORT &&
           ((met != NULL && met->patch_count == 2) || at_hook(debug, address - 2));
}

static void met_trap(struct vh_vcpu *vcpu, struct kvm_regs *regs, const struct kvm_sregs *sregs,
                     uint64_t address)
{
    struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    const struct vh_break *met = vh_debug_break_at(debug, address, false);
    undo_trap(vcpu, regs);
    if (met == NULL) {
        met = unwind(vcpu, regs, sregs);
        (void)ioctl(vcpu->fd, KVM_SET_REGS, regs);
    }
    if (met != NULL) {
        stop_at(vcpu, met);
    } else { /* the guest's own INT3: on to its handler */
        debug->vcpus[vcpu->index].hooked = true;
        vh_debug_stop_for(vcpu, VMMHPC_DEBUG_NONE, NULL);
    }
}

bool vh_debug_trap(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    const struct kvm_run *run = vcpu->run;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    bool ours = false;
    if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 1 || run->io.count != 1) {
        return false;
    }
    (void)pthread_mutex_lock(&vm->lock);
    const struct vh_debug *debug = atomic_load(&vm->debug);
    if (debug != NULL && debug->traps && ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0 &&
        ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0) {
        uint64_t base = (sregs.efer & 0x400) != 0 ? 0 : sregs.cs.base;
        uint64_t past = 0;
        ours = trap_at(vcpu, &sregs, regs.rip + base, &past);
        if (ours) {
            regs.rip -= past;
            met_trap(vcpu, &regs, &sregs, regs.rip + base);
        }
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return ours;
}
