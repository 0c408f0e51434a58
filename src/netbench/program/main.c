/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The measuring program of `v2m bench net` (docs/reference/bench-net.md). The very same static
 * binary runs on the host, in Linux guests and on the lightweight kernel.
 *
 *   netbench via=shm role=lead|follow partner=PEER session=N wait=poll|interrupt …
 *   netbench via=tcp role=follow port=P
 *   netbench via=tcp role=lead address=A port=P …
 *   netbench via=processes|loopback|copy [cpus=A,B] [wait=…] …
 *     … of processes: writes=all|own (memory, each of the other's, too, or its own) common=BYTES
 *     … of who measures: test=latency|stream|both bytes=N ns=TIME; of all: limit=SECONDS, which end
 * the program
 *
 * Output of who measures: one line of name=value, all numbers of the same width: on a guest's
 * console each character costs exits, and the difference of two runs has to be that of their
 * messages.
 */
#include "sides.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { CALIBRATION_NS = 20000000, LINE_BYTES = 4096, EVERY_BYTE = 4 << 20 };

struct moment {
    uint64_t ns, ticks;
};

static struct moment now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct moment){.ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                           .ticks = __rdtsc()};
}

/* Ticks of the TSC in a second, divided by 1000. */
static uint64_t khz_since(struct moment begin)
{
    const struct moment end = now();
    return (uint64_t)((double)(end.ticks - begin.ticks) * 1e6 / (double)(end.ns - begin.ns));
}

/* Good enough to choose how long to measure. */
static uint64_t rough_khz(struct moment begin)
{
    while (now().ns - begin.ns < CALIBRATION_NS) {
    }
    return khz_since(begin);
}

static uint64_t cpu_ns(int who)
{
    struct rusage u;
    (void)getrusage(who, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static void *touched(uint64_t bytes)
{
    void *memory = aligned_alloc(LINE_BYTES, (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
    if (memory != NULL) {
        memset(memory, 0x5a, bytes);
    }
    return memory;
}

static void report(const struct result *r, uint64_t khz)
{
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {
        {"count", r->count}, {"ticks", r->ticks},
        {"total", r->total}, {"shortest", r->shortest == UINT64_MAX ? 0 : r->shortest},
        {"p50", r->p50},     {"p99", r->p99},
        {"p999", r->p999},   {"longest", r->longest},
        {"khz", khz},        {"cpu", cpu_ns(RUSAGE_SELF) + cpu_ns(RUSAGE_CHILDREN)},
    };
    (void)printf("netbench");
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)printf(" %s=%020" PRIu64, all[i].name, all[i].value);
    }
    (void)printf(" end\n");
}

static int64_t measure(const struct side *side)
{
    static const struct {
        const char *via;
        int64_t (*run)(const struct side *side);
    } ways[] = {
        {"shm", measure_over_channel},  {"tcp", measure_over_tcp}, {"processes", measure_processes},
        {"loopback", measure_loopback}, {"copy", measure_copy},
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (strcmp(side->options->via, ways[i].via) == 0) {
            return ways[i].run(side);
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    static struct result result;
    struct options options;
    if (!options_read(&options, argc, argv)) {
        return 2;
    }
    const bool guest = strcmp(options.via, "shm") == 0 || strcmp(options.via, "tcp") == 0;
    const bool leads = !guest || options.leads;
    if (!guest) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left when who started it is gone */
    }
    (void)alarm(options.limit);
    const struct moment begin = now();
    struct side side = {
        .options = &options,
        .request = {.test = options.test, .bytes = leads ? options.bytes : EVERY_BYTE},
        .result = &result,
    };
    side.request.ticks = leads ? options.ns * rough_khz(begin) / 1000000u : 0;
    side.request.out = touched(side.request.bytes);
    side.request.in = touched(side.request.bytes);
    if (side.request.out == NULL || side.request.in == NULL) {
        (void)fprintf(stderr, "netbench: no memory\n");
        return 1;
    }
    const int64_t rc = measure(&side);
    if (rc != 0) {
        (void)fprintf(stderr, "netbench: via=%s: %s\n", options.via, strerror((int)-rc));
        return 1;
    }
    if (leads) {
        report(&result, khz_since(begin));
    }
    return 0;
}
