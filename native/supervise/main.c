/* SPDX-License-Identifier: Apache-2.0 */
/*
 * v3m-supervise: stands between a machine's program (QEMU) and the commands that come and go. It
 * keeps the program's console and what else it says in rings and serves them on sockets
 * (channel.h), and records how the program ended (record.h). One small process for each machine; it
 * ends with the program, and the program with it.
 *
 *   v3m-supervise --dir DIR [CHANNEL]... [SOCKET]... [NETWORK]... [--pass COUNT] [--after COUNT]
 *                 -- [AFTER ARGUMENTS] PROGRAM ARGUMENTS
 *
 *   CHANNEL  --channel NAME --fd N [--keep BYTES] [--input] [--hold] [--hello TEXT] [--log FILE]
 *   SOCKET   --socket PATH --fd N: a listening socket for the program
 *   NETWORK  --dhcp DEVICE,HOST,GUEST,PREFIX,MAC[,NAME SERVER]...: the guest gets its address
 *
 * Descriptors at the start: 0 the leash: a pipe whose end without a byte means that whoever started
 * us died before the machine ran, and everything is undone. 1 gets one line: "started" or "failed
 * ERRNO WHAT". 3, 4, … (--pass) are for the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "record.h"

/** How long those who are attached may read nothing of what is left, milliseconds. */
#define PATIENCE_MS 3000

/** A file that says: a command waits for the end, and does itself what comes after it. */
#define ATTENDED "attended"

struct supervisor {
    struct options options;
    struct channel channels[MAX_CHANNELS];
    size_t channel_count;
    int sockets[MAX_SOCKETS];
    int networks[MAX_NETWORKS];
    int signal_fd;
    int leash;
    pid_t program;
    bool ended;
};

/* The one line for whoever started us. */
static void report(const char *text, int error)
{
    char line[512];
    int bytes = error == 0 ? snprintf(line, sizeof(line), "%s\n", text)
                           : snprintf(line, sizeof(line), "failed %d %s\n", error, text);
    (void)!write(STDOUT_FILENO, line, (size_t)bytes < sizeof(line) ? (size_t)bytes : sizeof(line));
}

static void close_all(struct supervisor *s)
{
    for (size_t i = 0; i < s->channel_count; i++) {
        channel_close(&s->channels[i]);
    }
    for (size_t i = 0; i < s->options.socket_count; i++) {
        (void)unlink(s->options.sockets[i].path);
    }
}

static int open_all(struct supervisor *s, const char **what)
{
    const struct options *options = &s->options;
    *what = options->directory;
    if (chdir(options->directory) != 0) {
        return errno;
    }
    for (size_t i = 0; i < options->channel_count; i++) {
        s->channel_count = i + 1;
        int failed = channel_open(&s->channels[i], &options->channels[i], what);
        if (failed != 0) {
            return failed;
        }
    }
    for (size_t i = 0; i < options->socket_count; i++) {
        *what = options->sockets[i].path;
        s->sockets[i] = channel_listen(*what);
        if (s->sockets[i] < 0) {
            return errno;
        }
    }
    for (size_t i = 0; i < options->network_count; i++) {
        *what = options->networks[i].device;
        s->networks[i] = dhcp_open(*what);
        if (s->networks[i] < 0) {
            return errno;
        }
    }
    return 0;
}

/* Signals arrive by a descriptor; those that end a session are the program's business. */
static int watch_signals(struct supervisor *s)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd < 0 ? errno : 0;
}

/* In the child. @return never, but with an errno where the program cannot be started */
static int become_program(struct supervisor *s, pid_t parent)
{
    sigset_t none;
    (void)sigemptyset(&none);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return errno;
    }
    if (getppid() != parent) {
        _exit(1);
    }
    for (size_t i = 0; i < s->channel_count; i++) {
        if (dup2(s->channels[i].child_fd, s->options.channels[i].number) < 0) {
            return errno;
        }
    }
    for (size_t i = 0; i < s->options.socket_count; i++) {
        int flags = fcntl(s->sockets[i], F_GETFL);
        if (dup2(s->sockets[i], s->options.sockets[i].number) < 0 ||
            fcntl(s->options.sockets[i].number, F_SETFL, flags & ~O_NONBLOCK) != 0) {
            return errno;
        }
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return errno;
    }
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execvp(s->options.program[0], s->options.program);
    return errno;
}

