/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: clients come, ask, and go; the machine ends, and so does this. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/monitor.h"

/* A reader that does not take the last output delays the end no longer than this. */
#define LAST_OUTPUT_NS 10000000000ull
#define STEP_MS 5

/* False: the client is not worth waiting for. One that asks and does not read would hold up all
 * others; one that has gone does not miss the answer. */
static bool answer(struct vh_monitor *monitor, int fd, const struct vh_wire *in,
                   struct vh_wire *out, int32_t status, const struct vmmhpc_error *err)
{
    if (status == VMMHPC_OK && out->bad) {
        status = VMMHPC_E_LIMIT;
    }
    if (status != VMMHPC_OK) {
        vh_wire_close_fds(out);
        vh_wire_init(out, monitor->out, VH_WIRE_PAYLOAD);
        vh_put_text(out, err->text);
    }
    out->head = (struct vh_message){
        .magic = VH_WIRE_MAGIC,
        .major = VMMHPC_PROTOCOL_MAJOR,
        .minor = VMMHPC_PROTOCOL_MINOR,
        .type = in->head.type,
        .sequence = in->head.sequence,
        .status = status,
        .sys_errno = status == VMMHPC_OK ? 0 : err->sys_errno,
        .value = status == VMMHPC_OK ? 0 : err->value,
    };
    int failed = vh_wire_send(fd, out, false);
    vh_wire_close_fds(out);
    return failed == 0;
}

static int32_t carry_out(struct vh_monitor *monitor, bool starter, struct vh_wire *in,
                         struct vh_wire *out, struct vmmhpc_error *err)
{
    if (in->head.major != VMMHPC_PROTOCOL_MAJOR) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, in->head.major,
                       "this monitor speaks version %u.%u of the control protocol, not %u.%u",
                       VMMHPC_PROTOCOL_MAJOR, VMMHPC_PROTOCOL_MINOR, in->head.major,
                       in->head.minor);
    }
    if (in->head.type == VH_REQUEST_QUIT) {
        monitor->quit = true;
        return VMMHPC_OK;
    }
    if (in->head.type >= VH_REQUEST_HELLO && in->head.type <= VH_REQUEST_SETUP_LAST) {
        return starter && !monitor->started
                   ? vh_monitor_setup(monitor, in, out, err)
                   : vh_fail(err, VMMHPC_E_STATE, 0, in->head.type,
                             "request %u is for the starter, before the start", in->head.type);
    }
    if (monitor->vm == NULL) {
        return vh_fail(err, VMMHPC_E_STATE, 0, in->head.type, "there is no machine yet");
    }
#ifdef VH_DEBUG_MONITOR
    if (in->head.type == VH_REQUEST_TEST) {
        return vh_monitor_break_out(in, out, err);
    }
#endif
    return vh_monitor_request(monitor, in, out, err);
}

/* Only the owner and root, who comes as 0 where it has a number here: the socket's mode says so
 * too, but a directory may be moved or shared. The kernel vouches for the sender of each message.
 */
static bool may_ask(const struct vh_monitor *monitor, uint32_t sender)
{
    return sender != VH_NO_SENDER && (sender == monitor->owner || sender == 0);
}

/* False: the client has gone, talks nonsense, does not listen, or is not the owner. */
bool vh_monitor_message(struct vh_monitor *monitor, int fd, bool starter)
{
    struct vh_wire in;
    struct vh_wire out;
    struct vmmhpc_error err = {.size = sizeof(err)};
    vh_wire_init(&in, monitor->in, VH_WIRE_PAYLOAD);
    vh_wire_init(&out, monitor->out, VH_WIRE_PAYLOAD);
    int failed = vh_wire_receive(fd, &in, false);
    if (failed == EAGAIN || failed == EWOULDBLOCK) {
        return true;
    }
    if (failed != 0) {
        return false;
    }
    if (!may_ask(monitor, in.sender)) {
        vh_wire_close_fds(&in);
        return false;
    }
    int32_t status = carry_out(monitor, starter, &in, &out, &err);
    vh_wire_close_fds(&in);
    return answer(monitor, fd, &in, &out, status, &err);
}

static void accept_client(struct vh_monitor *monitor)
{
    int fd = accept4(monitor->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    for (uint32_t i = 0; i < VH_CLIENTS; i++) {
        if (monitor->clients[i] < 0) {
            monitor->clients[i] = fd;
            return;
        }
    }
    (void)close(fd);
}

static void serve_clients(struct vh_monitor *monitor, const struct pollfd *fds)
{
    for (uint32_t i = 0; i < VH_CLIENTS; i++) {
        bool was_started = monitor->started;
        if (monitor->clients[i] < 0 || fds[i].fd != monitor->clients[i] || fds[i].revents == 0) {
            continue;
        }
        if (!vh_monitor_message(monitor, monitor->clients[i], i == 0)) {
            (void)close(monitor->clients[i]);
            monitor->clients[i] = -1;
            monitor->quit = monitor->quit || !monitor->started; /* the starter gave up */
        }
        if (monitor->started != was_started) {
            vh_footprint_trim(monitor);
        }
    }
}

static bool turn(struct vh_monitor *monitor, int timeout_ms)
{
    struct pollfd fds[VH_CLIENTS + 3];
    for (uint32_t i = 0; i < VH_CLIENTS; i++) {
        fds[i] = (struct pollfd){.fd = monitor->clients[i], .events = POLLIN};
    }
    fds[VH_CLIENTS] = (struct pollfd){.fd = monitor->wake_fd, .events = POLLIN};
    fds[VH_CLIENTS + 1] =
        (struct pollfd){.fd = monitor->started ? monitor->listener : -1, .events = POLLIN};
    fds[VH_CLIENTS + 2] = (struct pollfd){.fd = monitor->signal_fd, .events = POLLIN};
    if (vh_poll(fds, VH_CLIENTS + 3, timeout_ms) < 0) {
        return errno == EINTR;
    }
    eventfd_t count = 0;
    (void)eventfd_read(monitor->wake_fd, &count);
    monitor->quit = monitor->quit || (fds[VH_CLIENTS + 2].revents & POLLIN) != 0;
    serve_clients(monitor, fds);
    if ((fds[VH_CLIENTS + 1].revents & POLLIN) != 0) {
        accept_client(monitor);
    }
    return true;
}

static bool has_ended(const struct vh_monitor *monitor)
{
    return monitor->started && vmmhpc_get_state(monitor->vm) >= VMMHPC_STATE_STOPPED;
}

void vh_monitor_serve(struct vh_monitor *monitor)
{
    while (!monitor->quit && !has_ended(monitor) && turn(monitor, -1)) {
    }
    if (monitor->vm == NULL) {
        return;
    }
    (void)vmmhpc_stop(monitor->vm, NULL);
    (void)vmmhpc_wait(monitor->vm, monitor->started ? -1 : 0, NULL);
    uint64_t end = vh_now_ns() + LAST_OUTPUT_NS;
    while (!monitor->quit && !vh_console_finished(monitor->vm) && vh_now_ns() < end &&
           turn(monitor, STEP_MS)) {
    }
    vmmhpc_destroy(monitor->vm); /* disks are flushed */
    vh_threads_destroy(monitor->threads);
    vh_history_free(monitor->history);
    vh_words_ended(monitor->page);
}
