/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of `npm run bench:shm`: two processes of the host pass messages by shared memory, by
 * the same instructions as guests do (firmware/payloads/pingpong.inc), each on a CPU of its own.
 *
 *   shm-floor PINGPONG COUNT BYTES all|own CPU CPU     prints ticks of the TSC for COUNT messages
 *
 * all: each may write both areas; own: its own only, as a peer of a channel.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
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
    uint8_t *own;
    uint8_t *theirs;
    uint64_t bytes;
    void *private_memory;
    uint64_t last;
    uint64_t follow;
};

#define CODE_BYTES 4096u

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

int main(int argc, char **argv)
{
    const bool all = argc == 7 && strcmp(argv[4], "all") == 0;
    if (argc != 7 || (!all && strcmp(argv[4], "own") != 0)) {
        (void)fprintf(stderr, "usage: shm-floor PINGPONG COUNT BYTES all|own CPU CPU\n");
        return 2;
    }
    void (*run)(struct work *) = NULL;
    void *code = load(argv[1]);
    if (code == NULL) {
        return fail(argv[1]);
    }
    memcpy(&run, &code, sizeof(run));
    const uint64_t bytes = strtoull(argv[3], NULL, 10);
    const size_t area = (bytes + 64 + 4095) & ~(size_t)4095;
    int fd = memfd_create("shm-floor", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)(2 * area)) != 0) {
        return fail("memory");
    }
    uint8_t *shared = mmap(NULL, 2 * area, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *private_memory =
        mmap(NULL, area, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || private_memory == MAP_FAILED) {
        return fail("memory");
    }
    pid_t child = fork();
    if (child < 0) {
        return fail("fork");
    }
    const int follow = child == 0 ? 1 : 0;
    pin(argv[5 + follow]);
    uint8_t *theirs = shared + (size_t)(1 - follow) * area;
    if (!all && mprotect(theirs, area, PROT_READ) != 0) {
        return fail("protection");
    }
    struct work work = {.messages = strtoull(argv[2], NULL, 10),
                        .own = shared + (size_t)follow * area,
                        .theirs = theirs,
                        .bytes = bytes,
                        .private_memory = private_memory,
                        .follow = (uint64_t)follow};
    run(&work);
    const uint64_t start = __rdtsc();
    run(&work);
    const uint64_t end = __rdtsc();
    if (follow != 0) {
        return 0;
    }
    (void)waitpid(child, NULL, 0);
    (void)printf("%llu\n", (unsigned long long)(end - start));
    return 0;
}
