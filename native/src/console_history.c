/* SPDX-License-Identifier: Apache-2.0 */
#include "console_history.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmmhpc_monitor.h"

#define RING_OFFSET 64u

_Static_assert(sizeof(struct vmmhpc_console_history) <= RING_OFFSET, "layout");

static uint8_t *ring(const struct vmmhpc_console_history *history)
{
    return (uint8_t *)(uintptr_t)history + RING_OFFSET;
}

void vh_history_append(struct vh_console *console, const uint8_t *data, uint32_t bytes)
{
    struct vmmhpc_console_history *history = console->history;
    if (history == NULL) {
        return;
    }
    /* Other processes may map the file: what they write there must not lead us out of it. */
    const uint64_t capacity = console->history_bytes - RING_OFFSET;
    uint64_t total = history->total;
    while (bytes > 0) {
        uint64_t at = total % capacity;
        uint64_t piece = bytes < capacity - at ? bytes : capacity - at;
        memcpy(ring(history) + at, data, piece);
        data += piece;
        bytes -= (uint32_t)piece;
        total += piece;
    }
    __atomic_store_n(&history->total, total, __ATOMIC_RELEASE);
}

void vh_history_send(const struct vh_console *console, int fd)
{
    const struct vmmhpc_console_history *history = console->history;
    if (history == NULL) {
        return;
    }
    const uint64_t capacity = console->history_bytes - RING_OFFSET;
    uint64_t total = history->total;
    uint64_t from = total > capacity ? total - capacity : 0;
    /* At most VMMHPC_HISTORY_MAX bytes: less than what a socket takes (net.core.wmem_default). */
    while (from < total) {
        uint64_t at = from % capacity;
        uint64_t piece = total - from < capacity - at ? total - from : capacity - at;
        struct iovec iov = {ring(history) + at, piece};
        const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        from += (uint64_t)sent;
    }
}

void vh_history_unmap(struct vh_console *console)
{
    if (console->history != NULL) {
        (void)munmap(console->history, console->history_bytes);
        console->history = NULL;
    }
}

int32_t vh_console_keep(struct vmmhpc *vm, int fd, struct vmmhpc_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || info.st_size <= (off_t)RING_OFFSET ||
        info.st_size > (off_t)(RING_OFFSET + VMMHPC_HISTORY_MAX)) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)info.st_size,
                       "the console's history has a bad size");
    }
    uint64_t bytes = (uint64_t)info.st_size;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, bytes, "cannot map the console's history");
    }
    (void)pthread_mutex_lock(&vm->console_lock);
    vh_history_unmap(&vm->console);
    vm->console.history = base;
    vm->console.history_bytes = bytes;
    *vm->console.history = (struct vmmhpc_console_history){
        .magic = VMMHPC_CONSOLE_MAGIC,
        .version = 1,
        .offset = RING_OFFSET,
        .capacity = bytes - RING_OFFSET,
    };
    vh_uart_connect(&vm->uart, true);
    (void)pthread_mutex_unlock(&vm->console_lock);
    return VMMHPC_OK;
}
