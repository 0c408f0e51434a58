// SPDX-License-Identifier: Apache-2.0
/*
 * Heat on a plate (Jacobi's method) and a product of matrices, on four OpenMP threads. Each element
 * is computed by one thread and summed in a fixed order, so that the result is the same to the last
 * bit however threads run.
 *
 *     heat [SIDE [STEPS]]
 */
#include <inttypes.h>
#include <omp.h>
#include <string.h>

#include "common.h"

enum { THREADS = 4, MATRIX = 96 };

static double plate(size_t side, int steps, uint64_t *hash)
{
    double *now = calloc(side * side, sizeof *now), *next = calloc(side * side, sizeof *next);
    CHECK(now != NULL && next != NULL);
    for (size_t i = 0; i < side; i++) {
        now[i] = next[i] = 100;
        now[i * side] = next[i * side] = (double)i / 3;
    }
    for (int step = 0; step < steps; step++) {
#pragma omp parallel for schedule(static)
        for (size_t y = 1; y < side - 1; y++) {
            for (size_t x = 1; x < side - 1; x++) {
                size_t at = y * side + x;
                next[at] = 0.25 * (now[at - 1] + now[at + 1] + now[at - side] + now[at + side]);
            }
        }
        double *swap = now;
        now = next;
        next = swap;
    }
    double sum = 0;
    for (size_t i = 0; i < side * side; i++) {
        sum += now[i];
    }
    *hash = fnv(FNV_START, now, side * side * sizeof *now);
    free(now);
    free(next);
    return sum;
}

static uint64_t product(void)
{
    static double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];
    uint64_t seed = 7;
    for (int i = 0; i < MATRIX; i++) {
        for (int j = 0; j < MATRIX; j++) {
            a[i][j] = (double)(next_random(&seed) >> 40) / 4096;
            b[i][j] = (double)(next_random(&seed) >> 40) / 4096;
        }
    }
#pragma omp parallel for schedule(dynamic, 3)
    for (int i = 0; i < MATRIX; i++) {
        for (int j = 0; j < MATRIX; j++) {
            double sum = 0;
            for (int k = 0; k < MATRIX; k++) {
                sum += a[i][k] * b[k][j];
            }
            c[i][j] = sum;
        }
    }
    return fnv(FNV_START, c, sizeof c);
}

int main(int argc, char **argv)
{
    size_t side = argc > 1 ? strtoul(argv[1], NULL, 0) : 128;
    int steps = argc > 2 ? atoi(argv[2]) : 100;
    CHECK(side >= 3 && steps >= 0);
    omp_set_dynamic(0);
    omp_set_num_threads(THREADS);
    int seen[THREADS] = {0}, together = 0;
    long tasks = 0, critical = 0, total = 0;
#pragma omp parallel reduction(+ : total)
    {
        seen[omp_get_thread_num()] = 1;
#pragma omp single
        together = omp_get_num_threads();
#pragma omp for schedule(guided)
        for (long i = 0; i < 10000; i++) {
            total += i;
        }
        for (int i = 0; i < 100; i++) {
#pragma omp critical
            critical++;
#pragma omp atomic
            tasks++;
#pragma omp barrier
        }
    }
    printf("%d threads: %d%d%d%d, sum %ld, critical %ld, atomic %ld\n", together, seen[0], seen[1],
           seen[2], seen[3], total, critical, tasks);
    uint64_t hash;
    double sum = plate(side, steps, &hash);
    printf("plate %zu, %d steps: heat %a, hash %016" PRIx64 "\n", side, steps, sum, hash);
    printf("product: hash %016" PRIx64 "\n", product());
    return 0;
}
