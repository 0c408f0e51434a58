// SPDX-License-Identifier: Apache-2.0
/*
 * Measures how much of a CPU's time does not reach the program that runs on it, in three standard
 * ways (docs/reference/noise.md). The very same static binary runs on the host, in a Linux guest,
 * and on the lightweight kernel.
 *
 *     noise METHOD SECONDS THRESHOLD_NS WORK INTERVAL_NS       METHOD: selfish, fwq, ftq
 *     noise calibrate INTERVAL_NS                              prints the WORK that takes so long
 * here
 *
 * Everything that the measuring loops write to was touched before; they make no system call, and
 * allocate nothing. Output: lines of "name value", then "samples N", N numbers in base 36 with
 * differences between consecutive ones (selfish: time since the last detour's start, and length),
 * then "end". All in ticks of the TSC.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

enum {
    MAX_SAMPLES = 1 << 16, /* what is kept; what comes later is counted only */
    MAX_LISTED = 6000,     /* what is printed one by one: a guest's console is slow */
    BUCKETS = 48,          /* of the histogram: bucket b counts lengths in [2^b, 2^(b+1)) ticks */
    CALIBRATION_NS = 50000000,
};

/** What a measurement found. For selfish, `length` are detours that began at `start`; else one per
 * sample. */
static struct {
    uint64_t begin, end;
    uint64_t count, total, longest, shortest;
    uint64_t kept;
    uint64_t buckets[BUCKETS];
    uint64_t start[MAX_SAMPLES], length[MAX_SAMPLES];
} result;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/** Ticks a nanosecond, over a while of busy waiting: good enough to choose how long to measure. */
static double rough_frequency(void)
{
    uint64_t ns = now_ns(), ticks = __rdtsc(), later;
    do {
        later = now_ns();
    } while (later - ns < CALIBRATION_NS);
    return (double)(__rdtsc() - ticks) / (double)(later - ns);
}

static inline void keep(uint64_t start, uint64_t length)
{
    if (result.kept < MAX_SAMPLES) {
        result.start[result.kept] = start;
        result.length[result.kept++] = length;
    }
    result.buckets[63 - __builtin_clzll(length | 1)]++;
    result.count++;
    result.total += length;
    if (length > result.longest) {
        result.longest = length;
    }
}

/** Read the clock for ever; whenever that took longer than the threshold, something else had the
 * CPU. */
static void selfish(uint64_t duration, uint64_t threshold)
{
    uint64_t last = __rdtsc(), stop = last + duration;
    result.begin = last;
    while (last < stop) {
        uint64_t now = __rdtsc(), passed = now - last;
        if (__builtin_expect(passed > threshold, 0)) {
            keep(last, passed);
            now = __rdtsc(); /* the time that keeping it took is no detour */
        } else if (passed < result.shortest) {
            result.shortest = passed;
        }
        last = now;
    }
    result.end = last;
}

/** A chain of subtractions that no compiler shortens; the same instructions at the same place for
 * all callers. */
static __attribute__((noinline)) void work(uint64_t turns)
{
    __asm__ volatile(".p2align 6\n1:\n\tsub $1, %0\n\tjnz 1b" : "+r"(turns)::"cc");
}

/** The same work again and again: how long does it take? */
static void fwq(uint64_t duration, uint64_t turns)
{
    uint64_t last = __rdtsc(), stop = last + duration;
    result.begin = last;
    while (last < stop) {
        uint64_t from = __rdtsc();
        work(turns);
        uint64_t passed = (last = __rdtsc()) - from;
        keep(from, passed);
        if (passed < result.shortest) {
            result.shortest = passed;
        }
    }
    result.end = last;
}

/** How much work is done in intervals of the same length, whose ends are fixed beforehand? */
static void ftq(uint64_t duration, uint64_t interval)
{
    enum { PIECE = 64 };
    uint64_t edge = __rdtsc(), stop = edge + duration, now = edge;
    result.begin = edge;
    while (edge < stop) {
        uint64_t done = 0;
        edge += interval;
        while ((now = __rdtsc()) < edge) {
            work(PIECE);
            done++;
        }
        keep(edge - interval, done);
        if (done < result.shortest) {
            result.shortest = done;
        }
    }
    result.end = now;
}

/** Base 36, low digit first, written without stdio's formats: a slow machine prints thousands of
 * these. */
