// SPDX-License-Identifier: Apache-2.0
/*
 * A program that means harm to the kernel below it. For the lightweight kernel in a VM only:
 * elsewhere it refuses, since random system calls delete files and kill processes.
 *
 *     hostile calls SECONDS SEED    system calls 0 ... 600 with random arguments, on four threads
 *     hostile jumps SEED            jumps to and reads of random and of chosen addresses, caught by
 * a handler hostile kernel                reads, writes and jumps where kernels live, caught by a
 * handler hostile privileged            instructions that only a kernel may use, caught by a
 * handler hostile registers             system calls with RSP, FS, GS and flags out of order
 *     hostile stack                 a recursion without end
 *     hostile threads [COUNT]       so many threads at once (default 10,000)
 *     hostile memory                all memory there is, in large and small pieces, and a little
 * more hostile frame                 sigreturn to frames made of random numbers
 */
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { CALLS = 600, TEAM = 4, ARENA = 1 << 20 };

static uint64_t start_seed;
static double seconds;
static char arena[ARENA];
static _Thread_local sigjmp_buf back;
static int caught;

static const uint64_t edges[] = {
    0,
    1,
    7,
    0xfff,
    0x1000,
    0x400000,
    0x7fffffffe000,
    0x7fffffffffff,
    0x800000000000,
    0xffff800000000000,
    0xffffffff80000000,
    0xffffffff81000000,
    0xfffffffffffff000,
    0xffffffffffffffff,
    0x8000000000000000,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    0xfee00000,
    0xb8000,
    0x100000,
    0xffffffffffffff9c,
};
enum { EDGES = sizeof edges / sizeof edges[0] };

static uint64_t argument(uint64_t *state)
{
    uint64_t random = next_random(state);
    switch (random % 8) {
    case 0:
        return random >> 32 & 0xff;
    case 1:
        return edges[(random >> 8) % EDGES];
    case 2:
        return random >> 3;
    case 3:
        return (uint64_t)(uintptr_t)arena + ARENA - (random >> 8) % 64;
    case 4:
        return edges[(random >> 8) % EDGES] + (random >> 32) % 4096;
    default:
        return (uint64_t)(uintptr_t)arena + (random >> 8) % ARENA;
    }
}

/** Calls that would only end the program, or make a thread wait for good, most of the time. */
static int boring(long number, uint64_t first)
{
    switch (number) {
    case SYS_exit:
    case SYS_exit_group:
    case SYS_rt_sigreturn:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_vfork:
        return 1;
    case SYS_kill:
    case SYS_tgkill:
    case SYS_tkill:
    case SYS_read:
        return first < 4096;
    default:
        return 0;
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *caller(void *index)
{
    uint64_t state = start_seed * 1000 + (uint64_t)(uintptr_t)index;
    double end = now() + seconds;
    for (long turn = 0; turn % 64 != 0 || now() < end; turn++) {
        long number = (long)(next_random(&state) % (CALLS + 1));
        uint64_t a[6];
        for (int i = 0; i < 6; i++) {
            a[i] = argument(&state);
        }
        if (turn % 16 == 0) {
            for (int i = 0; i < 64; i++) {
                uint64_t value = argument(&state);
                memcpy(arena + next_random(&state) % (ARENA - 8), &value, 8);
            }
        }
        if (!boring(number, a[0])) {
            syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        }
    }
    return NULL;
}

static long raw_call(long number, long first, long second)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second)
                     : "rcx", "r11", "memory");
    return result;
}

static int calls(void)
{
    pthread_t thread[TEAM];
    signal(SIGALRM, SIG_IGN);
    printf("system calls with random arguments, seed %llu\n", (unsigned long long)start_seed);
    fflush(stdout);
    for (uintptr_t i = 0; i < TEAM; i++) {
        pthread_create(&thread[i], NULL, caller, (void *)i);
    }
    /* A thread may wait for good in a call: the end comes from here, and past the C library, whose
     * own state in memory may be anything by now (a garbled "cancelled" flag makes it wait for ever). */
    struct timespec nap = {0, 50000000};
    for (long naps = (long)((seconds + 1) / 0.05); naps > 0; naps--) {
        raw_call(SYS_nanosleep, (long)&nap, 0);
    }
    raw_call(SYS_exit_group, 0, 0);
    return 1;
}

static void recover(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    caught++;
    siglongjmp(back, number);
}

static void catch_faults(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    struct sigaction action;
    CHECK(stack.ss_sp != NULL);
    sigaltstack(&stack, NULL);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = recover;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK(sigaction(numbers[i], &action, NULL) == 0);
    }
}

/** Whatever is there: read it, write what was read, jump to it. */
static void touch(uint64_t address, int what)
{
    if (sigsetjmp(back, 1) != 0) {
        return;
    }
    volatile char *at = (volatile char *)(uintptr_t)address;
    if (what == 0) {
        (void)*at;
    } else if (what == 1) {
        *at = *at;
    } else {
        ((void (*)(void))(uintptr_t)address)();
    }
}

