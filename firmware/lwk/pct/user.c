/* SPDX-License-Identifier: Apache-2.0 */
/* The application's memory, always by the QK's translation and with the application's own rights.
 */
#include "mm.h"
#include "pct.h"

uint64_t user_piece(uint64_t va, uint64_t bytes, uint32_t prot, uint64_t *got)
{
    uint64_t out[2] = {0, 0};

    if (bytes == 0 || qk_translate(va, bytes, prot, out) != 0 || out[1] == 0) {
        *got = 0;
        return NO_MEMORY;
    }
    *got = least(out[1], bytes);
    return out[0];
}

bool user_read(void *to, uint64_t va, uint64_t bytes)
{
    uint8_t *at = to;
    uint64_t got;

    for (; bytes > 0; bytes -= got) {
        uint64_t pa = user_piece(va, bytes, PROT_READ, &got);
        if (pa == NO_MEMORY) {
            return false;
        }
        memcpy(at, ram(pa), got);
        at += got;
        va += got;
    }
    return true;
}

bool user_write(uint64_t va, const void *from, uint64_t bytes)
{
    const uint8_t *at = from;
    uint64_t got;

    for (; bytes > 0; bytes -= got) {
        uint64_t pa = user_piece(va, bytes, PROT_WRITE, &got);
        if (pa == NO_MEMORY) {
            return false;
        }
        memcpy(ram(pa), at, got);
        at += got;
        va += got;
    }
    return true;
}

bool user_zero(uint64_t va, uint64_t bytes)
{
    uint64_t got;

    for (; bytes > 0; bytes -= got) {
        uint64_t pa = user_piece(va, bytes, PROT_WRITE, &got);
        if (pa == NO_MEMORY) {
            return false;
        }
        memset(ram(pa), 0, got);
        va += got;
    }
    return true;
}

int64_t user_string(char *to, uint64_t va, uint64_t room)
{
    uint64_t used = 0;

    while (used < room) {
        uint64_t got;
        uint64_t pa = user_piece(va + used, room - used, PROT_READ, &got);
        if (pa == NO_MEMORY) {
            return -EFAULT;
        }
        const volatile char *from = ram(pa); /* other threads may write there meanwhile */
        for (uint64_t i = 0; i < got; i++, used++) {
            to[used] = from[i];
            if (to[used] == '\0') {
                return (int64_t)used;
            }
        }
    }
    return -ENAMETOOLONG;
}
