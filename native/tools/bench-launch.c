/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-launch: starts a virtual machine monitor for the boot benchmark and tells how long it took
 * from exec to a text on its output. Small and quiet, because it shares one CPU with what it times.
 *
 *   bench-launch TEXT PROGRAM ARGUMENT...
 *   bench-launch --touch
 *
 * When the text has come, the monitor is stopped by SIGSTOP, so that what its guest does afterwards
 * is not counted, and a line "PID NANOSECONDS" is written. At the end of standard input the monitor
 * is killed. A program that only starts a monitor, which inherits its output, may have ended. Exit
 * status: 0; 1 if it could not be started or ended before the text came, whose output then goes to
 * standard error.
 *
 * --touch writes to all free memory once, in huge pages where there are any. In a nested machine
 * the first use of each page costs a fault in the machine below, which is no monitor's fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES (2ull << 20)
#define SPARE_BYTES (256ull << 20) /* left alone by --touch */
#define KEPT_OUTPUT 8192u

struct launched {
    pid_t pid;
    int output;
    int64_t exec_ns; /* just before exec */
    int exec_errno;  /* why exec failed, or 0 */
};

static int64_t now_ns(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int touch_memory(void)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0) {
        return 1;
    }
    uint64_t bytes = (uint64_t)info.freeram * info.mem_unit;
    if (bytes <= SPARE_BYTES) {
        return 0;
    }
    bytes -= SPARE_BYTES;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("bench-launch: mmap");
        return 1;
    }
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    for (uint64_t at = 0; at < bytes; at += 4096) {
        ((volatile uint8_t *)memory)[at] = 1;
    }
    return 0;
}

/* vfork: nothing is copied before the monitor's exec, and the child can write the time into our
 * memory. On Linux the child may call what it calls here: the parent sleeps until exec. */
static bool launch(char **argv, volatile struct launched *result)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* NOLINTBEGIN(clang-analyzer-unix.Vfork,clang-analyzer-security.insecureAPI.vfork) */
    pid_t pid = vfork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(ends[1], STDOUT_FILENO);
        result->exec_ns = now_ns();
        (void)execvp(argv[0], argv);
        result->exec_errno = errno;
        _exit(127);
    }
    /* NOLINTEND(clang-analyzer-unix.Vfork,clang-analyzer-security.insecureAPI.vfork) */
    (void)close(ends[1]);
    (void)close(null);
    result->pid = pid;
    result->output = ends[0];
    return pid > 0 && result->exec_errno == 0;
}

/* Reads until the text has come; what was read is kept for a message. */
static bool wait_for(int fd, const char *text, char *kept, size_t *used)
{
    for (;;) {
        if (*used == KEPT_OUTPUT) { /* keep the newer half */
            memmove(kept, kept + KEPT_OUTPUT / 2, KEPT_OUTPUT / 2);
            *used = KEPT_OUTPUT / 2;
        }
        ssize_t count = read(fd, kept + *used, KEPT_OUTPUT - *used);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return false;
        }
        *used += (size_t)count;
        if (memmem(kept, *used, text, strlen(text)) != NULL) {
            return true;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--touch") == 0) {
        return touch_memory();
    }
    if (argc < 3) {
        (void)fputs("usage: bench-launch TEXT PROGRAM ARGUMENT... | --touch\n", stderr);
        return 1;
    }
    static char kept[KEPT_OUTPUT];
    size_t used = 0;
    volatile struct launched monitor = {.pid = -1};
    if (!launch(argv + 2, &monitor)) {
        (void)fprintf(stderr, "bench-launch: cannot start %s: %s\n", argv[2],
                      strerror(monitor.exec_errno));
        return 1;
    }
    bool ready = wait_for(monitor.output, argv[1], kept, &used);
    int64_t ready_ns = now_ns();
    bool ended = false;
    if (ready) {
        int stopped = 0;
        (void)kill(monitor.pid, SIGSTOP);
        (void)waitpid(monitor.pid, &stopped, WUNTRACED); /* every thread has stopped */
        ended = !WIFSTOPPED(stopped);
        (void)printf("%d %lld\n", (int)monitor.pid, (long long)(ready_ns - monitor.exec_ns));
        (void)fflush(stdout);
        char byte = 0;
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
    } else {
        (void)fwrite(kept, 1, used, stderr);
    }
    if (!ended) {
        (void)kill(monitor.pid, SIGKILL);
        (void)waitpid(monitor.pid, NULL, 0);
    }
    return ready ? 0 : 1;
}
