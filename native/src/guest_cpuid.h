/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID for the guest: what this host's KVM supports, with the machine's own topology. */
#ifndef VH_GUEST_CPUID_H
#define VH_GUEST_CPUID_H

#include <linux/kvm.h>

#include "internal.h"

struct vh_topology {
    uint32_t cpus;
    uint32_t cores_per_socket;
    uint32_t threads_per_core;
};

struct vh_cpuid_options {
    struct vh_topology topology;
    bool hide_xsave;
    bool tsc_deadline;
};

/** APIC id of a vCPU: thread, core and socket fields, each rounded up to a power of two. */
uint32_t vh_apic_id(const struct vh_topology *topology, uint32_t vcpu);

/** KVM_GET_SUPPORTED_CPUID with room for a few entries more; the caller frees *cpuid. */
int32_t vh_cpuid_supported(int kvm_fd, struct kvm_cpuid2 **cpuid, struct vmmhpc_error *err);

/** Width of a guest-physical address on this host, 36 where it is not told. */
uint32_t vh_cpuid_physical_bits(int kvm_fd);

/** Adapt a copy of the supported set for one vCPU. capacity: entries that cpuid has room for. */
void vh_cpuid_adapt(struct kvm_cpuid2 *cpuid, uint32_t capacity,
                    const struct vh_cpuid_options *options, uint32_t apic_id);

/** Entries that vh_cpuid_adapt() and a placement (native/place) may add. */
#define VH_CPUID_EXTRA 16u

#endif
