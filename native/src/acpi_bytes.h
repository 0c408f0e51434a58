/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded little-endian byte writer. Once full it only remembers that it overflowed, so that a
 * table is written straight through and checked once, at its end. */
#ifndef VH_ACPI_BYTES_H
#define VH_ACPI_BYTES_H

#include <string.h>

#include "internal.h"

struct vh_bytes {
    uint8_t *data;
    uint32_t capacity;
    uint32_t used;
    bool overflow;
};

static inline void vh_emit(struct vh_bytes *out, const void *bytes, uint32_t count)
{
    if (out->overflow || count > out->capacity - out->used) {
        out->overflow = true;
        return;
    }
    memcpy(out->data + out->used, bytes, count);
    out->used += count;
}

/** The low `count` bytes of value, count up to 8. */
static inline void vh_emit_int(struct vh_bytes *out, uint64_t value, uint32_t count)
{
    uint8_t bytes[8];
    for (uint32_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    vh_emit(out, bytes, count);
}

static inline void vh_emit8(struct vh_bytes *out, uint64_t value)
{
    vh_emit_int(out, value, 1);
}

static inline void vh_emit16(struct vh_bytes *out, uint64_t value)
{
    vh_emit_int(out, value, 2);
}

static inline void vh_emit32(struct vh_bytes *out, uint64_t value)
{
    vh_emit_int(out, value, 4);
}

static inline void vh_emit64(struct vh_bytes *out, uint64_t value)
{
    vh_emit_int(out, value, 8);
}

/** Zeros up to the next multiple of a power of two. */
static inline void vh_emit_align(struct vh_bytes *out, uint32_t alignment)
{
    while (!out->overflow && (out->used & (alignment - 1)) != 0) {
        vh_emit8(out, 0);
    }
}

/** Make room for `count` bytes at `at` by moving what follows, and fill it. */
static inline void vh_emit_insert(struct vh_bytes *out, uint32_t at, const void *bytes,
                                  uint32_t count)
{
    const uint32_t tail = out->used - at;
    vh_emit(out, bytes, count); /* checks the room */
    if (!out->overflow) {
        memmove(out->data + at + count, out->data + at, tail);
        memcpy(out->data + at, bytes, count);
    }
}

#endif
