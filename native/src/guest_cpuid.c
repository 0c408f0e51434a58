/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: Intel SDM vol. 2A (CPUID), AMD APM vol. 3 appendix E, Linux Documentation/virt/kvm. */
#include "guest_cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define BIT(n) (1u << (n))
#define SUPPORTED_MAX 1024u

/* Bits needed to number n things. */
static uint32_t id_bits(uint32_t n)
{
    return n <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(n - 1);
}

struct id_layout {
    uint32_t thread_bits;
    uint32_t package_bits; /* thread and core fields together */
    uint32_t logical;      /* vCPUs in a socket */
};

static struct id_layout id_layout(const struct vh_topology *topology)
{
    struct id_layout layout = {
        .thread_bits = id_bits(topology->threads_per_core),
        .logical = topology->cores_per_socket * topology->threads_per_core,
    };
    layout.package_bits = layout.thread_bits + id_bits(topology->cores_per_socket);
    return layout;
}

uint32_t vh_apic_id(const struct vh_topology *topology, uint32_t vcpu)
{
    struct id_layout layout = id_layout(topology);
    uint32_t thread = vcpu % topology->threads_per_core;
    uint32_t core = vcpu / topology->threads_per_core % topology->cores_per_socket;
    uint32_t socket = vcpu / layout.logical;
    return socket << layout.package_bits | core << layout.thread_bits | thread;
}

int32_t vh_cpuid_supported(int kvm_fd, struct kvm_cpuid2 **cpuid, struct vmmhpc_error *err)
{
    for (uint32_t entries = 128; entries <= SUPPORTED_MAX; entries *= 2) {
        struct kvm_cpuid2 *set =
            calloc(1, sizeof(*set) + (entries + VH_CPUID_EXTRA) * sizeof(struct kvm_cpuid_entry2));
        if (set == NULL) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, entries, "no memory for CPUID");
        }
        set->nent = entries;
        if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, set) == 0) {
            *cpuid = set;
            return VMMHPC_OK;
        }
        int failed = errno;
        free(set);
        if (failed != E2BIG) {
            return vh_fail(err, VMMHPC_E_SYSCALL, failed, 0, "KVM_GET_SUPPORTED_CPUID failed");
        }
    }
    return vh_fail(err, VMMHPC_E_UNSUPPORTED, E2BIG, SUPPORTED_MAX, "KVM reports too much CPUID");
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
            return &cpuid->entries[i];
        }
    }
    return NULL;
}

static void remove_function(struct kvm_cpuid2 *cpuid, uint32_t function)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function != function) {
            cpuid->entries[kept++] = cpuid->entries[i];
        }
    }
    cpuid->nent = kept;
}

static void append(struct kvm_cpuid2 *cpuid, uint32_t capacity,
                   const struct kvm_cpuid_entry2 *entry)
{
    if (cpuid->nent < capacity) {
        cpuid->entries[cpuid->nent++] = *entry;
    }
}

/* Without XSAVE no state beyond SSE can be saved, so everything that needs it goes too. */
static void hide_xsave(struct kvm_cpuid2 *cpuid)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        if (e->function == 1) {
            /* FMA, XSAVE, OSXSAVE, AVX, F16C */
            e->ecx &= ~(BIT(12) | BIT(26) | BIT(27) | BIT(28) | BIT(29));
        } else if (e->function == 7 && e->index == 0) {
            /* AVX2; AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL */
            e->ebx &= ~(BIT(5) | BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) |
                        BIT(30) | BIT(31));
            /* AVX512_VBMI, PKU, OSPKE, VBMI2, CET_SS, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ */
            e->ecx &= ~(BIT(1) | BIT(3) | BIT(4) | BIT(6) | BIT(7) | BIT(9) | BIT(10) | BIT(11) |
                        BIT(12) | BIT(14));
            /* 4VNNIW, 4FMAPS, VP2INTERSECT, CET_IBT, AMX_BF16, AVX512_FP16, AMX_TILE, AMX_INT8 */
            e->edx &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
        } else if (e->function == 7) {
            e->eax &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* AVX_VNNI, BF16, AMX_FP16, IFMA */
            e->edx = 0;
        } else if (e->function == 0x80000001) {
            e->ecx &= ~(BIT(11) | BIT(15) | BIT(16)); /* XOP, LWP, FMA4 */
        }
    }
    remove_function(cpuid, 0xd);
    remove_function(cpuid, 0x1d);
    remove_function(cpuid, 0x1e);
}

/* Extended topology, leaves 0BH and 1FH: SMT level, core level, end. */
static void extended_topology(struct kvm_cpuid2 *cpuid, uint32_t capacity, uint32_t function,
                              const struct vh_topology *topology, uint32_t apic_id)
{
    struct id_layout layout = id_layout(topology);
    remove_function(cpuid, function);
    struct kvm_cpuid_entry2 entry = {
        .function = function,
        .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = layout.thread_bits,
        .ebx = topology->threads_per_core,
        .ecx = 1u << 8,
        .edx = apic_id,
    };
    append(cpuid, capacity, &entry);
    entry.index = 1;
    entry.eax = layout.package_bits;
    entry.ebx = layout.logical;
    entry.ecx = 2u << 8 | 1;
    append(cpuid, capacity, &entry);
    entry.index = 2;
    entry.eax = 0;
    entry.ebx = 0;
    entry.ecx = 2;
    append(cpuid, capacity, &entry);
}

