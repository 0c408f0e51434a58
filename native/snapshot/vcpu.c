/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's registers, as KVM has them. The order matters (Documentation/virt/kvm/api.rst): asking
 * for the MP state may let KVM accept a pending INIT, which changes others, so it is asked first;
 * the deadline among the MSRs needs a LAPIC that is set; events are set last.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "snapshot.h"

#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif

#define XSAVE_MAX ((size_t)64 * 1024)

/* What is of one size and has an ioctl each way. */
struct part {
    uint32_t type;
    uint32_t bytes;
    unsigned long get;
    unsigned long set;
    int capability; /* that it needs; 0: none */
    const char *name;
};

static const struct part parts[] = {
    {VH_SNAP_MP_STATE, sizeof(struct kvm_mp_state), KVM_GET_MP_STATE, KVM_SET_MP_STATE, 0,
     "the MP state"},
    {VH_SNAP_REGS, sizeof(struct kvm_regs), KVM_GET_REGS, KVM_SET_REGS, 0, "registers"},
    {VH_SNAP_SREGS, sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS, 0, "system registers"},
    {VH_SNAP_FPU, sizeof(struct kvm_fpu), KVM_GET_FPU, KVM_SET_FPU, 0, "FPU registers"},
    {VH_SNAP_XCRS, sizeof(struct kvm_xcrs), KVM_GET_XCRS, KVM_SET_XCRS, KVM_CAP_XCRS, "XCR0"},
    {VH_SNAP_DEBUGREGS, sizeof(struct kvm_debugregs), KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
     KVM_CAP_DEBUGREGS, "debug registers"},
    {VH_SNAP_LAPIC, sizeof(struct kvm_lapic_state), KVM_GET_LAPIC, KVM_SET_LAPIC, 0, "the LAPIC"},
};
static const struct part events = {VH_SNAP_EVENTS,      sizeof(struct kvm_vcpu_events),
                                   KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
                                   KVM_CAP_VCPU_EVENTS, "events"};

static int extension(const struct vh_vcpu *vcpu, int capability)
{
    return ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, capability);
}

static int32_t failed(const struct vh_vcpu *vcpu, const char *verb, const char *what,
                      struct vmmhpc_error *err)
{
    int number = errno;
    return vh_fail(err, VMMHPC_E_UNSUPPORTED, number, vcpu->index,
                   "KVM does not %s %s of vCPU %u: %s", verb, what, vcpu->index,
                   vh_errno_text(number));
}

/* ------------------------------------------------------------------ XSAVE */

/* 4 KiB, or more where the host's CPU has more (AMX). 0: this host has no XSAVE. */
static size_t xsave_bytes(const struct vh_vcpu *vcpu)
{
    int more = extension(vcpu, KVM_CAP_XSAVE2);
    if (more > 4096) {
        return (size_t)more;
    }
    return extension(vcpu, KVM_CAP_XSAVE) > 0 ? 4096 : 0;
}

static int32_t save_xsave(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err)
{
    size_t bytes = xsave_bytes(vcpu);
    if (bytes == 0) {
        return VMMHPC_OK;
    }
    void *area = calloc(1, bytes);
    if (area == NULL || bytes > XSAVE_MAX) {
        free(area);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for the state");
    }
    int32_t status = VMMHPC_OK;
    if (ioctl(vcpu->fd, bytes > 4096 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area) != 0) {
        status = failed(vcpu, "tell", "XSAVE state", err);
    } else {
        vh_snap_section(writer, VH_SNAP_XSAVE, vcpu->index, area, bytes);
    }
    free(area);
    return status;
}

/* KVM reads as much as its own size is. */
static int32_t load_xsave(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err)
{
    size_t saved = 0;
    const void *area = vh_snap_find(reader, VH_SNAP_XSAVE, vcpu->index, &saved);
    size_t bytes = xsave_bytes(vcpu);
    if (area == NULL) {
        return VMMHPC_OK;
    }
    if (bytes == 0 || saved > bytes) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, saved,
                       "the snapshot has %llu bytes of XSAVE state, this host's KVM takes %llu",
                       (unsigned long long)saved, (unsigned long long)bytes);
    }
    void *copy = calloc(1, bytes);
    if (copy == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for the state");
    }
    memcpy(copy, area, saved);
    int result = ioctl(vcpu->fd, KVM_SET_XSAVE, copy);
    int32_t status = result == 0 ? VMMHPC_OK : failed(vcpu, "take", "XSAVE state", err);
    free(copy);
    return status;
}

/* ------------------------------------------------------------------ the rest */

static int32_t save_part(const struct vh_vcpu *vcpu, const struct part *part,
                         struct vh_snap_writer *writer, struct vmmhpc_error *err)
{
    uint64_t data[sizeof(struct kvm_lapic_state) / sizeof(uint64_t)] = {0}; /* the largest */
    if (part->capability != 0 && extension(vcpu, part->capability) <= 0) {
        return VMMHPC_OK;
    }
    if (ioctl(vcpu->fd, part->get, data) != 0) {
        return failed(vcpu, "tell", part->name, err);
    }
    vh_snap_section(writer, part->type, vcpu->index, data, part->bytes);
    return VMMHPC_OK;
}

static int32_t load_part(const struct vh_vcpu *vcpu, const struct part *part,
                         const struct vh_snap_reader *reader, struct vmmhpc_error *err)
{
    uint64_t data[sizeof(struct kvm_lapic_state) / sizeof(uint64_t)] = {0};
    size_t bytes = 0;
    if (part->capability != 0 && vh_snap_find(reader, part->type, vcpu->index, &bytes) == NULL) {
        return VMMHPC_OK; /* its host had none */
    }
    int32_t status = vh_snap_get(reader, part->type, vcpu->index, data, part->bytes, err);
    if (status == VMMHPC_OK && ioctl(vcpu->fd, part->set, data) != 0) {
        status = failed(vcpu, "take", part->name, err);
    }
    return status;
}

int32_t vh_snap_save_vcpu(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (size_t i = 0; status == VMMHPC_OK && i < VH_COUNT(parts); i++) {
        status = save_part(vcpu, &parts[i], writer, err);
    }
    if (status == VMMHPC_OK) {
        status = save_xsave(vcpu, writer, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_save_cpuid(vcpu, writer, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_save_msrs(vcpu, writer, err);
    }
    return status == VMMHPC_OK ? save_part(vcpu, &events, writer, err) : status;
}

int32_t vh_snap_load_vcpu(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err)
{
    int32_t status = vh_snap_load_cpuid(vcpu, reader, err);
    for (size_t i = 0; status == VMMHPC_OK && i < VH_COUNT(parts); i++) {
        status = load_part(vcpu, &parts[i], reader, err);
    }
    if (status == VMMHPC_OK) {
        status = load_xsave(vcpu, reader, err); /* after FPU registers: it has them, and more */
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_load_msrs(vcpu, reader, err);
    }
    return status == VMMHPC_OK ? load_part(vcpu, &events, reader, err) : status;
}
