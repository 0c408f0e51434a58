/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc: debugging a guest from outside: stop its vCPUs, look at and change registers and
 * memory, break, watch, step. What native/gdb (the server for gdb) stands on.
 *
 * One debugger a machine. Its calls may come from any thread but a device handler, one at a time.
 * Everything but vmmhpc_debug_open(), _hold(), _resume() and _poll() needs a held machine: every
 * vCPU stopped between two instructions, and the guest's clock with them. The state that
 * vmmhpc_get_state() tells is not touched: a pause and a debugger's hold are independent.
 */
#ifndef VMMHPC_DEBUG_H
#define VMMHPC_DEBUG_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the host's KVM does for a debugger, found by trying it in a guest of a few instructions. */
#define VMMHPC_DEBUG_INT3 1u     /* INT3 comes out of the guest */
#define VMMHPC_DEBUG_HARDWARE 2u /* breakpoints and watchpoints in DR0 to DR3 work */
#define VMMHPC_DEBUG_STEP 4u     /* single steps work */
#define VMMHPC_DEBUG_BLOCKIRQ 8u /* interrupts can be kept away from a single step */

/**
 * Attach a debugger. The guest goes on; where it was not started yet, _hold() before its start
 * keeps it at its first instruction. E_STATE: there is one already. E_UNSUPPORTED: no single steps.
 */
VMMHPC_API int32_t vmmhpc_debug_open(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Take away all breakpoints and let the machine go on. To be called before vmmhpc_destroy(). */
VMMHPC_API void vmmhpc_debug_close(struct vmmhpc *vm);

/** VMMHPC_DEBUG_* of this host, 0 before vmmhpc_debug_open(). */
VMMHPC_API uint32_t vmmhpc_debug_features(const struct vmmhpc *vm);

/** Number of vCPUs. */
VMMHPC_API uint32_t vmmhpc_debug_cpus(const struct vmmhpc *vm);

/** An eventfd that becomes readable when _poll() has news. Belongs to the machine. */
VMMHPC_API int32_t vmmhpc_debug_event_fd(const struct vmmhpc *vm);

/* ------------------------------------------------------------------ stop and go */

enum vmmhpc_debug_reason {
    VMMHPC_DEBUG_NONE = 0,       /* the machine runs */
    VMMHPC_DEBUG_STEPPED = 1,    /* a single step is done */
    VMMHPC_DEBUG_BREAKPOINT = 2, /* at a VMMHPC_BREAK_SOFTWARE; RIP is its address */
    VMMHPC_DEBUG_HWBREAK = 3,    /* at a VMMHPC_BREAK_HARDWARE; RIP is its address */
    VMMHPC_DEBUG_WATCH = 4,      /* behind an access to a watched address */
    VMMHPC_DEBUG_ENDED = 5,      /* the machine has stopped or crashed: nothing follows */
};

struct vmmhpc_debug_stop {
    uint32_t size;   /* sizeof(struct vmmhpc_debug_stop) */
    uint32_t reason; /* enum vmmhpc_debug_reason */
    uint32_t vcpu;
    uint32_t kind;    /* enum vmmhpc_break_kind, where one was met */
    uint64_t address; /* of what was met */
};

/** Hold every vCPU. Returns when all are, or with E_STATE when the machine has ended. */
VMMHPC_API int32_t vmmhpc_debug_hold(struct vmmhpc *vm, struct vmmhpc_error *err);

enum vmmhpc_debug_action {
    VMMHPC_DEBUG_HOLD = 0,
    VMMHPC_DEBUG_RUN = 1,
    VMMHPC_DEBUG_STEP_ONE = 2, /* one instruction, without interrupts where BLOCKIRQ is there */
};

/** Let vCPUs go: actions[vmmhpc_debug_cpus()]. Whatever stops one of them holds all. */
VMMHPC_API int32_t vmmhpc_debug_resume(struct vmmhpc *vm, const uint8_t *actions,
                                       struct vmmhpc_error *err);

/**
 * News since _resume()? Other reasons than NONE and ENDED: the machine is held. Also to be called
 * every VMMHPC_DEBUG_TICK_MS while it runs, where vmmhpc_debug_needs_tick() says so.
 */
VMMHPC_API int32_t vmmhpc_debug_poll(struct vmmhpc *vm, struct vmmhpc_debug_stop *stop,
                                     struct vmmhpc_error *err);

#define VMMHPC_DEBUG_TICK_MS 20u
VMMHPC_API uint32_t vmmhpc_debug_needs_tick(const struct vmmhpc *vm);

/* ------------------------------------------------------------------ registers */

struct vmmhpc_debug_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t flags; /* bits 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G */
};

enum vmmhpc_debug_segments {
    VMMHPC_SEGMENT_CS = 0,
    VMMHPC_SEGMENT_SS,
    VMMHPC_SEGMENT_DS,
    VMMHPC_SEGMENT_ES,
    VMMHPC_SEGMENT_FS,
    VMMHPC_SEGMENT_GS,
    VMMHPC_SEGMENT_TR,
    VMMHPC_SEGMENT_LDT,
    VMMHPC_SEGMENTS,
};

