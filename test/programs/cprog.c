// SPDX-License-Identifier: Apache-2.0
/*
 * A C program as people write them: options, stdio, malloc in all sizes, qsort, numbers, time,
 * environment.
 *
 *     cprog [-n COUNT] [-s SEED] [-v] [WORD...]        exit code: the number of words
 *     cprog -x CODE                                    exit code: CODE
 *     cprog -c                                         standard input to standard output, in
 * capitals
 */
#include <ctype.h>
#include <errno.h>
#include <fenv.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { SLOTS = 2000 };

static int compare_u64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static int compare_words(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void sorting(uint64_t seed, size_t count)
{
    uint64_t *values = malloc(count * sizeof *values);
    CHECK(values != NULL);
    for (size_t i = 0; i < count; i++) {
        values[i] = next_random(&seed);
    }
    qsort(values, count, sizeof *values, compare_u64);
    for (size_t i = 1; i < count; i++) {
        CHECK(values[i - 1] <= values[i]);
    }
    uint64_t key = values[count / 3];
    CHECK(*(uint64_t *)bsearch(&key, values, count, sizeof *values, compare_u64) == key);
    printf("sorted %zu: %016" PRIx64 " ... %016" PRIx64 ", hash %016" PRIx64 "\n", count, values[0],
           values[count - 1], fnv(FNV_START, values, count * sizeof *values));
    free(values);
}

/** Blocks of 1 byte to 1 MiB that come, grow, shrink and go; each keeps its pattern. */
static void allocating(uint64_t seed)
{
    static unsigned char *block[SLOTS];
    static size_t bytes[SLOTS];
    uint64_t total = 0, moves = 0;
    for (int i = 0; i < 20000; i++) {
        size_t slot = next_random(&seed) % SLOTS;
        uint64_t what = next_random(&seed);
        size_t want = 1 + (what >> 8) % (1u << ((what >> 32) % (i % 100 == 0 ? 21 : 13)));
        if (block[slot] == NULL) {
            block[slot] = what % 3 == 0 ? calloc(1, want) : malloc(want);
            CHECK(block[slot] != NULL);
            CHECK(what % 3 != 0 || (block[slot][0] == 0 && block[slot][want - 1] == 0));
        } else {
            CHECK(block[slot][0] == (unsigned char)slot &&
                  block[slot][bytes[slot] - 1] == (unsigned char)slot);
            if (what % 2 == 0) {
                free(block[slot]);
                block[slot] = NULL;
                continue;
            }
            block[slot] = realloc(block[slot], want);
            CHECK(block[slot] != NULL);
            moves++;
        }
        bytes[slot] = want;
        block[slot][0] = block[slot][want - 1] = (unsigned char)slot;
        total += want;
    }
    for (size_t slot = 0; slot < SLOTS; slot++) {
        free(block[slot]);
        block[slot] = NULL;
    }
    void *aligned = aligned_alloc(1u << 16, 1u << 20);
    CHECK(aligned != NULL && (uintptr_t)aligned % (1u << 16) == 0);
    free(aligned);
    printf("allocated %" PRIu64 " bytes, %" PRIu64 " blocks changed their size\n", total, moves);
}

/** Only what is exact by IEEE 754 is printed in full; libm's last digit may depend on the CPU. */
static void computing(void)
{
    double sum = 0, term = 1;
    for (int i = 1; i <= 60; i++) {
        sum += term;
        term /= i;
    }
    double root = sqrt(2.0), harmonic = 0;
    for (int i = 1; i <= 1000000; i++) {
        harmonic += 1.0 / i;
    }
    printf("e %.17g, root of two %a, harmonic %.17g\n", sum, root, harmonic);
    printf("sin %.10f, exp %.10e, pow %.10g, atan2 %.10f, log %.10f\n", sin(1.5), exp(-20.25),
           pow(1.1, 300), atan2(-1, -2), log(12345.678));
    printf("long double %.18Lg, hypot %.10f\n", 1.0L / 3.0L, hypot(3e150, 4e150) / 5e150);
    CHECK(fesetround(FE_UPWARD) == 0);
    volatile double one = 1, three = 3;
    double up = one / three;
    CHECK(fesetround(FE_DOWNWARD) == 0);
    double down = one / three;
    CHECK(fesetround(FE_TONEAREST) == 0 && up > down);
    printf("a third: %a to %a; overflow %g, not a number %d\n", down, up, 1e308 * (three * 10),
           isnan(0.0 / (one - 1)));
    uint64_t product = 1;
    unsigned __int128 wide = 1;
    for (uint64_t i = 1; i <= 20; i++) {
        product *= i;
        wide = wide * (i * i) % 1000000000000000003u;
    }
    printf("20! = %" PRIu64 ", wide %" PRIu64 "\n", product, (uint64_t)wide);
}

static void say(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
}

static void texts(void)
{
    char buffer[200], word[40];
    int a = 0, used = 0;
    double d = 0;
    snprintf(buffer, sizeof buffer, "%-10s|%+08.3f|%#x|%o|%5.2e|%c|%%|%ld", "left", 3.14159, 48879,
             511, 12345.678, 'z', -1234567890123L);
    CHECK(sscanf("17 -2.5 word rest", "%d %lf %39s%n", &a, &d, word, &used) == 3);
    say("%s\n%d %g %s %d\n", buffer, a, d, word, used);
    errno = 0;
    unsigned long long big = strtoull("99999999999999999999", NULL, 10);
    say("%llx %d %ld %s\n", big, errno == ERANGE, strtol("-0x7f", NULL, 16), strerror(ENOENT));
    strcpy(buffer, "one,two,,three");
    for (char *part = strtok(buffer, ","); part != NULL; part = strtok(NULL, ",")) {
        say("[%s]", part);
    }
    say("\n");
}

static void timing(void)
{
    struct timespec before, after, nap = {0, 3000000};
    CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
    CHECK(nanosleep(&nap, NULL) == 0);
    uint64_t last = (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec, first = last;
    for (int i = 0; i < 1000; i++) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
        uint64_t now = (uint64_t)after.tv_sec * 1000000000u + (uint64_t)after.tv_nsec;
        CHECK(now >= last);
        last = now;
    }
    CHECK(last - first >= 3000000);
    CHECK(time(NULL) > 1700000000);
    time_t then = 1167609600; /* 2007-01-01 */
    struct tm tm;
    char text[64];
    CHECK(strftime(text, sizeof text, "%A %Y-%m-%d %H:%M:%S day %j", gmtime_r(&then, &tm)) > 0);
    tm.tm_mon += 14;
    then = mktime(&tm);
    CHECK(strftime(text + 40, 24, " %F", gmtime_r(&then, &tm)) > 0);
    printf("%s,%s; clocks run forwards\n", text, text + 40);
}

static jmp_buf back;
static int jump(int depth)
{
    if (depth == 0) {
        longjmp(back, 42);
    }
    return depth < 0 ? 0 : jump(depth - 1) + 1;
}

static int capitals(void)
{
    int c;
    while ((c = getchar()) != EOF) {
        putchar(toupper(c));
    }
    return ferror(stdin) ? 1 : 0;
}

int main(int argc, char **argv)
{
    size_t count = 100000;
    uint64_t seed = 1;
    int option, verbose = 0;
    while ((option = getopt(argc, argv, "n:s:x:vc")) != -1) {
        switch (option) {
        case 'n':
            count = strtoul(optarg, NULL, 0);
            break;
        case 's':
            seed = strtoul(optarg, NULL, 0);
            break;
        case 'v':
            verbose = 1;
            break;
        case 'x':
            exit(atoi(optarg));
        case 'c':
            return capitals();
        default:
            return 64;
        }
    }
    setenv("TZ", "UTC0", 1);
    sorting(seed, count);
    allocating(seed);
    computing();
    texts();
    timing();
    int jumped = setjmp(back);
    if (jumped == 0) {
        jump(100);
    }
    printf("jumped: %d\n", jumped);
    if (verbose) {
        const char *value = getenv("V3M_PROGRAM");
        fprintf(stderr, "on standard error: V3M_PROGRAM is %s\n",
                value == NULL ? "not set" : value);
    }
    qsort(argv + optind, (size_t)(argc - optind), sizeof *argv, compare_words);
    for (int i = optind; i < argc; i++) {
        printf("word %s\n", argv[i]);
    }
    CHECK(getpid() > 0 && isatty(1) == 0);
    return argc - optind;
}
