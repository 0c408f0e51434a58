/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a vCPU that cannot go on. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "machine.h"

/* Where a CPU starts after a reset. */
#define RESET_RIP 0xfff0ull
#define RESET_BASE 0xffff0000ull

/* Bytes at CS:RIP, as far as they are RAM in one page. */
static void read_code(const struct vh_vcpu *vcpu, struct vmmhpc_stop_info *info)
{
    uint64_t linear = info->rip + ((info->efer & 0x400) != 0 ? 0 : info->cs_base);
    uint64_t bytes = VH_PAGE - (linear & (VH_PAGE - 1));
    if (bytes > sizeof(info->code)) {
        bytes = sizeof(info->code);
    }
    struct kvm_translation translation = {.linear_address = linear};
    if (ioctl(vcpu->fd, KVM_TRANSLATE, &translation) != 0 || translation.valid == 0) {
        return;
    }
    const void *code = vh_memory_at(&vcpu->vm->memory, translation.physical_address, bytes);
    if (code != NULL) {
        memcpy(info->code, code, bytes);
        info->code_bytes = (uint32_t)bytes;
    }
}

static void read_registers(const struct vh_vcpu *vcpu, struct vmmhpc_stop_info *info)
{
    struct kvm_regs r;
    struct kvm_sregs s;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &r) != 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) != 0) {
        return;
    }
    info->has_registers = 1;
    info->rip = r.rip;
    info->rflags = r.rflags;
    info->rax = r.rax;
    info->rbx = r.rbx;
    info->rcx = r.rcx;
    info->rdx = r.rdx;
    info->rsi = r.rsi;
    info->rdi = r.rdi;
    info->rsp = r.rsp;
    info->rbp = r.rbp;
    info->r8 = r.r8;
    info->r9 = r.r9;
    info->r10 = r.r10;
    info->r11 = r.r11;
    info->r12 = r.r12;
    info->r13 = r.r13;
    info->r14 = r.r14;
    info->r15 = r.r15;
    info->cr0 = s.cr0;
    info->cr2 = s.cr2;
    info->cr3 = s.cr3;
    info->cr4 = s.cr4;
    info->efer = s.efer;
    info->cs_base = s.cs.base;
    info->cs_selector = s.cs.selector;
    read_code(vcpu, info);
}

void vh_crash(struct vh_vcpu *vcpu, uint32_t reason, int sys_errno, const char *text)
{
    struct vmmhpc *vm = vcpu->vm;
    const struct kvm_run *run = vcpu->run;
    struct vmmhpc_stop_info info = {
        .size = sizeof(info),
        .state = VMMHPC_STATE_CRASHED,
        .reason = reason,
        .vcpu = vcpu->index,
        .exit_reason = run->exit_reason,
        .sys_errno = sys_errno,
    };
    if (reason == VMMHPC_STOP_INTERNAL_ERROR) {
        info.suberror = run->internal.suberror;
    } else if (reason == VMMHPC_STOP_ENTRY_FAILED) {
        info.hardware_reason = run->fail_entry.hardware_entry_failure_reason;
    } else if (reason == VMMHPC_STOP_UNKNOWN_EXIT) {
        info.hardware_reason = run->hw.hardware_exit_reason;
    }
    read_registers(vcpu, &info);
    if (reason == VMMHPC_STOP_TRIPLE_FAULT && info.rip == RESET_RIP && info.cs_base == RESET_BASE) {
        /* On AMD, KVM resets the vCPU before it reports the shutdown: better none than these. */
        info.has_registers = 0;
        info.code_bytes = 0;
        text = "triple fault; KVM has reset this AMD vCPU, its registers are lost";
    }
    if (info.has_registers != 0) {
        (void)snprintf(info.text, sizeof(info.text), "vCPU %u: %s (RIP 0x%llx)", vcpu->index, text,
                       (unsigned long long)info.rip);
    } else {
        (void)snprintf(info.text, sizeof(info.text), "vCPU %u: %s", vcpu->index, text);
    }

    (void)pthread_mutex_lock(&vm->lock);
    bool first = vm->stop.reason == VMMHPC_STOP_NONE;
    if (first) {
        vm->stop = info;
    }
    (void)pthread_mutex_unlock(&vm->lock);
    vh_request(vm, VH_WANT_STOP, reason, text);
}
