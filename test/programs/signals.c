// SPDX-License-Identifier: Apache-2.0
/*
 * Signals as runtimes use them: handlers with information, masks, an alternate stack, recovery from
 * faults, signals to threads, timers.
 *
 *     signals            all that a program survives
 *     signals timers     interval timers and sigsuspend
 *     signals WORD       an end by a signal: abort, segv, fpe, ill, term, overflow
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { STACK_BYTES = 64 * 1024 };

static sigjmp_buf back;
static volatile sig_atomic_t seen[65];
static void *volatile where;
static volatile uintptr_t nowhere = 0x10;
static volatile int code, on_alternate;
static char *alternate;

static void count(int number)
{
    seen[number]++;
}

static void fault(int number, siginfo_t *info, void *context)
{
    char here;
    (void)context;
    seen[number]++;
    where = info->si_addr;
    code = info->si_code;
    on_alternate = alternate != NULL && &here >= alternate && &here < alternate + STACK_BYTES;
    siglongjmp(back, number);
}

static void install(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void raising(void)
{
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = count;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && signal(SIGUSR2, count) != SIG_ERR);
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == count);
    CHECK(raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0);
    sigset_t set, pending, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &set, &before) == 0 && raise(SIGUSR2) == 0 && seen[SIGUSR2] == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) == 1);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && seen[SIGUSR2] == 1);
    CHECK(signal(SIGUSR2, SIG_IGN) == count && raise(SIGUSR2) == 0);
    CHECK(kill(getpid(), 0) == 0);
    printf("USR1 %d times, USR2 %d time\n", (int)seen[SIGUSR1], (int)seen[SIGUSR2]);
}

/** Not inlined, and never the same to the compiler: it must really recurse. */
static __attribute__((noinline)) int endless(volatile int depth)
{
    volatile char page[4096];
    page[depth % 4096] = (char)depth;
    return depth == -1 ? 0 : endless(depth + 1) + page[7];
}

/** The instruction itself: a compiler knows other ways to divide one by something. */
static void divide(int by)
{
    int high = 0, low = 1;
    __asm__ volatile("idivl %2" : "+a"(low), "+d"(high) : "r"(by) : "cc");
}

static void faults(void)
{
    stack_t stack = {.ss_size = STACK_BYTES}, now;
    stack.ss_sp = alternate = malloc(STACK_BYTES);
    CHECK(alternate != NULL && sigaltstack(&stack, NULL) == 0 && sigaltstack(NULL, &now) == 0);
    CHECK(now.ss_sp == alternate && now.ss_size == STACK_BYTES && now.ss_flags == 0);
    install(SIGSEGV, fault, 0);
    install(SIGFPE, fault, 0);
    install(SIGILL, fault, SA_ONSTACK);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile int *)nowhere = 1;
    }
    printf("SIGSEGV at %p, not mapped %d, alternate stack %d\n", where, code == SEGV_MAPERR,
           on_alternate);
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    page[4096] = 1;
    CHECK(mprotect(page, 8192, PROT_READ) == 0 && page[4096] == 1);
    if (sigsetjmp(back, 1) == 0) {
        page[4096] = 2;
    }
    printf("write to a read-only page: right address %d, no permission %d\n", where == page + 4096,
           code == SEGV_ACCERR);
    CHECK(mprotect(page, 8192, PROT_READ | PROT_WRITE) == 0);
    page[4096] = 3;
    CHECK(page[4096] == 3 && munmap(page, 8192) == 0);
    if (sigsetjmp(back, 1) == 0) {
        divide(0);
    }
    printf("SIGFPE: integer division %d\n", code == FPE_INTDIV);
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("ud2");
    }
    printf("SIGILL: illegal operand %d, alternate stack %d\n",
           code == ILL_ILLOPN || code == ILL_ILLOPC, on_alternate);
    install(SIGSEGV, fault, SA_ONSTACK);
    if (sigsetjmp(back, 1) == 0) {
        endless(0);
    }
    printf("stack overflow: signals %d, alternate stack %d\n", (int)seen[SIGSEGV], on_alternate);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
    free(alternate);
    alternate = NULL;
}

static atomic_int started, stop;
static _Thread_local volatile sig_atomic_t own;
static void tick(int number)
{
    (void)number;
    own++;
}

/** Its registers must survive any number of signals. */
static void *worker(void *argument)
{
    double value = 1;
    uint64_t sum = 0;
    started++;
    while (!stop) {
        for (int i = 1; i <= 1000; i++) {
            value = value * 1.5 / 1.5;
            sum += (uint64_t)i;
        }
        CHECK(sum == 500500 && value > 0.999 && value < 1.001);
        sum = 0;
        value = 1;
    }
    *(int *)argument = own;
    return NULL;
}

static void threads(void)
{
    pthread_t thread[2];
    int got[2];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread[i], NULL, worker, &got[i]) == 0);
    }
    while (started < 2) {
        usleep(100);
    }
    for (int i = 0; i < 100; i++) {
        CHECK(pthread_kill(thread[i % 2], SIGUSR1) == 0);
        usleep(200);
    }
    stop = 1;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
    }
    printf("signals to threads arrived: %d %d, here: %d\n", got[0] > 0, got[1] > 0, (int)own);
}

static void timers(void)
{
    struct itimerval timer = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
    sigset_t none, alarm_only;
    CHECK(signal(SIGALRM, count) != SIG_ERR);
    sigemptyset(&none);
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarm_only, NULL) == 0 &&
          setitimer(ITIMER_REAL, &timer, NULL) == 0);
    while (seen[SIGALRM] < 5) {
        CHECK(sigsuspend(&none) == -1 && errno == EINTR);
    }
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    printf("alarms came\n");
}

static int end(const char *how)
{
    printf("the end: %s\n", how);
    fflush(stdout);
    if (strcmp(how, "abort") == 0) {
        abort();
    } else if (strcmp(how, "segv") == 0) {
        *(volatile int *)(nowhere + 0x12345678990) = 1;
    } else if (strcmp(how, "fpe") == 0) {
        divide(0);
    } else if (strcmp(how, "ill") == 0) {
        __asm__ volatile("ud2");
    } else if (strcmp(how, "term") == 0) {
        raise(SIGTERM);
    } else if (strcmp(how, "overflow") == 0) {
        return endless(0);
    }
    return 64;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "timers") == 0) {
        timers();
        return 0;
    }
    if (argc > 1) {
        return end(argv[1]);
    }
    raising();
    faults();
    threads();
    return 0;
}