/* @return 0 or the errno of what failed in the child or here */
static int start_program(struct supervisor *s)
{
    int pipe_fds[2];
    int failed = 0;
    pid_t parent = getpid();
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return errno;
    }
    s->program = fork();
    if (s->program == 0) {
        /* Out of the way of the numbers that the program's descriptors get. */
        int words = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, 1001);
        failed = become_program(s, parent);
        (void)!write(words, &failed, sizeof(failed));
        _exit(127);
    }
    int error = s->program < 0 ? errno : 0;
    (void)close(pipe_fds[1]);
    if (error == 0 && read(pipe_fds[0], &failed, sizeof(failed)) == sizeof(failed)) {
        (void)waitpid(s->program, NULL, 0);
        error = failed;
    }
    (void)close(pipe_fds[0]);
    for (int fd = 3; fd < 3 + s->options.pass; fd++) {
        (void)close(fd);
    }
    for (size_t i = 0; i < s->channel_count; i++) {
        (void)close(s->channels[i].child_fd);
        s->channels[i].child_fd = -1;
    }
    for (size_t i = 0; i < s->options.socket_count; i++) {
        (void)close(s->sockets[i]);
    }
    return error;
}

static void on_end(struct supervisor *s, int status)
{
    s->ended = true;
    for (size_t i = 0; i < s->channel_count; i++) {
        channel_drain(&s->channels[i]);
    }
    int failed = record_exit(status);
    if (failed != 0) {
        (void)fprintf(stderr, "v3m-supervise: cannot record the end: %s\n", strerror(failed));
    }
}

static void on_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        int status = 0;
        if (info.ssi_signo != SIGCHLD) {
            if (!s->ended) {
                (void)kill(s->program, SIGTERM);
            }
        } else if (!s->ended && waitpid(s->program, &status, WNOHANG) == s->program) {
            on_end(s, status);
        }
    }
}

/* A byte sets us free; its end without one kills the program. */
static void on_leash(struct supervisor *s)
{
    char byte = 0;
    ssize_t got = read(s->leash, &byte, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (got != 1 && !s->ended) {
        (void)kill(s->program, SIGKILL);
    }
    (void)close(s->leash);
    s->leash = -1;
}

static bool is_over(struct supervisor *s)
{
    if (!s->ended) {
        return false;
    }
    bool over = true;
    for (size_t i = 0; i < s->channel_count; i++) {
        channel_drain(&s->channels[i]);
        over = over && channel_is_done(&s->channels[i]);
    }
    return over;
}

static void run(struct supervisor *s)
{
    struct pollfd fds[2 + MAX_NETWORKS + MAX_CHANNELS * CHANNEL_POLL];
    size_t networks = s->options.network_count;
    size_t counts[MAX_CHANNELS] = {0};
    while (!is_over(s)) {
        size_t count = 2 + networks;
        bool moved = false;
        fds[0] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = s->leash, .events = POLLIN};
        for (size_t i = 0; i < networks; i++) {
            fds[2 + i] = (struct pollfd){.fd = s->ended ? -1 : s->networks[i], .events = POLLIN};
        }
        for (size_t i = 0; i < s->channel_count; i++) {
            counts[i] = channel_poll(&s->channels[i], fds + count);
            count += counts[i];
        }
        int ready = poll(fds, count, s->ended ? PATIENCE_MS : -1);
        if (ready < 0) {
            continue; /* EINTR */
        }
        if (fds[1].revents != 0) {
            on_leash(s);
        }
        for (size_t i = 0; i < networks; i++) {
            if (fds[2 + i].revents != 0) {
                dhcp_turn(s->networks[i], &s->options.networks[i].lease);
            }
        }
        count = 2 + networks;
        for (size_t i = 0; i < s->channel_count; i++) {
            moved |= channel_turn(&s->channels[i], fds + count, counts[i]);
            count += counts[i];
        }
        if (fds[0].revents != 0) {
            on_signals(s);
        } else if (s->ended && !moved) {
            for (size_t i = 0; i < s->channel_count; i++) {
                channel_drop_clients(&s->channels[i]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct supervisor s = {.signal_fd = -1};
    const char *what = parse_options(&s.options, argc, argv);
    if (what != NULL) {
        report(what, EINVAL);
        return 2;
    }
    int failed = open_all(&s, &what);
    if (failed == 0) {
        what = "signals";
        failed = watch_signals(&s);
    }
    if (failed == 0) {
        what = s.options.program[0];
        failed = start_program(&s);
    }
    if (failed == 0) {
        what = "process";
        failed = record_start(getpid(), s.program);
        if (failed != 0) {
            (void)kill(s.program, SIGKILL);
        }
    }
    if (failed != 0) {
        report(what, failed);
        close_all(&s);
        return 1;
    }
    report("started", 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    s.leash = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && null >= 0; fd++) {
        (void)dup2(null, fd);
    }
    run(&s);
    close_all(&s);
    if (s.options.after != NULL && access(ATTENDED, F_OK) != 0) {
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execvp(s.options.after[0], s.options.after);
    }
    free((void *)s.options.after);
    return 0;
}
