/* SPDX-License-Identifier: Apache-2.0 */
/* A console that keeps the last output: a ring in a file that is mapped shared, so that it outlives
 * the process, and readers who are fed from it, each from its own place on. One who does not read
 * holds the guest back, once the ring holds nothing but what it has not read. */
#include "monitor/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_OFFSET 64u

_Static_assert(sizeof(struct vmmhpc_console_history) <= RING_OFFSET, "layout");

/* Somebody who is attached: a socket. */
struct reader {
    int fd;      /* -1: free */
    uint64_t at; /* how much of the output has been sent, or was gone before */
    bool typing; /* its input has not ended */
};

struct vh_history {
    struct vmmhpc_console_history *file;
    uint64_t bytes; /* of the mapping */
    int log_fd;     /* all output goes there, too; -1: nowhere */
    struct reader readers[VH_CONSOLE_READERS];
};

static struct vh_history *of(const struct vmmhpc *vm)
{
    return vm->console.kept;
}

/* Other processes may map the file: what they write there must not lead us out of it. */
static uint64_t capacity_of(const struct vh_history *history)
{
    return history->bytes - RING_OFFSET;
}

static uint8_t *ring(const struct vh_history *history)
{
    return (uint8_t *)history->file + RING_OFFSET;
}

static void drop(struct reader *reader)
{
    (void)close(reader->fd);
    *reader = (struct reader){.fd = -1};
}

static void append(struct vh_history *history, const uint8_t *data, uint32_t bytes)
{
    const uint64_t capacity = capacity_of(history);
    uint64_t total = history->file->total;
    if (history->log_fd >= 0) {
        (void)!write(history->log_fd, data, bytes); /* a full disk must not stop the guest */
    }
    while (bytes > 0) {
        uint64_t at = total % capacity;
        uint64_t piece = bytes < capacity - at ? bytes : capacity - at;
        memcpy(ring(history) + at, data, piece);
        data += piece;
        bytes -= (uint32_t)piece;
        total += piece;
    }
    __atomic_store_n(&history->file->total, total, __ATOMIC_RELEASE);
}

/* What is there for a reader, as far as its socket takes it. */
static void feed(const struct vh_history *history, struct reader *reader)
{
    const uint64_t capacity = capacity_of(history);
    const uint64_t total = history->file->total;
    while (reader->fd >= 0 && reader->at < total) {
        uint64_t at = reader->at % capacity;
        uint64_t piece = total - reader->at < capacity - at ? total - reader->at : capacity - at;
        struct iovec iov = {ring(history) + at, piece};
        const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t sent = sendmsg(reader->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            reader->at += (uint64_t)sent;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            drop(reader); /* has gone */
        }
    }
}

/* Feed all; how much the ring takes before somebody would miss something. */
static uint64_t feed_all(struct vh_history *history)
{
    uint64_t lag = 0;
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        struct reader *reader = &history->readers[i];
        if (reader->fd >= 0) {
            feed(history, reader);
        }
        if (reader->fd >= 0 && history->file->total - reader->at > lag) {
            lag = history->file->total - reader->at;
        }
    }
    const uint64_t capacity = capacity_of(history);
    return lag < capacity ? capacity - lag : 0;
}

static void pump_out(struct vmmhpc *vm)
{
    struct vh_history *history = of(vm);
    uint8_t buffer[2048];
    for (;;) {
        uint64_t room = feed_all(history);
        uint32_t want = room < sizeof(buffer) ? (uint32_t)room : (uint32_t)sizeof(buffer);
        uint32_t bytes = want == 0 ? 0 : vh_uart_peek(&vm->uart, buffer, want);
        if (bytes == 0) {
            return;
        }
        append(history, buffer, bytes);
        vh_uart_consume(&vm->uart, bytes);
    }
}

static void pump_in(struct vmmhpc *vm)
{
    uint8_t buffer[VH_UART_FIFO];
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        struct reader *reader = &of(vm)->readers[i];
        uint32_t room = 0;
        while (reader->fd >= 0 && reader->typing && (room = vh_uart_rx_room(&vm->uart)) > 0) {
            ssize_t got = recv(reader->fd, buffer, room, MSG_DONTWAIT);
            if (got > 0) {
                (void)vh_uart_receive(&vm->uart, buffer, (uint32_t)got);
            } else if (got < 0 && errno == EAGAIN) {
                break;
            } else if (got == 0) {
                reader->typing = false; /* may still read */
            } else if (errno != EINTR) {
                drop(reader);
            }
        }
    }
}

