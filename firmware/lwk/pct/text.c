/* SPDX-License-Identifier: Apache-2.0 */
/* Texts for people: reasons why a launch failed, and the report on the console. */
#include "lib.h"

void text_init(struct text *text, char *start, size_t room)
{
    *text = (struct text){start, 0, room};
    start[0] = '\0';
}

void text_add(struct text *text, const char *part)
{
    while (*part != '\0' && text->used + 1 < text->room) {
        text->start[text->used++] = *part++;
    }
    text->start[text->used] = '\0';
}

void text_number(struct text *text, uint64_t value, uint32_t base)
{
    char digits[24];
    char *at = digits + sizeof(digits);

    *--at = '\0';
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (base == 16) {
        text_add(text, "0x");
    }
    text_add(text, at);
}

void text_signed(struct text *text, int64_t value)
{
    if (value < 0) {
        text_add(text, "-");
    }
    text_number(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}
