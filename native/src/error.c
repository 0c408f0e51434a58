/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* also where others build it for themselves */
#endif
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "internal.h"

int32_t vh_fail(struct vmmhpc_error *err, int32_t code, int sys_errno, uint64_t value,
                const char *format, ...)
{
    /* A caller of an older header may own a shorter structure; it must at least hold the codes. */
    if (err == NULL || err->size < offsetof(struct vmmhpc_error, text) + 1) {
        return code;
    }
    err->code = code;
    err->sys_errno = sys_errno;
    err->value = value;
    size_t room = err->size - offsetof(struct vmmhpc_error, text);
    if (room > sizeof(err->text)) {
        room = sizeof(err->text);
    }
    va_list args;
    va_start(args, format);
    /* clang-tidy 14 does not see va_start(). */
    (void)vsnprintf(err->text, room, format, args); // NOLINT(clang-analyzer-valist.Uninitialized)
    va_end(args);
    return code;
}

const char *vh_errno_name(int number)
{
#ifdef __GLIBC__
    const char *name = strerrorname_np(number);
    return name == NULL ? "unknown error" : name;
#else
    return vh_errno_text(number);
#endif
}

const char *vh_errno_text(int number)
{
#ifdef __GLIBC__
    const char *text = strerrordesc_np(number);
    return text == NULL ? "unknown error" : text;
#else
    return strerror(number); /* of musl: constants */
#endif
}

uint64_t vh_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint32_t vmmhpc_version(void)
{
    return VMMHPC_VERSION_MAJOR << 16 | VMMHPC_VERSION_MINOR;
}

const char *vmmhpc_status_name(int32_t code)
{
    static const char *const names[] = {
        "VMMHPC_OK",           "VMMHPC_E_INVALID",     "VMMHPC_E_NO_MEMORY", "VMMHPC_E_NO_KVM",
        "VMMHPC_E_PERMISSION", "VMMHPC_E_UNSUPPORTED", "VMMHPC_E_SYSCALL",   "VMMHPC_E_RANGE",
        "VMMHPC_E_OVERLAP",    "VMMHPC_E_BAD_IMAGE",   "VMMHPC_E_TRUNCATED", "VMMHPC_E_NO_ROOM",
        "VMMHPC_E_STATE",      "VMMHPC_E_LIMIT",       "VMMHPC_E_IO",        "VMMHPC_E_TIMEOUT",
    };
    if (code > 0 || code < -(int32_t)(VH_COUNT(names) - 1)) {
        return "VMMHPC_E_UNKNOWN";
    }
    return names[-code];
}