static void put(uint64_t value)
{
    char text[14];
    int used = 0;
    do {
        text[used++] = "0123456789abcdefghijklmnopqrstuvwxyz"[value % 36];
        value /= 36;
    } while (value != 0);
    while (used > 0) {
        putchar(text[--used]);
    }
}

static void line(const char *name, uint64_t value)
{
    printf("%s %" PRIu64 "\n", name, value);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/** The length below which the given share of the kept ones is. */
static uint64_t quantile(const uint64_t *sorted, double share)
{
    uint64_t at = (uint64_t)(share * (double)result.kept);
    return result.kept == 0 ? 0 : sorted[at < result.kept ? at : result.kept - 1];
}

/** Every nth is listed, so that all of the time is shown; but none of the longest ones is left out.
 */
static void list(const uint64_t *sorted)
{
    uint64_t step = result.kept / MAX_LISTED + 1;
    uint64_t long_ones = result.kept > MAX_LISTED / 4 ? sorted[result.kept - MAX_LISTED / 4] : 0;
    uint64_t listed = 0, last = result.begin;
    for (uint64_t i = 0; i < result.kept; i++) {
        listed += i % step == 0 || (step > 1 && result.length[i] > long_ones);
    }
    line("samples", listed);
    for (uint64_t i = 0; i < result.kept; i++) {
        if (i % step == 0 || (step > 1 && result.length[i] > long_ones)) {
            put(result.start[i] - last);
            putchar(' ');
            put(result.length[i]);
            putchar('\n');
            last = result.start[i];
        }
    }
}

static void report(const char *method, uint64_t ns)
{
    static uint64_t sorted[MAX_SAMPLES];
    memcpy(sorted, result.length, result.kept * sizeof sorted[0]);
    qsort(sorted, result.kept, sizeof sorted[0], compare);
    printf("noise 1 %s\n", method);
    line("ns", ns);
    line("ticks", result.end - result.begin);
    line("count", result.count);
    line("kept", result.kept);
    line("total", result.total);
    line("shortest", result.shortest);
    line("longest", result.longest);
    line("median", quantile(sorted, 0.5));
    line("p001", quantile(sorted, 0.001));
    line("p999", quantile(sorted, 0.999));
    for (int b = 0; b < BUCKETS; b++) {
        if (result.buckets[b] != 0) {
            printf("bucket %d %" PRIu64 "\n", b, result.buckets[b]);
        }
    }
    list(sorted);
    puts("end");
}

static int calibrate(uint64_t ns)
{
    double frequency = rough_frequency();
    uint64_t best = UINT64_MAX;
    const uint64_t turns = 1 << 16;
    for (int i = 0; i < 50; i++) {
        uint64_t from = __rdtsc();
        work(turns);
        uint64_t passed = __rdtsc() - from;
        best = passed < best ? passed : best;
    }
    line("work", (uint64_t)((double)turns * (double)ns * frequency / (double)best) + 1);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "calibrate") == 0) {
        return calibrate(strtoull(argv[2], NULL, 10));
    }
    if (argc != 6) {
        fputs("usage: noise selfish|fwq|ftq SECONDS THRESHOLD_NS WORK INTERVAL_NS\n"
              "       noise calibrate INTERVAL_NS\n",
              stderr);
        return 64;
    }
    const char *method = argv[1];
    double frequency = rough_frequency();
    uint64_t duration = (uint64_t)(strtod(argv[2], NULL) * 1e9 * frequency);
    uint64_t threshold = (uint64_t)(strtod(argv[3], NULL) * frequency);
    uint64_t turns = strtoull(argv[4], NULL, 10);
    uint64_t interval = (uint64_t)(strtod(argv[5], NULL) * frequency);
    if (duration == 0 || threshold == 0 || turns == 0 || interval == 0) {
        return 64;
    }
    memset(&result, 1, sizeof result); /* every page is there */
    memset(&result, 0, sizeof result);
    result.shortest = UINT64_MAX;
    uint64_t ns = now_ns();
    if (strcmp(method, "selfish") == 0) {
        selfish(duration, threshold);
    } else if (strcmp(method, "fwq") == 0) {
        fwq(duration, turns);
    } else if (strcmp(method, "ftq") == 0) {
        ftq(duration, interval);
    } else {
        return 64;
    }
    report(method, now_ns() - ns);
    return 0;
}
