/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the library uses: error reporting and small arithmetic. */
#ifndef VH_INTERNAL_H
#define VH_INTERNAL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "vmmhpc.h"

#define VH_KIB 1024ull
#define VH_MIB (1024ull * VH_KIB)
#define VH_GIB (1024ull * VH_MIB)
#define VH_PAGE 4096ull

#define VH_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/** Record an error and return its code, so that callers can write `return vh_fail(err, ...)`. */
__attribute__((format(printf, 5, 6))) int32_t vh_fail(struct vmmhpc_error *err, int32_t code,
                                                      int sys_errno, uint64_t value,
                                                      const char *format, ...);

/** a + b, or false where it would wrap. */
static inline bool vh_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/** Round up to a power of two; false where it would wrap. */
static inline bool vh_align_up(uint64_t value, uint64_t alignment, uint64_t *result)
{
    if (!vh_add(value, alignment - 1, result)) {
        return false;
    }
    *result &= ~(alignment - 1);
    return true;
}

static inline uint64_t vh_align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

/** pread() by the system call of preadv(): the monitor's lists have one for both. */
static inline ssize_t vh_pread(int fd, void *data, size_t bytes, off_t offset)
{
    const struct iovec part = {data, bytes};
    return preadv(fd, &part, 1, offset);
}

/** realloc() that makes no system call of its own for large blocks (mremap() is on no list of the
 *  monitor's). NULL: the old block is still there. */
static inline void *vh_grow(void *old, size_t old_bytes, size_t bytes)
{
    void *grown = malloc(bytes);
    if (grown != NULL && old != NULL) {
        memcpy(grown, old, old_bytes < bytes ? old_bytes : bytes);
        free(old);
    }
    return grown;
}

/** Its name ("EPERM"), where the C library knows it; else what it means. */
const char *vh_errno_name(int number);
/** What an errno means, in English whatever the locale; thread-safe. */
const char *vh_errno_text(int number);

/** Monotonic clock in nanoseconds. */
uint64_t vh_now_ns(void);

/* poll(), by ppoll(): one that was stopped (SIGSTOP) and goes on is the same call again then, where
 * poll() needs restart_syscall(), one more call for the monitor's lists. */
static inline int vh_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    const struct timespec limit = {.tv_sec = timeout_ms / 1000,
                                   .tv_nsec = timeout_ms % 1000 * 1000000l};
    return ppoll(fds, count, timeout_ms < 0 ? NULL : &limit, NULL);
}

#endif
