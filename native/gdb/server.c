/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets, and the thread that waits for them and for the machine. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gdb.h"
#include "target.h"

#define STACK_BYTES ((size_t)512 * 1024)

struct vmmhpc_gdb {
    struct vmmhpc *vm;
    int listen_fd;
    int client_fd;
    int wake_fd;
    char *path;
    uint32_t port;
    bool has_thread;
    bool waiting; /* the machine waits for the first gdb */
    atomic_bool closing;
    atomic_bool attached;
    pthread_t thread;
    struct gd_session session;
};

static void hang_up(struct vmmhpc_gdb *gdb)
{
    if (gdb->client_fd < 0) {
        return;
    }
    (void)close(gdb->client_fd);
    gdb->client_fd = -1;
    gd_session_free(&gdb->session);
    atomic_store(&gdb->attached, false);
    /* Also when gdb was killed: nothing of it stays behind, and the guest goes on. */
    uint8_t *run = malloc(vmmhpc_debug_cpus(gdb->vm));
    if (run != NULL && vmmhpc_debug_hold(gdb->vm, NULL) == VMMHPC_OK) {
        (void)vmmhpc_debug_remove_all(gdb->vm, NULL);
        memset(run, VMMHPC_DEBUG_RUN, vmmhpc_debug_cpus(gdb->vm));
        struct vmmhpc_debug_stop stop = {.size = sizeof(stop)};
        /* What is still to be told is told to nobody. */
        do {
            stop.reason = VMMHPC_DEBUG_NONE;
            (void)vmmhpc_debug_poll(gdb->vm, &stop, NULL);
        } while (stop.reason == VMMHPC_DEBUG_WATCH);
        (void)vmmhpc_debug_resume(gdb->vm, run, NULL);
    }
    free(run);
}

static void welcome(struct vmmhpc_gdb *gdb)
{
    int fd = accept4(gdb->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (gdb->client_fd >= 0) { /* one at a time */
        (void)close(fd);
        return;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails for UNIX sockets */
    if (!gd_session_init(&gdb->session, &gd_machine_target, gdb->vm, vmmhpc_debug_cpus(gdb->vm))) {
        gd_session_free(&gdb->session);
        (void)close(fd);
        return;
    }
    gdb->client_fd = fd;
    gdb->waiting = false;
    atomic_store(&gdb->attached, true);
    if (vmmhpc_debug_hold(gdb->vm, NULL) != VMMHPC_OK) {
        const struct vmmhpc_debug_stop stop = {.size = sizeof(stop), .reason = VMMHPC_DEBUG_ENDED};
        gd_session_stopped(&gdb->session, &stop);
    }
}

static void look_at_machine(struct vmmhpc_gdb *gdb)
{
    struct vmmhpc_debug_stop stop = {.size = sizeof(stop)};
    if (vmmhpc_debug_poll(gdb->vm, &stop, NULL) == VMMHPC_OK && gdb->client_fd >= 0 &&
        !gdb->session.ended && stop.reason != VMMHPC_DEBUG_NONE) {
        gd_session_stopped(&gdb->session, &stop);
    }
}

/* False: the connection is over. */
static bool send_out(struct vmmhpc_gdb *gdb)
{
    struct gd_text *out = &gdb->session.out;
    while (out->bytes > 0) {
        ssize_t sent = send(gdb->client_fd, out->data, out->bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        out->bytes -= (size_t)sent;
        memmove(out->data, out->data + sent, out->bytes);
    }
    return !out->failed;
}

static bool converse(struct vmmhpc_gdb *gdb)
{
    uint8_t data[4096];
    ssize_t got = recv(gdb->client_fd, data, sizeof(data), MSG_DONTWAIT);
    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    bool goes_on = gd_session_feed(&gdb->session, data, (size_t)got);
    return send_out(gdb) && goes_on;
}

static void *server_main(void *arg)
{
    struct vmmhpc_gdb *gdb = arg;
    while (!atomic_load(&gdb->closing)) {
        bool connected = gdb->client_fd >= 0;
        bool blocked = connected && gdb->session.out.bytes > 0;
        struct pollfd fds[] = {
            {.fd = gdb->wake_fd, .events = POLLIN},
            {.fd = gdb->listen_fd, .events = POLLIN},
            {.fd = vmmhpc_debug_event_fd(gdb->vm), .events = POLLIN},
            /* Answers that are not taken hold questions back. */
            {.fd = gdb->client_fd, .events = blocked ? POLLOUT : POLLIN},
        };
        bool tick = connected && gdb->session.running && vmmhpc_debug_needs_tick(gdb->vm) != 0;
        int ready = poll(fds, VH_COUNT(fds), tick ? (int)VMMHPC_DEBUG_TICK_MS : -1);
        if (ready < 0 && errno != EINTR) {
            break;
        }
        if (fds[2].revents != 0 || (ready == 0 && tick)) {
            look_at_machine(gdb);
        }
        if (connected && ((fds[3].revents & POLLIN) != 0 ? !converse(gdb)
                          : fds[3].revents != 0          ? (fds[3].revents & POLLOUT) == 0
                                                         : false)) {
            hang_up(gdb);
        }
        if (gdb->client_fd >= 0 && !send_out(gdb)) {
            hang_up(gdb);
        }
        if (fds[1].revents != 0) {
            welcome(gdb);
        }
    }
    hang_up(gdb);
    return NULL;
}

static int32_t listen_tcp(struct vmmhpc_gdb *gdb, uint32_t port, struct vmmhpc_error *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    int on = 1;
    gdb->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (gdb->listen_fd < 0 ||
        setsockopt(gdb->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(gdb->listen_fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        listen(gdb->listen_fd, 4) != 0 ||
        getsockname(gdb->listen_fd, (struct sockaddr *)&at, &bytes) != 0) {
        return vh_fail(err, VMMHPC_E_IO, errno, port, "cannot listen on 127.0.0.1:%u: %s", port,
                       strerrordesc_np(errno));
    }
    gdb->port = ntohs(at.sin_port);
    return VMMHPC_OK;
}

/* A socket of a process that is no more is in the way. */
static bool remove_stale(const struct sockaddr_un *at)
{
    struct stat found;
    if (lstat(at->sun_path, &found) != 0 || !S_ISSOCK(found.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 &&
                errno == ECONNREFUSED;
    if (fd >= 0) {
        (void)close(fd);
    }
    return dead && unlink(at->sun_path) == 0;
}

static int32_t listen_unix(struct vmmhpc_gdb *gdb, const char *path, struct vmmhpc_error *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= sizeof(at.sun_path)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, bytes, "a socket's path has 1 to %zu bytes",
                       sizeof(at.sun_path) - 1);
    }
    memcpy(at.sun_path, path, bytes);
    gdb->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Before bind(), which makes the file with these rights: at no time can others connect. */
    bool bound = gdb->listen_fd >= 0 && fchmod(gdb->listen_fd, 0600) == 0 &&
                 bind(gdb->listen_fd, (struct sockaddr *)&at, sizeof(at)) == 0;
    if (!bound && gdb->listen_fd >= 0 && errno == EADDRINUSE) {
        errno = EADDRINUSE;
        bound = remove_stale(&at) && bind(gdb->listen_fd, (struct sockaddr *)&at, sizeof(at)) == 0;
        errno = bound ? 0 : EADDRINUSE;
    }
    if (!bound) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "cannot listen on %.100s: %s", path,
                       strerrordesc_np(errno));
    }
    gdb->path = strdup(path);
    if (gdb->path == NULL || listen(gdb->listen_fd, 4) != 0) {
        (void)unlink(path);
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "cannot listen on %.100s", path);
    }
    return VMMHPC_OK;
}

static int32_t start_thread(struct vmmhpc_gdb *gdb, struct vmmhpc_error *err)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int failed = pthread_attr_init(&attr);
    if (failed == 0) {
        (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(&gdb->thread, &attr, server_main, gdb);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        (void)pthread_attr_destroy(&attr);
    }
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, failed, 0, "cannot create a thread");
    }
    (void)pthread_setname_np(gdb->thread, "vmmhpc-gdb");
    gdb->has_thread = true;
    return VMMHPC_OK;
}

