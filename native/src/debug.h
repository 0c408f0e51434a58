/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the debugger's support: what struct vh_debug holds, and the calls between its files. */
#ifndef VH_DEBUG_H
#define VH_DEBUG_H

#include <linux/kvm.h>

#include "internal.h"
#include "vmmhpc_debug.h"

/* A single step may end before it has begun: with Bochs's VMX at every EPT violation on the way, as
 * if the trap flag had done its work. Beside VMMHPC_DEBUG_*. */
#define VH_DEBUG_FALSE_STEPS 0x10000u
#define VH_FALSE_STEPS_MAX 64u /* in a row: then it was true, a jump to itself */

#define VH_DEBUG_REGISTERS 4u /* DR0 to DR3 */
#define VH_PATCHES_MAX (2 * VMMHPC_BREAKS_MAX + 16)
#define VH_HOOKS_MAX 4u

/*
 * Trap instructions. INT3 where it comes out of the guest. QEMU's emulation of AMD-V does not let
 * it out (it takes it for a software interrupt), so there, in pages of the kernel, OUT does, which
 * comes out with any privilege of I/O. In pages of user mode INT3 leads to the guest's own handler,
 * whose first instruction is then such an OUT: a hook. The stop is made to look as if the exception
 * had not been taken.
 */
#define VH_TRAP_INT3 0xccu
#define VH_TRAP_OUT 0xe6u
#define VH_TRAP_PORT 0xf1u
#define VH_TRAP_OUT_DX 0xeeu

/** A byte in guest memory that was replaced. */
struct vh_patch {
    uint64_t gpa;
    uint32_t users; /* 0: free */
    uint8_t original;
    uint8_t trap;
    bool in; /* written to memory */
};

struct vh_break {
    bool used;
    bool in_memory; /* by patches, else in a debug register or by comparing */
    bool in_user;   /* an INT3 that leads to a hook */
    bool compared;  /* a watchpoint by comparing */
    bool awaited;   /* its page is not mapped yet; placed as soon as it is */
    uint8_t bytes;
    uint32_t kind;
    uint32_t slot; /* of a debug register */
    uint32_t patch_count;
    uint64_t address;
    uint64_t gpa[2]; /* of the patches, or of what is compared */
    uint8_t value[8];
};

/** The guest's handler for INT3. */
struct vh_hook {
    uint64_t address;
    uint64_t gpa[2];
};

struct vh_debug_vcpu {
    uint8_t action; /* enum vmmhpc_debug_action */
    bool hooked;    /* stands at a hook, on its way to the guest's own handler */
    bool stray;     /* saved flags of the guest may hold a trap flag of ours */
    uint32_t false_steps;
    struct kvm_regs before; /* a step, where there are false ones */
    struct vmmhpc_debug_stop stop;
};

/** Guarded by vm->lock; breaks, patches and hooks change only while all vCPUs are held. */
struct vh_debug {
    uint32_t features;
    int event_fd;
    bool comparing; /* vCPUs run step by step: a watchpoint is compared, or a page waited for */
    bool traps;     /* there are traps in memory, by OUT */
    bool asked;     /* held by vmmhpc_debug_hold() */
    bool stepping_over;
    uint32_t hook_count;
    struct vh_hook hooks[VH_HOOKS_MAX];
    struct vh_break breaks[VMMHPC_BREAKS_MAX];
    struct vh_patch patches[VH_PATCHES_MAX];
    uint8_t *resumed; /* what was asked for last, for each vCPU */
    struct vh_debug_vcpu vcpus[];
};

struct vmmhpc;
struct vh_vcpu;
struct vh_memory;

/* debug.c and debug_stop.c, called by the run loop and the life cycle. */

