/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the library uses: error reporting and small arithmetic. */
#ifndef VH_INTERNAL_H
#define VH_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/** Monotonic clock in nanoseconds. */
uint64_t vh_now_ns(void);

#endif