/* Deterministic caches (04H on Intel, 8000001DH on AMD): who shares each level. */
static void cache_sharing(struct kvm_cpuid_entry2 *e, const struct vh_topology *topology)
{
    struct id_layout layout = id_layout(topology);
    uint32_t type = e->eax & 0x1f;
    uint32_t level = e->eax >> 5 & 7;
    if (type == 0) {
        return;
    }
    uint32_t sharing_bits = level >= 3 ? layout.package_bits : layout.thread_bits;
    uint32_t sharing = (1u << sharing_bits) - 1;
    e->eax &= ~(0xfffu << 14);
    e->eax |= (sharing > 0xfff ? 0xfff : sharing) << 14;
    if (e->function == 4) {
        uint32_t cores = (1u << (layout.package_bits - layout.thread_bits)) - 1;
        e->eax &= ~(0x3fu << 26);
        e->eax |= (cores > 0x3f ? 0x3f : cores) << 26;
    }
}

static void feature_leaf(struct kvm_cpuid_entry2 *e, const struct vh_cpuid_options *options,
                         uint32_t apic_id)
{
    uint32_t logical = 1u << id_layout(&options->topology).package_bits;
    e->ebx &= 0x0000ffffu;
    e->ebx |= (logical > 255 ? 255 : logical) << 16 | (apic_id & 0xff) << 24;
    e->edx &= ~BIT(28);
    if (logical > 1) {
        e->edx |= BIT(28); /* HTT: EBX[23:16] is valid */
    }
    e->ecx &= ~(BIT(3) | BIT(24)); /* MONITOR would need exits that we do not take */
    e->ecx |= BIT(31);             /* a hypervisor is present */
    if (options->tsc_deadline) {
        e->ecx |= BIT(24);
    }
}

static void amd_leaf(struct kvm_cpuid_entry2 *e, const struct vh_topology *topology,
                     uint32_t apic_id)
{
    struct id_layout layout = id_layout(topology);
    switch (e->function) {
    case 0x80000001:
        e->ecx &= ~BIT(1);
        if (layout.logical > 1) {
            e->ecx |= BIT(1); /* CmpLegacy */
        }
        break;
    case 0x80000008:
        e->ecx &= 0xffff0000u;
        e->ecx |= (layout.logical - 1 > 0xff ? 0xff : layout.logical - 1) |
                  (layout.package_bits & 0xf) << 12;
        break;
    case 0x8000001d:
        cache_sharing(e, topology);
        break;
    case 0x8000001e: {
        uint32_t core = (apic_id & ((1u << layout.package_bits) - 1)) >> layout.thread_bits;
        e->eax = apic_id;
        e->ebx = (core & 0xff) | (topology->threads_per_core - 1) << 8;
        e->ecx = apic_id >> layout.package_bits & 0xff; /* one node a socket */
        e->edx = 0;
        break;
    }
    default:
        break;
    }
}

/* Threads of a core are told apart by leaf 8000001EH only, which counts where TOPOEXT promises it.
 * It is pure CPUID, so it needs nothing of the host. */
static void amd_threads(struct kvm_cpuid2 *cpuid, uint32_t capacity)
{
    struct kvm_cpuid_entry2 *features = find(cpuid, 0x80000001, 0);
    struct kvm_cpuid_entry2 *last = find(cpuid, 0x80000000, 0);
    if (features == NULL || last == NULL || (features->ecx & BIT(22)) != 0) {
        return;
    }
    features->ecx |= BIT(22);
    if (last->eax < 0x8000001e) {
        last->eax = 0x8000001e;
    }
    if (find(cpuid, 0x8000001e, 0) == NULL) {
        append(cpuid, capacity, &(struct kvm_cpuid_entry2){.function = 0x8000001e});
    }
}

void vh_cpuid_adapt(struct kvm_cpuid2 *cpuid, uint32_t capacity,
                    const struct vh_cpuid_options *options, uint32_t apic_id)
{
    const struct vh_topology *topology = &options->topology;
    if (options->hide_xsave) {
        hide_xsave(cpuid);
    }
    struct kvm_cpuid_entry2 *basic = find(cpuid, 0, 0);
    /* "AuthenticAMD" or "HygonGenuine": leaves of the 8000_00xx range then describe topology. */
    bool amd = basic != NULL && (basic->ebx == 0x68747541 || basic->ebx == 0x6f677948);
    if (amd && topology->threads_per_core > 1) {
        amd_threads(cpuid, capacity);
    }
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        if (e->function == 1) {
            feature_leaf(e, options, apic_id);
        } else if (e->function == 4) {
            cache_sharing(e, topology);
        } else if (amd) {
            amd_leaf(e, topology, apic_id);
        }
    }
    if (basic != NULL && basic->eax < 0xb) {
        basic->eax = 0xb;
    }
    bool has_1f = basic != NULL && basic->eax >= 0x1f;
    extended_topology(cpuid, capacity, 0xb, topology, apic_id);
    if (has_1f) {
        extended_topology(cpuid, capacity, 0x1f, topology, apic_id);
    }
}

uint32_t vh_cpuid_physical_bits(int kvm_fd)
{
    struct kvm_cpuid2 *cpuid = NULL;
    uint32_t bits = 36;
    if (vh_cpuid_supported(kvm_fd, &cpuid, NULL) == VMMHPC_OK && cpuid != NULL) {
        for (uint32_t i = 0; i < cpuid->nent; i++) {
            if (cpuid->entries[i].function == 0x80000008u) {
                bits = cpuid->entries[i].eax & 0xff;
            }
        }
    }
    free(cpuid);
    return bits < 36 ? 36 : bits > 52 ? 52 : bits;
}
