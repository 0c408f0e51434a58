/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU was told of its CPU: it must not lose a feature, and is told the same again. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "snapshot.h"

#define ENTRIES 256u /* KVM_MAX_CPUID_ENTRIES */

enum { EAX, EBX, ECX, EDX };

/* Registers whose bits are features (Intel SDM 2A, CPUID; AMD APM 3, appendix E), without those
 * that follow from control registers. */
static const struct {
    uint32_t function;
    uint32_t index;
    uint32_t reg;
    uint32_t mask;
    const char *name;
} features[] = {
    {0x00000001, 0, ECX, ~(1u << 27), "1.ecx"}, /* OSXSAVE */
    {0x00000001, 0, EDX, ~(1u << 9), "1.edx"},  /* APIC */
    {0x00000007, 0, EBX, ~0u, "7.ebx"},
    {0x00000007, 0, ECX, ~(1u << 4), "7.ecx"}, /* OSPKE */
    {0x00000007, 0, EDX, ~0u, "7.edx"},
    {0x00000007, 1, EAX, ~0u, "7.1.eax"},
    {0x0000000d, 0, EAX, ~0u, "0xd.eax"},
    {0x0000000d, 0, EDX, ~0u, "0xd.edx"},
    {0x0000000d, 1, EAX, ~0u, "0xd.1.eax"},
    {0x80000001, 0, ECX, ~0u, "0x80000001.ecx"},
    {0x80000001, 0, EDX, ~(1u << 9), "0x80000001.edx"},
    {0x80000007, 0, EDX, ~0u, "0x80000007.edx"},
    {0x80000008, 0, EBX, ~0u, "0x80000008.ebx"},
    {0x40000001, 0, EAX, ~0u, "0x40000001.eax"}, /* KVM's own */
};

static int32_t get(const struct vh_vcpu *vcpu, struct kvm_cpuid2 **out, struct vmmhpc_error *err)
{
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(struct kvm_cpuid_entry2));
    if (cpuid == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, ENTRIES, "no memory for CPUID");
    }
    cpuid->nent = ENTRIES;
    if (ioctl(vcpu->fd, KVM_GET_CPUID2, cpuid) != 0 || cpuid->nent > ENTRIES) {
        int failed = errno;
        free(cpuid);
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, failed, vcpu->index,
                       "KVM does not tell the CPUID of vCPU %u", vcpu->index);
    }
    *out = cpuid;
    return VMMHPC_OK;
}

int32_t vh_snap_save_cpuid(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                           struct vmmhpc_error *err)
{
    struct kvm_cpuid2 *cpuid = NULL;
    int32_t status = get(vcpu, &cpuid, err);
    if (status == VMMHPC_OK && cpuid != NULL) {
        vh_snap_section(writer, VH_SNAP_CPUID, vcpu->index, cpuid->entries,
                        cpuid->nent * sizeof(cpuid->entries[0]));
        free(cpuid);
    }
    return status;
}

static uint32_t value(const struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t function,
                      uint32_t index, uint32_t reg)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct kvm_cpuid_entry2 *entry = &entries[i];
        bool indexed = (entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
        if (entry->function == function && (!indexed || entry->index == index)) {
            const uint32_t values[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};
            return values[reg];
        }
    }
    return 0;
}

/* The same vendor, no feature less, no address narrower. */
static int32_t compare(const struct kvm_cpuid_entry2 *there, uint32_t count,
                       const struct kvm_cpuid2 *here, struct vmmhpc_error *err)
{
    for (uint32_t reg = EBX; reg <= EDX; reg++) {
        if (value(there, count, 0, 0, reg) != value(here->entries, here->nent, 0, 0, reg)) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                           "the snapshot is of another maker's CPU than this host's");
        }
    }
    for (size_t i = 0; i < VH_COUNT(features); i++) {
        uint32_t want =
            value(there, count, features[i].function, features[i].index, features[i].reg);
        uint32_t have = value(here->entries, here->nent, features[i].function, features[i].index,
                              features[i].reg);
        uint32_t lacking = want & ~have & features[i].mask;
        if (lacking != 0) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, (uint64_t)features[i].function << 32,
                           "this host's CPU lacks what the snapshot's guest was told that it has: "
                           "CPUID %s bits 0x%x",
                           features[i].name, lacking);
        }
    }
    uint32_t want = value(there, count, 0x80000008, 0, EAX) & 0xff;
    uint32_t have = value(here->entries, here->nent, 0x80000008, 0, EAX) & 0xff;
    return want <= have ? VMMHPC_OK
                        : vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, want,
                                  "the snapshot's guest has addresses of %u bits, this host's CPU "
                                  "has %u",
                                  want, have);
}

int32_t vh_snap_load_cpuid(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                           struct vmmhpc_error *err)
{
    size_t bytes = 0;
    const struct kvm_cpuid_entry2 *entries =
        vh_snap_find(reader, VH_SNAP_CPUID, vcpu->index, &bytes);
    size_t count = bytes / sizeof(*entries);
    if (entries == NULL || bytes % sizeof(*entries) != 0 || count == 0 || count > ENTRIES) {
        return vh_snap_damaged(err, VH_SNAP_CPUID, vcpu->index, "its CPUID makes no sense");
    }
    struct kvm_cpuid2 *cpuid = NULL;
    int32_t status = get(vcpu, &cpuid, err);
    if (status != VMMHPC_OK || cpuid == NULL) {
        return status;
    }
    status = compare(entries, (uint32_t)count, cpuid, err);
    if (status == VMMHPC_OK) {
        cpuid->nent = (uint32_t)count;
        memcpy(cpuid->entries, entries, bytes);
        if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) != 0) {
            status = vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, vcpu->index,
                             "KVM does not take the snapshot's CPUID");
        }
    }
    free(cpuid);
    return status;
}
