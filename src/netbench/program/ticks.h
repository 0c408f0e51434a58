/* SPDX-License-Identifier: Apache-2.0 */
/* The time-stamp counter, by which everything is timed. */
#ifndef NETBENCH_TICKS_H
#define NETBENCH_TICKS_H

#include <stdint.h>

static inline uint64_t ticks_now(void)
{
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

#endif
