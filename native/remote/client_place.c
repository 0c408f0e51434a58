/* SPDX-License-Identifier: Apache-2.0 */
/* Placing a machine in a monitor. Its jail has no capabilities, so a right to real-time priority
 * has to be given to the process before: its limit is raised by the starter, where that may do so.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "remote.h"

/* Where it cannot be raised it may be high enough; else the monitor says so at the start. */
static void raise_limit(const struct vmmhpc *vm, uint32_t priority)
{
    struct vmmhpc_status_page page;
    const struct rlimit limit = {priority, priority};
    struct rlimit now;
    if (!vh_remote_page(vm, &page) || page.pid == 0 ||
        (prlimit((pid_t)page.pid, RLIMIT_RTPRIO, NULL, &now) == 0 && now.rlim_cur >= priority)) {
        return;
    }
    (void)prlimit((pid_t)page.pid, RLIMIT_RTPRIO, &limit, NULL);
}

static void put_numbers(struct vh_wire *wire, const void *numbers, uint32_t count)
{
    vh_put_bytes(wire, numbers, count * (uint32_t)sizeof(uint32_t));
}

static void put(struct vh_wire *wire, const struct vmmhpc *vm,
                const struct vmmhpc_placement *placement)
{
    const uint32_t nodes = placement->nodes;
    vh_put_u32(wire, placement->without_exits);
    vh_put_u32(wire, placement->vcpu_priority);
    vh_put_u32(wire, placement->io_priority);
    vh_put_u32(wire, placement->cache_cores);
    vh_put_u32(wire, placement->io_pin_count);
    vh_put_u32(wire, nodes);
    vh_put_u32(wire, placement->distances != NULL ? 1 : 0);
    put_numbers(wire, placement->io_pin, placement->io_pin_count);
    if (nodes > 0) {
        put_numbers(wire, placement->vcpu_nodes, vm->cpus);
        put_numbers(wire, placement->memory_nodes, vh_client_of(vm)->regions);
        vh_put_bytes(wire, placement->distances, placement->distances == NULL ? 0 : nodes * nodes);
    }
}

/* What must hold before anything is copied; the monitor checks the rest. */
static int32_t check(const struct vmmhpc_placement *placement, struct vmmhpc_error *err)
{
    if (placement->nodes > VMMHPC_NODES_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, placement->nodes, "at most %u NUMA nodes, not %u",
                       VMMHPC_NODES_MAX, placement->nodes);
    }
    if (placement->nodes > 0 &&
        (placement->vcpu_nodes == NULL || placement->memory_nodes == NULL)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement->nodes,
                       "NUMA nodes need the node of each vCPU and of each memory region");
    }
    if ((placement->io_pin == NULL) != (placement->io_pin_count == 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement->io_pin_count,
                       "io_pin and io_pin_count do not go together");
    }
    return VMMHPC_OK;
}

int32_t vh_remote_place(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                        struct vmmhpc_error *err)
{
    struct vh_wire wire;
    int32_t status = check(placement, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    uint8_t *data = malloc(VH_WIRE_PAYLOAD);
    if (data == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_WIRE_PAYLOAD, "no memory for a request");
    }
    vh_wire_init(&wire, data, VH_WIRE_PAYLOAD);
    put(&wire, vm, placement);
    const uint32_t priority = placement->vcpu_priority > placement->io_priority
                                  ? placement->vcpu_priority
                                  : placement->io_priority;
    if (priority > 0) {
        raise_limit(vm, priority);
    }
    status = wire.bad ? vh_fail(err, VMMHPC_E_LIMIT, 0, placement->io_pin_count,
                                "the placement does not fit into a message")
                      : vh_remote_call(vm, VH_REQUEST_PLACE, &wire, NULL, err);
    free(data);
    return status;
}
