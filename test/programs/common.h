// SPDX-License-Identifier: Apache-2.0
/* What the programs share: numbers that are the same everywhere, and checks. */
#ifndef V3M_PROGRAMS_COMMON_H
#define V3M_PROGRAMS_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/** Ends the program with code 99 and says where, if a condition does not hold. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                         \
            exit(99);                                                                              \
        }                                                                                          \
    } while (0)

/** The next of a sequence of pseudo-random numbers (SplitMix64). */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/** FNV-1a, 64 bits; start with FNV_START. */
#define FNV_START 0xcbf29ce484222325u
static inline uint64_t fnv(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3u;
    }
    return hash;
}

#endif
