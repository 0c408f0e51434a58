/* SPDX-License-Identifier: Apache-2.0 */
#include "tap.h"

#include <stdio.h>
#include <string.h>

static struct tap_test *first;
static uint32_t failures;
static const char *skipped;

void tap_register(struct tap_test *test)
{
    struct tap_test **at = &first;

    while (*at != NULL && strcmp((*at)->name, test->name) < 0) {
        at = &(*at)->next;
    }
    test->next = *at;
    *at = test;
}

void tap_skip(const char *reason)
{
    skipped = reason;
}

bool tap_check(struct tap_site site, bool condition, const char *text)
{
    if (!condition) {
        failures++;
        printf("# %s:%d: not so: %s\n", site.file, site.line, text);
    }
    return condition;
}

bool tap_check_equal(struct tap_site site, uint64_t actual, uint64_t expected, const char *text)
{
    if (actual != expected) {
        failures++;
        printf("# %s:%d: not so: %s: 0x%llx, not 0x%llx\n", site.file, site.line, text,
               (unsigned long long)actual, (unsigned long long)expected);
    }
    return actual == expected;
}

bool tap_check_contains(struct tap_site site, const char *actual, const char *part)
{
    bool found = strstr(actual, part) != NULL;

    if (!found) {
        failures++;
        printf("# %s:%d: \"%s\" does not contain \"%s\"\n", site.file, site.line, actual, part);
    }
    return found;
}

bool tap_check_error(struct tap_site site, int32_t status, const struct vmmhpc_error *err,
                     int32_t expected, const char *part)
{
    if (status != expected) {
        failures++;
        printf("# %s:%d: status is %s, not %s; text: %s\n", site.file, site.line,
               vmmhpc_status_name(status), vmmhpc_status_name(expected),
               status != VMMHPC_OK ? err->text : "");
        return false;
    }
    if (expected == VMMHPC_OK) {
        return true;
    }
    if (err->code != status) {
        failures++;
        printf("# %s:%d: err->code is %s, the status %s\n", site.file, site.line,
               vmmhpc_status_name(err->code), vmmhpc_status_name(status));
        return false;
    }
    return tap_check_contains(site, err->text, part);
}

static bool chosen(const struct tap_test *test, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], test->name) == 0) {
            return true;
        }
    }
    return argc < 2;
}

int tap_main(int argc, char **argv)
{
    uint32_t number = 0;
    uint32_t failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0); /* what a crash leaves must be there */
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const struct tap_test *test = first; test != NULL; test = test->next) {
            printf("%s\n", test->name);
        }
        return 0;
    }
    for (const struct tap_test *test = first; test != NULL; test = test->next) {
        if (!chosen(test, argc, argv)) {
            continue;
        }
        failures = 0;
        skipped = NULL;
        test->run();
        number++;
        failed += failures != 0 ? 1 : 0;
        printf("%s %u - %s", failures != 0 ? "not ok" : "ok", number, test->name);
        printf(skipped != NULL ? " # SKIP %s\n" : "\n", skipped);
    }
    printf("1..%u\n", number);
    if (number == 0 || (argc > 1 && number != (uint32_t)(argc - 1))) {
        fprintf(stderr, "unit-tests: no such test\n");
        return 2;
    }
    return failed != 0 ? 1 : 0;
}
