/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: what is refused, NUMA tables, CPUID of nodes and caches, threads with CPUs of their
 * own. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "acpi.h"
#include "guest_cpuid.h"
#include "layout.h"
#include "machine_rig.h"
#include "place/place.h"
#include "tap.h"

#define CPUS 8u

/* A machine without KVM, of two sockets of two cores with two threads. */
static struct vmmhpc *new_machine(void)
{
    static uint32_t ids[CPUS];
    static struct vh_vcpu vcpus[CPUS];
    static int32_t pin[CPUS];
    struct vmmhpc *vm = machine_rig_new(4);
    const struct vh_topology topology = {CPUS, 2, 2};
    vm->cpus = CPUS;
    vm->cores_per_socket = 2;
    vm->threads_per_core = 2;
    vm->apic_ids = ids;
    vm->vcpus = vcpus;
    vm->pin = pin;
    for (uint32_t i = 0; i < CPUS; i++) {
        ids[i] = vh_apic_id(&topology, i);
        vcpus[i] = (struct vh_vcpu){.vm = vm, .index = i, .apic_id = ids[i]};
        pin[i] = (int32_t)i;
    }
    return vm;
}

static const uint32_t by_socket[CPUS] = {0, 0, 0, 0, 1, 1, 1, 1};
static const uint32_t by_core[CPUS] = {0, 0, 1, 1, 2, 2, 3, 3};
static const uint32_t by_thread[CPUS] = {0, 1, 0, 1, 0, 1, 0, 1};
static const uint32_t regions[1] = {1};

struct refusal {
    struct vmmhpc_placement asked;
    int32_t status;
    const char *part;
};

TEST(place_refusals)
{
    static const uint8_t not_local[] = {11, 20, 20, 10};
    static const uint8_t too_near[] = {10, 9, 20, 10};
    static const uint8_t as_near[] = {10, 20, 10, 10};
    static const int32_t no_cpu[] = {-1};
    static const uint32_t far[CPUS] = {0, 0, 0, 0, 2, 2, 1, 1};
    static const uint32_t all_in_one[CPUS] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const uint32_t no_node[1] = {7};
#define NUMA(vcpus, memory, table)                                                                 \
    .nodes = 2, .vcpu_nodes = (vcpus), .memory_nodes = (memory), .distances = (table)
    const struct refusal refusals[] = {
        {{.without_exits = 4}, VMMHPC_E_INVALID, "unknown exits"},
        {{.vcpu_priority = 100}, VMMHPC_E_INVALID, "1 to 99, not 100"},
        {{.io_priority = 100}, VMMHPC_E_INVALID, "1 to 99, not 100"},
        {{.io_pin_count = 1}, VMMHPC_E_INVALID, "do not go together"},
        {{.io_pin_count = 1, .io_pin = no_cpu}, VMMHPC_E_INVALID, "no host CPU -1"},
        {{.nodes = 65}, VMMHPC_E_LIMIT, "at most 64"},
        {{.nodes = 2}, VMMHPC_E_INVALID, "node of each vCPU"},
        {{NUMA(far, regions, NULL)}, VMMHPC_E_INVALID, "vCPU 4 is in node 2 of 2"},
        {{NUMA(by_thread, regions, NULL)}, VMMHPC_E_INVALID, "first thread of its core"},
        {{NUMA(by_socket, no_node, NULL)}, VMMHPC_E_INVALID, "memory region 0 is in node 7"},
        {{NUMA(all_in_one, regions, NULL)}, VMMHPC_E_INVALID, "node 0 has neither"},
        {{NUMA(by_socket, regions, not_local)}, VMMHPC_E_INVALID, "cannot be 11"},
        {{NUMA(by_socket, regions, too_near)}, VMMHPC_E_INVALID, "cannot be 9"},
        {{NUMA(by_socket, regions, as_near)}, VMMHPC_E_INVALID, "from node 1 to 0 cannot be 10"},
        {{.cache_cores = 3}, VMMHPC_E_INVALID, "3 cores cannot share"},
        {{.nodes = 4, .vcpu_nodes = by_core, .memory_nodes = regions, .cache_cores = 2},
         VMMHPC_E_INVALID,
         "in different NUMA nodes"},
    };
    struct vmmhpc *vm = new_machine();
    for (size_t i = 0; i < VH_COUNT(refusals); i++) {
        struct vmmhpc_error err = {.size = sizeof(err)};
        struct vmmhpc_placement asked = refusals[i].asked;
        asked.size = sizeof(asked);
        const int32_t status = vmmhpc_place(vm, &asked, &err);
        CHECK_ERROR(status, &err, refusals[i].status, refusals[i].part);
        CHECK(vm->placing == NULL);
    }
    machine_rig_free(vm);
}

