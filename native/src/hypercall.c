/* SPDX-License-Identifier: Apache-2.0 */
/* The hypercall gate: a port and a page that every machine has (vmmhpc_hypercall.h). */
#include <errno.h>
#include <sys/ioctl.h>

#include "machine.h"

#define GATE_VERSION 1u

static uint64_t call_module(struct vh_part *part, uint32_t vcpu, uint32_t number,
                            const struct kvm_regs *regs)
{
    struct vmmhpc_module_call call = {
        .size = sizeof(call),
        .vcpu = vcpu,
        .number = number,
        .args = {regs->rdi, regs->rsi, regs->rcx, regs->rbx, regs->r8, regs->r9},
    };
    if (!vh_module_alive(part->module)) {
        return (uint64_t)VMMHPC_HYPERCALL_E_UNKNOWN;
    }
    vh_module_count(&part->module->hypercalls);
    if (part->call.hypercall(part->opaque, &call) < 0) {
        vh_module_fail(part->module, "a hypercall of it failed");
        return (uint64_t)VMMHPC_HYPERCALL_E_FAILED;
    }
    return call.result;
}

static uint64_t call_number(struct vmmhpc *vm, uint32_t vcpu, uint32_t number,
                            const struct kvm_regs *regs)
{
    if (number == VMMHPC_HYPERCALL_PROBE) {
        return VMMHPC_HYPERCALL_HERE | GATE_VERSION;
    }
    const struct vh_table *table =
        atomic_load_explicit(&vm->tables[VH_SPACE_HYPERCALL], memory_order_acquire);
    const struct vh_range *range = vh_table_find(table, number);
    return range == NULL ? (uint64_t)VMMHPC_HYPERCALL_E_UNKNOWN
                         : call_module(range->opaque, vcpu, number, regs);
}

/*
 * KVM has put the instruction behind it when OUT or a write to memory comes out, and takes
 * registers that are set before it goes on, as VMware's back door needs it. Whatever else a guest
 * writes here touches no register.
 */
static uint64_t gate(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                     uint32_t direction, uint64_t value)
{
    struct vmmhpc *vm = opaque;
    struct kvm_regs regs;
    if (direction != VMMHPC_ACCESS_WRITE || bytes != 4 || offset != 0 ||
        (value & ~(uint64_t)VMMHPC_HYPERCALL_LAST) != VMMHPC_HYPERCALL_SIGNATURE) {
        return UINT64_MAX;
    }
    int fd = vm->vcpus[vcpu].fd;
    if (ioctl(fd, KVM_GET_REGS, &regs) != 0 || (uint32_t)regs.rax != value) {
        return 0;
    }
    regs.rax = call_number(vm, vcpu, (uint32_t)value & VMMHPC_HYPERCALL_LAST, &regs);
    if (ioctl(fd, KVM_SET_REGS, &regs) != 0) {
        vh_crash(&vm->vcpus[vcpu], VMMHPC_STOP_RUN_FAILED, errno, "KVM_SET_REGS failed");
    }
    return 0;
}

int32_t vh_hypercall_gate(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status =
        vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, VMMHPC_HYPERCALL_PORT, 4, gate, vm, NULL, err);
    if (status == VMMHPC_OK) {
        status = vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, VMMHPC_HYPERCALL_GPA, VH_PAGE, gate, vm,
                                   NULL, err);
    }
    return status;
}
