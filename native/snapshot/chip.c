/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt controllers and clocks, which are the VM's and not a vCPU's. */
#include <errno.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "snapshot.h"

#ifndef KVM_VCPU_TSC_CTRL
#define KVM_VCPU_TSC_CTRL 0
#define KVM_VCPU_TSC_OFFSET 0
#endif

#define MSR_TSC 0x10u
/* What guests keep time by may differ so much from host to host; QEMU takes as much. */
#define TSC_TOLERANCE_PPM 250u

struct saved_clock {
    uint64_t guest_ns; /* kvmclock */
    uint32_t has_clock;
    uint32_t reserved;
};

struct saved_tsc {
    uint64_t value; /* of the guest's TSC */
    uint64_t khz;   /* 0: unknown */
};

/* ------------------------------------------------------------------ interrupt controllers */

/* Both 8259s, which nothing is wired to but which are there, and the IOAPIC. */
#define CHIPS 3u

int32_t vh_snap_save_chips(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                           struct vmmhpc_error *err)
{
    for (uint32_t i = 0; vm->vm_fd >= 0 && i < CHIPS; i++) {
        struct kvm_irqchip chip = {.chip_id = i};
        if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) != 0) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, i,
                           "KVM does not tell the state of interrupt controller %u", i);
        }
        vh_snap_section(writer, VH_SNAP_IRQCHIP, i, &chip, sizeof(chip));
    }
    return VMMHPC_OK;
}

int32_t vh_snap_load_chips(const struct vmmhpc *vm, const struct vh_snap_reader *reader,
                           struct vmmhpc_error *err)
{
    for (uint32_t i = 0; vm->vm_fd >= 0 && i < CHIPS; i++) {
        struct kvm_irqchip chip;
        int32_t status = vh_snap_get(reader, VH_SNAP_IRQCHIP, i, &chip, sizeof(chip), err);
        if (status != VMMHPC_OK) {
            return status;
        }
        chip.chip_id = i;
        if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip) != 0) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, i,
                           "KVM does not take the state of interrupt controller %u", i);
        }
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ TSC */

static bool tsc_offset(const struct vh_vcpu *vcpu, unsigned long request, uint64_t *offset)
{
    const struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uint64_t)(uintptr_t)offset,
    };
    return ioctl(vcpu->fd, request, &attr) == 0;
}

static bool tsc_msr(const struct vh_vcpu *vcpu, unsigned long request, uint64_t *value)
{
    struct {
        struct kvm_msrs header;
        struct kvm_msr_entry entry;
    } msr = {.header = {.nmsrs = 1}, .entry = {.index = MSR_TSC, .data = *value}};
    bool done = ioctl(vcpu->fd, request, &msr) == 1;
    *value = msr.entry.data;
    return done;
}

/* At the pause: by the host's TSC at that moment. Where KVM has no offsets (before Linux 5.16) it
 * is what it says now. */
static bool save_tsc(const struct vh_vcpu *vcpu, struct saved_tsc *tsc)
{
    uint64_t offset = 0;
    int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    *tsc = (struct saved_tsc){.khz = khz > 0 ? (uint64_t)khz : 0};
    if (tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, &offset)) {
        tsc->value = vcpu->vm->paused.tsc + offset;
        return true;
    }
    return tsc_msr(vcpu, KVM_GET_MSRS, &tsc->value);
}

static int32_t load_tsc(const struct vh_vcpu *vcpu, const struct saved_tsc *tsc, uint64_t now,
                        struct vmmhpc_error *err)
{
    int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    uint64_t here = khz > 0 ? (uint64_t)khz : 0;
    uint64_t off = here > tsc->khz ? here - tsc->khz : tsc->khz - here;
    if (here != 0 && tsc->khz != 0 && off > here / 1000000 * TSC_TOLERANCE_PPM + 1 &&
        off * 1000000 > here * TSC_TOLERANCE_PPM &&
        ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)tsc->khz) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, tsc->khz,
                       "the snapshot's TSC runs at %llu kHz, this host's at %llu and cannot be "
                       "scaled",
                       (unsigned long long)tsc->khz, (unsigned long long)here);
    }
    uint64_t offset = tsc->value - now;
    uint64_t value = tsc->value;
    if (!tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset) && !tsc_msr(vcpu, KVM_SET_MSRS, &value)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, vcpu->index, "KVM does not take the TSC");
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ both clocks */

int32_t vh_snap_save_time(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err)
{
    const struct saved_clock clock = {
        .guest_ns = vm->paused.clock.clock,
        .has_clock = vm->paused.has_clock ? 1 : 0,
    };
    vh_snap_section(writer, VH_SNAP_CLOCK, 0, &clock, sizeof(clock));
    for (uint32_t i = 0; i < vm->cpus; i++) {
        struct saved_tsc tsc;
        if (!save_tsc(&vm->vcpus[i], &tsc)) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, i, "KVM does not tell the TSC");
        }
        vh_snap_section(writer, VH_SNAP_TSC, i, &tsc, sizeof(tsc));
    }
    return VMMHPC_OK;
}

int32_t vh_snap_load_time(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err)
{
    struct saved_clock clock;
    int32_t status = vh_snap_get(reader, VH_SNAP_CLOCK, 0, &clock, sizeof(clock), err);
    /* As if it were paused at this moment, with these clocks: vmmhpc_start() continues. */
    uint64_t now = __rdtsc();
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->cpus; i++) {
        struct saved_tsc tsc;
        status = vh_snap_get(reader, VH_SNAP_TSC, i, &tsc, sizeof(tsc), err);
        if (status == VMMHPC_OK) {
            status = load_tsc(&vm->vcpus[i], &tsc, now, err);
        }
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    memset(&vm->paused, 0, sizeof(vm->paused));
    vm->paused.tsc = now;
    vm->paused.has_clock = clock.has_clock != 0;
    vm->paused.clock.clock = clock.guest_ns;
    if (vm->paused.has_clock && vm->vm_fd >= 0) {
        /* Now already: KVM computes timers and pages that the guest reads from it. */
        struct kvm_clock_data data = {.clock = clock.guest_ns};
        (void)ioctl(vm->vm_fd, KVM_SET_CLOCK, &data);
    }
    vm->time_stopped = true;
    return VMMHPC_OK;
}
