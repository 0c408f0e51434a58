/* SPDX-License-Identifier: Apache-2.0 */
/* What may block: pipes, terminals, sockets, poll(), locks; cancelling, and the end while calls
 * wait. */
#include "yod_rig.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static uint64_t elapsed_ms(uint64_t since)
{
    return (vh_now_ns() - since) / 1000000;
}

static int64_t cancel(struct yod_rig *rig, uint32_t slot)
{
    return yod_call(rig, YOD_CALL_CANCEL, (const struct yod_arg[6]){V(slot)});
}

TEST(yod_pipe_blocks_and_wakes)
{
    struct yod_rig *rig = yod_rig_new();
    int32_t ends[2];
    CHECK_EQ(CALL(pipe2, M(0, 8), V(O_CLOEXEC)), 0);
    memcpy(ends, BUFFER, sizeof(ends));
    CHECK_EQ(ends[0], 0);
    CHECK_EQ(ends[1], 1);
    CHECK_EQ(CALL(fcntl, V(0), V(F_GETFL)) & O_NONBLOCK, 0);
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK(!yod_await(rig, 0, 20));
    uint32_t pulses = atomic_load(&rig->pulses);
    memcpy(BUFFER + 256, "hello", 5);
    CHECK(POST(1, write, V(1), M(256, 5), V(5))); /* at once */
    CHECK_EQ(RESULT(1), 5);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 5);
    CHECK(memcmp(BUFFER, "hello", 5) == 0);
    for (int i = 0; i < 1000 && atomic_load(&rig->pulses) == pulses; i++) {
        (void)usleep(1000);
    }
    CHECK_EQ(atomic_load(&rig->pulses), pulses + 1);
    CHECK_EQ(CALL(ioctl, V(0), V(0x541b), M(0, 4)), 0); /* FIONREAD */
    CHECK_EQ(*(int *)(void *)BUFFER, 0);
    CHECK_EQ(CALL(lseek, V(0), V(0), V(SEEK_CUR)), -ESPIPE);
    CHECK_EQ(CALL(pread64, V(0), M(0, 4), V(4), V(0)), -ESPIPE);
    CHECK_EQ(CALL(fchmod, V(0), V(0600)), -EROFS);
    /* The end of the pipe ends a read. */
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK_EQ(CALL(close, V(1)), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 0);
    struct vmmhpc_yod_stats stats = {.size = sizeof(stats)};
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK_EQ(stats.waited, 2);
    yod_rig_free(rig);
}

TEST(yod_pipe_writes_all)
{
    struct yod_rig *rig = yod_rig_new();
    const uint32_t bytes = 300000; /* more than a pipe holds */
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    for (uint32_t i = 0; i < bytes; i++) {
        BUFFER[i] = (char)(i * 3 + (i >> 8));
    }
    CHECK(!POST(0, write, V(1), M(0, bytes), V(bytes)));
    CHECK(!yod_await(rig, 0, 20));
    uint32_t got = 0;
    uint32_t wrong = 0;
    while (got < bytes) {
        int64_t part = CALL(read, V(0), M(0x100000, 50000), V(50000));
        if (!CHECK(part > 0)) {
            break;
        }
        for (uint32_t i = 0; i < part; i++, got++) {
            wrong += BUFFER[0x100000 + i] != (char)(got * 3 + (got >> 8)) ? 1 : 0;
        }
    }
    CHECK_EQ(wrong, 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), bytes);
    /* Non-blocking: what fits, then EAGAIN. */
    CHECK_EQ(CALL(fcntl, V(1), V(F_SETFL), V(O_NONBLOCK)), 0);
    CHECK(POST(0, write, V(1), M(0, bytes), V(bytes)));
    CHECK(RESULT(0) > 0 && RESULT(0) < bytes);
    CHECK(POST(0, write, V(1), M(0, bytes), V(bytes)));
    CHECK_EQ(RESULT(0), -EAGAIN);
    yod_rig_free(rig);
}

