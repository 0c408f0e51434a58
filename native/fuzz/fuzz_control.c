/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control protocol, from a starter or a client that wishes a monitor ill. The input is a list
 * of records: a byte of flags, the length of the payload (two bytes), the request, and the payload.
 * What must hold: no access outside of anything (ASan), no descriptor left or closed twice, every
 * record answered by one, in its version, or the connection at its end.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../test/machine_rig.h"
#include "monitor/monitor.h"
#include "uart.h"

#define RAW 1u     /* the header is the input's, too */
#define STARTED 2u /* only the first record's counts */
#define FDS_SHIFT 4u

static struct vh_monitor monitor;
static uint8_t buffers[2][VH_WIRE_PAYLOAD];
static int ends[2];
static int next_fd; /* lowest free one: nothing may be left open */

static int file(uint64_t bytes)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

static void setup(bool started)
{
    next_fd = dup(0);
    MUST(next_fd >= 0 && close(next_fd) == 0);
    memset(&monitor, 0, sizeof(monitor));
    monitor.vm = machine_rig_new(4);
    monitor.vm->stats_fd = -1;
    monitor.vm->vcpus = calloc(1, sizeof(*monitor.vm->vcpus));
    monitor.vm->apic_ids = calloc(1, sizeof(*monitor.vm->apic_ids));
    MUST(monitor.vm->vcpus != NULL && monitor.vm->apic_ids != NULL);
    monitor.vm->vcpus[0].fd = -1;
    monitor.vm->vcpus[0].stats_fd = -1;
    monitor.vm->cpus = 1;
    monitor.vm->cores_per_socket = 1;
    monitor.vm->threads_per_core = 1;
    monitor.vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&monitor.vm->console_lock, NULL);
    (void)pthread_mutex_init(&monitor.vm->event_lock, NULL);
    (void)pthread_cond_init(&monitor.vm->changed, NULL);
    vh_events_init(monitor.vm);
    vh_console_init(monitor.vm);
    MUST(vh_uart_init(&monitor.vm->uart, NULL) == VMMHPC_OK);
    monitor.status_fd = file(sizeof(*monitor.page));
    monitor.page =
        mmap(NULL, sizeof(*monitor.page), PROT_READ | PROT_WRITE, MAP_SHARED, monitor.status_fd, 0);
    MUST(monitor.page != MAP_FAILED);
    monitor.history_fd = file(4096);
    MUST(vh_history_keep(monitor.vm, monitor.history_fd, -1, &monitor.history, NULL) == VMMHPC_OK);
    monitor.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    monitor.listener = -1;
    monitor.signal_fd = -1;
    for (uint32_t i = 0; i < VH_CLIENTS; i++) {
        monitor.clients[i] = -1;
    }
    monitor.started = started;
    monitor.in = buffers[0];
    monitor.out = buffers[1];
    monitor.owner = getuid();
    const int on = 1;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    MUST(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
}

static void close_if(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void teardown(void)
{
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)munmap(monitor.page, sizeof(*monitor.page));
    close_if(monitor.status_fd);
    close_if(monitor.history_fd);
    close_if(monitor.listener);
    close_if(monitor.wake_fd);
    vh_console_close(monitor.vm);
    vh_history_free(monitor.history);
    vh_uart_destroy(&monitor.vm->uart);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        close_if(monitor.vm->streams[i].fd);
    }
    vh_recipe_free(&monitor.vm->recipe);
    close_if(monitor.vm->wake_fd);
    monitor.vm->cpus = 0;
    free(monitor.vm->vcpus);
    free(monitor.vm->apic_ids);
    machine_rig_free(monitor.vm);
    int fd = dup(0);
    MUST(fd == next_fd); /* else something was left open */
    (void)close(fd);
}

/* What a monitor is sent: files of different sorts, none of them the one that it expects. */
static void attach(struct vh_wire *wire, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int fd = i % 3 == 0 ? file(2u << 20) : i % 3 == 1 ? eventfd(0, EFD_CLOEXEC) : file(0);
        vh_put_fd(wire, fd);
    }
}

static bool one(uint32_t flags, uint32_t type, uint32_t sequence, const uint8_t *payload,
                uint32_t bytes)
{
    static uint8_t data[VH_WIRE_PAYLOAD];
    struct vh_wire out;
    struct vh_wire in;
    vh_wire_init(&out, data, sizeof(data));
    out.head = (struct vh_message){
        .magic = VH_WIRE_MAGIC,
        .major = VMMHPC_PROTOCOL_MAJOR,
        .minor = VMMHPC_PROTOCOL_MINOR,
        .type = type,
        .sequence = sequence,
    };
    if ((flags & RAW) != 0 && bytes >= sizeof(out.head)) {
        memcpy(&out.head, payload, sizeof(out.head));
    }
    vh_put_bytes(&out, payload, bytes);
    attach(&out, flags >> FDS_SHIFT);
    int failed = vh_wire_send(ends[0], &out, true);
    vh_wire_close_fds(&out);
    MUST(failed == 0);
    bool goes_on = vh_monitor_message(&monitor, ends[1], true);
    vh_wire_init(&in, data, sizeof(data));
    failed = vh_wire_receive(ends[0], &in, false);
    MUST(goes_on ? failed == 0 : failed == EAGAIN);
    if (goes_on) {
        MUST(in.head.type == out.head.type && in.head.sequence == out.head.sequence);
        MUST(in.head.major == VMMHPC_PROTOCOL_MAJOR && in.head.status <= VMMHPC_OK);
        MUST(in.head.status == VMMHPC_OK || vh_get_text(&in) != NULL);
        fuzz_count(in.head.status == VMMHPC_OK);
    }
    vh_wire_close_fds(&in);
    return goes_on && !monitor.quit;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    bool goes_on = true;
    setup(bytes > 0 && (data[0] & STARTED) != 0);
    for (uint32_t sequence = 1; goes_on && bytes >= 4; sequence++) {
        uint8_t flags = data[0];
        uint32_t length = data[1] | (uint32_t)data[2] << 8;
        uint8_t type = data[3];
        data += 4;
        bytes -= 4;
        length = length < bytes ? length : (uint32_t)bytes;
        /* Nothing runs here: these wait for threads that are not there. */
        if (type != VH_REQUEST_PAUSE && type != VH_REQUEST_STOP && type != VH_REQUEST_START) {
            goes_on = one(flags & 0x31u, type, sequence, data, length);
        }
        data += length;
        bytes -= length;
    }
    teardown();
    return 0;
}
