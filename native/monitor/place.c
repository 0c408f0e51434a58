/* SPDX-License-Identifier: Apache-2.0 */
/* Where the machine runs, at the starter's request: what remote/client_place.c sends. */
#include <errno.h>
#include <stdlib.h>

#include "monitor/monitor.h"
#include "vmmhpc_place.h"

#define IO_PINS_MAX 8192u

/* The next numbers of a message, the caller's to free; NULL where there are none. */
static void *get_numbers(struct vh_wire *in, uint32_t count, size_t bytes)
{
    void *numbers = in->bad || count == 0 ? NULL : calloc(count, bytes);
    if (numbers != NULL) {
        vh_get_bytes(in, numbers, count * (uint32_t)bytes);
    } else {
        in->bad = in->bad || count > 0;
    }
    return numbers;
}

int32_t vh_monitor_place(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = monitor->vm;
    struct vmmhpc_placement placement = {.size = sizeof(placement)};
    placement.without_exits = vh_get_u32(in);
    placement.vcpu_priority = vh_get_u32(in);
    placement.io_priority = vh_get_u32(in);
    placement.cache_cores = vh_get_u32(in);
    placement.io_pin_count = vh_get_u32(in);
    placement.nodes = vh_get_u32(in);
    const bool distances = vh_get_u32(in) != 0;
    const uint32_t nodes = placement.nodes;
    in->bad = in->bad || placement.io_pin_count > IO_PINS_MAX || nodes > VMMHPC_NODES_MAX;
    int32_t *io_pin = get_numbers(in, placement.io_pin_count, sizeof(*io_pin));
    uint32_t *vcpus = get_numbers(in, nodes > 0 ? vm->cpus : 0, sizeof(*vcpus));
    uint32_t *regions = get_numbers(in, nodes > 0 ? vm->memory.mapping_count : 0, sizeof(*regions));
    uint8_t *table = get_numbers(in, distances ? nodes * nodes : 0, sizeof(*table));
    placement.io_pin = io_pin;
    placement.vcpu_nodes = vcpus;
    placement.memory_nodes = regions;
    placement.distances = table;
    int32_t status = vh_wire_done(in) ? vmmhpc_place(vm, &placement, err)
                                      : vh_fail(err, VMMHPC_E_INVALID, EBADMSG, in->head.type,
                                                "request %u makes no sense", in->head.type);
    free(io_pin);
    free(vcpus);
    free(regions);
    free(table);
    return status;
}
