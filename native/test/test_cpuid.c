/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID for guests, from sets made up here: topology on Intel and AMD, what is hidden, limits. */
#include <stdlib.h>
#include <string.h>

#include "guest_cpuid.h"
#include "tap.h"

#define BIT(n) (1u << (n))

enum vendor { INTEL, AMD };

struct topology_case {
    struct vh_topology topology;
    uint32_t thread_bits;
    uint32_t package_bits;
    uint32_t last_apic_id;
};

static const struct topology_case cases[] = {
    {{1, 1, 1}, 0, 0, 0},       /* one vCPU */
    {{4, 2, 2}, 1, 2, 3},       /* a socket of two cores with two threads */
    {{8, 2, 2}, 1, 2, 7},       /* two of them */
    {{3, 3, 1}, 0, 2, 2},       /* three cores */
    {{6, 3, 1}, 0, 2, 6},       /* twice three: ids 0 1 2, 4 5 6 */
    {{12, 3, 2}, 1, 3, 13},     /* ids 0 ... 5, 8 ... 13 */
    {{300, 300, 1}, 0, 9, 299}, /* beyond 8-bit ids */
    {{512, 64, 2}, 1, 7, 511},  /* four sockets */
};

/* A set as KVM gives it: room for a few entries more behind. */
static struct kvm_cpuid2 *new_set(uint32_t room)
{
    return calloc(1, sizeof(struct kvm_cpuid2) + room * sizeof(struct kvm_cpuid_entry2));
}

static void put(struct kvm_cpuid2 *set, uint32_t function, uint32_t index, const uint32_t *regs)
{
    set->entries[set->nent++] = (struct kvm_cpuid_entry2){
        .function = function,
        .index = index,
        .eax = regs[0],
        .ebx = regs[1],
        .ecx = regs[2],
        .edx = regs[3],
    };
}

#define PUT(function, index, a, b, c, d)                                                           \
    put(set, function, index, (const uint32_t[]){(a), (b), (c), (d)})

static struct kvm_cpuid2 *host(enum vendor vendor, uint32_t max_leaf)
{
    struct kvm_cpuid2 *set = new_set(32 + VH_CPUID_EXTRA);

    if (vendor == INTEL) {
        PUT(0, 0, max_leaf, 0x756e6547, 0x6c65746e, 0x49656e69);
    } else {
        PUT(0, 0, max_leaf, 0x68747541, 0x444d4163, 0x69746e65);
    }
    PUT(1, 0, 0x000306c3, 0xff10ff00, ~BIT(31), ~0u); /* ids and bits of the host */
    if (vendor == INTEL) {
        PUT(4, 0, 0xfc01c121, 0x01c0003f, 0x3f, 0);  /* L1, data */
        PUT(4, 1, 0xfc01c143, 0x01c0003f, 0x1ff, 0); /* L2 */
        PUT(4, 2, 0xfc03c163, 0x03c0003f, 0xfff, 0); /* L3 */
        PUT(4, 3, 0, 0, 0, 0);
        PUT(0xb, 0, 1, 2, 0x100, 0x77);
        PUT(0xb, 1, 5, 16, 0x201, 0x77);
    }
    PUT(7, 0, 1, ~0u, ~0u, ~0u);
    PUT(7, 1, ~0u, 0, 0, ~0u);
    PUT(0xd, 0, 7, 0x340, 0x340, 0);
    PUT(0xd, 1, 0xf, 0, 0, 0);
    PUT(0x1d, 0, 1, 0, 0, 0);
    PUT(0x1e, 0, 0, 0, 0, 0);
    if (max_leaf >= 0x1f) {
        PUT(0x1f, 0, 1, 2, 0x100, 0x77);
    }
    PUT(0x80000001, 0, 0, 0, ~0u, ~0u);
    PUT(0x80000008, 0, 0x3030, 0x1000, 0x12345678, 0);
    if (vendor == AMD) {
        PUT(0x8000001d, 0, 0x4121, 0x1c0003f, 0x3f, 0);
        PUT(0x8000001d, 3, 0x3c163, 0x3c0003f, 0x3fff, 0);
        PUT(0x8000001d, 4, 0, 0, 0, 0);
        PUT(0x8000001e, 0, 0x55, 0x5555, 0x55, 0x55);
    }
    return set;
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *set, uint32_t function,
                                           uint32_t index)
{
    static const struct kvm_cpuid_entry2 none;
    const struct kvm_cpuid_entry2 *found = &none;
    uint32_t count = 0;

    for (uint32_t i = 0; i < set->nent; i++) {
        if (set->entries[i].function == function && set->entries[i].index == index) {
            found = &set->entries[i];
            count++;
        }
    }
    CHECK(count <= 1); /* no leaf twice */
    return found;
}

static struct kvm_cpuid2 *adapted(struct kvm_cpuid2 *set, const struct vh_cpuid_options *options,
                                  uint32_t apic_id)
{
    vh_cpuid_adapt(set, set->nent + VH_CPUID_EXTRA, options, apic_id);
    return set;
}