int32_t vmmhpc_gdb_create(struct vmmhpc *vm, const struct vmmhpc_gdb_config *config,
                          struct vmmhpc_gdb **out, struct vmmhpc_error *err)
{
    if (vm == NULL || out == NULL || config == NULL || config->size != sizeof(*config) ||
        (config->flags & ~VMMHPC_GDB_WAIT) != 0 || config->port > 65535) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->port,
                       "the configuration of the gdb server is missing or wrong");
    }
    struct vmmhpc_gdb *gdb = calloc(1, sizeof(*gdb));
    if (gdb == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*gdb), "no memory for a gdb server");
    }
    gdb->listen_fd = gdb->client_fd = -1;
    gdb->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int32_t status = gdb->wake_fd < 0
                         ? vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create an eventfd")
                         : vmmhpc_debug_open(vm, err);
    if (status == VMMHPC_OK) {
        gdb->vm = vm;
        status = config->path != NULL ? listen_unix(gdb, config->path, err)
                                      : listen_tcp(gdb, config->port, err);
    }
    if (status == VMMHPC_OK && (config->flags & VMMHPC_GDB_WAIT) != 0) {
        gdb->waiting = true;
        status = vmmhpc_debug_hold(vm, err);
    }
    if (status == VMMHPC_OK) {
        status = start_thread(gdb, err);
    }
    if (status != VMMHPC_OK) {
        vmmhpc_gdb_destroy(gdb);
        return status;
    }
    *out = gdb;
    return VMMHPC_OK;
}

void vmmhpc_gdb_destroy(struct vmmhpc_gdb *gdb)
{
    if (gdb == NULL) {
        return;
    }
    atomic_store(&gdb->closing, true);
    if (gdb->has_thread) {
        (void)eventfd_write(gdb->wake_fd, 1);
        (void)pthread_join(gdb->thread, NULL);
    }
    if (gdb->vm != NULL) {
        vmmhpc_debug_close(gdb->vm);
    }
    if (gdb->listen_fd >= 0) {
        (void)close(gdb->listen_fd);
    }
    if (gdb->path != NULL) {
        (void)unlink(gdb->path);
        free(gdb->path);
    }
    if (gdb->wake_fd >= 0) {
        (void)close(gdb->wake_fd);
    }
    free(gdb);
}

uint32_t vmmhpc_gdb_port(const struct vmmhpc_gdb *gdb)
{
    return gdb->port;
}

uint32_t vmmhpc_gdb_attached(const struct vmmhpc_gdb *gdb)
{
    return atomic_load(&gdb->attached) ? 1 : 0;
}

uint32_t vmmhpc_gdb_features(const struct vmmhpc_gdb *gdb)
{
    return vmmhpc_debug_features(gdb->vm);
}