TEST(place_refuses_by_the_machine)
{
    struct vmmhpc *vm = new_machine();
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_placement halt = {.size = sizeof(halt), .without_exits = VMMHPC_EXIT_HALT};
    struct vmmhpc_placement nodes = {
        .size = sizeof(nodes), .nodes = 2, .vcpu_nodes = by_socket, .memory_nodes = regions};
    struct vmmhpc_placement priority = {.size = sizeof(priority), .vcpu_priority = 1};

    CHECK_ERROR(vmmhpc_place(vm, &halt, &err), &err, VMMHPC_E_INVALID, "vCPU 0 is not pinned");
    vm->pin_count = CPUS;
    vm->pin[5] = 1;
    CHECK_ERROR(vmmhpc_place(vm, &halt, &err), &err, VMMHPC_E_INVALID, "vCPU 5 is not pinned");
    vm->pin[5] = 5;
    CHECK_ERROR(vmmhpc_place(vm, &halt, &err), &err, VMMHPC_E_UNSUPPORTED, "without exits for");
    vm->flags = VMMHPC_FLAG_BARE;
    CHECK_ERROR(vmmhpc_place(vm, &nodes, &err), &err, VMMHPC_E_INVALID, "a bare machine has none");
    vm->flags = VMMHPC_FLAG_EXTERNAL_VCPUS;
    CHECK_ERROR(vmmhpc_place(vm, &priority, &err), &err, VMMHPC_E_UNSUPPORTED, "caller's priority");
    vm->flags = 0;
    vm->recipe.present = true;
    CHECK_ERROR(vmmhpc_place(vm, &priority, &err), &err, VMMHPC_E_STATE, "before its devices");
    priority.size--;
    CHECK_ERROR(vmmhpc_place(vm, &priority, &err), &err, VMMHPC_E_INVALID, "another version");
    machine_rig_free(vm);
}

/* What vmmhpc_place() keeps, without a KVM to tell it. */
static void show_nodes(struct vmmhpc *vm, struct vh_place *place,
                       const struct vmmhpc_placement *asked)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    *place = (struct vh_place){
        .nodes = asked->nodes,
        .vcpu_nodes = asked->vcpu_nodes,
        .memory_nodes = asked->memory_nodes,
        .distances = asked->distances,
        .without_exits = asked->without_exits,
    };
    CHECK_OK(vh_place_check(vm, asked, &err), &err);
    CHECK_OK(vh_place_cache_bits(vm, asked, &place->cache_bits, &err), &err);
    vm->placing = &place->base;
}

TEST(place_numa_tables)
{
    static const uint8_t distances[] = {10, 17, 31, 10};
    const struct vmmhpc_placement asked = {
        .nodes = 2, .vcpu_nodes = by_socket, .memory_nodes = regions, .distances = distances};
    struct vmmhpc *vm = new_machine();
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_place place;
    show_nodes(vm, &place, &asked);
    vm->apic_ids[CPUS - 1] = 300; /* one that the older structure cannot name */
    const struct vh_acpi_config config = {.cpus = CPUS,
                                          .apic_ids = vm->apic_ids,
                                          .further = vh_place_tables,
                                          .further_count = VH_PLACE_TABLES,
                                          .machine = vm};
    uint64_t rsdp = 0;
    CHECK_OK(vh_acpi_build(&vm->memory, &config, &rsdp, &err), &err);
    const uint8_t *srat = machine_rig_table(vm, rsdp, "SRAT");
    const uint8_t *slit = machine_rig_table(vm, rsdp, "SLIT");
    if (CHECK(srat != NULL) && CHECK(slit != NULL)) {
        CHECK_EQ(machine_rig_load(srat + 4, 4), 48 + 7 * 16 + 24 + 40);
        for (uint32_t i = 0; i < CPUS - 1; i++) {
            const uint8_t *cpu = srat + 48 + i * (size_t)16;
            CHECK_EQ(machine_rig_load(cpu, 2), 0x1000); /* type 0, 16 bytes */
            CHECK_EQ(cpu[2], i / 4);
            CHECK_EQ(cpu[3], vm->apic_ids[i]);
            CHECK_EQ(machine_rig_load(cpu + 4, 4), 1);
        }
        const uint8_t *last = srat + 48 + 7 * 16;
        CHECK_EQ(machine_rig_load(last, 2), 0x1802);
        CHECK_EQ(machine_rig_load(last + 4, 4), 1);
        CHECK_EQ(machine_rig_load(last + 8, 4), 300);
        const uint8_t *ram = last + 24;
        CHECK_EQ(machine_rig_load(ram, 2), 0x2801);
        CHECK_EQ(machine_rig_load(ram + 2, 4), 1);
        CHECK_EQ(machine_rig_load(ram + 8, 8), 0);
        CHECK_EQ(machine_rig_load(ram + 16, 8), 4 * VH_MIB);
        CHECK_EQ(machine_rig_load(slit + 36, 8), 2);
        CHECK(memcmp(slit + 44, distances, sizeof(distances)) == 0);
    }
    vm->placing = NULL;
    machine_rig_free(vm);
}

