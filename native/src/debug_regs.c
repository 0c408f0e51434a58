/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of a held vCPU. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "debug.h"
#include "machine.h"

#define CR0_PE 1ull
#define RFLAGS_VM 0x20000ull
#define MSR_KERNEL_GS_BASE 0xc0000102u

struct one_msr {
    struct kvm_msrs header;
    struct kvm_msr_entry entry;
};

/* The one place that knows in which order KVM has them. */
static struct kvm_segment *segment_of(struct kvm_sregs *sregs, uint32_t index)
{
    struct kvm_segment *const order[VMMHPC_SEGMENTS] = {
        &sregs->cs, &sregs->ss, &sregs->ds, &sregs->es,
        &sregs->fs, &sregs->gs, &sregs->tr, &sregs->ldt,
    };
    return order[index];
}

static struct vmmhpc_debug_segment pack(const struct kvm_segment *from)
{
    return (struct vmmhpc_debug_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .flags = (uint16_t)((uint32_t)(from->type & 0xf) | (uint32_t)(from->s & 1) << 4 |
                            (uint32_t)(from->dpl & 3) << 5 | (uint32_t)(from->present & 1) << 7 |
                            (uint32_t)(from->avl & 1) << 12 | (uint32_t)(from->l & 1) << 13 |
                            (uint32_t)(from->db & 1) << 14 | (uint32_t)(from->g & 1) << 15),
    };
}

static void unpack_flags(struct kvm_segment *to, uint32_t flags)
{
    to->type = flags & 0xf;
    to->s = flags >> 4 & 1;
    to->dpl = flags >> 5 & 3;
    to->present = flags >> 7 & 1;
    to->avl = flags >> 12 & 1;
    to->l = flags >> 13 & 1;
    to->db = flags >> 14 & 1;
    to->g = flags >> 15 & 1;
    to->unusable = to->present == 0;
}

bool vh_debug_descriptor(const struct vh_vcpu *vcpu, const struct kvm_sregs *sregs,
                         uint16_t selector, struct kvm_segment *segment)
{
    const struct vmmhpc *vm = vcpu->vm;
    uint64_t table = (selector & 4u) != 0 ? sregs->ldt.base : sregs->gdt.base;
    uint32_t limit = (selector & 4u) != 0 ? sregs->ldt.limit : sregs->gdt.limit;
    uint64_t gpa = 0;
    bool user = false;
    if ((selector & ~7u) + 7 > limit ||
        !vh_debug_walk(&vm->memory, sregs, table + (selector & ~7u), &gpa, &user)) {
        return false;
    }
    /* Tables are aligned in every system there is: one across a page's end is not found. */
    const void *at = vh_memory_at(&vm->memory, gpa, 8);
    if (at == NULL || (gpa & (VH_PAGE - 1)) > VH_PAGE - 8) {
        return false;
    }
    uint64_t descriptor = 0;
    memcpy(&descriptor, at, sizeof(descriptor));
    segment->selector = selector;
    segment->base = (descriptor >> 16 & 0xffffff) | (descriptor >> 56 & 0xff) << 24;
    segment->limit = (uint32_t)((descriptor & 0xffff) | (descriptor >> 48 & 0xf) << 16);
    unpack_flags(segment, (uint32_t)(descriptor >> 40 & 0xf0ff));
    if (segment->g != 0) {
        segment->limit = segment->limit << 12 | 0xfff;
    }
    return segment->present != 0;
}

static void from_fpu(struct vmmhpc_debug_regs *regs, const struct kvm_fpu *fpu)
{
    memcpy(regs->st, fpu->fpr, sizeof(regs->st));
    memcpy(regs->xmm, fpu->xmm, sizeof(regs->xmm));
    regs->fcw = fpu->fcw;
    regs->fsw = fpu->fsw;
    regs->ftw = fpu->ftwx;
    regs->fop = fpu->last_opcode;
    regs->fip = fpu->last_ip;
    regs->fdp = fpu->last_dp;
    regs->mxcsr = fpu->mxcsr;
}

static void to_fpu(const struct vmmhpc_debug_regs *regs, struct kvm_fpu *fpu)
{
    memcpy(fpu->fpr, regs->st, sizeof(regs->st));
    memcpy(fpu->xmm, regs->xmm, sizeof(regs->xmm));
    fpu->fcw = regs->fcw;
    fpu->fsw = regs->fsw;
    fpu->ftwx = regs->ftw;
    fpu->last_opcode = regs->fop;
    fpu->last_ip = regs->fip;
    fpu->last_dp = regs->fdp;
    fpu->mxcsr = regs->mxcsr & 0xffff; /* the rest is reserved and would be refused */
}

