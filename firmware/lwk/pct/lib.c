/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory functions by string instructions on eight bytes at once: processors that are emulated take
 * one step for each, and the PCT has no vector registers to copy with. The compiler calls the first
 * four by itself.
 */
#include "lib.h"

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    void *at = to;
    size_t words = bytes / 8;
    size_t rest = bytes % 8;

    __asm__ volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(rest) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    if ((uintptr_t)to - (uintptr_t)from >= bytes) {
        return memcpy(to, from, bytes);
    }
    /* The end lies within the source: from the last word down. Not by `std`: an interrupt between
     * would put the QK at the mercy of the flag. */
    uint8_t *at = (uint8_t *)to + bytes;
    const uint8_t *source = (const uint8_t *)from + bytes;

    for (size_t words = bytes / 8; words > 0; words--) {
        uint64_t word;
        at -= 8;
        source -= 8;
        __asm__ volatile("mov (%[from]), %[word]\n\tmov %[word], (%[to])"
                         : [word] "=&r"(word)
                         : [from] "r"(source), [to] "r"(at)
                         : "memory");
    }
    for (size_t rest = bytes % 8; rest > 0; rest--) {
        *(volatile uint8_t *)--at = *--source;
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    void *at = to;
    uint64_t pattern = (uint8_t)value * 0x0101010101010101ull;
    size_t words = bytes / 8;
    size_t rest = bytes % 8;

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *left = a;
    const uint8_t *right = b;

    for (size_t i = 0; i < bytes; i++) {
        if (left[i] != right[i]) {
            return left[i] - right[i];
        }
    }
    return 0;
}

size_t strlen(const char *text)
{
    const char *at = text;

    while (*at != '\0') {
        __asm__ volatile("" : : : "memory"); /* or the compiler makes this loop a call of strlen */
        at++;
    }
    return (size_t)(at - text);
}