/* A set with the leaves that are corrected. */
static struct kvm_cpuid2 *new_set(void)
{
    static const struct kvm_cpuid_entry2 leaves[] = {
        {.function = 4, .index = 2, .eax = 2 | 2 << 5 | 1 << 14}, /* level 2: not touched */
        {.function = 4, .index = 3, .eax = 3 | 3 << 5 | 3 << 14 | 3u << 26},
        {.function = 0x8000001d, .index = 3, .eax = 3 | 3 << 5 | 3 << 14},
        {.function = 0x8000001e, .ecx = 0},
        {.function = 0x40000001, .edx = 0},
    };
    struct kvm_cpuid2 *set = calloc(1, sizeof(*set) + sizeof(leaves));
    set->nent = VH_COUNT(leaves);
    memcpy(set->entries, leaves, sizeof(leaves));
    return set;
}

static void check_set(struct vmmhpc *vm, uint32_t vcpu, uint32_t sharing, uint32_t nodes)
{
    struct kvm_cpuid2 *set = new_set();
    vh_place_cpuid(&vm->vcpus[vcpu], set, set->nent);
    CHECK_EQ(set->entries[0].eax, 2 | 2 << 5 | 1 << 14);
    CHECK_EQ(set->entries[1].eax >> 14 & 0xfff, sharing - 1);
    CHECK_EQ(set->entries[1].eax >> 26, 3);
    CHECK_EQ(set->entries[2].eax >> 14 & 0xfff, sharing - 1);
    CHECK_EQ(set->entries[3].ecx, nodes);
    free(set);
}

TEST(place_cpuid)
{
    struct vmmhpc_placement asked = {.nodes = 2, .vcpu_nodes = by_socket, .memory_nodes = regions};
    struct vmmhpc *vm = new_machine();
    struct vh_place place;
    show_nodes(vm, &place, &asked);
    check_set(vm, 0, 4, 0);
    check_set(vm, 7, 4, 1);

    asked.cache_cores = 1;
    show_nodes(vm, &place, &asked);
    check_set(vm, 0, 2, 0);

    /* Two nodes a socket: a cache ends where its node does. */
    asked.cache_cores = 0;
    asked.nodes = 4;
    asked.vcpu_nodes = by_core;
    show_nodes(vm, &place, &asked);
    check_set(vm, 0, 2, 0 | 1 << 8);
    check_set(vm, 7, 2, 3 | 1 << 8);
    CHECK(place.cache_is_told);

    place.without_exits = VMMHPC_EXIT_HALT;
    struct kvm_cpuid2 *set = new_set();
    vh_place_cpuid(&vm->vcpus[0], set, set->nent);
    CHECK_EQ(set->entries[4].edx, 1); /* the vCPUs are never preempted */
    free(set);
    vm->placing = NULL;
    machine_rig_free(vm);
}

