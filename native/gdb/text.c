/* SPDX-License-Identifier: Apache-2.0 */
/* Making and parsing the text of packets. Every access is checked against the end. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

void gd_put(struct gd_text *text, const void *data, size_t bytes)
{
    if (text->failed || bytes > GD_OUTPUT_MAX - text->bytes) {
        text->failed = true;
        return;
    }
    if (text->bytes + bytes > text->room) {
        size_t room = text->room == 0 ? 256 : text->room;
        while (room < text->bytes + bytes) {
            room *= 2;
        }
        char *larger = realloc(text->data, room);
        if (larger == NULL) {
            text->failed = true;
            return;
        }
        text->data = larger;
        text->room = room;
    }
    if (bytes > 0) {
        memcpy(text->data + text->bytes, data, bytes);
        text->bytes += bytes;
    }
}

void gd_puts(struct gd_text *text, const char *string)
{
    gd_put(text, string, strlen(string));
}

void gd_printf(struct gd_text *text, const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    /* clang-tidy 14 does not always see va_start(). */
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
    int bytes = vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    if (bytes > 0) {
        gd_put(text, line, (size_t)bytes < sizeof(line) ? (size_t)bytes : sizeof(line) - 1);
    }
}

void gd_put_hex(struct gd_text *text, const void *data, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = data;
    for (size_t i = 0; i < bytes; i++) {
        const char pair[2] = {digits[from[i] >> 4], digits[from[i] & 15]};
        gd_put(text, pair, sizeof(pair));
    }
}

void gd_clear(struct gd_text *text)
{
    text->bytes = 0;
}

void gd_free(struct gd_text *text)
{
    free(text->data);
    *text = (struct gd_text){0};
}

int gd_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t gd_left(const struct gd_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

bool gd_take(struct gd_cursor *cursor, char c)
{
    if (cursor->at < cursor->end && *cursor->at == c) {
        cursor->at++;
        return true;
    }
    return false;
}

bool gd_take_word(struct gd_cursor *cursor, const char *word)
{
    size_t bytes = strlen(word);
    if (gd_left(cursor) < bytes || memcmp(cursor->at, word, bytes) != 0) {
        return false;
    }
    cursor->at += bytes;
    return true;
}

bool gd_take_number(struct gd_cursor *cursor, uint64_t *value)
{
    uint32_t digits = 0;
    *value = 0;
    while (cursor->at < cursor->end && gd_digit(*cursor->at) >= 0) {
        if (++digits > 16) {
            return false;
        }
        *value = *value << 4 | (uint64_t)gd_digit(*cursor->at++);
    }
    return digits > 0;
}

bool gd_take_bytes(struct gd_cursor *cursor, void *data, size_t bytes)
{
    uint8_t *to = data;
    if (gd_left(cursor) / 2 < bytes) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        int high = gd_digit(cursor->at[2 * i]);
        int low = gd_digit(cursor->at[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    cursor->at += 2 * bytes;
    return true;
}
