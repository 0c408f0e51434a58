// SPDX-License-Identifier: Apache-2.0
/*
 * A peer that means harm, on the lightweight kernel: random calls with its channel's descriptors and mappings, random
 * accesses to window and registers, on two threads, while a third interrupts whatever waits.
 *
 *     shm-hostile ROUNDS SEED
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "channel-file.h"
#include "common.h"

enum { PAGE = 4096, PAGES = 64, TEAM = 2 };

static char *region; /* where mappings are made and unmade */
static long rounds;
static uint64_t window_bytes;
static atomic_int working = TEAM;
static _Thread_local sigjmp_buf back;
static _Thread_local volatile int guarded;

static void on_fault(int number)
{
    if (guarded) {
        siglongjmp(back, number);
    }
    _exit(3);
}

static void on_nudge(int number)
{
    (void)number;
}

static void touch(char *at, uint64_t value)
{
    if (sigsetjmp(back, 1) == 0) {
        guarded = 1;
        if (value % 2 != 0) {
            *(volatile uint32_t *)at = (uint32_t)(value >> 8);
        } else {
            (void)*(volatile uint32_t *)at;
        }
    }
    guarded = 0;
}

static uint64_t argument(uint64_t *state)
{
    uint64_t random = next_random(state);
    uint64_t more = random >> 8;
    switch (random % 8) {
    case 0:
    case 1:
        return 3 + more % 8; /* a descriptor */
    case 2:
        return (uint64_t)(uintptr_t)region + more % PAGES * PAGE;
    case 3:
        return more % PAGES * PAGE;
    case 4:
        return more % 32;
    case 5:
        return window_bytes + more % 3 * PAGE - PAGE;
    case 6:
        return MAP_SHARED | MAP_FIXED;
    default:
        return random;
    }
}

/* mmap() and mremap() only into the region: the program itself is no concern here. */
static void call(uint64_t *state)
{
    static const long numbers[] = {SYS_read,   SYS_pread64, SYS_poll,  SYS_ppoll, SYS_mmap,  SYS_munmap,
                                   SYS_mremap, SYS_mprotect, SYS_dup2, SYS_fcntl, SYS_openat, SYS_close,
                                   SYS_write,  SYS_readv,   SYS_fstat, SYS_futex, SYS_madvise, SYS_select};
    long number = numbers[next_random(state) % (sizeof(numbers) / sizeof(numbers[0]))];
    uint64_t at = (uint64_t)(uintptr_t)region + next_random(state) % PAGES * PAGE;
    uint64_t pages = 1 + next_random(state) % PAGES;
    uint64_t left = PAGES - (at - (uint64_t)(uintptr_t)region) / PAGE;
    struct pollfd entry = {.fd = (int)(3 + next_random(state) % 8), .events = POLLIN};
    uint64_t a[6];
    for (int i = 0; i < 6; i++) {
        a[i] = argument(state);
    }
    switch (number) {
    case SYS_mmap:
        a[3] |= MAP_FIXED;
        a[4] = 3 + next_random(state) % 8;
        a[5] = next_random(state) % (window_bytes / PAGE + 3) * PAGE;
        /* fall through */
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
        a[0] = at;
        a[1] = (pages < left ? pages : left) * PAGE;
        break;
    case SYS_mremap:
        a[0] = at;
        a[1] = PAGE;
        a[2] = PAGE * (1 + next_random(state) % 4);
        a[3] = 0;
        break;
    case SYS_openat:
        (void)!open(CHANNEL_FILE, (int)(next_random(state) % 3) | (next_random(state) % 2 != 0 ? O_NONBLOCK : 0));
        return;
    case SYS_poll:
        a[0] = next_random(state) % 2 != 0 ? (uint64_t)(uintptr_t)&entry : at;
        a[1] = next_random(state) % 3;
        break;
    case SYS_close:
    case SYS_dup2:
        a[0] = 3 + next_random(state) % 8;
        a[1] = 3 + next_random(state) % 8;
        break;
    default:
        break;
    }
    syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void *work(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (long i = 0; i < rounds; i++) {
        if (i % 4 == 0) {
            touch(region + next_random(&state) % (PAGES * PAGE) / 4 * 4, next_random(&state));
        } else {
            call(&state);
        }
    }
    working--;
    return NULL;
}

static void check(void)
{
    struct channel_file channel;
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    if (channel_file_open(&channel) != 0) {
        perror(CHANNEL_FILE);
        _exit(1);
    }
    volatile uint64_t *own =
        (volatile uint64_t *)(channel.window + channel.areas + channel.area_bytes * channel.registers[REG_ID]);
    *own = 0x600d;
    struct pollfd entry = {.fd = channel.fd, .events = POLLIN};
    printf("still there: %d %d\n", *own == 0x600d, poll(&entry, 1, 10) >= 0);
}

int main(int argc, char **argv)
{
    struct channel_file channel;
    const struct timespec nap = {0, 2000000};
    struct sigaction action = {.sa_handler = on_fault};
    pthread_t team[TEAM];
    if (argc != 3 || channel_file_open(&channel) != 0) {
        perror("shm-hostile ROUNDS SEED: " CHANNEL_FILE);
        return 2;
    }
    rounds = strtol(argv[1], NULL, 10);
    window_bytes = channel.window_bytes;
    region = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    action.sa_handler = on_nudge;
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < TEAM; i++) {
        pthread_create(&team[i], NULL, work, (void *)(uintptr_t)(strtoull(argv[2], NULL, 0) * 2 + (uint64_t)i + 1));
    }
    while (working > 0) {
        nanosleep(&nap, NULL);
        for (int i = 0; i < TEAM; i++) {
            pthread_kill(team[i], SIGUSR1);
        }
    }
    for (int i = 0; i < TEAM; i++) {
        pthread_join(team[i], NULL);
    }
    check();
    return 0;
}
