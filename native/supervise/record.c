/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* By a rename: readers find all of it or nothing. */
static int write_file(const char *name, const char *text)
{
    char temporary[32];
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", name);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return errno;
    }
    size_t bytes = strlen(text);
    ssize_t written = write(fd, text, bytes);
    int failed = written < 0 ? errno : ((size_t)written < bytes ? ENOSPC : 0);
    (void)close(fd);
    if (failed == 0 && rename(temporary, name) != 0) {
        failed = errno;
    }
    return failed;
}

/* Field 22 of /proc/PID/stat: clock ticks from the host's boot to the process's start; 0 where it
 * is unknown. */
static unsigned long long start_time(pid_t pid)
{
    char text[1024];
    (void)snprintf(text, sizeof(text), "/proc/%d/stat", (int)pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[got < 0 ? 0 : got] = '\0';
    /* The second field is a name in brackets that may hold anything. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

/* Of the host's present boot, without its newline. */
static void boot_id(char *to, size_t room)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, to, room - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    to[got < 0 ? 0 : got] = '\0';
    to[strcspn(to, "\n")] = '\0';
}

int record_start(pid_t supervisor, pid_t program)
{
    char boot[64];
    char text[512];
    boot_id(boot, sizeof(boot));
    (void)snprintf(text, sizeof(text),
                   "{\"supervisor\":{\"pid\":%d,\"start\":\"%llu\",\"boot\":\"%s\"},"
                   "\"program\":{\"pid\":%d,\"start\":\"%llu\",\"boot\":\"%s\"}}\n",
                   (int)supervisor, start_time(supervisor), boot, (int)program, start_time(program),
                   boot);
    return write_file("process", text);
}

int record_exit(int status)
{
    char text[128];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    long long ms = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    (void)snprintf(text, sizeof(text), "{\"code\":%d,\"signal\":%d,\"time\":%lld}\n", code, signal,
                   ms);
    return write_file("exit", text);
}
