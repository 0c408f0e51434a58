#include "channel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <unistd.h>

#define DEBUG_PORT 0xE9
#define FRAME_LIMIT 0xFFFF

void channel_open(void)
{
    /* Port 0xE9 is above the range that ioperm covers cheaply in all kernels; the agent is trusted
     * anyway. */
    if (iopl(3) != 0)
        _exit(1);
}

static void put(const void *data, size_t length)
{
    __asm__ volatile("rep outsb" : "+S"(data), "+c"(length) : "d"(DEBUG_PORT) : "memory");
}

void save_point(void)
{
    /* Single instructions: a machine saved in the middle of a repeated one might do a part of it
     * again. */
    for (int i = 0; i < SAVE_MARKS; i++)
        outb(SAVE_MARK, DEBUG_PORT);
    put(SYNC, sizeof SYNC - 1);
}

void send_frame(enum frame kind, const void *data, size_t length)
{
    const unsigned char *next = data;
    do {
        size_t part = length < FRAME_LIMIT ? length : FRAME_LIMIT;
        unsigned char header[4] = {'V', (unsigned char)kind, (unsigned char)part,
                                   (unsigned char)(part >> 8)};
        put(header, sizeof header);
        put(next, part);
        next += part;
        length -= part;
    } while (length > 0);
}

static void send_list(enum frame kind, const char *format, va_list list)
{
    char text[1024];
    int length = vsnprintf(text, sizeof text, format, list);
    if (length < 0)
        length = 0;
    send_frame(kind, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

void send_text(enum frame kind, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    send_list(kind, format, list);
    va_end(list);
}

void fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    send_list(FRAME_FAILED, format, list);
    va_end(list);
    for (;;)
        pause();
}

void fail_errno(const char *what)
{
    fail("%s: %s", what, strerror(errno));
}
