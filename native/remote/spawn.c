/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a monitor, and finding one that was started. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "remote.h"
#include "status.h"

#define BACKLOG 16
#define HISTORY_DEFAULT 16384u
#define HISTORY_HEADER 64u
#define HELLO_PATIENCE_MS 60000
#define CONNECT_PATIENCE_S 60
#define MONITOR_FD 3 /* where vmm-hpc finds its starter */

/* What a monitor is given: all are closed here once it has them. */
struct outfit {
    int directory;
    int listener;
    int status;
    int history;
    int log; /* -1: none */
    int ours;
    int theirs;
};

static void close_outfit(struct outfit *outfit)
{
    int *fds[] = {&outfit->directory, &outfit->listener, &outfit->status, &outfit->history,
                  &outfit->log,       &outfit->ours,     &outfit->theirs};
    for (size_t i = 0; i < VH_COUNT(fds); i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

static int32_t cannot(struct vmmhpc_error *err, const char *what, const char *directory)
{
    int failed = errno;
    return vh_fail(err, failed == EACCES || failed == EPERM ? VMMHPC_E_PERMISSION : VMMHPC_E_IO,
                   failed, 0, "cannot make %s in %.150s: %s", what, directory,
                   vh_errno_text(failed));
}

/* Paths of sockets are short: the directory is named by its descriptor. */
static void socket_address(struct sockaddr_un *address, int directory)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    (void)snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/control",
                   directory);
}

