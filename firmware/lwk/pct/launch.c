/* SPDX-License-Identifier: Apache-2.0 */
/* The launch module (vmmhpc_yod.h), checked before anything in it is used. */
#include "launch.h"

#include "qk_pct.h"

static bool refuse(struct text *why, const char *reason)
{
    text_add(why, reason);
    return false;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t all)
{
    return offset >= sizeof(struct yod_launch) && offset <= all && bytes <= all - offset;
}

/* Start of the string that follows `count` others; NULL if they do not all end in NUL. */
static const char *skip(const char *strings, uint64_t bytes, uint64_t count)
{
    uint64_t at = 0;

    for (; count > 0; count--) {
        while (at < bytes && strings[at] != '\0') {
            at++;
        }
        if (at == bytes) {
            return NULL;
        }
        at++;
    }
    return strings + at;
}

bool launch_check(const void *module, uint64_t bytes, struct launch *launch, struct text *why)
{
    const struct yod_launch *header = module;

    if (bytes < sizeof(*header) || header->magic != YOD_LAUNCH_MAGIC) {
        return refuse(why, "the module is not a launch module");
    }
    if (header->version != YOD_LAUNCH_VERSION || header->bytes_header != sizeof(*header)) {
        return refuse(why, "the launch module is of another version than this kernel");
    }
    if (header->bytes > bytes) {
        return refuse(why, "the launch module was cut short");
    }
    if (!inside(header->app_offset, header->app_bytes, header->bytes) ||
        header->app_offset % LWK_PAGE != 0 ||
        !inside(header->strings_offset, header->strings_bytes, header->bytes)) {
        return refuse(why, "an offset in the launch module points outside of it");
    }
    if (header->argc == 0 || header->pid == 0 || header->pid > INT32_MAX) {
        return refuse(why, "the launch module has no argument 0 or no process number");
    }
    launch->header = header;
    launch->app = (const uint8_t *)module + header->app_offset;
    launch->strings = (const char *)module + header->strings_offset;
    uint64_t before = (uint64_t)header->argc + header->envc;
    if (skip(launch->strings, header->strings_bytes, before + 1) == NULL) {
        return refuse(why, "the launch module has fewer strings than it says");
    }
    launch->execfn = skip(launch->strings, header->strings_bytes, before);
    return true;
}
