/* SPDX-License-Identifier: Apache-2.0 */
/* What a placement must be like, whatever the host can do. */
#include "place.h"

#define EXITS_KNOWN (VMMHPC_EXIT_HALT | VMMHPC_EXIT_PAUSE)
#define HOST_CPUS_MAX 65536

static int32_t check_numbers(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                             struct vmmhpc_error *err)
{
    if ((placement->without_exits & ~EXITS_KNOWN) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement->without_exits,
                       "unknown exits to go without");
    }
    const uint32_t priorities[] = {placement->vcpu_priority, placement->io_priority};
    for (size_t i = 0; i < VH_COUNT(priorities); i++) {
        if (priorities[i] > VMMHPC_PRIORITY_MAX) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, priorities[i],
                           "real-time priorities are 1 to %u, not %u", VMMHPC_PRIORITY_MAX,
                           priorities[i]);
        }
    }
    if (placement->vcpu_priority != 0 && (vm->flags & VMMHPC_FLAG_EXTERNAL_VCPUS) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, placement->vcpu_priority,
                       "vCPUs in the caller's threads have the caller's priority");
    }
    if ((placement->io_pin == NULL) != (placement->io_pin_count == 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement->io_pin_count,
                       "io_pin and io_pin_count do not go together");
    }
    for (uint32_t i = 0; i < placement->io_pin_count; i++) {
        if (placement->io_pin[i] < 0 || placement->io_pin[i] >= HOST_CPUS_MAX) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)(int64_t)placement->io_pin[i],
                           "there is no host CPU %d for I/O threads", placement->io_pin[i]);
        }
    }
    return VMMHPC_OK;
}

/* A vCPU that halts or spins in the guest gives its host CPU to nobody. */
static int32_t check_dedicated(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        bool own = i < vm->pin_count && vm->pin[i] >= 0;
        for (uint32_t other = 0; own && other < i; other++) {
            own = vm->pin[other] != vm->pin[i];
        }
        if (!own) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, i,
                           "vCPU %u is not pinned to a host CPU of its own: without exits for "
                           "halt and pause it would keep others from theirs",
                           i);
        }
    }
    return VMMHPC_OK;
}

static int32_t check_distances(const struct vmmhpc_placement *placement, struct vmmhpc_error *err)
{
    for (uint32_t from = 0; from < placement->nodes; from++) {
        for (uint32_t to = 0; to < placement->nodes; to++) {
            const uint32_t distance = placement->distances[from * placement->nodes + to];
            /* What Linux does not believe it ignores, and all others with it. */
            if ((distance == VMMHPC_DISTANCE_LOCAL) != (from == to) ||
                distance < VMMHPC_DISTANCE_LOCAL) {
                return vh_fail(err, VMMHPC_E_INVALID, 0, distance,
                               "the distance from node %u to %u cannot be %u: it is %u to itself, "
                               "more to others",
                               from, to, distance, VMMHPC_DISTANCE_LOCAL);
            }
        }
    }
    return VMMHPC_OK;
}

static int32_t check_nodes(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                           struct vmmhpc_error *err)
{
    uint64_t used = 0;
    if (placement->nodes > VMMHPC_NODES_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, placement->nodes, "at most %u NUMA nodes, not %u",
                       VMMHPC_NODES_MAX, placement->nodes);
    }
    if (placement->vcpu_nodes == NULL || placement->memory_nodes == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement->nodes,
                       "NUMA nodes need the node of each vCPU and of each memory region");
    }
    for (uint32_t i = 0; i < vm->cpus; i++) {
        const uint32_t node = placement->vcpu_nodes[i];
        if (node >= placement->nodes) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, node, "vCPU %u is in node %u of %u", i, node,
                           placement->nodes);
        }
        if (node != placement->vcpu_nodes[i - i % vm->threads_per_core]) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, i,
                           "vCPU %u is in another node than the first thread of its core", i);
        }
        used |= 1ull << node;
    }
    for (uint32_t i = 0; i < vm->memory.mapping_count; i++) {
        const uint32_t node = placement->memory_nodes[i];
        if (node >= placement->nodes) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, node, "memory region %u is in node %u of %u",
                           i, node, placement->nodes);
        }
        used |= 1ull << node;
    }
    for (uint32_t node = 0; node < placement->nodes; node++) {
        if ((used >> node & 1) == 0) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, node,
                           "node %u has neither vCPUs nor memory: the guest would not see it",
                           node);
        }
    }
    return placement->distances == NULL ? VMMHPC_OK : check_distances(placement, err);
}

int32_t vh_place_check(const struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                       struct vmmhpc_error *err)
{
    int32_t status = check_numbers(vm, placement, err);
    if (status == VMMHPC_OK && placement->without_exits != 0) {
        status = check_dedicated(vm, err);
    }
    if (status == VMMHPC_OK && placement->nodes > 0 && (vm->flags & VMMHPC_FLAG_BARE) != 0) {
        status = vh_fail(err, VMMHPC_E_INVALID, 0, placement->nodes,
                         "NUMA nodes are in ACPI tables, and a bare machine has none");
    }
    return status == VMMHPC_OK && placement->nodes > 0 ? check_nodes(vm, placement, err) : status;
}