/* KVM's structure and gdb's order share the names, not the places. */
static void general(struct kvm_regs *r, uint64_t *gpr[16])
{
    uint64_t *const order[16] = {
        (uint64_t *)&r->rax, (uint64_t *)&r->rbx, (uint64_t *)&r->rcx, (uint64_t *)&r->rdx,
        (uint64_t *)&r->rsi, (uint64_t *)&r->rdi, (uint64_t *)&r->rbp, (uint64_t *)&r->rsp,
        (uint64_t *)&r->r8,  (uint64_t *)&r->r9,  (uint64_t *)&r->r10, (uint64_t *)&r->r11,
        (uint64_t *)&r->r12, (uint64_t *)&r->r13, (uint64_t *)&r->r14, (uint64_t *)&r->r15,
    };
    memcpy(gpr, order, sizeof(order));
}

static int32_t failed(struct vmmhpc_error *err, uint32_t vcpu, const char *what)
{
    return vh_fail(err, VMMHPC_E_SYSCALL, errno, vcpu, "vCPU %u: %s failed", vcpu, what);
}

static int32_t get(const struct vh_vcpu *vcpu, struct vmmhpc_debug_regs *regs,
                   struct vmmhpc_error *err)
{
    struct kvm_regs r;
    struct kvm_sregs s;
    struct kvm_fpu fpu;
    struct one_msr msr = {.header = {.nmsrs = 1}, .entry = {.index = MSR_KERNEL_GS_BASE}};
    if (ioctl(vcpu->fd, KVM_GET_REGS, &r) != 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) != 0 ||
        ioctl(vcpu->fd, KVM_GET_FPU, &fpu) != 0) {
        return failed(err, vcpu->index, "reading registers");
    }
    uint64_t *gpr[16];
    general(&r, gpr);
    for (uint32_t i = 0; i < 16; i++) {
        regs->gpr[i] = *gpr[i];
    }
    regs->rip = r.rip;
    regs->rflags = r.rflags;
    for (uint32_t i = 0; i < VMMHPC_SEGMENTS; i++) {
        regs->segment[i] = pack(segment_of(&s, i));
    }
    regs->gdt_base = s.gdt.base;
    regs->gdt_limit = s.gdt.limit;
    regs->idt_base = s.idt.base;
    regs->idt_limit = s.idt.limit;
    regs->cr0 = s.cr0;
    regs->cr2 = s.cr2;
    regs->cr3 = s.cr3;
    regs->cr4 = s.cr4;
    regs->cr8 = s.cr8;
    regs->efer = s.efer;
    if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1) {
        regs->kernel_gs_base = msr.entry.data;
    }
    from_fpu(regs, &fpu);
    return VMMHPC_OK;
}

int32_t vmmhpc_debug_get_regs(struct vmmhpc *vm, uint32_t vcpu, struct vmmhpc_debug_regs *regs,
                              struct vmmhpc_error *err)
{
    if (regs == NULL || regs->size != sizeof(*regs)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "registers: bad structure size");
    }
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status == VMMHPC_OK) {
        status = get(&vm->vcpus[vcpu], regs, err);
        vh_debug_leave(vm);
    }
    return status;
}

static int32_t set_general(const struct vh_vcpu *vcpu, const struct vmmhpc_debug_regs *regs,
                           struct vmmhpc_error *err)
{
    struct kvm_regs r;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &r) != 0) {
        return failed(err, vcpu->index, "KVM_GET_REGS");
    }
    bool moved = r.rip != regs->rip;
    uint64_t *gpr[16];
    general(&r, gpr);
    for (uint32_t i = 0; i < 16; i++) {
        *gpr[i] = regs->gpr[i];
    }
    r.rip = regs->rip;
    r.rflags = regs->rflags | 2;
    if (ioctl(vcpu->fd, KVM_SET_REGS, &r) != 0) {
        return failed(err, vcpu->index, "KVM_SET_REGS");
    }
    struct kvm_mp_state state;
    if (moved && ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) == 0 &&
        state.mp_state == KVM_MP_STATE_HALTED) {
        state.mp_state = KVM_MP_STATE_RUNNABLE; /* who sends it elsewhere wants it to run there */
        (void)ioctl(vcpu->fd, KVM_SET_MP_STATE, &state);
    }
    return VMMHPC_OK;
}

