/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail-test: enters the jail of the monitor and tries to get out of it, for test/unit/jail.test.ts.
 * One line of JSON for each attempt, and for what happens else.
 *
 *   jail-test --list                                        the lists of system calls
 *   jail-test [--without PARTS] [--attempt NAME] KIND
 *   jail-test [--without PARTS] --attempt hold KIND         waits in the jail for a signal
 *
 * KIND: setup, control, vcpu, io, disk. Without --attempt: all that do not end the process. Exit
 * status: 0, 1 usage, 2 the jail could not be entered; else that of the jailed process, 128 +
 * signal where one ended it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/breakout.h"
#include "monitor/jail.h"
#include "monitor/threads.h"

struct options {
    struct vh_jail_config jail;
    enum vh_seccomp_kind kind;
    const char *attempt;
    struct vh_breakout_world world;
};

/* Formatted here and written at once: stdio asks for more than is allowed inside. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args); // NOLINT(clang-analyzer-valist.*)
    va_end(args);
    if (length > 0 && write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(1);
    }
}

static void say_kinds(uint32_t kinds)
{
    const char *comma = "";
    for (uint32_t kind = 0; kind < VH_SECCOMP_KINDS; kind++) {
        if ((kinds >> kind & 1) != 0) {
            say("%s\"%s\"", comma, vh_seccomp_kind_name(kind));
            comma = ",";
        }
    }
}

static int list(void)
{
    size_t count = 0;
    const struct vh_seccomp_call *calls = vh_seccomp_calls(&count);
    say("{\"max\":%u,\"counts\":{", VH_SECCOMP_MAX);
    for (uint32_t kind = 0; kind < VH_SECCOMP_KINDS; kind++) {
        say("%s\"%s\":%u", kind == 0 ? "" : ",", vh_seccomp_kind_name(kind),
            vh_seccomp_count(kind));
    }
    say("},\"calls\":[");
    for (size_t i = 0; i < count; i++) {
        say("%s{\"name\":\"%s\",\"check\":\"%s\",\"kinds\":[", i == 0 ? "" : ",", calls[i].name,
            vh_seccomp_check_text(calls[i].check));
        say_kinds(calls[i].kinds);
        say("]}");
    }
    const struct vh_seccomp_request *requests = vh_seccomp_requests(&count);
    say("],\"requests\":[");
    for (size_t i = 0; i < count; i++) {
        say("%s{\"name\":\"%s\",\"kinds\":[", i == 0 ? "" : ",", requests[i].name);
        say_kinds(requests[i].kinds);
        say("]}");
    }
    say("]}\n");
    return 0;
}

static int fail(struct vmmhpc_error *err)
{
    for (char *quote = err->text; (quote = strchr(quote, '"')) != NULL;) {
        *quote = '\'';
    }
    say("{\"error\":\"%s\",\"status\":\"%s\",\"part\":\"%s\",\"errno\":%d}\n", err->text,
        vmmhpc_status_name(err->code), vh_jail_part_name((uint32_t)err->value), err->sys_errno);
    return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--attempt") == 0) {
            o->attempt = argv[i + 1];
        } else if (strcmp(argv[i], "--without") != 0 ||
                   vh_jail_parse(argv[i + 1], &o->jail.without, &err) != VMMHPC_OK) {
            return err.code != VMMHPC_OK ? fail(&err) : 1;
        }
    }
    for (; i < argc && o->kind < VH_SECCOMP_KINDS; o->kind++) {
        if (strcmp(argv[i], vh_seccomp_kind_name(o->kind)) == 0) {
            break;
        }
    }
    if (i >= argc || o->kind == VH_SECCOMP_KINDS) {
        return 1;
    }
    return i + 1 == argc ? 0 : 1;
}

static void report(uint32_t attempt, const struct vh_breakout_result *result)
{
    static const char *const outcomes[] = {"stopped", "trapped", "out"};
    const char *by = "";
    const char *detail = "";
    if (result->outcome == VH_BREAKOUT_TRAPPED) {
        by = "seccomp";
        detail = vh_seccomp_name(result->number);
    } else if (result->outcome == VH_BREAKOUT_STOPPED) {
        by = vh_breakout_layer_name(vh_breakout_layer(attempt));
        detail = strerrorname_np(result->error);
    }
    say("{\"attempt\":\"%s\",\"layer\":\"%s\",\"outcome\":\"%s\",\"by\":\"%s\",\"detail\":\"%s\"}"
        "\n",
        vh_breakout_name(attempt), vh_breakout_layer_name(vh_breakout_layer(attempt)),
        outcomes[result->outcome], by, detail != NULL ? detail : "?");
}

static void *attack(void *arg)
{
    const struct options *o = arg;
    struct vh_breakout_result result;
    for (uint32_t i = 0; i < vh_breakout_count(); i++) {
        bool chosen = o->attempt == NULL ? !vh_breakout_is_fatal(i)
                                         : strcmp(o->attempt, vh_breakout_name(i)) == 0;
        if (chosen) {
            vh_breakout_run(i, &o->world, &result);
            report(i, &result);
        }
    }
    return NULL;
}

/* What the jailed process is, as far as it can see. */
static void describe(void)
{
    struct rlimit files;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    say("{\"in\":true,\"pid\":%d,\"ppid\":%d,\"sid\":%d,\"uid\":%u,\"gid\":%u,\"descriptors\":%llu,"
        "\"environment\":%s}\n",
        getpid(), getppid(), getsid(0), getuid(), getgid(), (unsigned long long)files.rlim_cur,
        environ == NULL || environ[0] == NULL ? "false" : "true");
}