TEST(yod_cancel)
{
    struct yod_rig *rig = yod_rig_new();
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK_EQ(cancel(rig, 0), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), -EINTR);
    CHECK_EQ(cancel(rig, 0), 0); /* has ended: nothing happens */
    CHECK_EQ(cancel(rig, 5), 0);
    CHECK_EQ(cancel(rig, YOD_SLOTS), -EINVAL);
    CHECK_EQ(cancel(rig, UINT32_MAX), -EINVAL);
    /* A write that wrote some says so. */
    CHECK(!POST(0, write, V(1), M(0, 200000), V(200000)));
    CHECK_EQ(cancel(rig, 0), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 65536);
    /* The slot is as good as new. */
    CHECK_EQ(CALL(read, V(0), M(0, 10), V(10)), 10);
    memset(BUFFER, 0, 8);
    CHECK(!POST(0, poll, NONE, V(0), V(-1)));
    CHECK_EQ(cancel(rig, 0), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), -EINTR);
    yod_rig_free(rig);
}

TEST(yod_all_slots_wait)
{
    struct yod_rig *rig = yod_rig_new();
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    for (uint32_t i = 0; i < YOD_SLOTS - 1; i++) {
        CHECK(!POST(i, read, V(0), M(i * 16, 1), V(1)));
    }
    memset(BUFFER + 4096, 'x', YOD_SLOTS);
    CHECK_EQ(CALL(write, V(1), M(4096, YOD_SLOTS - 1), V(YOD_SLOTS - 1)), YOD_SLOTS - 1);
    for (uint32_t i = 0; i < YOD_SLOTS - 1; i++) {
        CHECK(yod_await(rig, i, 5000));
        CHECK_EQ(RESULT(i), 1);
        CHECK_EQ(BUFFER[(size_t)i * 16], 'x');
    }
    yod_rig_free(rig);
}

/* The end comes while calls wait, at once, and leaves nothing behind (ASan looks). */
TEST(yod_end_while_waiting)
{
    struct yod_rig *rig = yod_rig_new();
    struct pollfd *set = (struct pollfd *)(void *)BUFFER;
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    set[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    CHECK(!POST(0, poll, M(0, 8), V(1), V(-1)));
    CHECK(!POST(1, read, V(0), M(0, 100), V(100)));
    CHECK(!POST(2, ppoll, NONE, V(0), NONE));
    uint64_t start = vh_now_ns();
    yd_destroy(rig->yod);
    CHECK(elapsed_ms(start) < 2000);
    rig->yod = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(rig->queue->slot[i].state, YOD_SLOT_DONE);
        CHECK_EQ(RESULT(i), -EINTR);
    }
    yod_rig_free(rig);
}

