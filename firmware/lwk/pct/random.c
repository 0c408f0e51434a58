/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getrandom(2): ChaCha20 (RFC 8439) under a key that is replaced after every use, so that what was
 * given out cannot be computed from what is left. The key comes from the host's generator, and from
 * RDRAND where there is one.
 */
#include <cpuid.h>

#include "mm.h"
#include "pct.h"

#define LARGEST 33554431u /* as Linux: of one call */

static uint32_t key[8];

static uint32_t turn(uint32_t value, uint32_t bits)
{
    return value << bits | value >> (32 - bits);
}

static void quarter(uint32_t *s, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    s[a] += s[b];
    s[d] = turn(s[d] ^ s[a], 16);
    s[c] += s[d];
    s[b] = turn(s[b] ^ s[c], 12);
    s[a] += s[b];
    s[d] = turn(s[d] ^ s[a], 8);
    s[c] += s[d];
    s[b] = turn(s[b] ^ s[c], 7);
}

static void block(uint32_t counter, uint32_t out[16])
{
    const uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1],
                                key[2],     key[3],     key[4],     key[5],     key[6], key[7],
                                counter,    0,          0,          0};

    memcpy(out, start, sizeof(start));
    for (uint32_t round = 0; round < 10; round++) {
        quarter(out, 0, 4, 8, 12);
        quarter(out, 1, 5, 9, 13);
        quarter(out, 2, 6, 10, 14);
        quarter(out, 3, 7, 11, 15);
        quarter(out, 0, 5, 10, 15);
        quarter(out, 1, 6, 11, 12);
        quarter(out, 2, 7, 8, 13);
        quarter(out, 3, 4, 9, 14);
    }
    for (uint32_t i = 0; i < 16; i++) {
        out[i] += start[i];
    }
}

void random_seed(const uint8_t seed[64])
{
    uint32_t words[16];
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;

    memcpy(words, seed, sizeof(words));
    __cpuid(1, a, b, c, d);
    for (uint32_t i = 0; i < 8; i++) {
        unsigned long long drawn = 0;
        if ((c & bit_RDRND) != 0) {
            __asm__ volatile("rdrand %0" : "=r"(drawn) : : "cc"); /* 0 when it fails: no harm */
        }
        key[i] = words[i] ^ words[8 + i] ^ (uint32_t)drawn ^ (uint32_t)(drawn >> 32);
    }
    key[0] ^= (uint32_t)tsc();
}

/* Block 0 of each use is the next key; what is given out starts at block 1. */
static void replace_key(void)
{
    uint32_t out[16];

    block(0, out);
    memcpy(key, out, sizeof(key));
}

static uint32_t fill(uint8_t *to, uint64_t bytes, uint32_t counter)
{
    uint32_t out[16];

    for (uint64_t done = 0; done < bytes; done += sizeof(out)) {
        block(counter++, out);
        memcpy(to + done, out, least(sizeof(out), bytes - done));
    }
    return counter;
}

void random_bytes(void *to, uint64_t bytes)
{
    (void)fill(to, bytes, 1);
    replace_key();
}

int64_t call_getrandom(const struct pct_event *event)
{
    uint64_t va = event->args[0];
    uint64_t bytes = least(event->args[1], LARGEST);
    uint64_t done = 0;
    uint32_t counter = 1;

    if (event->args[2] > 7 || (event->args[2] & 6) == 6) {
        return -EINVAL;
    }
    while (done < bytes) {
        uint64_t got;
        uint64_t pa = user_piece(va + done, bytes - done, PROT_WRITE, &got);
        if (pa == NO_MEMORY) {
            break;
        }
        counter = fill(ram(pa), got, counter);
        done += got;
    }
    replace_key();
    return done == 0 && bytes > 0 ? -EFAULT : (int64_t)done;
}
