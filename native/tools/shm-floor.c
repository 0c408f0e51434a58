/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of `npm run bench:shm`: two processes of the host pass messages by shared memory, by
 * the same instructions as guests do (firmware/payloads/pingpong.inc), each on a CPU of its own.
 *
 *   shm-floor PINGPONG COUNT BYTES all|own common|areas CPU CPU
 *
 * prints ticks of the TSC for COUNT messages. all: each may write both areas; own: its own only, as
 * a peer of a channel. Numbers, which are polled, are in a page that both may write (common), or
 * each in its writer's area.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

/* As firmware/boot/pingpong.asm has it. */
struct work {
    uint64_t messages;
    uint8_t *own_word;
    uint8_t *their_word;
    uint8_t *own_data;
    uint8_t *their_data;
    uint64_t bytes;
    void *private_memory;
    uint64_t last;
    uint64_t follow;
};

/* Places as shm.asm has them. */
enum { CODE_BYTES = 4096, COMMON_BYTES = 4096, WORD_PITCH = 128, DATA = 64 };
enum { ARG_CODE = 1, ARG_COUNT, ARG_BYTES, ARG_WRITES, ARG_WORDS, ARG_CPUS, ARGS = ARG_CPUS + 2 };

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static void *load(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || code == MAP_FAILED || read(fd, code, CODE_BYTES) <= 0 ||
        mprotect(code, CODE_BYTES, PROT_READ | PROT_EXEC) != 0) {
        return NULL;
    }
    (void)close(fd);
    return code;
}

static void pin(const char *cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)strtoul(cpu, NULL, 10), &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* One of two words, which the argument has to be: 1 for the first, 0 for the second, -1. */
static int choose(const char *text, const char *first, const char *second)
{
    return strcmp(text, first) == 0 ? 1 : strcmp(text, second) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    const int all = argc == ARGS ? choose(argv[ARG_WRITES], "all", "own") : -1;
    const int common = argc == ARGS ? choose(argv[ARG_WORDS], "common", "areas") : -1;
    if (all < 0 || common < 0) {
        (void)fprintf(stderr,
                      "usage: shm-floor PINGPONG COUNT BYTES all|own common|areas CPU CPU\n");
        return 2;
    }
    void (*run)(struct work *) = NULL;
    void *code = load(argv[ARG_CODE]);
    if (code == NULL) {
        return fail(argv[ARG_CODE]);
    }
    memcpy(&run, &code, sizeof(run));
    const uint64_t bytes = strtoull(argv[ARG_BYTES], NULL, 10);
    const size_t area = (bytes + DATA + 4095) & ~(size_t)4095;
    const size_t whole = COMMON_BYTES + 2 * area;
    int fd = memfd_create("shm-floor", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)whole) != 0) {
        return fail("memory");
    }
    uint8_t *shared = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *private_memory =
        mmap(NULL, area, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || private_memory == MAP_FAILED) {
        return fail("memory");
    }
    pid_t child = fork();
    if (child < 0) {
        return fail("fork");
    }
    const size_t self = child == 0 ? 1 : 0;
    pin(argv[ARG_CPUS + self]);
    uint8_t *own = shared + COMMON_BYTES + self * area;
    uint8_t *theirs = shared + COMMON_BYTES + (1 - self) * area;
    if (all == 0 && mprotect(theirs, area, PROT_READ) != 0) {
        return fail("protection");
    }
    struct work work = {.messages = strtoull(argv[ARG_COUNT], NULL, 10),
                        .own_word = common != 0 ? shared + self * WORD_PITCH : own,
                        .their_word = common != 0 ? shared + (1 - self) * WORD_PITCH : theirs,
                        .own_data = own + DATA,
                        .their_data = theirs + DATA,
                        .bytes = bytes,
                        .private_memory = private_memory,
                        .follow = self};
    run(&work);
    const uint64_t start = __rdtsc();
    run(&work);
    const uint64_t end = __rdtsc();
    if (self != 0) {
        return 0;
    }
    (void)waitpid(child, NULL, 0);
    (void)printf("%llu\n", (unsigned long long)(end - start));
    return 0;
}
