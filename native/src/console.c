/* SPDX-License-Identifier: Apache-2.0 */
/* Moves bytes between the UART and the descriptors of its console. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

/* What a pipe that polls as writable takes without blocking (POSIX PIPE_BUF is at least 512). */
#define WRITE_MAX 512u

void vh_console_init(struct vmmhpc *vm)
{
    vm->console = (struct vh_console){.in_fd = -1, .out_fd = -1};
}

static bool is_socket(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

static void close_end(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void vh_console_close(struct vmmhpc *vm)
{
    close_end(&vm->console.in_fd);
    close_end(&vm->console.out_fd);
}

/* Readiness without changing the descriptor's flags, which other processes may share. */
static bool ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return vh_poll(&p, 1, 0) == 1 && (p.revents & (events | POLLHUP | POLLERR)) != 0;
}

static void disconnect_output(struct vmmhpc *vm)
{
    close_end(&vm->console.out_fd);
    vm->console.out_blocked = false;
    vh_uart_connect(&vm->uart, false);
}

static ssize_t write_some(const struct vh_console *console, const uint8_t *data, uint32_t bytes)
{
    if (console->out_is_socket) {
        return send(console->out_fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (!ready(console->out_fd, POLLOUT)) {
        errno = EAGAIN;
        return -1;
    }
    return write(console->out_fd, data, bytes < WRITE_MAX ? bytes : WRITE_MAX);
}

static void pump_out(struct vmmhpc *vm)
{
    struct vh_console *console = &vm->console;
    uint8_t buffer[2048];
    console->out_blocked = false;
    while (console->out_fd >= 0) {
        uint32_t bytes = vh_uart_peek(&vm->uart, buffer, sizeof(buffer));
        if (bytes == 0) {
            return;
        }
        ssize_t written = write_some(console, buffer, bytes);
        if (written > 0) {
            vh_uart_consume(&vm->uart, (uint32_t)written);
        } else if (written < 0 && errno == EAGAIN) {
            console->out_blocked = true;
            return;
        } else if (written < 0 && errno != EINTR) {
            disconnect_output(vm); /* the reader has gone */
        }
    }
}

static void pump_in(struct vmmhpc *vm)
{
    struct vh_console *console = &vm->console;
    uint8_t buffer[VH_UART_FIFO];
    while (console->in_fd >= 0) {
        uint32_t room = vh_uart_rx_room(&vm->uart);
        if (room == 0 || !ready(console->in_fd, POLLIN)) {
            return;
        }
        ssize_t bytes = read(console->in_fd, buffer, room);
        if (bytes > 0) {
            (void)vh_uart_receive(&vm->uart, buffer, (uint32_t)bytes);
        } else if (bytes == 0 || (errno != EINTR && errno != EAGAIN)) {
            close_end(&console->in_fd); /* end of input */
        }
    }
}

void vh_console_pump(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->console_lock);
    if (vm->console.keeper != NULL) {
        vm->console.keeper->pump(vm);
    } else {
        pump_out(vm);
        pump_in(vm);
    }
    (void)pthread_mutex_unlock(&vm->console_lock);
    vh_console_account(vm);
}

void vh_console_account(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->uart.lock);
    __atomic_store_n(&vm->stats->console_out, vm->uart.bytes_out, __ATOMIC_RELAXED);
    __atomic_store_n(&vm->stats->console_dropped, vm->uart.bytes_dropped, __ATOMIC_RELAXED);
    __atomic_store_n(&vm->stats->console_in, vm->uart.bytes_in, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&vm->uart.lock);
}

uint32_t vh_console_poll(struct vmmhpc *vm, struct pollfd *fds)
{
    uint32_t count = 0;
    (void)pthread_mutex_lock(&vm->console_lock);
    if (vm->console.keeper != NULL) {
        count = vm->console.keeper->poll(vm, fds);
    }
    if (vm->console.in_fd >= 0 && vh_uart_rx_room(&vm->uart) > 0) {
        fds[count++] = (struct pollfd){.fd = vm->console.in_fd, .events = POLLIN};
    }
    if (vm->console.out_fd >= 0 && vm->console.out_blocked) {
        fds[count++] = (struct pollfd){.fd = vm->console.out_fd, .events = POLLOUT};
    }
    (void)pthread_mutex_unlock(&vm->console_lock);
    return count;
}

bool vh_console_finish(struct vmmhpc *vm)
{
    struct vh_console *console = &vm->console;
    uint8_t byte = 0;
    (void)pthread_mutex_lock(&vm->console_lock);
    if (console->finished) {
        /* Until another is attached. */
    } else if (vh_uart_peek(&vm->uart, &byte, 1) == 0 && console->keeper != NULL) {
        console->finished = console->keeper->finish(vm);
    } else if (console->out_fd < 0 || vh_uart_peek(&vm->uart, &byte, 1) == 0) {
        console->finished = console->keeper == NULL;
        if (console->out_fd >= 0 && console->out_is_socket) {
            (void)shutdown(console->out_fd, SHUT_WR);
        }
    }
    bool finished = console->finished;
    (void)pthread_mutex_unlock(&vm->console_lock);
    return finished;
}

/* Put descriptors in place; console_lock is held. They are the console's from now on. */
static void plug(struct vmmhpc *vm, int in, int out)
{
    struct vh_console *console = &vm->console;
    close_end(&console->in_fd);
    close_end(&console->out_fd);
    console->in_fd = in;
    console->out_fd = out;
    console->in_is_socket = is_socket(in);
    console->out_is_socket = is_socket(out);
    console->out_blocked = false;
    console->finished = false;
    vh_uart_connect(&vm->uart, out >= 0);
}

bool vh_console_finished(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->console_lock);
    bool finished = vm->console.finished || !vm->has_io_thread;
    (void)pthread_mutex_unlock(&vm->console_lock);
    return finished;
}

