/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port, a little formatting, and what the compiler expects of a C library. */
#include "qk.h"

#define LSR 5
#define LSR_EMPTY 0x20

void console_write(const char *text, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        for (uint32_t k = 0; k < 100000 && (inb(VH_UART_PORT + LSR) & LSR_EMPTY) == 0; k++) {
            pause();
        }
        outb(VH_UART_PORT, (uint8_t)text[i]);
    }
}

struct buffer {
    char *at, *end;
};

static void put(struct buffer *b, char c)
{
    if (b->at < b->end) {
        *b->at++ = c;
    }
}

static void put_number(struct buffer *b, uint64_t v, uint32_t base)
{
    uint64_t unit = 1;

    while (v / unit >= base) {
        unit *= base;
    }
    for (; unit > 0; unit /= base) {
        put(b, "0123456789abcdef"[v / unit % base]);
    }
}

/* %s %u %lu %x %lx, and # with %x. Cut off where it does not fit. */
void format_text(char *out, uint64_t bytes, const char *format, va_list list)
{
    struct buffer b = {out, out + bytes - 1};

    for (const char *p = format; *p != 0; p++) {
        bool wide = false;

        if (*p != '%') {
            put(&b, *p);
            continue;
        }
        for (p++; *p == '#' || *p == 'l'; p++) {
            wide = wide || *p == 'l';
            if (*p == '#') {
                put(&b, '0');
                put(&b, 'x');
            }
        }
        if (*p == 's') {
            for (const char *text = va_arg(list, const char *); *text != 0; text++) {
                put(&b, *text);
            }
        } else {
            put_number(&b, wide ? va_arg(list, uint64_t) : va_arg(list, uint32_t),
                       *p == 'u' ? 10 : 16);
        }
    }
    *b.at = 0;
}

void print(const char *format, ...)
{
    char line[256];
    va_list list;
    uint64_t bytes = 0;

    va_start(list, format);
    format_text(line, sizeof(line), format, list);
    va_end(list);
    while (line[bytes] != 0) {
        bytes++;
    }
    console_write(line, bytes);
}

/* By words first: not every CPU has fast byte-wise string instructions. */
void *memset(void *to, int value, size_t bytes)
{
    uint64_t word = (uint8_t)value * 0x0101010101010101ull;
    uint64_t words = bytes / 8;
    void *at = to;

    bytes %= 8;
    __asm__ volatile("rep stosq; mov %2, %1; rep stosb"
                     : "+D"(at), "+c"(words)
                     : "r"(bytes), "a"(word)
                     : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    uint64_t words = bytes / 8;
    void *at = to;

    bytes %= 8;
    __asm__ volatile("rep movsq; mov %3, %2; rep movsb"
                     : "+D"(at), "+S"(from), "+c"(words)
                     : "r"(bytes)
                     : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;

    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i]) {
            return x[i] - y[i];
        }
    }
    return 0;
}
