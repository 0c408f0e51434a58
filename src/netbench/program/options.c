/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MOST (64u << 20)
#define PAGE UINT64_C(4096)
#define COMMON_BYTES (16 * PAGE) /* as guests have it */

static bool number(const char *text, uint64_t most, uint64_t *value)
{
    char *end = NULL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *value <= most;
}

static bool number32(const char *text, uint32_t most, uint32_t *value)
{
    uint64_t wide = 0;
    const bool ok = number(text, most, &wide);
    *value = (uint32_t)wide;
    return ok;
}

static bool choose(const char *text, const char *const *names, uint64_t count, uint64_t *value)
{
    for (*value = 0; *value < count; (*value)++) {
        if (strcmp(text, names[*value]) == 0) {
            return true;
        }
    }
    return false;
}

static bool cpus(const char *text, int value[2])
{
    char *end = NULL;
    value[0] = (int)strtol(text, &end, 10);
    value[1] = *end == ',' ? (int)strtol(end + 1, &end, 10) : value[0];
    return end != text && *end == '\0' && value[0] >= 0 && value[1] >= 0;
}

static bool set(struct options *o, const char *name, const char *value)
{
    static const char *const tests[] = {"", "latency", "stream", "both"};
    static const char *const roles[] = {"follow", "lead"};
    static const char *const waits[] = {"interrupt", "poll"};
    static const char *const writes[] = {"all", "own"};
    uint64_t chosen = 0;
    bool ok = true;
    if (strcmp(name, "via") == 0) {
        o->via = value;
    } else if (strcmp(name, "role") == 0) {
        ok = choose(value, roles, 2, &chosen);
        o->leads = chosen == 1;
    } else if (strcmp(name, "wait") == 0) {
        ok = choose(value, waits, 2, &chosen);
        o->polls = chosen == 1;
    } else if (strcmp(name, "test") == 0) {
        ok = choose(value, tests, 4, &o->test) && o->test != TEST_END;
    } else if (strcmp(name, "bytes") == 0) {
        ok = number(value, BYTES_MOST, &o->bytes) && o->bytes > 0;
    } else if (strcmp(name, "ns") == 0) {
        ok = number(value, UINT64_C(1) << 40, &o->ns);
    } else if (strcmp(name, "partner") == 0) {
        ok = number32(value, 63, &o->partner);
    } else if (strcmp(name, "session") == 0) {
        ok = number32(value, UINT32_MAX, &o->session) && o->session > 0;
    } else if (strcmp(name, "address") == 0) {
        o->address = value;
    } else if (strcmp(name, "port") == 0) {
        ok = number(value, UINT16_MAX, &chosen);
        o->port = (uint16_t)chosen;
    } else if (strcmp(name, "cpus") == 0) {
        ok = cpus(value, o->cpus);
    } else if (strcmp(name, "writes") == 0) {
        ok = choose(value, writes, 2, &chosen);
        o->protects = chosen == 1;
    } else if (strcmp(name, "common") == 0) {
        ok = number(value, BYTES_MOST, &o->common) && o->common % PAGE == 0;
    } else if (strcmp(name, "limit") == 0) {
        ok = number32(value, 1000000, &o->limit);
    } else {
        ok = false;
    }
    return ok;
}

bool options_read(struct options *o, int argc, char **argv)
{
    *o = (struct options){.via = "",
                          .bytes = 8,
                          .session = 1,
                          .address = "127.0.0.1",
                          .cpus = {-1, -1},
                          .common = COMMON_BYTES};
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals != NULL) {
            *equals = '\0';
        }
        if (equals == NULL || !set(o, argv[i], equals + 1)) {
            (void)fprintf(stderr, "netbench: %s: unknown, or no value for it\n", argv[i]);
            return false;
        }
    }
    return true;
}
