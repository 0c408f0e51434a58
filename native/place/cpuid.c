/* SPDX-License-Identifier: Apache-2.0 */
/* What CPUID says of shared caches and NUMA nodes, on top of src/guest_cpuid.c, and the hint that
 * vCPUs are never preempted. Sources: Intel SDM vol. 2A, AMD APM vol. 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst. */
#include "place.h"

#define KVM_FEATURES_LEAF 0x40000001u
#define KVM_HINT_REALTIME 1u
#define LAST_LEVEL 3u

/* Bits needed to number n things. */
static uint32_t id_bits(uint32_t n)
{
    return n <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(n - 1);
}

/* Two vCPUs that would share a cache, in different nodes? Ids ascend: neighbours suffice. */
static bool crosses_nodes(const struct vmmhpc *vm, const uint32_t *nodes, uint32_t bits)
{
    for (uint32_t i = 1; nodes != NULL && i < vm->cpus; i++) {
        if (vm->apic_ids[i - 1] >> bits == vm->apic_ids[i] >> bits && nodes[i - 1] != nodes[i]) {
            return true;
        }
    }
    return false;
}

int32_t vh_place_cache_bits(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                            uint32_t *bits, struct vmmhpc_error *err)
{
    const uint32_t thread_bits = id_bits(vm->threads_per_core);
    const uint32_t cores = placement->cache_cores;
    const uint32_t *nodes = placement->nodes > 0 ? placement->vcpu_nodes : NULL;
    *bits = thread_bits + id_bits(cores == 0 ? vm->cores_per_socket : cores);
    if (cores == 0) {
        while (*bits > thread_bits && crosses_nodes(vm, nodes, *bits)) {
            --*bits;
        }
        return VMMHPC_OK;
    }
    if (cores > vm->cores_per_socket ||
        (cores != vm->cores_per_socket && (cores & (cores - 1)) != 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, cores,
                       "%u cores cannot share a cache: all %u of a socket can, or a power of two",
                       cores, vm->cores_per_socket);
    }
    if (crosses_nodes(vm, nodes, *bits)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, cores,
                       "%u cores that share a cache would be in different NUMA nodes", cores);
    }
    return VMMHPC_OK;
}

static bool same_socket(const struct vmmhpc *vm, uint32_t a, uint32_t b)
{
    const uint32_t logical = vm->cores_per_socket * vm->threads_per_core;
    return a / logical == b / logical;
}

/* Nodes that a vCPU's socket has a part of. */
static uint32_t nodes_of_socket(const struct vmmhpc *vm, const struct vh_place *place,
                                uint32_t vcpu)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (same_socket(vm, i, vcpu)) {
            seen |= 1ull << place->vcpu_nodes[i];
        }
    }
    return (uint32_t)__builtin_popcountll(seen);
}

/* Node and nodes in the socket, less one: ECX of 8000001EH. */
static uint32_t amd_nodes(const struct vmmhpc *vm, const struct vh_place *place, uint32_t vcpu)
{
    const uint32_t count = nodes_of_socket(vm, place, vcpu);
    return place->vcpu_nodes[vcpu] | ((count > 8 ? 8 : count) - 1) << 8;
}

void vh_place_cpuid(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity)
{
    struct vh_place *place = vh_place_of(vcpu->vm);
    if (place->shows_more) {
        vh_place_amd(vcpu, cpuid, capacity);
    }
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        const bool caches = e->function == 4 || e->function == 0x8000001d;
        if (caches && (e->eax & 0x1f) != 0 && (e->eax >> 5 & 7) >= LAST_LEVEL) {
            const uint32_t sharing = (1u << place->cache_bits) - 1;
            e->eax &= ~(0xfffu << 14);
            e->eax |= (sharing > 0xfff ? 0xfff : sharing) << 14;
            place->cache_is_told = true;
        } else if (e->function == 0x8000001e && place->nodes > 0) {
            e->ecx = amd_nodes(vcpu->vm, place, vcpu->index);
        } else if (e->function == KVM_FEATURES_LEAF &&
                   (place->without_exits & VMMHPC_EXIT_HALT) != 0) {
            e->edx |= KVM_HINT_REALTIME;
        }
    }
}