static void check_extended(const struct kvm_cpuid2 *set, uint32_t function,
                           const struct topology_case *c, uint32_t apic_id)
{
    const struct vh_topology *t = &c->topology;
    const struct kvm_cpuid_entry2 *smt = leaf(set, function, 0);
    const struct kvm_cpuid_entry2 *core = leaf(set, function, 1);
    const struct kvm_cpuid_entry2 *end = leaf(set, function, 2);

    CHECK_EQ(smt->eax, c->thread_bits);
    CHECK_EQ(smt->ebx, t->threads_per_core);
    CHECK_EQ(smt->ecx, 0x100);
    CHECK_EQ(smt->edx, apic_id);
    CHECK_EQ(core->eax, c->package_bits);
    CHECK_EQ(core->ebx, t->cores_per_socket * t->threads_per_core);
    CHECK_EQ(core->ecx, 0x201);
    CHECK_EQ(core->edx, apic_id);
    CHECK_EQ(end->eax | end->ebx, 0);
    CHECK_EQ(end->ecx, 2);
    CHECK_EQ(end->edx, apic_id);
    CHECK_EQ(smt->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
}

static void check_features(const struct kvm_cpuid2 *set, const struct topology_case *c,
                           uint32_t apic_id)
{
    const struct kvm_cpuid_entry2 *e = leaf(set, 1, 0);
    uint32_t addressable = 1u << c->package_bits;

    CHECK_EQ(e->ebx >> 24, apic_id & 0xff);
    CHECK_EQ(e->ebx >> 16 & 0xff, addressable > 255 ? 255 : addressable);
    CHECK_EQ(e->ebx & 0xffff, 0xff00);
    CHECK_EQ(e->edx >> 28 & 1, addressable > 1); /* HTT */
    CHECK_EQ(e->ecx >> 31, 1);                   /* a hypervisor */
    CHECK_EQ(e->ecx & BIT(3), 0);                /* MONITOR */
}

TEST(cpuid_apic_ids)
{
    for (size_t i = 0; i < VH_COUNT(cases); i++) {
        const struct vh_topology *t = &cases[i].topology;

        CHECK_EQ(vh_apic_id(t, 0), 0);
        CHECK_EQ(vh_apic_id(t, t->cpus - 1), cases[i].last_apic_id);
        for (uint32_t v = 1; v < t->cpus; v++) {
            CHECK(vh_apic_id(t, v) > vh_apic_id(t, v - 1)); /* unique, ascending */
        }
    }
    CHECK_EQ(vh_apic_id(&cases[4].topology, 3), 4); /* the second socket starts anew */
    CHECK_EQ(vh_apic_id(&cases[5].topology, 6), 8);
}

TEST(cpuid_topology_on_intel)
{
    for (size_t i = 0; i < VH_COUNT(cases); i++) {
        const struct topology_case *c = &cases[i];
        struct vh_cpuid_options options = {.topology = c->topology, .tsc_deadline = true};
        uint32_t threads = (1u << c->thread_bits) - 1;
        uint32_t package = (1u << c->package_bits) - 1;
        uint32_t cores = (1u << (c->package_bits - c->thread_bits)) - 1;
        struct kvm_cpuid2 *set = adapted(host(INTEL, 0x1f), &options, c->last_apic_id);

        check_features(set, c, c->last_apic_id);
        CHECK_EQ(leaf(set, 1, 0)->ecx & BIT(24), BIT(24));
        check_extended(set, 0xb, c, c->last_apic_id);
        check_extended(set, 0x1f, c, c->last_apic_id);
        CHECK_EQ(leaf(set, 4, 0)->eax >> 14 & 0xfff, threads); /* a core's own caches */
        CHECK_EQ(leaf(set, 4, 1)->eax >> 14 & 0xfff, threads);
        CHECK_EQ(leaf(set, 4, 2)->eax >> 14 & 0xfff, package); /* the socket's */
        CHECK_EQ(leaf(set, 4, 2)->eax >> 26, cores > 63 ? 63 : cores);
        CHECK_EQ(leaf(set, 4, 2)->eax & 0x3fff, 0x163); /* what it is, as before */
        CHECK_EQ(leaf(set, 4, 3)->eax, 0);
        CHECK_EQ(leaf(set, 0x80000008, 0)->ecx, 0x12345678); /* AMD's business */
        free(set);
    }
}

TEST(cpuid_topology_on_amd)
{
    for (size_t i = 0; i < VH_COUNT(cases); i++) {
        const struct topology_case *c = &cases[i];
        struct vh_cpuid_options options = {.topology = c->topology};
        uint32_t logical = c->topology.cores_per_socket * c->topology.threads_per_core;
        uint32_t id = c->last_apic_id;
        struct kvm_cpuid2 *set = adapted(host(AMD, 0x10), &options, id);

        check_features(set, c, id);
        CHECK_EQ(leaf(set, 1, 0)->ecx & BIT(24), 0); /* no TSC deadline here */
        check_extended(set, 0xb, c, id);
        CHECK_EQ(leaf(set, 0x1f, 0)->ecx, 0); /* beyond the highest leaf: not made up */
        CHECK_EQ(leaf(set, 0x80000001, 0)->ecx >> 1 & 1, logical > 1);
        CHECK_EQ(leaf(set, 0x80000008, 0)->ecx & 0xff, logical > 256 ? 255 : logical - 1);
        CHECK_EQ(leaf(set, 0x80000008, 0)->ecx >> 12 & 0xf, c->package_bits);
        CHECK_EQ(leaf(set, 0x80000008, 0)->ecx >> 16, 0x1234);
        CHECK_EQ(leaf(set, 0x8000001d, 0)->eax >> 14 & 0xfff, (1u << c->thread_bits) - 1);
        CHECK_EQ(leaf(set, 0x8000001d, 3)->eax >> 14 & 0xfff, (1u << c->package_bits) - 1);
        CHECK_EQ(leaf(set, 0x8000001d, 3)->eax >> 26, 0); /* reserved on AMD */
        const struct kvm_cpuid_entry2 *e = leaf(set, 0x8000001e, 0);
        CHECK_EQ(e->eax, id);
        CHECK_EQ(e->ebx & 0xff, ((id & ((1u << c->package_bits) - 1)) >> c->thread_bits) & 0xff);
        CHECK_EQ(e->ebx >> 8, c->topology.threads_per_core - 1);
        CHECK_EQ(e->ecx, id >> c->package_bits);
        CHECK_EQ(e->edx, 0);
        free(set);
    }
}

TEST(cpuid_old_host_gets_leaf_b)
{
    struct vh_cpuid_options options = {.topology = {4, 2, 2}};
    struct kvm_cpuid2 *set = adapted(host(INTEL, 7), &options, 3);

    CHECK_EQ(leaf(set, 0, 0)->eax, 0xb);
    check_extended(set, 0xb, &cases[1], 3);
    free(set);
}

TEST(cpuid_hide_xsave)
{
    for (int hide = 0; hide <= 1; hide++) {
        struct vh_cpuid_options options = {.topology = {1, 1, 1}, .hide_xsave = hide != 0};
        struct kvm_cpuid2 *set = adapted(host(AMD, 0x10), &options, 0);
        const uint32_t avx = BIT(12) | BIT(26) | BIT(27) | BIT(28) | BIT(29);
        const uint32_t avx512 =
            BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);

        CHECK_EQ(leaf(set, 1, 0)->ecx & avx, hide ? 0 : avx);
        CHECK_EQ(leaf(set, 7, 0)->ebx & (BIT(5) | avx512), hide ? 0 : BIT(5) | avx512);
        CHECK_EQ(leaf(set, 7, 0)->ebx & BIT(3), BIT(3)); /* BMI1 needs no such state */
        CHECK_EQ(leaf(set, 7, 0)->ecx & (BIT(9) | BIT(10)), hide ? 0 : BIT(9) | BIT(10));
        CHECK_EQ(leaf(set, 7, 0)->edx & (BIT(22) | BIT(24)), hide ? 0 : BIT(22) | BIT(24));
        CHECK_EQ(leaf(set, 7, 1)->eax & BIT(4), hide ? 0 : BIT(4));
        CHECK_EQ(leaf(set, 0x80000001, 0)->ecx & BIT(16), hide ? 0 : BIT(16));
        CHECK_EQ(leaf(set, 0xd, 0)->eax, hide ? 0 : 7);
        CHECK_EQ(leaf(set, 0xd, 1)->eax, hide ? 0 : 0xf);
        CHECK_EQ(leaf(set, 0x1d, 0)->eax, hide ? 0 : 1);
        free(set);
    }
}

TEST(cpuid_capacity)
{
    struct vh_cpuid_options options = {.topology = {2, 2, 1}};

    /* Sets without any room, and with less than it takes: nothing is written behind the end (ASan
     * watches the exact allocation). */
    for (uint32_t room = 0; room <= VH_CPUID_EXTRA; room++) {
        struct kvm_cpuid2 *full = host(INTEL, 0x1f);
        struct kvm_cpuid2 *set = new_set(full->nent + room);

        memcpy(set, full, sizeof(*full) + full->nent * sizeof(full->entries[0]));
        vh_cpuid_adapt(set, full->nent + room, &options, 1);
        CHECK(set->nent <= full->nent + room);
        CHECK(room < 3 || leaf(set, 0xb, 2)->ecx == 2);
        free(set);
        free(full);
    }
    struct kvm_cpuid2 *empty = new_set(VH_CPUID_EXTRA);
    vh_cpuid_adapt(empty, VH_CPUID_EXTRA, &options, 1);
    CHECK_EQ(empty->nent, 3); /* leaf 0BH in any case */
    vh_cpuid_adapt(empty, VH_CPUID_EXTRA, &options, 1);
    CHECK_EQ(empty->nent, 3); /* replaced, not added to */
    free(empty);
}
