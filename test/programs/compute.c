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
    memset(c, 0, sizeof c);
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

static double *stream_a, *stream_b, *stream_c;
static size_t stream_count;

/** The arrays lie some odd number of pages apart: else caches and TLBs of few ways hold only one at
 * a time. */
static void allocate(size_t mib)
{
    enum { OFFSET = 37 * 4096 / sizeof(double) };
    stream_count = mib * (1 << 20) / (3 * sizeof(double));
    stream_a = malloc((3 * stream_count + 2 * OFFSET) * sizeof(double));
    CHECK(stream_a != NULL);
    stream_b = stream_a + stream_count + OFFSET;
    stream_c = stream_b + stream_count + OFFSET;
    for (size_t i = 0; i < stream_count; i++) {
        stream_a[i] = 0;
        stream_b[i] = (double)(i % 100);
        stream_c[i] = 1;
    }
}

/** The triad of STREAM, on arrays that no cache holds. */
static uint64_t stream(long turns)
{
    double *a = stream_a;
    const double *b = stream_b, *c = stream_c;
    for (long turn = 0; turn < turns; turn++) {
        for (size_t i = 0; i < stream_count; i++) {
            a[i] = b[i] + (double)(turn + 3) * c[i];
        }
    }
    return fnv(FNV_START, a, stream_count < 512 ? stream_count * sizeof *a : 4096);
}

/** The quickest time: what else the computer does meanwhile makes others longer. */
static void timed(const char *name, uint64_t (*work)(long), long turns, long repeats)
{
    uint64_t best = UINT64_MAX, hash = 0;
    for (long i = 0; i < repeats; i++) {
        uint64_t begin = now_ns();
        hash = work(turns);
        uint64_t passed = now_ns() - begin;
        best = passed < best ? passed : best;
    }
    printf("%s %" PRIu64 " %016" PRIx64 "\n", name, best, hash);
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
    long turns = argc > 1 ? atol(argv[1]) : 20, repeats = argc > 3 ? atol(argv[3]) : 1;
    size_t mib = argc > 2 ? strtoul(argv[2], NULL, 0) : 24;
    allocate(mib);
    timed("integer", integers, turns, repeats);
    timed("float", floats, turns, repeats);
    timed("memory", stream, turns / 4 + 1, repeats);
    return 0;
}