/* An AMD host without TOPOEXT, as QEMU's TCG is: caches of 64 KiB, 64 KiB, 512 KiB and 16 MiB. */
TEST(place_amd_without_leaves)
{
    static const struct kvm_cpuid_entry2 leaves[] = {
        {.function = 0, .ebx = 0x68747541},
        {.function = 0x80000000, .eax = 0x8000000a},
        {.function = 0x80000001},
        {.function = 0x80000005, .ecx = 64u << 24 | 2 << 16 | 64, .edx = 64u << 24 | 2 << 16 | 64},
        {.function = 0x80000006, .ecx = 512u << 16 | 8 << 12 | 64, .edx = 32u << 18 | 8 << 12 | 64},
    };
    static const uint32_t sets[] = {512, 512, 512, 16384};
    enum { ROOM = VH_COUNT(leaves) + VH_CPUID_EXTRA };
    const struct vmmhpc_placement asked = {
        .nodes = 4, .vcpu_nodes = by_core, .memory_nodes = regions};
    struct vmmhpc *vm = new_machine();
    struct vh_place place;
    struct kvm_cpuid2 *set = calloc(1, sizeof(*set) + ROOM * sizeof(leaves[0]));
    show_nodes(vm, &place, &asked);
    place.shows_more = true;
    set->nent = VH_COUNT(leaves);
    memcpy(set->entries, leaves, sizeof(leaves));
    vh_place_cpuid(&vm->vcpus[5], set, ROOM);
    CHECK_EQ(set->nent, VH_COUNT(leaves) + 6);
    CHECK_EQ(set->entries[1].eax, 0x8000001e);
    CHECK_EQ(set->entries[2].ecx, 1u << 22);
    for (uint32_t i = 0; i < 4; i++) {
        const struct kvm_cpuid_entry2 *e = &set->entries[VH_COUNT(leaves) + i];
        CHECK_EQ(e->function, 0x8000001d);
        CHECK_EQ(e->index, i);
        CHECK_EQ(e->eax >> 5 & 7, i < 2 ? 1 : i);
        CHECK_EQ(e->eax >> 14 & 0xfff, 1); /* the threads of a core: the L3 ends with the node */
        CHECK_EQ((e->ebx & 0xfff) + 1, 64);
        CHECK_EQ((e->ebx >> 22) + 1, i < 2 ? 2 : 16);
        CHECK_EQ(e->ecx + 1, sets[i]);
    }
    CHECK_EQ(set->entries[VH_COUNT(leaves) + 4].eax, 0); /* no more caches */
    const struct kvm_cpuid_entry2 *identity = &set->entries[VH_COUNT(leaves) + 5];
    CHECK_EQ(identity->eax, vm->apic_ids[5]);
    CHECK_EQ(identity->ebx, 0 | 1 << 8);
    CHECK_EQ(identity->ecx, 2 | 1 << 8);
    CHECK(place.cache_is_told);

    /* Without room nothing is written behind the end (ASan watches). */
    struct kvm_cpuid2 *tight = calloc(1, sizeof(*set) + sizeof(leaves));
    tight->nent = VH_COUNT(leaves);
    memcpy(tight->entries, leaves, sizeof(leaves));
    vh_place_cpuid(&vm->vcpus[5], tight, tight->nent);
    CHECK_EQ(tight->nent, VH_COUNT(leaves));
    free(tight);
    free(set);
    vm->placing = NULL;
    machine_rig_free(vm);
}

struct job {
    cpu_set_t allowed;
    bool done;
};

static void *look(void *arg)
{
    struct job *job = arg;
    (void)pthread_getaffinity_np(pthread_self(), sizeof(job->allowed), &job->allowed);
    job->done = true;
    return NULL;
}

/* The first CPU that this process may use. */
static int32_t some_cpu(void)
{
    cpu_set_t allowed;
    (void)sched_getaffinity(0, sizeof(allowed), &allowed);
    int32_t cpu = 0;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed)) {
        cpu++;
    }
    return cpu;
}

TEST(place_threads)
{
    struct vmmhpc *vm = new_machine();
    struct vmmhpc_error err = {.size = sizeof(err)};
    const int32_t pin[] = {some_cpu()};
    const struct vmmhpc_placement asked = {.size = sizeof(asked), .io_pin_count = 1, .io_pin = pin};
    struct job job = {.done = false};
    pthread_t thread;
    CHECK_OK(vmmhpc_place(vm, &asked, &err), &err);
    if (CHECK_OK(vh_thread_start(&vm->threads, VH_THREAD_IO, &thread, look, &job, "test", &err),
                 &err)) {
        (void)pthread_join(thread, NULL);
        CHECK(job.done);
        CHECK_EQ(CPU_COUNT(&job.allowed), 1);
        CHECK(CPU_ISSET(pin[0], &job.allowed));
    }
    machine_rig_free(vm);
}

TEST(place_thread_without_a_cpu_never_works)
{
    struct vmmhpc *vm = new_machine();
    struct vmmhpc_error err = {.size = sizeof(err)};
    /* The first is there: the kernel would pass over the other one. */
    const int32_t pin[] = {some_cpu(), 60000};
    const struct vmmhpc_placement asked = {.size = sizeof(asked), .io_pin_count = 2, .io_pin = pin};
    struct job job = {.done = false};
    pthread_t thread;
    CHECK_OK(vmmhpc_place(vm, &asked, &err), &err);
    CHECK_ERROR(vh_thread_start(&vm->threads, VH_THREAD_DISK, &thread, look, &job, "test", &err),
                &err, VMMHPC_E_INVALID, "host CPU 60000");
    CHECK(!job.done);
    machine_rig_free(vm);
}
