/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (RFC 3720, B.4): the polynomial that SSE4.2 has an instruction for. */
#include <cpuid.h>

#include "format.h"

#define POLYNOMIAL 0x82f63b78u /* reversed */

__attribute__((target("sse4.2"))) static uint32_t fast(uint32_t crc, const uint8_t *at,
                                                       size_t bytes)
{
    uint64_t sum = crc;
    for (; bytes >= 8; at += 8, bytes -= 8) {
        uint64_t word = 0;
        memcpy(&word, at, 8);
        sum = __builtin_ia32_crc32di(sum, word);
    }
    uint32_t rest = (uint32_t)sum;
    for (; bytes > 0; at++, bytes--) {
        rest = __builtin_ia32_crc32qi(rest, *at);
    }
    return rest;
}

/* Four bits at a time. */
static uint32_t slow(uint32_t crc, const uint8_t *at, size_t bytes)
{
    uint32_t table[16];
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 4; bit++) {
            value = value >> 1 ^ ((value & 1) != 0 ? POLYNOMIAL : 0);
        }
        table[i] = value;
    }
    for (; bytes > 0; at++, bytes--) {
        crc ^= *at;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

uint32_t vh_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    uint32_t eax = 0;
    uint32_t ebx = 0;
    uint32_t ecx = 0;
    uint32_t edx = 0;
    bool has = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_2) != 0;
    return ~(has ? fast(~crc, data, bytes) : slow(~crc, data, bytes));
}
