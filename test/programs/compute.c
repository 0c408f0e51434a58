// SPDX-License-Identifier: Apache-2.0
/*
 * User-mode work for the benchmarks: integers, floating point, and streams through memory. Prints
 * one line for each: its name, the time in nanoseconds by the TSC's clock, and a checksum.
 *
 *     compute [TURNS [MIB]]         a turn is a few milliseconds of each kind
 *     compute spin SECONDS [THREADS]     only computes, for so long, and makes no system call
 * meanwhile
 */
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common.h"

static uint64_t now_ns(void)
{
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/** Sieve and hash: branches, shifts, multiplications, the first-level cache. */
static uint64_t integers(long turns)
{
    static _Thread_local unsigned char composite[1 << 15];
    uint64_t hash = FNV_START, state = 1;
    for (long turn = 0; turn < turns; turn++) {
        memset(composite, 0, sizeof composite);
        for (size_t i = 2; i * i < sizeof composite; i++) {
            for (size_t j = i * i; composite[i] == 0 && j < sizeof composite; j += i) {
                composite[j] = 1;
            }
        }
        for (int i = 0; i < 100000; i++) {
            hash = (hash ^ next_random(&state)) * 0x100000001b3u;
        }
        hash = fnv(hash, composite, sizeof composite);
    }
    return hash;
}

/** Small matrices and a recurrence: multiplications, additions, divisions, roots. */
static uint64_t floats(long turns)
{
    enum { N = 48 };
    static double a[N][N], b[N][N], c[N][N];
    double x = 0.5;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = (i * N + j) % 7 - 3;
            b[i][j] = (i * N + j) % 5 - 2;
        }
    }
    for (long turn = 0; turn < turns; turn++) {
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int k = 0; k < N; k++) {
                    sum += a[i][k] * b[k][j];
                }
                c[i][j] += sum;
            }
        }
        for (int i = 0; i < 20000; i++) {
            x = 1.0 / (1.0 + x * x) + __builtin_sqrt(x);
        }
    }
    return fnv(fnv(FNV_START, c, sizeof c), &x, sizeof x);
}

/** The triad of STREAM, on arrays that no cache holds. */
static uint64_t stream(long turns, size_t mib)
{
    size_t count = mib * (1 << 20) / (3 * sizeof(double));
    double *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b),
           *c = malloc(count * sizeof *c);
    CHECK(a != NULL && b != NULL && c != NULL);
    for (size_t i = 0; i < count; i++) {
        a[i] = 0;
        b[i] = (double)(i % 100);
        c[i] = 1;
    }
    for (long turn = 0; turn < turns; turn++) {
        for (size_t i = 0; i < count; i++) {
            a[i] = b[i] + 3.0 * c[i];
        }
        double *swap = a;
        a = b;
        b = c;
        c = swap;
    }
    uint64_t hash = fnv(FNV_START, a, 4096);
    free(a);
    free(b);
    free(c);
    return hash;
}

/** The clock is the TSC: on Linux and on the lightweight kernel its calls do not leave user mode.
 */
static void *spinning(void *end)
{
    uint64_t hash = 0;
    while (now_ns() < *(const uint64_t *)end) {
        hash ^= integers(1);
    }
    return (void *)(uintptr_t)(hash != 1);
}

static int spin(double seconds, long threads)
{
    enum { MOST = 64 };
    pthread_t thread[MOST];
    long through = 0;
    CHECK(threads >= 1 && threads <= MOST);
    printf("computing\n");
    fflush(stdout);
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    for (long i = 1; i < threads; i++) {
        CHECK(pthread_create(&thread[i], NULL, spinning, &end) == 0);
    }
    through += spinning(&end) != NULL;
    for (long i = 1; i < threads; i++) {
        void *value;
        CHECK(pthread_join(thread[i], &value) == 0);
        through += value != NULL;
    }
    printf("computed %ld\n", through);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "spin") == 0) {
        return spin(atof(argv[2]), argc > 3 ? atol(argv[3]) : 1);
    }
    long turns = argc > 1 ? atol(argv[1]) : 20;
    size_t mib = argc > 2 ? strtoul(argv[2], NULL, 0) : 24;
    uint64_t t0 = now_ns(), hash = integers(turns), t1 = now_ns();
    printf("integer %" PRIu64 " %016" PRIx64 "\n", t1 - t0, hash);
    t0 = now_ns();
    hash = floats(turns);
    t1 = now_ns();
    printf("float %" PRIu64 " %016" PRIx64 "\n", t1 - t0, hash);
    t0 = now_ns();
    hash = stream(turns / 4 + 1, mib);
    t1 = now_ns();
    printf("memory %" PRIu64 " %016" PRIx64 "\n", t1 - t0, hash);
    return 0;
}
