/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm-hpc: the monitor of one machine. Started by vmmhpc_spawn() only, with the starter's socket as
 * descriptor 3:
 *
 *     vmm-hpc PARTS NAME [MODULE...]
 *
 * parts of the jail to go without (enum vmmhpc_jail_part), the machine's name, shared objects.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef VH_DEBUG_MONITOR
#include "monitor/breakout.h"
#endif
#include "monitor/jail.h"
#include "monitor/monitor.h"

#define STARTER_FD 3

static void hello(int32_t status, const struct vmmhpc_error *err)
{
    uint8_t data[256];
    struct vh_wire wire;
    vh_wire_init(&wire, data, sizeof(data));
    wire.head = (struct vh_message){
        .magic = VH_WIRE_MAGIC,
        .major = VMMHPC_PROTOCOL_MAJOR,
        .minor = VMMHPC_PROTOCOL_MINOR,
        .type = VH_REQUEST_HELLO,
        .status = status,
        .sys_errno = err->sys_errno,
        .value = err->value,
    };
    if (status != VMMHPC_OK) {
        vh_put_bytes(&wire, err->text, sizeof(err->text)); /* as plain text */
    }
    (void)vh_wire_send(STARTER_FD, &wire, true);
}

static int32_t make_buffers(struct vh_monitor *monitor, struct vmmhpc_error *err)
{
    uint8_t *base = mmap(NULL, 2 * (size_t)VH_WIRE_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    monitor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (base == MAP_FAILED || monitor->wake_fd < 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for a monitor");
    }
    /* No handler: one that returns would need a system call more. */
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL);
    monitor->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (monitor->signal_fd < 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no descriptor for signals");
    }
    monitor->in = base;
    monitor->out = base + VH_WIRE_BYTES;
    return VMMHPC_OK;
}

int main(int argc, char **argv)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct ucred starter;
    socklen_t bytes = sizeof(starter);
    struct vh_monitor monitor = {.status_fd = -1,
                                 .history_fd = -1,
                                 .log_fd = -1,
                                 .listener = -1,
                                 .wake_fd = -1,
                                 .signal_fd = -1,
                                 .clients = {STARTER_FD}};
    for (uint32_t i = 1; i < VH_CLIENTS; i++) {
        monitor.clients[i] = -1;
    }
    if (argc < 3 || getsockopt(STARTER_FD, SOL_SOCKET, SO_PEERCRED, &starter, &bytes) != 0) {
        static const char usage[] = "vmm-hpc is started by libvmmhpc: see v2m start\n";
        return write(STDERR_FILENO, usage, sizeof(usage) - 1) < 0 ? 2 : 1;
    }
    const struct vh_jail_config jail = {.without = (uint32_t)strtoul(argv[1], NULL, 10)};
    int32_t status = vh_monitor_open_modules(&monitor, argv + 3, (uint32_t)argc - 3, &err);
    if (status == VMMHPC_OK) {
        status = vh_jail_enter(&jail, &err);
    }
    if (status == VMMHPC_OK &&
        getsockopt(STARTER_FD, SOL_SOCKET, SO_PEERCRED, &starter, &bytes) == 0) {
        monitor.owner = starter.uid; /* as this user namespace counts */
        status = make_buffers(&monitor, &err);
    }
    monitor.confine = (jail.without & VH_JAIL_SECCOMP) == 0;
    hello(status, &err);
    if (status != VMMHPC_OK) {
        return 1;
    }
    vh_words_watch(&monitor);
#ifdef VH_DEBUG_MONITOR
    (void)vh_breakout_prepare(NULL);
#endif
    vh_monitor_serve(&monitor);
    _exit(0);
}
