/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A micro test framework with TAP output. A file defines tests by TEST(name) { ... }; inside, CHECK
 * macros report what is wrong and go on. `unit-tests` runs all, `unit-tests NAME ...` some of them
 * and `unit-tests --list` names them.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmmhpc.h"

struct tap_test {
    const char *name;
    void (*run)(void);
    struct tap_test *next;
};

void tap_register(struct tap_test *test);
int tap_main(int argc, char **argv);

#define TEST(test_name)                                                                            \
    static void run_##test_name(void);                                                             \
    static struct tap_test entry_##test_name = {#test_name, run_##test_name, 0};                   \
    __attribute__((constructor)) static void register_##test_name(void)                            \
    {                                                                                              \
        tap_register(&entry_##test_name);                                                          \
    }                                                                                              \
    static void run_##test_name(void)

/** Where a check stands, for its message. */
struct tap_site {
    const char *file;
    int line;
};

#define TAP_SITE ((struct tap_site){__FILE__, __LINE__})

/** Mark the running test as skipped; it should return. */
void tap_skip(const char *reason);

bool tap_check(struct tap_site site, bool condition, const char *text);
bool tap_check_equal(struct tap_site site, uint64_t actual, uint64_t expected, const char *text);
bool tap_check_contains(struct tap_site site, const char *actual, const char *part);
/** Status and text of an error together; part may be "" to accept any text. */
bool tap_check_error(struct tap_site site, int32_t status, const struct vmmhpc_error *err,
                     int32_t expected, const char *part);

#define CHECK(condition) tap_check(TAP_SITE, (condition), #condition)
#define CHECK_EQ(actual, expected)                                                                 \
    tap_check_equal(TAP_SITE, (uint64_t)(actual), (uint64_t)(expected), #actual " == " #expected)
#define CHECK_CONTAINS(actual, part) tap_check_contains(TAP_SITE, (actual), (part))
#define CHECK_OK(status, err) tap_check_error(TAP_SITE, (status), (err), VMMHPC_OK, "")
#define CHECK_ERROR(status, err, expected, part)                                                   \
    tap_check_error(TAP_SITE, (status), (err), (expected), (part))

#endif