static uint32_t poll_readers(struct vmmhpc *vm, struct pollfd *fds)
{
    const struct vh_history *history = of(vm);
    const bool room = vh_uart_rx_room(&vm->uart) > 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        const struct reader *reader = &history->readers[i];
        int events = reader->typing && room ? POLLIN : 0;

        if (reader->fd >= 0 && reader->at < history->file->total) {
            events |= POLLOUT;
        }
        if (events != 0) {
            fds[count++] = (struct pollfd){.fd = reader->fd, .events = (short)events};
        }
    }
    return count;
}

static bool finish(struct vmmhpc *vm)
{
    struct vh_history *history = of(vm);
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        const struct reader *reader = &history->readers[i];
        if (reader->fd >= 0 && reader->at < history->file->total) {
            return false;
        }
    }
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        if (history->readers[i].fd >= 0) {
            (void)shutdown(history->readers[i].fd, SHUT_WR);
        }
    }
    return true;
}

static int32_t join(struct vmmhpc *vm, int fd, struct vmmhpc_error *err)
{
    struct vh_history *history = of(vm);
    const uint64_t capacity = capacity_of(history);
    const uint64_t total = history->file->total;
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        if (history->readers[i].fd < 0) {
            history->readers[i] = (struct reader){
                .fd = fd,
                .at = total > capacity ? total - capacity : 0,
                .typing = true,
            };
            vm->console.finished = false;
            return VMMHPC_OK;
        }
    }
    return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_CONSOLE_READERS,
                   "at most %u are attached to a console at once", VH_CONSOLE_READERS);
}

static bool attached(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        struct pollfd p = {.fd = of(vm)->readers[i].fd};
        if (p.fd >= 0 && (vh_poll(&p, 1, 0) <= 0 || (p.revents & (POLLHUP | POLLERR)) == 0)) {
            return true;
        }
    }
    return false;
}

static void detach(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        if (of(vm)->readers[i].fd >= 0) {
            drop(&of(vm)->readers[i]);
        }
    }
}

static void pump(struct vmmhpc *vm)
{
    pump_out(vm);
    pump_in(vm);
}

static const struct vh_console_keeper keeper = {
    .pump = pump,
    .poll = poll_readers,
    .finish = finish,
    .join = join,
    .attached = attached,
    .detach = detach,
};

int32_t vh_history_keep(struct vmmhpc *vm, int fd, int log_fd, struct vh_history **result,
                        struct vmmhpc_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || info.st_size <= (off_t)RING_OFFSET ||
        info.st_size > (off_t)(RING_OFFSET + VMMHPC_HISTORY_MAX)) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)info.st_size,
                       "the console's history has a bad size");
    }
    struct vh_history *history = calloc(1, sizeof(*history));
    if (history == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*history), "no memory for a console");
    }
    history->bytes = (uint64_t)info.st_size;
    history->file = mmap(NULL, history->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (history->file == MAP_FAILED) {
        free(history);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, 0, "cannot map the console's history");
    }
    *history->file = (struct vmmhpc_console_history){
        .magic = VMMHPC_CONSOLE_MAGIC,
        .version = 1,
        .offset = RING_OFFSET,
        .capacity = history->bytes - RING_OFFSET,
    };
    history->log_fd = log_fd;
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        history->readers[i].fd = -1;
    }
    (void)pthread_mutex_lock(&vm->console_lock);
    vm->console.kept = history;
    vm->console.keeper = &keeper;
    vh_uart_connect(&vm->uart, true);
    (void)pthread_mutex_unlock(&vm->console_lock);
    *result = history;
    return VMMHPC_OK;
}

void vh_history_free(struct vh_history *history)
{
    if (history == NULL) {
        return;
    }
    for (uint32_t i = 0; i < VH_CONSOLE_READERS; i++) {
        if (history->readers[i].fd >= 0) {
            drop(&history->readers[i]);
        }
    }
    (void)munmap(history->file, history->bytes);
    free(history);
}