static uint64_t cpu_ms(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

TEST(yod_waiting_costs_nothing)
{
    struct yod_rig *rig = yod_rig_new();
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    CHECK_EQ(CALL(close, V(3)), 0);
    CHECK(mkfifo(yod_path(rig, "rw/fifo"), 0600) == 0);
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK(!POST(1, poll, NONE, V(0), V(-1)));
    CHECK(!POST(2, open, P("rw/fifo"), V(O_WRONLY)));
    struct pollfd *set = (struct pollfd *)(void *)BUFFER;
    set[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    set[1] = (struct pollfd){.fd = -5, .events = POLLIN};
    CHECK(!POST(3, poll, M(0, 16), V(2), V(100000)));
    uint64_t before = cpu_ms();
    (void)usleep(300000);
    CHECK(cpu_ms() - before < 100);
    yod_rig_free(rig);
}

TEST(yod_poll)
{
    struct yod_rig *rig = yod_rig_new();
    struct pollfd *set = (struct pollfd *)(void *)BUFFER;
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    CHECK_EQ(OPEN("ro/file", O_RDONLY), 2);
    CHECK_EQ(CALL(open, S("/"), V(O_RDONLY)), 3);
    uint64_t start = vh_now_ns();
    set[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    CHECK_EQ(CALL(poll, M(0, 8), V(1), V(0)), 0);
    CHECK_EQ(CALL(poll, M(0, 8), V(1), V(60)), 0);
    CHECK(elapsed_ms(start) >= 60);
    CHECK_EQ(CALL(poll, NONE, V(0), V(30)), 0); /* to sleep */
    CHECK(elapsed_ms(start) >= 90);
    struct timespec time = {0, 30000000};
    memcpy(BUFFER + 512, &time, sizeof(time));
    CHECK_EQ(CALL(ppoll, M(0, 8), V(1), M(512, 16), NONE, V(8)), 0);
    CHECK(elapsed_ms(start) >= 120);
    time.tv_nsec = 1000000000;
    memcpy(BUFFER + 512, &time, sizeof(time));
    CHECK_EQ(CALL(ppoll, M(0, 8), V(1), M(512, 16), NONE, V(8)), -EINVAL);
    /* Everything that can be in the set. */
    set[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    set[1] = (struct pollfd){.fd = 1, .events = POLLOUT};
    set[2] = (struct pollfd){.fd = 2, .events = POLLIN | POLLOUT};
    set[3] = (struct pollfd){.fd = 3, .events = POLLIN};
    set[4] = (struct pollfd){.fd = 77, .events = POLLIN};
    set[5] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = 5};
    CHECK_EQ(CALL(poll, M(0, 48), V(6), V(-1)), 4);
    CHECK_EQ(set[0].revents, 0);
    CHECK_EQ(set[1].revents, POLLOUT);
    CHECK_EQ(set[2].revents, POLLIN | POLLOUT);
    CHECK_EQ(set[3].revents, POLLIN);
    CHECK_EQ(set[4].revents, POLLNVAL);
    CHECK_EQ(set[5].revents, 0);
    /* Something happens meanwhile. */
    set[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    CHECK(!POST(0, poll, M(0, 8), V(1), V(-1)));
    CHECK_EQ(CALL(write, V(1), M(0, 1), V(1)), 1);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 1);
    CHECK_EQ(set[0].revents, POLLIN);
    CHECK_EQ(CALL(poll, M(0, 8), V(2), V(0)), -EFAULT);
    CHECK_EQ(CALL(poll, M(0, 1 << 20), V(YD_FDS + 1), V(0)), -EINVAL);
    CHECK_EQ(CALL(poll, M(0, 1 << 20), V(UINT64_MAX), V(0)), -EINVAL);
    yod_rig_free(rig);
}

TEST(yod_broken_pipe)
{
    struct yod_rig *rig = yod_rig_new();
    sigset_t pending;
    sigset_t pipe_only;
    CHECK_EQ(CALL(pipe, M(0, 8)), 0);
    CHECK(!POST(0, write, V(1), M(0, 200000), V(200000))); /* full, and waits */
    CHECK_EQ(CALL(close, V(0)), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 65536); /* as Linux: what was written, the error at the next */
    CHECK_EQ(CALL(write, V(1), M(0, 1), V(1)), -EPIPE); /* and this process still lives */
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0);
    /* In a thread that has it blocked, as vCPUs do, it does not stay pending. */
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
    CHECK_EQ(CALL(write, V(1), M(0, 1), V(1)), -EPIPE);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0);
    (void)pthread_sigmask(SIG_UNBLOCK, &pipe_only, NULL);
    yod_rig_free(rig);
}

TEST(yod_file_size_limit)
{
    struct yod_rig *rig = yod_rig_new();
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    struct rlimit limit = {65536, before.rlim_max};
    int64_t fd = OPEN("rw/big", O_RDWR | O_CREAT);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ(CALL(pwrite64, V(fd), M(0, 100), V(100), V(65536)), -EFBIG); /* no SIGXFSZ */
    CHECK_EQ(CALL(ftruncate, V(fd), V(1 << 20)), -EFBIG);
    CHECK_EQ(CALL(truncate, P("rw/big"), V(1 << 20)), -EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    yod_rig_free(rig);
}

TEST(yod_flock_waits)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t fd = OPEN("rw/file", O_RDWR);
    int64_t other = OPEN("rw/file", O_RDWR);
    CHECK_EQ(CALL(flock, V(fd), V(LOCK_EX)), 0);
    CHECK_EQ(CALL(flock, V(other), V(LOCK_EX | LOCK_NB)), -EWOULDBLOCK);
    CHECK(!POST(0, flock, V(other), V(LOCK_EX)));
    CHECK(!yod_await(rig, 0, 30));
    CHECK_EQ(CALL(flock, V(fd), V(LOCK_UN)), 0);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 0);
    CHECK_EQ(CALL(flock, V(fd), V(77)), -EINVAL);
    yod_rig_free(rig);
}

