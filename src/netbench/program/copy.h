/* SPDX-License-Identifier: Apache-2.0 */
/* Copying without a C library, by the same instructions in processes and in guests. */
#ifndef NETBENCH_COPY_H
#define NETBENCH_COPY_H

#include <stdint.h>

static inline void copy(void *to, const void *from, uint64_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* For a few bytes, where "rep movsb" takes its time to start. */
static inline void copy_words(void *to, const void *from, uint64_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    for (; bytes >= 8; bytes -= 8, t += 8, f += 8) {
        uint64_t word = 0;
        __builtin_memcpy(&word, f, 8);
        __builtin_memcpy(t, &word, 8);
    }
    for (; bytes > 0; bytes--) {
        *t++ = *f++;
    }
}

#endif
