/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What AMD CPUs tell of nodes and caches is in leaves that come with TOPOEXT. Where the host has
 * not got it they are made: 8000001EH is nothing but numbers of ours, 8000001DH says what the older
 * leaves 80000005H and 80000006H say (AMD APM vol. 3, appendix E.4). Intel has leaf 4 since long
 * ago.
 */
#include "place.h"

#define TOPOEXT (1u << 22)
#define LEVELS 4u /* L1 data, L1 instructions, L2, L3 */

enum { DATA = 1, INSTRUCTIONS = 2, UNIFIED = 3 };

struct cache {
    uint32_t type;
    uint32_t level;
    uint32_t bytes;
    uint32_t ways; /* 0: fully associative */
    uint32_t line;
};

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == function) {
            return &cpuid->entries[i];
        }
    }
    return NULL;
}

/* The code of four bits for L2 and L3; 0 for one that says nothing. */
static uint32_t ways_of(uint32_t code)
{
    static const uint8_t ways[16] = {0, 1, 2, 3, 4, 6, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0};
    return ways[code & 0xf];
}

static uint32_t read_caches(const struct kvm_cpuid_entry2 *l1, const struct kvm_cpuid_entry2 *l23,
                            struct cache *caches)
{
    const struct cache all[LEVELS] = {
        {DATA, 1, (l1->ecx >> 24) << 10, l1->ecx >> 16 & 0xff, l1->ecx & 0xff},
        {INSTRUCTIONS, 1, (l1->edx >> 24) << 10, l1->edx >> 16 & 0xff, l1->edx & 0xff},
        {UNIFIED, 2, (l23->ecx >> 16) << 10, ways_of(l23->ecx >> 12), l23->ecx & 0xff},
        {UNIFIED, 3, (l23->edx >> 18) << 19, ways_of(l23->edx >> 12), l23->edx & 0xff},
    };
    uint32_t count = 0;
    for (uint32_t i = 0; i < LEVELS; i++) {
        const uint32_t least = all[i].line * (all[i].ways == 0 ? 1 : all[i].ways);
        if (least != 0 && all[i].bytes >= least) {
            caches[count++] = all[i];
        }
    }
    return count;
}

static void append(struct kvm_cpuid2 *cpuid, uint32_t capacity,
                   const struct kvm_cpuid_entry2 *entry)
{
    if (cpuid->nent < capacity) {
        cpuid->entries[cpuid->nent++] = *entry;
    }
}

static void put_caches(const struct vmmhpc *vm, struct kvm_cpuid2 *cpuid, uint32_t capacity)
{
    const struct kvm_cpuid_entry2 *l1 = find(cpuid, 0x80000005);
    const struct kvm_cpuid_entry2 *l23 = find(cpuid, 0x80000006);
    struct cache caches[LEVELS];
    const uint32_t count = l1 == NULL || l23 == NULL ? 0 : read_caches(l1, l23, caches);
    for (uint32_t i = 0; i <= count; i++) { /* one more, of type 0, says that this was all */
        struct kvm_cpuid_entry2 e = {
            .function = 0x8000001d, .index = i, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
        if (i < count) {
            const struct cache *cache = &caches[i];
            const bool full = cache->ways == 0;
            const uint32_t ways = full ? cache->bytes / cache->line : cache->ways;
            /* Self-initialising; threads of a core share it, more may share the last one. */
            e.eax = cache->type | cache->level << 5 | 1u << 8 | (full ? 1u << 9 : 0) |
                    (vm->threads_per_core - 1) << 14;
            e.ebx = (cache->line - 1) | (ways - 1) << 22;
            e.ecx = cache->bytes / (cache->line * ways) - 1;
        }
        append(cpuid, capacity, &e);
    }
}

static void put_identity(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity)
{
    const struct vmmhpc *vm = vcpu->vm;
    const uint32_t core = vcpu->index / vm->threads_per_core % vm->cores_per_socket;
    append(cpuid, capacity,
           &(struct kvm_cpuid_entry2){
               .function = 0x8000001e,
               .eax = vcpu->apic_id,
               .ebx = (core & 0xff) | (vm->threads_per_core - 1) << 8,
           });
}

void vh_place_amd(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity)
{
    const struct kvm_cpuid_entry2 *basic = find(cpuid, 0);
    struct kvm_cpuid_entry2 *last = find(cpuid, 0x80000000);
    struct kvm_cpuid_entry2 *features = find(cpuid, 0x80000001);
    /* "AuthenticAMD" or "HygonGenuine" */
    if (basic == NULL || (basic->ebx != 0x68747541 && basic->ebx != 0x6f677948) || last == NULL ||
        features == NULL) {
        return;
    }
    features->ecx |= TOPOEXT;
    if (last->eax < 0x8000001e) {
        last->eax = 0x8000001e;
    }
    if (find(cpuid, 0x8000001d) == NULL) {
        put_caches(vcpu->vm, cpuid, capacity);
    }
    if (find(cpuid, 0x8000001e) == NULL) {
        put_identity(vcpu, cpuid, capacity);
    }
}