static int32_t make_listener(struct outfit *outfit, const char *directory, struct vmmhpc_error *err)
{
    struct sockaddr_un address;
    socket_address(&address, outfit->directory);
    const int on = 1;
    outfit->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Whoever may search the directory could connect; the monitor looks at who sends. Its
     * connections inherit that. */
    if (outfit->listener < 0 ||
        setsockopt(outfit->listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
        fchmod(outfit->listener, 0600) != 0 ||
        bind(outfit->listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(outfit->listener, BACKLOG) != 0) {
        return cannot(err, "the control socket", directory);
    }
    return VMMHPC_OK;
}

/* All of its blocks now: a write to a mapped page must not find the disk full. */
static int make_file(int directory, const char *name, uint64_t bytes)
{
    (void)unlinkat(directory, name, 0);
    int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        int failed = posix_fallocate(fd, 0, (off_t)bytes);
        if (failed != 0) {
            (void)close(fd);
            errno = failed;
            return -1;
        }
    }
    return fd;
}

static int32_t make_outfit(struct outfit *outfit, const struct vmmhpc_monitor *monitor,
                           struct vmmhpc_error *err)
{
    int pair[2];
    *outfit = (struct outfit){-1, -1, -1, -1, -1, -1, -1};
    outfit->directory = open(monitor->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (outfit->directory < 0) {
        return cannot(err, "a monitor's files", monitor->directory);
    }
    (void)unlinkat(outfit->directory, "control", 0); /* the caller knows that nobody is there */
    int32_t status = make_listener(outfit, monitor->directory, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    uint32_t history = monitor->history_bytes == 0 ? HISTORY_DEFAULT : monitor->history_bytes;
    outfit->status = make_file(outfit->directory, "status", sizeof(struct vmmhpc_status_page));
    outfit->history = make_file(outfit->directory, "console", (uint64_t)HISTORY_HEADER + history);
    if (outfit->status < 0 || outfit->history < 0) {
        return cannot(err, "a monitor's files", monitor->directory);
    }
    if (monitor->console_log != NULL) {
        outfit->log = open(monitor->console_log,
                           O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
        if (outfit->log < 0) {
            int failed = errno;
            return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, failed, 0,
                           "cannot open the console's log %.150s: %s", monitor->console_log,
                           vh_errno_text(failed));
        }
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create a socket pair");
    }
    outfit->ours = pair[0];
    outfit->theirs = pair[1];
    /* With the monitor's first message comes its process number, as this namespace counts. */
    const int on = 1;
    if (setsockopt(outfit->ours, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
        setsockopt(outfit->theirs, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "SO_PASSCRED");
    }
    return VMMHPC_OK;
}

/* The descriptor stays the caller's. */
static int32_t keep_page(struct vh_client *remote, int fd, struct vmmhpc_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
        info.st_size < (off_t)sizeof(struct vmmhpc_status_page)) {
        return vh_fail(err, VMMHPC_E_IO, 0, 0, "the monitor's status page is too short");
    }
    remote->page_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return remote->page_fd >= 0 ? VMMHPC_OK
                                : vh_fail(err, VMMHPC_E_SYSCALL, errno, 0,
                                          "no descriptor for the monitor's status page");
}

static int32_t write_page(const struct vh_client *remote, const void *data, size_t bytes,
                          size_t offset, struct vmmhpc_error *err)
{
    if (pwrite(remote->page_fd, data, bytes, (off_t)offset) == (ssize_t)bytes) {
        return VMMHPC_OK;
    }
    return vh_fail(err, VMMHPC_E_IO, errno, 0, "cannot write the monitor's status page");
}

static int32_t first_words(const struct vh_client *remote, const char *name,
                           struct vmmhpc_error *err)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct vmmhpc_status_page page = {
        .magic = VMMHPC_STATUS_MAGIC,
        .version = 1,
        .bytes = sizeof(page),
        .started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        .stop = {.size = sizeof(page.stop)},
    };
    (void)snprintf(page.name, sizeof(page.name), "%s", name);
    return write_page(remote, &page, sizeof(page), 0, err);
}

/* Who it is. The rest of the page is the monitor's by now. */
static int32_t second_words(const struct vh_client *remote, uint32_t pid, struct vmmhpc_error *err)
{
    const uint64_t start = vh_process_start(pid);
    int32_t status =
        write_page(remote, &pid, sizeof(pid), offsetof(struct vmmhpc_status_page, pid), err);
    return status == VMMHPC_OK ? write_page(remote, &start, sizeof(start),
                                            offsetof(struct vmmhpc_status_page, pid_start), err)
                               : status;
}

/* ------------------------------------------------------------------ the process */

static int32_t run(const struct vmmhpc_monitor *monitor, int theirs, pid_t *pid,
                   struct vmmhpc_error *err)
{
    char without[32];
    char *argv[4 + VMMHPC_MONITOR_MODULES] = {(char *)(uintptr_t) "vmm-hpc", without,
                                              (char *)(uintptr_t)monitor->name};
    char *env[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    (void)snprintf(without, sizeof(without), "%u", monitor->jail_without);
    for (uint32_t i = 0; i < monitor->module_count; i++) {
        argv[3 + i] = (char *)(uintptr_t)monitor->modules[i];
    }
    (void)sigemptyset(&none);
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, 0, "no memory to start a monitor");
    }
    failed = posix_spawnattr_init(&attr);
    if (failed == 0) {
        /* What is ignored here, its jail puts right. */
        (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
        (void)posix_spawnattr_setsigmask(&attr, &none);
        /* First: it may be one of those that are replaced. */
        failed = posix_spawn_file_actions_adddup2(&actions, theirs, MONITOR_FD);
        (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
        (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
        (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_RDWR, 0);
        if (failed == 0) {
            failed = posix_spawn(pid, monitor->program, &actions, &attr, argv, env);
        }
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, failed == ENOENT ? VMMHPC_E_UNSUPPORTED : VMMHPC_E_SYSCALL,
                                 failed, 0, "cannot run the monitor %.150s: %s", monitor->program,
                                 vh_errno_text(failed));
}

static void reap(pid_t child)
{
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* The monitor's first message says that it is in its jail, or why it is not. */
static int32_t hello(struct vmmhpc *vm, uint32_t *pid, struct vmmhpc_error *err)
{
    struct vh_client *remote = vh_client_of(vm);
    struct vh_message head = {0};
    char text[256] = "";
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec parts[2] = {{&head, sizeof(head)}, {text, sizeof(text) - 1}};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct pollfd p = {.fd = remote->fd, .events = POLLIN};
    int ready = 0;
    do {
        ready = poll(&p, 1, HELLO_PATIENCE_MS);
    } while (ready < 0 && errno == EINTR);
    ssize_t got = ready == 1 ? recvmsg(remote->fd, &message, MSG_CMSG_CLOEXEC) : -1;
    struct cmsghdr *credentials = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (got < (ssize_t)sizeof(head) || head.magic != VH_WIRE_MAGIC ||
        head.type != VH_REQUEST_HELLO) {
        return vh_fail(err, ready == 0 ? VMMHPC_E_TIMEOUT : VMMHPC_E_IO, 0, 0,
                       ready == 0 ? "the monitor does not start"
                                  : "the monitor ended while it started");
    }
    if (head.major != VMMHPC_PROTOCOL_MAJOR) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, head.major,
                       "vmm-hpc speaks version %u of the control protocol, libvmmhpc %u: they do "
                       "not belong together",
                       head.major, VMMHPC_PROTOCOL_MAJOR);
    }
    if (head.status != VMMHPC_OK) {
        return vh_fail(err, head.status, head.sys_errno, head.value, "%s", text);
    }
    if (credentials != NULL && credentials->cmsg_type == SCM_CREDENTIALS) {
        struct ucred from;
        memcpy(&from, CMSG_DATA(credentials), sizeof(from));
        *pid = (uint32_t)from.pid;
    }
    const int off = 0;
    (void)setsockopt(remote->fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
    return VMMHPC_OK;
}

static int32_t adopt(struct vmmhpc *vm, const struct outfit *outfit, uint32_t disks,
                     struct vmmhpc_error *err)
{
    struct vh_wire out;
    uint8_t data[16];
    vh_wire_init(&out, data, sizeof(data));
    vh_put_u32(&out, disks);
    vh_put_fd(&out, outfit->listener);
    vh_put_fd(&out, outfit->status);
    vh_put_fd(&out, outfit->history);
    vh_put_u32(&out, outfit->log >= 0 ? 1 : 0);
    if (outfit->log >= 0) {
        vh_put_fd(&out, outfit->log);
    }
    return vh_remote_call(vm, VH_REQUEST_ADOPT, &out, NULL, err);
}

static int32_t check(const struct vmmhpc_monitor *monitor, struct vmmhpc_error *err)
{
    if (monitor == NULL || monitor->size != sizeof(*monitor)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "struct vmmhpc_monitor has another size");
    }
    if (monitor->program == NULL || monitor->directory == NULL || monitor->name == NULL ||
        strlen(monitor->name) > 63) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "a monitor needs a program, a directory, and a name of at most 63 bytes");
    }
    if (monitor->module_count > VMMHPC_MONITOR_MODULES ||
        (monitor->modules == NULL && monitor->module_count > 0)) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, monitor->module_count,
                       "a monitor can be given %u modules", VMMHPC_MONITOR_MODULES);
    }
    for (uint32_t i = 0; i < monitor->module_count; i++) {
        if (monitor->modules[i] == NULL || monitor->modules[i][0] != '/') {
            return vh_fail(err, VMMHPC_E_INVALID, 0, i, "module %u needs an absolute path", i);
        }
    }
    if (monitor->history_bytes > VMMHPC_HISTORY_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, monitor->history_bytes,
                       "at most %u bytes of the console are kept", VMMHPC_HISTORY_MAX);
    }
    return VMMHPC_OK;
}