int32_t vmmhpc_console_attach(struct vmmhpc *vm, int32_t in_fd, int32_t out_fd,
                              struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->console_attach(vm, in_fd, out_fd, err);
    }
    int in = in_fd < 0 ? -1 : fcntl(in_fd, F_DUPFD_CLOEXEC, 0);
    int out = out_fd < 0 ? -1 : fcntl(out_fd, F_DUPFD_CLOEXEC, 0);
    if ((in_fd >= 0 && in < 0) || (out_fd >= 0 && out < 0)) {
        int failed = errno;
        close_end(&in);
        close_end(&out);
        return vh_fail(err, VMMHPC_E_INVALID, failed,
                       (uint64_t)(in_fd >= 0 && in < 0 ? in_fd : out_fd),
                       "cannot attach the console: the descriptor is not open");
    }
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->console_lock);
    if (vm->console.keeper == NULL) {
        plug(vm, in, out);
    } else if (in < 0 && out < 0) {
        vm->console.keeper->detach(vm);
    } else {
        status = vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                         "a console that keeps its output gives sockets away: open it");
    }
    (void)pthread_mutex_unlock(&vm->console_lock);
    if (status != VMMHPC_OK) {
        close_end(&in);
        close_end(&out);
    }
    vh_io_wake(vm);
    return status;
}

int32_t vmmhpc_console_detach(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    return vmmhpc_console_attach(vm, -1, -1, err);
}

bool vh_console_attached(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->console_lock);
    bool result =
        vm->console.keeper != NULL ? vm->console.keeper->attached(vm) : vm->console.out_fd >= 0;
    (void)pthread_mutex_unlock(&vm->console_lock);
    return result;
}

int32_t vmmhpc_console_open(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err)
{
    int pair[2];
    if (vm->remote != NULL) {
        return vm->remote->ops->console_open(vm, fd, err);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create a socket pair");
    }
    int32_t status = VMMHPC_OK;
    if (vm->console.keeper == NULL) {
        status = vmmhpc_console_attach(vm, pair[0], pair[0], err);
        (void)close(pair[0]);
    } else {
        (void)pthread_mutex_lock(&vm->console_lock);
        status = vm->console.keeper->join(vm, pair[0], err);
        (void)pthread_mutex_unlock(&vm->console_lock);
        if (status != VMMHPC_OK) {
            (void)close(pair[0]);
        }
        vh_io_wake(vm);
    }
    if (status != VMMHPC_OK) {
        (void)close(pair[1]);
        return status;
    }
    *fd = pair[1];
    return VMMHPC_OK;
}
