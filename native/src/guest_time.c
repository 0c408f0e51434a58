/* SPDX-License-Identifier: Apache-2.0 */
/* A paused guest must not see time pass: kvmclock and the TSC go on from where they stopped. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "machine.h"

/* Since Linux 5.16; older headers lack the names. */
#ifndef KVM_VCPU_TSC_CTRL
#define KVM_VCPU_TSC_CTRL 0
#define KVM_VCPU_TSC_OFFSET 0
#endif

void vh_time_stop(struct vmmhpc *vm)
{
    memset(&vm->paused, 0, sizeof(vm->paused));
    vm->paused.has_clock = ioctl(vm->vm_fd, KVM_GET_CLOCK, &vm->paused.clock) == 0;
    vm->paused.tsc = __rdtsc();
}

static void shift_tsc(const struct vh_vcpu *vcpu, uint64_t ticks)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uint64_t)(uintptr_t)&offset,
    };
    if (ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) == 0) {
        offset -= ticks;
        (void)ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr);
    }
}

void vh_time_continue(struct vmmhpc *vm)
{
    uint64_t ticks = __rdtsc() - vm->paused.tsc;
    for (uint32_t i = 0; i < vm->cpus; i++) {
        shift_tsc(&vm->vcpus[i], ticks);
        /* Tells the guest's watchdogs that it was stopped; fails harmlessly without kvmclock. */
        (void)ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
    }
    if (vm->paused.has_clock) {
        struct kvm_clock_data clock = {.clock = vm->paused.clock.clock};
        (void)ioctl(vm->vm_fd, KVM_SET_CLOCK, &clock);
    }
}