/* From here on the handle owns outfit->ours, and goes on failure. */
static int32_t bring_up(struct vmmhpc *vm, const struct vmmhpc_config *config,
                        const struct vmmhpc_monitor *monitor, struct outfit *outfit,
                        struct vmmhpc_error *err)
{
    struct vh_client *remote = vh_client_of(vm);
    pid_t child = -1;
    uint32_t pid = 0;
    int32_t status = keep_page(remote, outfit->status, err);
    if (status == VMMHPC_OK) {
        status = first_words(remote, monitor->name, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    status = run(monitor, outfit->theirs, &child, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    (void)close(outfit->theirs);
    outfit->theirs = -1;
    status = hello(vm, &pid, err);
    if (status != VMMHPC_OK) {
        (void)kill(child, SIGKILL);
    }
    if (status != VMMHPC_OK || (uint32_t)child != pid) {
        reap(child); /* what had to start the jailed process, and has */
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    remote->starter = true;
    status = second_words(remote, pid, err);
    if (status == VMMHPC_OK) {
        status = adopt(vm, outfit, monitor->disks, err);
    }
    return status == VMMHPC_OK ? vh_remote_create(vm, config, err) : status;
}

int32_t vmmhpc_spawn(const struct vmmhpc_config *config, const struct vmmhpc_monitor *monitor,
                     struct vmmhpc **out, struct vmmhpc_error *err)
{
    struct outfit outfit;
    struct vmmhpc *vm = NULL;
    int32_t status = check(monitor, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (out == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no place for the handle");
    }
    status = make_outfit(&outfit, monitor, err);
    if (status == VMMHPC_OK) {
        int ours = outfit.ours;
        outfit.ours = -1;
        status = vh_remote_new(ours, &vm, err);
    }
    if (status == VMMHPC_OK) {
        status = bring_up(vm, config, monitor, &outfit, err);
        if (status != VMMHPC_OK) {
            vh_remote_destroy(vm);
            vm = NULL;
        }
    }
    close_outfit(&outfit);
    if (status == VMMHPC_OK) {
        *out = vm;
    }
    return status;
}

/* ------------------------------------------------------------------ connecting */

static int32_t connect_to(const char *directory, int *fd, struct vmmhpc_error *err)
{
    struct sockaddr_un address;
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) {
        return vh_fail(err, errno == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, errno, 0,
                       "there is no monitor in %.150s", directory);
    }
    socket_address(&address, at);
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* A monitor that is stopped takes no more connections than its queue holds. */
    const struct timeval patience = {.tv_sec = CONNECT_PATIENCE_S};
    if (made >= 0) {
        (void)setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    }
    int failed =
        made < 0 || connect(made, (struct sockaddr *)&address, sizeof(address)) != 0 ? errno : 0;
    (void)close(at);
    if (failed == 0) {
        *fd = made;
        return VMMHPC_OK;
    }
    if (made >= 0) {
        (void)close(made);
    }
    if (failed == EACCES || failed == EPERM) {
        return vh_fail(err, VMMHPC_E_PERMISSION, failed, 0, "the monitor in %.150s is not yours",
                       directory);
    }
    struct vmmhpc_monitor_status status = {.size = sizeof(status)};
    if (failed == ECONNREFUSED && vmmhpc_monitor_status(directory, &status, NULL) == VMMHPC_OK &&
        status.text[0] != '\0') {
        return vh_fail(err, VMMHPC_E_STATE, failed, 0, "the monitor is gone: %s", status.text);
    }
    return vh_fail(err, failed == ECONNREFUSED ? VMMHPC_E_STATE : VMMHPC_E_IO, failed, 0,
                   "no monitor answers in %.150s", directory);
}

static int32_t meet(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    struct vmmhpc_monitor_info info = {.size = sizeof(info)};
    int page = -1;
    int32_t status = vh_remote_fd(vm, VH_REQUEST_STATUS_PAGE, NULL, &page, NULL, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = keep_page(vh_client_of(vm), page, err);
    (void)close(page);
    if (status == VMMHPC_OK) {
        status = vmmhpc_monitor_info(vm, &info, err);
    }
    vm->cpus = info.cpus;
    vh_client_of(vm)->image_kind = info.image_kind;
    return status;
}

int32_t vmmhpc_connect(const char *directory, struct vmmhpc **out, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = NULL;
    int fd = -1;
    if (directory == NULL || out == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no directory, or no place for the handle");
    }
    int32_t status = connect_to(directory, &fd, err);
    if (status == VMMHPC_OK) {
        status = vh_remote_new(fd, &vm, err);
    }
    if (status == VMMHPC_OK) {
        status = meet(vm, err);
        if (status != VMMHPC_OK) {
            vh_remote_destroy(vm);
        }
    }
    if (status == VMMHPC_OK) {
        *out = vm;
    }
    return status;
}