/* In the jail. */
static int inside(struct options *o, struct vmmhpc_error *err)
{
    bool confine = (o->jail.without & VH_JAIL_SECCOMP) == 0;
    const struct vh_threads_config config = {.vcpus = 1, .disks = 1, .confine = confine};
    struct vh_threads *threads = NULL;
    if (o->attempt != NULL && strcmp(o->attempt, "hold") == 0) {
        describe();
        for (;;) {
            (void)pause();
        }
    }
    o->world.thread = gettid();
    o->world.ring = vh_breakout_make_ring();
    describe();
    if (vh_breakout_prepare(err) != VMMHPC_OK ||
        vh_threads_create(&config, &threads, err) != VMMHPC_OK ||
        (confine && vh_seccomp_install(VH_SECCOMP_SETUP, err) != VMMHPC_OK)) {
        return fail(err);
    }
    if (o->kind >= VH_SECCOMP_VCPU) {
        static const enum vh_thread_kind kinds[] = {VH_THREAD_VCPU, VH_THREAD_IO, VH_THREAD_DISK};
        struct vh_thread_source source = vh_threads_source(threads);
        pthread_t thread;
        if (source.start(source.opaque, kinds[o->kind - VH_SECCOMP_VCPU], &thread, attack, o,
                         err) != VMMHPC_OK) {
            return fail(err);
        }
        (void)pthread_join(thread, NULL);
    } else {
        if (o->kind == VH_SECCOMP_CONTROL && confine &&
            vh_seccomp_install(VH_SECCOMP_CONTROL, err) != VMMHPC_OK) {
            return fail(err);
        }
        (void)attack(o);
    }
    vh_threads_destroy(threads);
    return 0;
}

static int status_of(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void outer(void *opaque, pid_t pid)
{
    (void)opaque;
    say("{\"process\":%d}\n", pid);
    _exit(status_of(pid));
}

/* What there is to get at: in this process, which stays outside. */
static void make_world(struct vh_breakout_world *world)
{
    static char name[32];
    struct sockaddr_un address;
    int control[2];
    int stream = -1;
    int datagram = -1;
    (void)snprintf(name, sizeof(name), "v3m-jail-test-%d", getpid());
    world->process = getpid();
    world->abstract = name;
    world->segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0666);
    /* It goes with this process, and can be attached until then. */
    bool attached =
        shmat(world->segment, NULL, 0) != (void *)-1 && shmctl(world->segment, IPC_RMID, NULL) == 0;
    socklen_t length = vh_breakout_abstract(world, &address);
    /* The first one is what a monitor would be started with. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) != 0 ||
        (stream = socket(AF_UNIX, SOCK_STREAM, 0)) < 0 ||
        (datagram = socket(AF_UNIX, SOCK_DGRAM, 0)) < 0 ||
        bind(stream, (struct sockaddr *)&address, length) != 0 || listen(stream, 8) != 0 ||
        bind(datagram, (struct sockaddr *)&address, length) != 0 || !attached) {
        say("{\"error\":\"cannot make what is outside: %s\"}\n", strerrorname_np(errno));
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.jail = {.in_place = outer}};
    struct vmmhpc_error err = {.size = sizeof(err)};
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        return list();
    }
    if (parse(argc, argv, &o) != 0) {
        return 1;
    }
    make_world(&o.world);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(vh_jail_enter(&o.jail, &err) != VMMHPC_OK ? fail(&err) : inside(&o, &err));
    }
    return status_of(pid);
}
