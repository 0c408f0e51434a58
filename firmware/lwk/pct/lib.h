/* SPDX-License-Identifier: Apache-2.0 */
/* The little that the PCT needs of a C library, and texts put together piece by piece. */
#ifndef PCT_LIB_H
#define PCT_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);

/** A text that never grows beyond its room and always ends in NUL. */
struct text {
    char *start;
    size_t used;
    size_t room;
};

void text_init(struct text *text, char *start, size_t room);
void text_add(struct text *text, const char *part);
void text_number(struct text *text, uint64_t value, uint32_t base);
void text_signed(struct text *text, int64_t value);

static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

/** Of values that leave room for it: callers have checked them against LWK_APP_HIGH or RAM. */
static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
