/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine is placed by, kept with it: a reset needs all of it again. */
#ifndef VH_PLACE_H
#define VH_PLACE_H

#include "place_hooks.h"
#include "vmmhpc_place.h"

struct vh_place {
    struct vh_placing base; /* first: what libvmmhpc knows of it */
    const struct vh_place_hooks *core;
    struct vh_thread_source threads; /* where the machine's come from; empty: pthread_create() */
    uint32_t without_exits;
    uint32_t vcpu_priority;
    uint32_t io_priority;
    uint32_t io_pin_count;
    uint32_t nodes;
    uint32_t cache_bits; /* of an APIC id: CPUs that differ in them only share a last-level cache */
    bool shows_more;     /* nodes or caches, for which AMD has leaves of their own */
    bool cache_is_told;  /* there is a leaf that says so */
    /* In the same block of memory. */
    const int32_t *io_pin;
    const uint32_t *vcpu_nodes;
    const uint32_t *memory_nodes;
    const uint8_t *distances;
};

static inline struct vh_place *vh_place_of(const struct vmmhpc *vm)
{
    return (struct vh_place *)vm->placing;
}

/* check.c */
/** Can the machine be placed so? Whatever KVM has to be asked for is not looked at. */
int32_t vh_place_check(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                       struct vmmhpc_error *err);

/* cpuid.c */
/** How many bits of an APIC id number the CPUs that share a last-level cache. E_INVALID: cores
 *  that share one would be in different nodes. */
int32_t vh_place_cache_bits(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                            uint32_t *bits, struct vmmhpc_error *err);
/** For struct vh_placing. */
void vh_place_cpuid(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity);

/* amd.c */
/** On AMD: leaves for nodes and caches, where the host has none. */
void vh_place_amd(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity);

/* numa.c: SRAT and SLIT */
#define VH_PLACE_TABLES 2u
extern const struct vh_acpi_table vh_place_tables[VH_PLACE_TABLES];

/* threads.c */
/** From now on the machine's threads get their CPUs and priorities before they do anything. */
void vh_place_threads(struct vmmhpc *vm, struct vh_place *place);

#endif