/** A debugger keeps this vCPU; vm->lock is held. */
bool vh_debug_holds(const struct vh_vcpu *vcpu);
/** It keeps any. vm->lock is held. */
bool vh_debug_holds_any(const struct vmmhpc *vm);
/** About to run guest code, after a wait: tell KVM what to stop at. In the vCPU's thread. */
void vh_debug_arm(struct vh_vcpu *vcpu);
/** KVM_EXIT_DEBUG. In the vCPU's thread. */
void vh_debug_exit(struct vh_vcpu *vcpu);
/** KVM_EXIT_IO: was it a trap of ours? In the vCPU's thread. */
bool vh_debug_trap(struct vh_vcpu *vcpu);
/** The machine was reset: memory is as it was loaded. vm->lock is held. */
void vh_debug_after_reset(struct vmmhpc *vm);
/** The state changed; vm->lock is held. */
void vh_debug_notify(struct vmmhpc *vm);
/** Stop the guest's time for a pause or a hold, and let it go on when neither is left. */
void vh_time_hold(struct vmmhpc *vm);
void vh_time_release(struct vmmhpc *vm);

/** actions for each vCPU, or NULL: hold all. */
void vh_debug_set_actions(struct vmmhpc *vm, const uint8_t *actions);
/** Note why a vCPU stopped, and hold all; vm->lock is held. */
void vh_debug_stop_for(struct vh_vcpu *vcpu, uint32_t reason, const struct vh_break *met);

/* debug_probe.c */
/** VMMHPC_DEBUG_* and VH_DEBUG_FALSE_STEPS. */
uint32_t vh_debug_probe(int kvm_fd);

/* debug_memory.c */
bool vh_debug_walk(const struct vh_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
                   uint64_t *gpa, bool *user);
/** The same by a vCPU's registers as they are now. */
bool vh_debug_find(const struct vh_vcpu *vcpu, uint64_t address, uint64_t *gpa, bool *user);
/** What every call but a few needs: an open debugger and a held machine. Takes vm->lock and
 *  vm->kvm_lock where it succeeds. */
int32_t vh_debug_enter(struct vmmhpc *vm, uint32_t vcpu, struct vmmhpc_error *err);
void vh_debug_leave(struct vmmhpc *vm);

/* debug_trap.c */
/** Bring all patches into memory or out of it. */
void vh_debug_patch(struct vmmhpc *vm, bool in);
/** Memory is as it was loaded: patches stand where the bytes are those they were made over. */
void vh_debug_patch_anew(struct vmmhpc *vm);

/* debug_break.c */
void vh_debug_clear(struct vmmhpc *vm);
/** Is this the second byte of a trap? */
bool vh_debug_in_trap(const struct vh_debug *debug, uint64_t address);
int32_t vh_debug_take_patch(struct vmmhpc *vm, uint64_t gpa, uint8_t trap,
                            struct vmmhpc_error *err);
void vh_debug_drop_patch(struct vmmhpc *vm, uint64_t gpa);
/** A trap by OUT at added->gpa, of one byte or two. */
int32_t vh_debug_take_out(struct vmmhpc *vm, struct vh_break *added, struct vmmhpc_error *err);
/** Hook every vCPU's handler for INT3; take the hooks away when no breakpoint needs them. */
int32_t vh_debug_hook(struct vmmhpc *vm, uint32_t first, struct vmmhpc_error *err);
void vh_debug_unhook(struct vmmhpc *vm);
struct vh_patch *vh_debug_patch_at(struct vh_debug *debug, uint64_t gpa);
/** A breakpoint that is met by executing at an address, or NULL. */
const struct vh_break *vh_debug_break_at(const struct vh_debug *debug, uint64_t address, bool user);
const struct vh_break *vh_debug_break_in(const struct vh_debug *debug, uint32_t slot);
/** A compared watchpoint whose bytes have changed, or NULL; notes the new ones. */
const struct vh_break *vh_debug_changed(struct vmmhpc *vm);
void vh_debug_compare_from_here(struct vmmhpc *vm);
/** Place what waits for its page, where this vCPU has that now; vm->lock is held. */
void vh_debug_place(const struct vh_vcpu *vcpu);
void vh_debug_registers(const struct vh_debug *debug, uint64_t dr[8]);

/* debug_regs.c */
/** A segment register's hidden part by its selector; false where there is no such descriptor. */
bool vh_debug_descriptor(const struct vh_vcpu *vcpu, const struct kvm_sregs *sregs,
                         uint16_t selector, struct kvm_segment *segment);

#endif