static int jumps(uint64_t seed)
{
    catch_faults();
    for (int i = 0; i < 3000; i++) {
        uint64_t address = next_random(&seed);
        touch(i % 3 == 0   ? address
              : i % 3 == 1 ? address & 0x7fffffffffff
                           : address | 0xffff800000000000,
              i % 2 * 2);
    }
    printf("3000 accesses, %d faults\n", caught);
    return caught == 3000 ? 0 : 1;
}

static int kernel(void)
{
    int reached = 0;
    catch_faults();
    for (int i = 0; i < EDGES; i++) {
        for (int what = 0; what < 3; what++) {
            int before = caught;
            if (edges[i] >= 0x800000000000) {
                touch(edges[i], what);
                reached += caught == before;
            }
        }
    }
    for (uint64_t i = 0; i < 512; i++) {
        int before = caught;
        touch(0xffff800000000000 + i * 0x3ffffff000, 0);
        reached += caught == before;
    }
    for (uint64_t i = 0; i < 1024; i++) {
        int before = caught;
        touch(0xffffffff80000000 + i * 0x1ff000, 1);
        reached += caught == before;
    }
    printf("%d kernel addresses could be used\n", reached);
    return reached == 0 ? 0 : 1;
}

/* One function for each instruction, so that a fault loses nothing. */
#define TRY(name, ...)                                                                             \
    do {                                                                                           \
        volatile int before = caught;                                                              \
        if (sigsetjmp(back, 1) == 0) {                                                             \
            __asm__ volatile(__VA_ARGS__);                                                         \
        }                                                                                          \
        printf("%-10s %s\n", name, caught > before ? "refused" : "DONE");                          \
        done = done + (caught == before);                                                          \
    } while (0)

static int privileged(void)
{
    volatile int done = 0;
    uint64_t table[2] = {0, 0};
    catch_faults();
    TRY("hlt", "hlt");
    TRY("cli", "cli");
    TRY("sti", "sti");
    TRY("in", "inb $0x60, %%al" ::: "rax");
    TRY("out", "outb %%al, $0x64" ::"a"(0xfe));
    TRY("doorbell", "outl %%eax, %%dx" ::"a"(0), "d"(0xe08));
    TRY("poweroff", "outb %%al, %%dx" ::"a"(0x34), "d"(0x600));
    TRY("rdmsr", "rdmsr" ::"c"(0xc0000080) : "rax", "rdx");
    TRY("wrmsr", "wrmsr" ::"c"(0xc0000082), "a"(0), "d"(0));
    TRY("cr0", "mov %%cr0, %%rax" ::: "rax");
    TRY("cr3", "mov %%rax, %%cr3" ::"a"(0));
    TRY("cr4", "mov %%rax, %%cr4" ::"a"(0));
    TRY("dr7", "mov %%rax, %%dr7" ::"a"(0));
    TRY("lgdt", "lgdt %0" ::"m"(table));
    TRY("lidt", "lidt %0" ::"m"(table));
    TRY("ltr", "ltr %%ax" ::"a"(0x28));
    TRY("lldt", "lldt %%ax" ::"a"(0x28));
    TRY("invlpg", "invlpg %0" ::"m"(table));
    TRY("wbinvd", "wbinvd");
    TRY("clts", "clts");
    TRY("swapgs", "swapgs");
    TRY("sysret", "sysretq" ::"c"(0) : "r11");
    TRY("iret", "pushq $0; pushq $0; pushq $0; pushq $8; pushq $0; iretq");
    TRY("int 0x20", "int $0x20");
    TRY("int 0xff", "int $0xff");
    TRY("int 0x80", "int $0x80" ::"a"(-1L));
    TRY("int 14", "int $14");
    TRY("int3", "int3");
    TRY("vmmcall", ".byte 0x0f, 0x01, 0xd9" ::"a"(0x1234));
    TRY("vmcall", ".byte 0x0f, 0x01, 0xc1" ::"a"(0x1234));
    TRY("far jump", "ljmp *%0" ::"m"(table));
    TRY("stac", ".byte 0x0f, 0x01, 0xcb");
    printf("%d were carried out\n", done);
    return 0;
}