/* ------------------------------------------------------------------- standard streams */

TEST(yod_standard_pipes)
{
    struct yod_rig *rig = yod_rig_tree();
    int in[2];
    int out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    rig->config.fds[0] = in[0];
    rig->config.fds[1] = out[1];
    rig->config.fds[2] = out[1];
    yod_rig_start(rig);
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK(write(in[1], "typed", 5) == 5);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 5);
    CHECK_EQ(CALL(write, V(2), M(0, 5), V(5)), 5);
    CHECK(read(out[0], BUFFER + 100, 100) == 5);
    /* The guest's wishes are not the host's. */
    CHECK_EQ(CALL(fcntl, V(1), V(F_SETFL), V(O_NONBLOCK)), 0);
    CHECK_EQ(CALL(fcntl, V(1), V(F_GETFL)) & O_NONBLOCK, O_NONBLOCK);
    CHECK_EQ(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(CALL(fchmod, V(1), V(0)), -EROFS);
    CHECK_EQ(CALL(open, S("/dev/stdout"), V(O_WRONLY)), 3);
    CHECK_EQ(CALL(write, V(3), M(0, 5), V(5)), 5);
    CHECK_EQ(CALL(open, S("/dev/tty"), V(O_RDWR)), -ENXIO);
    CHECK_EQ(CALL(readlink, S("/dev/stdin"), M(0, 100), V(100)), 15);
    /* The other end goes. */
    CHECK(close(in[1]) == 0);
    CHECK_EQ(CALL(read, V(0), M(0, 100), V(100)), 0);
    CHECK(close(out[0]) == 0);
    CHECK_EQ(CALL(write, V(1), M(0, 5), V(5)), -EPIPE);
    (void)close(in[0]);
    (void)close(out[1]);
    yod_rig_free(rig);
}

/* Where the description cannot be had for ourselves alone: a socket, and a pipe of somebody else's.
 */