/** The registers of a vCPU. gpr: RAX RBX RCX RDX RSI RDI RBP RSP R8 … R15, gdb's order. */
struct vmmhpc_debug_regs {
    uint32_t size; /* sizeof(struct vmmhpc_debug_regs) */
    uint32_t mxcsr;
    uint64_t gpr[16];
    uint64_t rip, rflags;
    struct vmmhpc_debug_segment segment[VMMHPC_SEGMENTS];
    uint64_t gdt_base, idt_base;
    uint32_t gdt_limit, idt_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, kernel_gs_base;
    uint16_t fcw, fsw, fop;
    uint8_t ftw; /* abridged: a bit for each register that is in use */
    uint8_t reserved;
    uint64_t fip, fdp;
    uint8_t st[8][16];
    uint8_t xmm[16][16];
};

/* Groups to write. */
#define VMMHPC_REGS_GENERAL 1u /* gpr, rip, rflags */
#define VMMHPC_REGS_SYSTEM 2u  /* segments, tables, control registers, kernel_gs_base */
#define VMMHPC_REGS_FPU 4u     /* x87 and SSE */

VMMHPC_API int32_t vmmhpc_debug_get_regs(struct vmmhpc *vm, uint32_t vcpu,
                                         struct vmmhpc_debug_regs *regs, struct vmmhpc_error *err);

/** Write groups of registers. A segment whose selector alone was changed is loaded as a MOV to it
 *  would do: from the descriptor table, or by real mode's rule. */
VMMHPC_API int32_t vmmhpc_debug_set_regs(struct vmmhpc *vm, uint32_t vcpu,
                                         const struct vmmhpc_debug_regs *regs, uint32_t groups,
                                         struct vmmhpc_error *err);

/** KVM_MP_STATE_* of a vCPU: 0 runnable, 1 waiting for INIT, 3 halted; others see linux/kvm.h. */
VMMHPC_API int32_t vmmhpc_debug_mp_state(struct vmmhpc *vm, uint32_t vcpu, uint32_t *state,
                                         struct vmmhpc_error *err);

/* ------------------------------------------------------------------ memory */

/** Where a linear address of a vCPU is in guest-physical memory. E_RANGE: nowhere. */
VMMHPC_API int32_t vmmhpc_debug_translate(struct vmmhpc *vm, uint32_t vcpu, uint64_t address,
                                          uint64_t *gpa, struct vmmhpc_error *err);

/**
 * Copy memory at a linear address of a vCPU, RAM only, whatever the page's rights. Breakpoints do
 * not show, and stay in place where something is written over them. *done (may be NULL) counts
 * bytes that were copied, also where not all were there (E_RANGE).
 */
VMMHPC_API int32_t vmmhpc_debug_read(struct vmmhpc *vm, uint32_t vcpu, uint64_t address, void *data,
                                     uint64_t bytes, uint64_t *done, struct vmmhpc_error *err);
VMMHPC_API int32_t vmmhpc_debug_write(struct vmmhpc *vm, uint32_t vcpu, uint64_t address,
                                      const void *data, uint64_t bytes, uint64_t *done,
                                      struct vmmhpc_error *err);

/* ------------------------------------------------------------------ breakpoints */

/* In the order of gdb's packets Z0 to Z4. */
enum vmmhpc_break_kind {
    VMMHPC_BREAK_SOFTWARE = 0, /* in guest memory: any number */
    VMMHPC_BREAK_HARDWARE = 1, /* in a debug register: together with watchpoints at most 4 */
    VMMHPC_BREAK_WRITE = 2,
    VMMHPC_BREAK_READ = 3, /* x86 has none that leaves writes out: these stop it too */
    VMMHPC_BREAK_ACCESS = 4,
};

#define VMMHPC_BREAKS_MAX 256u

/**
 * Add a breakpoint (bytes is ignored), or a watchpoint on bytes (1, 2, 4, 8, aligned). address is
 * linear, looked up now as the given vCPU sees it. Adding one twice is no error.
 *
 * Where the host's KVM lacks HARDWARE, breakpoints in hardware are made in memory, watchpoints on
 * writes by comparing after every single step (slow), and others are E_UNSUPPORTED.
 */
VMMHPC_API int32_t vmmhpc_debug_add_break(struct vmmhpc *vm, uint32_t vcpu, uint32_t kind,
                                          uint64_t address, uint32_t bytes,
                                          struct vmmhpc_error *err);

/** Take one away; E_INVALID: there is none. */
VMMHPC_API int32_t vmmhpc_debug_remove_break(struct vmmhpc *vm, uint32_t kind, uint64_t address,
                                             uint32_t bytes, struct vmmhpc_error *err);

/** Take all away. */
VMMHPC_API int32_t vmmhpc_debug_remove_all(struct vmmhpc *vm, struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif /* VMMHPC_DEBUG_H */
