/*
 * Process 1 of the Intel machine: sets the machine up, runs one command, passes its streams,
 * reports its end. Statically linked; compiled by the harness, since the host's compiler is needed
 * for V3M anyway.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "job.h"
#include "machine.h"

/* How often the mailbox is looked at, in virtual milliseconds: each look is a disk command. */
#define LOOK_MS 200
#define LOOK_TERMINAL_MS 30
#define BEAT_MS 4000

struct command {
    pid_t pid;
    int in, out, err; /* our ends; -1 when closed. With a terminal in and out are the same. */
    int terminal;
    int status; /* as from waitpid; -1: still running */
};

/* Standard input that the command has not taken yet. */
static char pending[MESSAGE_LIMIT];
static size_t pending_from, pending_to;
static int pending_eof;

static void on_child(int signal)
{
    (void)signal;
}

static void become_command(const struct job *job)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    iopl(0);
    if (chdir(job->cwd) != 0) {
        fprintf(stderr, "v2m-testbed: %s is not in the machine: %s\n", job->cwd, strerror(errno));
        _exit(126);
    }
    environ = job->envp; /* execvp looks in the PATH of the new environment */
    execvp(job->argv[0], job->argv);
    int error = errno;
    fprintf(stderr, "v2m-testbed: %s: %s\n", job->argv[0], strerror(error));
    _exit(error == ENOENT ? 127 : 126);
}

static struct command start_command(const struct job *job)
{
    struct command command = {
        .in = -1, .out = -1, .err = -1, .terminal = job->terminal, .status = -1};
    if (job->terminal) {
        const struct winsize size = {.ws_row = (unsigned short)job->rows,
                                     .ws_col = (unsigned short)job->columns};
        command.pid = forkpty(&command.out, NULL, NULL, &size);
        if (command.pid < 0)
            fail_errno("cannot start the command");
        if (command.pid == 0)
            become_command(job);
        command.in = command.out;
    } else {
        int in[2], out[2], err[2];
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
            fail_errno("pipe");
        command.pid = fork();
        if (command.pid < 0)
            fail_errno("cannot start the command");
        if (command.pid == 0) {
            setsid();
            if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0)
                _exit(126);
            become_command(job);
        }
        close(in[0]);
        close(out[1]);
        close(err[1]);
        command.in = in[1];
        command.out = out[0];
        command.err = err[0];
    }
    fcntl(command.in, F_SETFL, O_NONBLOCK);
    return command;
}

/* Passes on what is there. At the end of the stream closes it. */
static void forward(int *from, enum frame kind)
{
    static char buffer[32 << 10];
    ssize_t length = read(*from, buffer, sizeof buffer);
    if (length > 0) {
        send_frame(kind, buffer, (size_t)length);
    } else if (length == 0 || (errno != EINTR && errno != EAGAIN)) {
        close(*from); /* a terminal whose other side is closed gives EIO */
        *from = -1;
    }
}

static void close_input(struct command *command)
{
    if (command->in >= 0 && !command->terminal)
        close(command->in);
    command->in = -1;
}

/* Gives the command as much input as it takes. */
static void feed(struct command *command)
{
    while (pending_from < pending_to && command->in >= 0) {
        ssize_t length = write(command->in, pending + pending_from, pending_to - pending_from);
        if (length > 0) {
            pending_from += (size_t)length;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            close_input(command); /* it reads no more */
        }
    }
    if (pending_to > 0) {
        pending_from = pending_to = 0;
        send_frame(FRAME_READY, NULL, 0);
    }
    if (pending_eof) {
        static const char end_of_file = 4; /* Ctrl-D */
        if (command->terminal && command->in >= 0 && write(command->in, &end_of_file, 1) < 0)
            command->in = -1;
        close_input(command);
        pending_eof = 0;
    }
}