TEST(yod_standard_shared)
{
    struct yod_rig *rig = yod_rig_tree();
    int pair[2];
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    rig->config.fds[0] = pair[0];
    rig->config.fds[1] = pair[0];
    rig->config.fds[2] = ends[1];
    yod_rig_start(rig);
    CHECK(rig->yod->fds[0].file->shared);
    rig->yod->fds[2].file->shared = true; /* as if it could not be opened again */
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK(write(pair[1], "typed", 5) == 5);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 5);
    CHECK_EQ(CALL(write, V(1), M(0, 5), V(5)), 5);
    CHECK(read(pair[1], BUFFER, 100) == 5);
    CHECK_EQ(CALL(lseek, V(0), V(0), V(SEEK_SET)), -ESPIPE);
    CHECK(!POST(1, write, V(2), M(0, 100000), V(100000)));
    uint32_t got = 0;
    while (got < 100000) {
        ssize_t part = read(ends[0], BUFFER + 0x100000, 8192);
        if (!CHECK(part > 0)) {
            break;
        }
        got += (uint32_t)part;
    }
    CHECK(yod_await(rig, 1, 5000));
    CHECK_EQ(RESULT(1), 100000);
    CHECK(close(pair[1]) == 0);
    CHECK_EQ(CALL(read, V(0), M(0, 100), V(100)), 0);
    CHECK_EQ(CALL(write, V(1), M(0, 5), V(5)), -EPIPE);
    (void)close(pair[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    yod_rig_free(rig);
}

static void terminal(bool shared)
{
    struct yod_rig *rig = yod_rig_tree();
    struct winsize size = {.ws_row = 33, .ws_col = 77};
    struct winsize seen;
    int host = -1;
    int guest = -1;
    CHECK(openpty(&host, &guest, NULL, NULL, &size) == 0);
    rig->config.fds[0] = guest;
    rig->config.fds[1] = guest;
    yod_rig_start(rig);
    if (shared) {
        rig->yod->fds[0].file->shared = true;
        rig->yod->fds[1].file->shared = true;
        CHECK(fcntl(rig->yod->fds[0].file->fd, F_SETFL, O_RDWR) == 0);
        CHECK(fcntl(rig->yod->fds[1].file->fd, F_SETFL, O_RDWR) == 0);
    }
    CHECK_EQ(CALL(ioctl, V(0), V(0x5413), M(0, 8)), 0);
    memcpy(&seen, BUFFER, sizeof(seen));
    CHECK_EQ(seen.ws_col, 77);
    CHECK_EQ(CALL(ioctl, V(0), V(0x5401), M(0, 36)), 0);
    CHECK_EQ(CALL(ioctl, V(0), V(0x5401), M(0, 35)), -EFAULT);
    CHECK_EQ(CALL(ioctl, V(0), V(0x5404), M(0, 36)), 0); /* TCSETSF */
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    CHECK(write(host, "line\n", 5) == 5);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 5);
    CHECK(memcmp(BUFFER, "line\n", 5) == 0);
    CHECK_EQ(CALL(open, S("/dev/tty"), V(O_RDWR)), 2);
    CHECK_EQ(CALL(write, V(2), M(0, 5), V(5)), 5);
    CHECK_EQ(fcntl(guest, F_GETFL) & O_NONBLOCK, 0);
    /* A terminal that nobody reads fills up: the vCPU's thread does not wait for it. */
    CHECK(!POST(1, write, V(1), M(0, 200000), V(200000)));
    CHECK_EQ(cancel(rig, 1), 0);
    CHECK(yod_await(rig, 1, 5000));
    CHECK(RESULT(1) > 0 && RESULT(1) < 200000);
    (void)close(host);
    (void)close(guest);
    yod_rig_free(rig);
}

TEST(yod_terminal)
{
    terminal(false);
}

TEST(yod_terminal_shared)
{
    terminal(true);
}

TEST(yod_standard_file)
{
    struct yod_rig *rig = yod_rig_tree();
    int fd = open(yod_path(rig, "out/stdout"), O_RDWR | O_CREAT, 0600);
    int dir = open(yod_path(rig, "out"), O_RDONLY | O_DIRECTORY);
    CHECK(write(fd, "before ", 7) == 7);
    rig->config.fds[1] = fd;
    rig->config.fds[2] = dir;
    yod_rig_start(rig);
    memcpy(BUFFER, "after", 5);
    CHECK_EQ(CALL(write, V(1), M(0, 5), V(5)), 5);
    CHECK(lseek(fd, 0, SEEK_CUR) == 12); /* one position, as after fork() */
    CHECK(yod_holds(rig, "out/stdout", "before after"));
    CHECK_EQ(CALL(fcntl, V(1), V(F_SETFL), V(O_APPEND)), -EPERM);
    CHECK_EQ(CALL(ftruncate, V(1), V(3)), 0); /* its data was handed over, nothing else */
    CHECK_EQ(CALL(fchmod, V(1), V(0777)), -EROFS);
    CHECK_EQ(CALL(utimensat, V(1), NONE, NONE, V(0)), -EROFS);
    CHECK_EQ(CALL(openat, V(2), S("secret"), V(O_RDONLY)), -ENOENT); /* no way from there */
    CHECK_EQ(CALL(fchdir, V(2)), -EACCES);
    CHECK_EQ(CALL(newfstatat, V(2), S("secret"), M(0, 144), V(0)), -ENOENT);
    CHECK_EQ(CALL(unlinkat, V(2), S("secret"), V(0)), -ENOENT);
    CHECK_EQ(CALL(read, V(0), M(0, 1), V(1)), -EBADF);
    (void)close(fd);
    (void)close(dir);
    yod_rig_free(rig);
}
