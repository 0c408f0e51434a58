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
            if ((debug->features & VH_DEBUG_FALSE_STEPS) != 0) {
                (void)ioctl(vcpu->fd, KVM_GET_REGS, &mine->before);
            }
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

/* Nothing has changed since it began. */
static bool is_false_step(const struct vh_vcpu *vcpu)
{
    struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    struct vh_debug_vcpu *mine = &debug->vcpus[vcpu->index];
    struct kvm_regs now;
    if ((debug->features & VH_DEBUG_FALSE_STEPS) == 0 || ioctl(vcpu->fd, KVM_GET_REGS, &now) != 0 ||
        memcmp(&now, &mine->before, sizeof(now)) != 0 ||
        ++mine->false_steps == VH_FALSE_STEPS_MAX) {
        mine->false_steps = 0;
        return false;
    }
    return true;
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
        if (is_false_step(vcpu)) {
            return false;
        }
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
        const void *at = vh_debug_walk(&vm->memory, sregs, regs->rsp + 8ull * i, &gpa, &user)
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

/* Does a trap of so many bytes stand at an address? */
static bool trap_at(const struct vh_vcpu *vcpu, uint64_t address, uint32_t bytes)
{
    const struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    const struct vh_break *met = vh_debug_break_at(debug, address, false);
    uint32_t found = met != NULL ? met->patch_count : at_hook(debug, address) ? 2 : 0;
    return found == bytes && (bytes == 1 || vcpu->run->io.port == VH_TRAP_PORT);
}

/*
 * Where the OUT is that the vCPU came out for, if it may be a trap: KVM leaves RIP at it until it
 * is finished, but KVM's emulator has gone past it already. Finishing it tells: that costs nothing,
 * and what was to be written is still there. False: it was none of ours.
 */
static bool find_trap(const struct vh_vcpu *vcpu, struct kvm_regs *regs, uint64_t base)
{
    struct kvm_run *run = vcpu->run;
    uint64_t at = regs->rip + base;
    bool here = trap_at(vcpu, at, 1) || trap_at(vcpu, at, 2);
    uint32_t behind = trap_at(vcpu, at - 1, 1) ? 1 : trap_at(vcpu, at - 2, 2) ? 2 : 0;
    if (!here && behind == 0) {
        return false;
    }
    struct kvm_run saved; /* the data lies behind it and is left alone */
    struct kvm_regs after;
    memcpy(&saved, run, sizeof(saved));
    __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    (void)ioctl(vcpu->fd, KVM_RUN, 0);
    run->exit_reason = saved.exit_reason;
    run->io = saved.io;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &after) != 0) {
        return false;
    }
    if (after.rip != regs->rip) {
        return here;
    }
    regs->rip -= behind;
    return behind != 0;
}

static void met_trap(struct vh_vcpu *vcpu, struct kvm_regs *regs, const struct kvm_sregs *sregs,
                     uint64_t address)
{
    struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    const struct vh_break *met = vh_debug_break_at(debug, address, false);
    if (met == NULL) {
        met = unwind(vcpu, regs, sregs);
    }
    (void)ioctl(vcpu->fd, KVM_SET_REGS, regs);
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
        ours = find_trap(vcpu, &regs, base);
        if (ours) {
            met_trap(vcpu, &regs, &sregs, regs.rip + base);
        }
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return ours;
}