/* Looks for a message from the host. */
static void look(int direct, struct command *command)
{
    static char block[MESSAGE_DATA_OFFSET + MESSAGE_LIMIT] __attribute__((aligned(4096)));
    static uint64_t seen;
    struct message message;
    if (pread(direct, block, 4096, SCRATCH_MAILBOX) != 4096)
        return;
    memcpy(&message, block, sizeof message);
    if (message.sequence != seen + 1 || message.length > MESSAGE_LIMIT)
        return;
    size_t whole = (MESSAGE_DATA_OFFSET + message.length + 4095) & ~(size_t)4095;
    if (whole > 4096 && pread(direct, block, whole, SCRATCH_MAILBOX) != (ssize_t)whole)
        return;
    seen = message.sequence;

    const char *data = block + MESSAGE_DATA_OFFSET;
    switch (message.kind) {
    case MESSAGE_STDIN: /* the host sends more only after FRAME_READY, so there is room */
        if (message.length == 0)
            pending_eof = 1;
        memcpy(pending, data, message.length);
        pending_from = 0;
        pending_to = message.length;
        break;
    case MESSAGE_SIGNAL: {
        /* With a terminal the shell's children have groups of their own: the one in front is meant.
         */
        pid_t group = command->terminal ? tcgetpgrp(command->out) : command->pid;
        kill(-(group > 0 ? group : command->pid), atoi(data));
        break;
    }
    case MESSAGE_SIZE: {
        int rows = 0, columns = 0;
        if (command->terminal && sscanf(data, "%d %d", &rows, &columns) == 2) {
            const struct winsize size = {.ws_row = (unsigned short)rows,
                                         .ws_col = (unsigned short)columns};
            ioctl(command->out, TIOCSWINSZ, &size);
        }
        break;
    }
    }
    send_text(FRAME_TAKEN, "%llu", (unsigned long long)seen);
    feed(command);
}

/* Process 1 inherits all orphans, and must bury them. */
static void reap(struct command *command)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == command->pid)
            command->status = status;
    }
}

static long long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Runs until the command has ended and all of its output was passed on. */
static void serve(struct command *command, int direct)
{
    const int interval = command->terminal ? LOOK_TERMINAL_MS : LOOK_MS;
    long long next_look = 0, next_beat = 0;
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before); /* delivered in ppoll only, so that none is missed */
    int killed = 0;
    while (command->out >= 0 || command->err >= 0 || command->status < 0) {
        reap(command);
        if (command->status >= 0 && !killed) {
            /* What the command left running holds the streams open. */
            kill(-1, SIGKILL);
            killed = 1;
        }
        const long long now = milliseconds();
        if (now >= next_beat) {
            send_frame(FRAME_BEAT, NULL, 0);
            next_beat = now + BEAT_MS;
        }
        if (now >= next_look) {
            look(direct, command);
            next_look = milliseconds() + interval;
        }
        struct pollfd polled[] = {
            {.fd = command->out, .events = POLLIN},
            {.fd = command->err, .events = POLLIN},
            {.fd = pending_from < pending_to && !command->terminal ? command->in : -1,
             .events = POLLOUT},
        };
        long long wait = next_look - milliseconds();
        if (wait < 0)
            wait = 0;
        const struct timespec limit = {.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000};
        if (ppoll(polled, 3, &limit, &before) <= 0) {
            feed(command);
            continue;
        }
        if (polled[0].revents)
            forward(&command->out, FRAME_STDOUT);
        if (polled[1].revents)
            forward(&command->err, FRAME_STDERR);
        if (polled[2].revents)
            feed(command);
    }
}

/* Writes the output directory as a tar archive to the scratch disk. */
static void carry_output(const struct job *job, int scratch)
{
    if (lseek(scratch, SCRATCH_OUTPUT, SEEK_SET) < 0)
        fail_errno("scratch disk");
    pid_t pid = fork();
    if (pid < 0)
        fail_errno("cannot start tar");
    if (pid == 0) {
        static char *const envp[] = {NULL};
        dup2(scratch, 1);
        char *const argv[] = {"tar", "-cf", "-", "-C", (char *)job->out, ".", NULL};
        execve("/bin/busybox", argv, envp);
        _exit(127);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status != 0)
        fail("cannot pack the output directory: tar ended with status %d", status);
    off_t length = lseek(scratch, 0, SEEK_CUR) - SCRATCH_OUTPUT;
    if (fsync(scratch) != 0)
        fail_errno("the output directory does not fit on the scratch disk");
    send_text(FRAME_OUTPUT, "%lld", (long long)length);
}

int main(void)
{
    channel_open();
    prepare_machine();
    save_point();

    int scratch = attach_disks();
    int direct = open(disk_named("V3M-SCRATCH"), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (direct < 0)
        fail_errno("cannot open the scratch disk");
    struct job job = read_job(scratch);
    freshen_machine(&job);
    enter_tree(&job);

    struct sigaction action = {.sa_handler = on_child};
    sigaction(SIGCHLD, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    send_frame(FRAME_STARTED, NULL, 0);
    struct command command = start_command(&job);
    serve(&command, direct);
    if (*job.out)
        carry_output(&job, scratch);
    int code =
        WIFSIGNALED(command.status) ? 128 + WTERMSIG(command.status) : WEXITSTATUS(command.status);
    send_text(FRAME_EXIT, "%d", code);
    for (;;)
        pause();
}
