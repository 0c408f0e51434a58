// SPDX-License-Identifier: Apache-2.0
/*
 * AVX2 on threads that preempt each other: each keeps sums in eight 256-bit registers for a long
 * time and compares them with what plain integers give. Exit code 77 where the CPU has no AVX2.
 *
 *     avx2 [THREADS [ROUNDS]]
 */
#include <immintrin.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "common.h"

enum { MAX_THREADS = 64, REGISTERS = 8, LANES = 8 };

static long rounds = 20000;
static uint64_t results[MAX_THREADS];

/** One step of all lanes of all registers, spelled so that the compiler keeps them in ymm0 ...
 * ymm15. */
__attribute__((target("avx2"))) static uint64_t vector(uint32_t seed)
{
    __m256i sum[REGISTERS];
    const __m256i factor = _mm256_set1_epi32(1664525),
                  lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int r = 0; r < REGISTERS; r++) {
        sum[r] = _mm256_add_epi32(_mm256_set1_epi32((int)(seed + (uint32_t)r * 1013904223u)), lane);
    }
    for (long i = 0; i < rounds; i++) {
        for (int r = 0; r < REGISTERS; r++) {
            sum[r] =
                _mm256_add_epi32(_mm256_mullo_epi32(sum[r], factor), _mm256_set1_epi32((int)i));
            __asm__ volatile("" : "+x"(sum[r]));
        }
        if (i % 5000 == 0) {
            sched_yield();
        }
    }
    return fnv(FNV_START, sum, sizeof sum);
}

static uint64_t plain(uint32_t seed)
{
    uint32_t sum[REGISTERS][LANES];
    for (uint32_t r = 0; r < REGISTERS; r++) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint32_t value = seed + r * 1013904223u + lane;
            for (long i = 0; i < rounds; i++) {
                value = value * 1664525u + (uint32_t)i;
            }
            sum[r][lane] = value;
        }
    }
    return fnv(FNV_START, sum, sizeof sum);
}

/** Floating point in the upper halves, too: a dot product that is exact in doubles. */
__attribute__((target("avx2"))) static double dot(int seed)
{
    __m256d sum = _mm256_setzero_pd();
    for (int i = 0; i < 4096; i++) {
        __m256d a = _mm256_set_pd(seed + i, seed - i, i, 1), b = _mm256_set_pd(1, 2, 3, 4);
        sum = _mm256_add_pd(sum, _mm256_mul_pd(a, b));
    }
    double part[4];
    _mm256_storeu_pd(part, sum);
    return part[0] + part[1] + part[2] + part[3];
}

static void *run(void *argument)
{
    uint32_t index = (uint32_t)(uintptr_t)argument;
    results[index] = vector(index * 77 + 1);
    double expected = 0;
    for (int i = 0; i < 4096; i++) {
        expected += 4 + 3.0 * i + 2.0 * ((int)index - i) + ((int)index + i);
    }
    CHECK(dot((int)index) == expected);
    return NULL;
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? atol(argv[1]) : 8;
    rounds = argc > 2 ? atol(argv[2]) : rounds;
    CHECK(threads >= 1 && threads <= MAX_THREADS);
    if (!__builtin_cpu_supports("avx2")) {
        printf("no AVX2 here\n");
        return 77;
    }
    pthread_t thread[MAX_THREADS];
    for (long i = 0; i < threads; i++) {
        CHECK(pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i) == 0);
    }
    for (long i = 0; i < threads; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
        CHECK(results[i] == plain((uint32_t)i * 77 + 1));
        printf("thread %ld: %016" PRIx64 "\n", i, results[i]);
    }
    return 0;
}