/** Also what a kernel's entry stands on may be anything. */
static int registers(void)
{
    catch_faults();
    for (volatile int i = 0; i < EDGES; i++) {
        if (sigsetjmp(back, 1) == 0) {
            long result;
            __asm__ volatile("mov %%rsp, %%r12\n\tmov %2, %%rsp\n\tsyscall\n\tmov %%r12, %%rsp"
                             : "=a"(result)
                             : "a"(SYS_getpid), "r"(edges[i])
                             : "rcx", "r11", "r12", "memory");
            CHECK(result > 0);
        }
    }
    /* Direction, alignment check, trap and nested-task flags. */
    static const uint64_t flags[] = {0x400, 0x40000, 0x4000, 0x3000, 0x200000};
    for (volatile size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("pushfq\n\torq %1, (%%rsp)\n\tpopfq\n\tsyscall\n\tpushfq\n\tandq %2, "
                             "(%%rsp)\n\tpopfq"
                             :
                             : "a"(SYS_getpid), "r"(flags[i]), "r"(~flags[i])
                             : "rcx", "r11", "memory", "cc");
        }
    }
    long pid = getpid();
    for (volatile uint16_t selector = 0; selector < 0x100; selector++) {
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(selector));
            CHECK(getpid() == pid);
        }
    }
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"((uint16_t)0));
    __asm__ volatile("mov %0, %%gs" ::"r"((uint16_t)0));
    CHECK(getpid() == pid);
    for (volatile int i = 0; i < EDGES; i++) {
        if (sigsetjmp(back, 1) == 0) {
            syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, edges[i]);
            CHECK(getpid() == pid);
        }
    }
    printf("system calls with odd registers: still here\n");
    return 0;
}

static __attribute__((noinline)) long recurse(volatile long depth)
{
    volatile char block[1024];
    block[depth % 1024] = 1;
    return depth < 0 ? 0 : recurse(depth + 1) + block[0];
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go = PTHREAD_COND_INITIALIZER;
static int released;

static void *waiting(void *unused)
{
    pthread_mutex_lock(&lock);
    while (!released) {
        pthread_cond_wait(&go, &lock);
    }
    pthread_mutex_unlock(&lock);
    return unused;
}

static int threads(long count)
{
    pthread_t *thread = malloc((size_t)count * sizeof *thread);
    pthread_attr_t small;
    long made = 0;
    CHECK(thread != NULL && pthread_attr_init(&small) == 0 &&
          pthread_attr_setstacksize(&small, 16384) == 0);
    while (made < count && pthread_create(&thread[made], &small, waiting, NULL) == 0) {
        made++;
    }
    fprintf(stderr, "%ld of %ld threads\n", made, count);
    pthread_mutex_lock(&lock);
    released = 1;
    pthread_cond_broadcast(&go);
    pthread_mutex_unlock(&lock);
    for (long i = 0; i < made; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
    }
    printf("all threads ended\n");
    return made > 0 ? 0 : 1;
}

static int memory(void)
{
    uint64_t total = 0;
    for (size_t piece = (size_t)1 << 46; piece >= 4096; piece /= 2) {
        for (int i = 0; i < 1000; i++) {
            char *at =
                mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (at == MAP_FAILED) {
                break;
            }
            at[0] = at[piece - 1] = 1;
            total += piece;
        }
    }
    while (sbrk(4096) != (void *)-1) {
        total += 4096;
    }
    fprintf(stderr, "%llu bytes\n", (unsigned long long)total);
    printf("all memory taken\n");
    return 0;
}

static int frame(uint64_t seed)
{
    static uint64_t words[512];
    catch_faults();
    for (int i = 0; i < 200; i++) {
        for (int w = 0; w < 512; w++) {
            words[w] = argument(&seed);
        }
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("mov %1, %%rsp\n\tsyscall\n\tud2" ::"a"(SYS_rt_sigreturn),
                             "r"(words + 16 + i % 8)
                             : "memory");
        }
    }
    printf("200 frames\n");
    return 0;
}

/** Whether there is a hypervisor below and no Linux in between. */
static int in_lwk(void)
{
    struct utsname name;
    unsigned a, b, c, d;
    int hypervisor = __get_cpuid(1, &a, &b, &c, &d) && (c >> 31 & 1) != 0;
    return hypervisor && uname(&name) == 0 &&
           (strstr(name.release, "lwk") != NULL || strstr(name.version, "lwk") != NULL ||
            strstr(name.version, "LWK") != NULL || strstr(name.version, "V3M") != NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    uint64_t number = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    if (!in_lwk()) {
        fprintf(stderr, "hostile: not on the lightweight kernel; it would do harm here\n");
        return 64;
    }
    if (strcmp(mode, "calls") == 0 && argc == 4) {
        seconds = atof(argv[2]);
        start_seed = strtoull(argv[3], NULL, 0);
        return calls();
    } else if (strcmp(mode, "jumps") == 0) {
        return jumps(number);
    } else if (strcmp(mode, "kernel") == 0) {
        return kernel();
    } else if (strcmp(mode, "privileged") == 0) {
        return privileged();
    } else if (strcmp(mode, "registers") == 0) {
        return registers();
    } else if (strcmp(mode, "stack") == 0) {
        return (int)recurse(0);
    } else if (strcmp(mode, "threads") == 0) {
        return threads(argc > 2 ? (long)number : 10000);
    } else if (strcmp(mode, "memory") == 0) {
        return memory();
    } else if (strcmp(mode, "frame") == 0) {
        return frame(number);
    }
    return 64;
}
