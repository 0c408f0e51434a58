/* SPDX-License-Identifier: Apache-2.0 */
/* The floors of the machine: the same measurements without guests. */
#include "channel.h"
#include "sides.h"
#include "tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

enum { AREA_BYTES = 1 << 20, BELLS_BYTES = 4096, BATCH = 16 };

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
    }
}

/* In both processes; the child is the follower, ends with its parent, and never returns. */
typedef int64_t body(const struct side *side, void *context);

static int64_t two_processes(const struct side *side, body *leads, body *follows, void *context)
{
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) {
        return -errno;
    }
    if (child == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
            _exit(1);
        }
        pin(side->options->cpus[1]);
        _exit(follows(side, context) == 0 ? 0 : 1);
    }
    pin(side->options->cpus[0]);
    const int64_t rc = leads(side, context);
    int status = 0;
    if (rc != 0) {
        (void)kill(child, SIGKILL);
    }
    (void)waitpid(child, &status, 0);
    return rc != 0 ? rc : status == 0 ? 0 : -EPROTO;
}

/* A channel whose sides sleep on a counter, which the other process may write. */
struct memory_channel {
    struct channel channel;
    uint32_t *own_bell, *their_bell;
    uint32_t heard;
};

static void ring(struct channel *channel)
{
    const struct memory_channel *m = (const struct memory_channel *)channel;
    (void)__atomic_add_fetch(m->their_bell, 1, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, m->their_bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int64_t sleep_until_rung(struct channel *channel)
{
    struct memory_channel *m = (struct memory_channel *)channel;
    (void)syscall(SYS_futex, m->own_bell, FUTEX_WAIT, m->heard, NULL, NULL, 0);
    m->heard = __atomic_load_n(m->own_bell, __ATOMIC_SEQ_CST);
    return 0;
}

static int64_t yield(struct channel *channel)
{
    (void)channel;
    (void)sched_yield();
    return 0;
}

/* The shared memory: a page with the bells of both sides, then a channel's. Both processes start
 * with all of it zero. */
static int64_t open_side(struct memory_channel *m, const struct side *side, uint8_t *shared,
                         uint32_t self)
{
    const struct options *o = side->options;
    uint32_t *bells = (uint32_t *)(void *)shared;
    uint8_t *common = shared + BELLS_BYTES;
    const struct channel_window window = {.common = common,
                                          .common_bytes = o->common,
                                          .areas = common + o->common,
                                          .area_bytes = AREA_BYTES};
    uint8_t *theirs = window.areas + (1 - self) * (size_t)AREA_BYTES;
    if (o->protects && mprotect(theirs, AREA_BYTES, PROT_READ) != 0) {
        return -errno;
    }
    channel_init(&m->channel, &window, self, 1 - self);
    m->own_bell = bells + (size_t)self * CHANNEL_LINE;
    m->their_bell = bells + (size_t)(1 - self) * CHANNEL_LINE;
    m->heard = 0;
    if (!o->polls) {
        m->channel.wake = ring;
        m->channel.rest = sleep_until_rung;
    } else if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || (o->cpus[0] >= 0 && o->cpus[0] == o->cpus[1])) {
        m->channel.rest = yield;
    }
    return 0;
}

static int64_t memory_lead(const struct side *side, void *shared)
{
    static struct memory_channel m;
    const int64_t rc = open_side(&m, side, shared, 0);
    return rc != 0 ? rc : lead(&m.channel.stream, &side->request, side->result);
}

static int64_t memory_follow(const struct side *side, void *shared)
{
    static struct memory_channel m;
    const struct request *r = &side->request;
    const int64_t rc = open_side(&m, side, shared, 1);
    return rc != 0 ? rc : follow(&m.channel.stream, r->out, r->in, r->bytes);
}

int64_t measure_processes(const struct side *side)
{
    const int fd = memfd_create("netbench", MFD_CLOEXEC);
    const size_t bytes = BELLS_BYTES + side->options->common + 2 * (size_t)AREA_BYTES;
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        return -errno;
    }
    uint8_t *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    return shared == MAP_FAILED ? -errno : two_processes(side, memory_lead, memory_follow, shared);
}

static int64_t tcp_lead(const struct side *side, void *context)
{
    struct sockaddr_in address = {0};
    socklen_t length = sizeof(address);
    struct tcp tcp;
    if (getsockname(*(int *)context, (struct sockaddr *)&address, &length) != 0) {
        return -errno;
    }
    const int fd = tcp_connect("127.0.0.1", ntohs(address.sin_port));
    if (fd < 0) {
        return -errno;
    }
    tcp_init(&tcp, fd);
    return lead(&tcp.stream, &side->request, side->result);
}

static int64_t tcp_follow(const struct side *side, void *context)
{
    const struct request *r = &side->request;
    struct tcp tcp;
    const int fd = accept(*(int *)context, NULL, NULL);
    if (fd < 0) {
        return -errno;
    }
    tcp_init(&tcp, fd);
    return follow(&tcp.stream, r->out, r->in, r->bytes);
}

int64_t measure_loopback(const struct side *side)
{
    int listening = tcp_listen(0);
    return listening < 0 ? -errno : two_processes(side, tcp_lead, tcp_follow, &listening);
}

int64_t measure_copy(const struct side *side)
{
    const struct request *r = &side->request;
    struct result *result = side->result;
    pin(side->options->cpus[0]);
    const uint64_t begin = __rdtsc();
    do {
        for (int i = 0; i < BATCH; i++) {
            memcpy(r->in, r->out, r->bytes);
            __asm__ volatile("" : : "r"(r->in) : "memory");
        }
        result->count += BATCH;
        result->ticks = __rdtsc() - begin;
    } while (result->ticks < r->ticks);
    result->total = result->count;
    return 0;
}
