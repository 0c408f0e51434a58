/* SPDX-License-Identifier: Apache-2.0 */
/* Placing a machine in a monitor. Its jail has no capabilities, so where this process has the right
 * to real-time priority and the monitor has not, it is given from here: to the threads that wait
 * for their work. The monitor sets it once more, which is refused unless it is there already. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "remote.h"

/* What the monitor calls its threads: native/monitor/threads.c. */
static uint32_t priority_of(const char *name, const struct vmmhpc_placement *placement)
{
    if (strncmp(name, "vcpu", 4) == 0) {
        return placement->vcpu_priority;
    }
    return strncmp(name, "vmmhpc-", 7) == 0 ? placement->io_priority : 0;
}

/* Of a thread in that directory of /proc: its name. */
static bool read_name(int tasks, const char *tid, char *name, size_t bytes)
{
    char path[32];
    ssize_t got = -1;
    (void)snprintf(path, sizeof(path), "%.16s/comm", tid);
    int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        got = read(fd, name, bytes - 1);
        (void)close(fd);
    }
    name[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static void give_priorities(const struct vmmhpc *vm, const struct vmmhpc_placement *placement)
{
    struct vmmhpc_status_page page;
    char path[32];
    if (!vh_remote_page(vm, &page) || page.pid == 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/%u/task", page.pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        char name[32];
        if (entry->d_name[0] == '.' ||
            !read_name(dirfd(tasks), entry->d_name, name, sizeof(name))) {
            continue;
        }
        const uint32_t priority = priority_of(name, placement);
        const struct sched_param parameters = {.sched_priority = (int)priority};
        if (priority > 0 && priority <= VMMHPC_PRIORITY_MAX) {
            (void)sched_setscheduler((pid_t)strtol(entry->d_name, NULL, 10), SCHED_FIFO,
                                     &parameters);
        }
    }
    (void)closedir(tasks);
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
    if (placement->vcpu_priority > 0 || placement->io_priority > 0) {
        give_priorities(vm, placement);
    }
    status = wire.bad ? vh_fail(err, VMMHPC_E_LIMIT, 0, placement->io_pin_count,
                                "the placement does not fit into a message")
                      : vh_remote_call(vm, VH_REQUEST_PLACE, &wire, NULL, err);
    free(data);
    return status;
}