static bool set_segment(const struct vh_vcpu *vcpu, struct kvm_sregs *s, uint32_t index,
                        const struct vmmhpc_debug_segment *wanted)
{
    struct kvm_segment *segment = segment_of(s, index);
    struct vmmhpc_debug_segment now = pack(segment);
    bool same_hidden = now.limit == wanted->limit && now.flags == wanted->flags;
    if (now.selector == wanted->selector || !same_hidden) {
        segment->selector = wanted->selector;
        segment->base = wanted->base;
        segment->limit = wanted->limit;
        unpack_flags(segment, wanted->flags);
        return true;
    }
    struct kvm_regs r;
    if ((s->cr0 & CR0_PE) == 0 ||
        (ioctl(vcpu->fd, KVM_GET_REGS, &r) == 0 && (r.rflags & RFLAGS_VM) != 0)) {
        segment->selector = wanted->selector;
        segment->base = (uint64_t)wanted->selector << 4;
        return true;
    }
    if ((wanted->selector & ~3u) == 0) {
        *segment = (struct kvm_segment){.selector = wanted->selector, .unusable = 1};
        return index != VMMHPC_SEGMENT_CS;
    }
    return vh_debug_descriptor(vcpu, s, wanted->selector, segment);
}

static int32_t set_system(const struct vh_vcpu *vcpu, const struct vmmhpc_debug_regs *regs,
                          struct vmmhpc_error *err)
{
    struct kvm_sregs s;
    struct one_msr msr = {.header = {.nmsrs = 1},
                          .entry = {.index = MSR_KERNEL_GS_BASE, .data = regs->kernel_gs_base}};
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &s) != 0) {
        return failed(err, vcpu->index, "KVM_GET_SREGS");
    }
    for (uint32_t i = 0; i < VMMHPC_SEGMENTS; i++) {
        if (!set_segment(vcpu, &s, i, &regs->segment[i])) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, regs->segment[i].selector,
                           "vCPU %u: selector 0x%x has no descriptor", vcpu->index,
                           regs->segment[i].selector);
        }
    }
    s.gdt.base = regs->gdt_base;
    s.gdt.limit = (uint16_t)regs->gdt_limit;
    s.idt.base = regs->idt_base;
    s.idt.limit = (uint16_t)regs->idt_limit;
    s.cr0 = regs->cr0;
    s.cr2 = regs->cr2;
    s.cr3 = regs->cr3;
    s.cr4 = regs->cr4;
    s.cr8 = regs->cr8;
    s.efer = regs->efer;
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &s) != 0) {
        return failed(err, vcpu->index, "KVM_SET_SREGS");
    }
    (void)ioctl(vcpu->fd, KVM_SET_MSRS, &msr); /* refused where it is not canonical */
    return VMMHPC_OK;
}

int32_t vmmhpc_debug_set_regs(struct vmmhpc *vm, uint32_t vcpu,
                              const struct vmmhpc_debug_regs *regs, uint32_t groups,
                              struct vmmhpc_error *err)
{
    if (regs == NULL || regs->size != sizeof(*regs)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "registers: bad structure size");
    }
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    const struct vh_vcpu *target = &vm->vcpus[vcpu];
    if ((groups & VMMHPC_REGS_SYSTEM) != 0) {
        status = set_system(target, regs, err);
    }
    if (status == VMMHPC_OK && (groups & VMMHPC_REGS_GENERAL) != 0) {
        status = set_general(target, regs, err);
    }
    struct kvm_fpu fpu;
    if (status == VMMHPC_OK && (groups & VMMHPC_REGS_FPU) != 0) {
        if (ioctl(target->fd, KVM_GET_FPU, &fpu) != 0) {
            status = failed(err, vcpu, "KVM_GET_FPU");
        } else {
            to_fpu(regs, &fpu);
            status = ioctl(target->fd, KVM_SET_FPU, &fpu) == 0 ? VMMHPC_OK
                                                               : failed(err, vcpu, "KVM_SET_FPU");
        }
    }
    vh_debug_leave(vm);
    return status;
}

int32_t vmmhpc_debug_mp_state(struct vmmhpc *vm, uint32_t vcpu, uint32_t *state,
                              struct vmmhpc_error *err)
{
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct kvm_mp_state mp = {0};
    if (ioctl(vm->vcpus[vcpu].fd, KVM_GET_MP_STATE, &mp) != 0) {
        status = failed(err, vcpu, "KVM_GET_MP_STATE");
    }
    *state = mp.mp_state;
    vh_debug_leave(vm);
    return status;
}
