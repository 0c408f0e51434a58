/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a running machine in a monitor. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "remote.h"
#include "status.h"

/* ------------------------------------------------------------------ state */

/* The other end closes with the process, whatever ends it. */
static bool hung_up(const struct vh_client *remote)
{
    struct pollfd p = {.fd = remote->fd};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

uint32_t vh_remote_state(const struct vmmhpc *vm)
{
    const struct vh_client *remote = vh_client_of(vm);
    bool dead = hung_up(remote); /* first: a page that is written later is the last word */
    struct vmmhpc_status_page page;
    if (!vh_remote_page(vm, &page)) {
        return dead ? VMMHPC_STATE_CRASHED : VMMHPC_STATE_CREATED;
    }
    uint32_t phase = page.phase;
    uint32_t state = page.state;
    if (phase == VMMHPC_PHASE_FAILED || (dead && state < VMMHPC_STATE_STOPPED)) {
        return VMMHPC_STATE_CRASHED;
    }
    return state <= VMMHPC_STATE_CRASHED ? state : VMMHPC_STATE_CRASHED;
}

static void stop_info(const struct vmmhpc *vm, struct vmmhpc_stop_info *info)
{
    struct vmmhpc_status_page page;
    uint32_t state = vh_remote_state(vm); /* first, for the same reason */
    (void)vh_remote_page(vm, &page);
    const bool told = page.phase != VMMHPC_PHASE_FAILED && page.state >= VMMHPC_STATE_STOPPED;
    if (told || state != VMMHPC_STATE_CRASHED) {
        *info = page.stop;
    } else {
        memset(info, 0, sizeof(*info));
        info->reason = VMMHPC_STOP_MONITOR_ENDED;
        vh_status_text(&page, false, info->text, sizeof(info->text));
    }
    info->size = sizeof(*info);
    info->state = state;
}

static int32_t events(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err)
{
    return vh_remote_fd(vm, VH_REQUEST_EVENTS, NULL, fd, NULL, err);
}

static int time_left(int64_t timeout_ms, uint64_t start_ns)
{
    if (timeout_ms < 0) {
        return -1;
    }
    int64_t left = timeout_ms - (int64_t)((vh_now_ns() - start_ns) / 1000000);
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Nothing but the end of the stream has to be noticed: the state is in the status page. */
static bool drain(int fd)
{
    struct vmmhpc_event events[16];
    return recv(fd, events, sizeof(events), MSG_DONTWAIT) > 0;
}

static int32_t await_end(struct vmmhpc *vm, int64_t timeout_ms, struct vmmhpc_error *err)
{
    struct vh_client *remote = vh_client_of(vm);
    uint64_t start_ns = vh_now_ns();
    (void)pthread_mutex_lock(&remote->lock);
    bool open = remote->events_fd >= 0;
    (void)pthread_mutex_unlock(&remote->lock);
    if (!open) {
        int fd = -1;
        int32_t status = events(vm, &fd, err);
        if (status == VMMHPC_OK) {
            (void)pthread_mutex_lock(&remote->lock);
            bool first = remote->events_fd < 0; /* others may wait, too */
            remote->events_fd = first ? fd : remote->events_fd;
            (void)pthread_mutex_unlock(&remote->lock);
            if (!first) {
                (void)close(fd);
            }
        } else if (vh_remote_state(vm) < VMMHPC_STATE_STOPPED) {
            return status;
        }
    }
    while (vh_remote_state(vm) < VMMHPC_STATE_STOPPED) {
        struct pollfd p = {.fd = remote->events_fd, .events = POLLIN};
        int wait = time_left(timeout_ms, start_ns);
        if (wait == 0) {
            return vh_fail(err, VMMHPC_E_TIMEOUT, 0, (uint64_t)timeout_ms,
                           "the machine still runs after %lld ms", (long long)timeout_ms);
        }
        if (poll(&p, 1, wait) > 0 && !drain(remote->events_fd)) {
            /* The monitor has gone; its other descriptors are closed a moment later. */
            struct pollfd control = {.fd = remote->fd};
            (void)poll(&control, 1, 1000);
        }
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ console */

static int32_t console_open(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err)
{
    return vh_remote_fd(vm, VH_REQUEST_CONSOLE_OPEN, NULL, fd, NULL, err);
}

static int32_t console_attach(struct vmmhpc *vm, int32_t in_fd, int32_t out_fd,
                              struct vmmhpc_error *err)
{
    if (in_fd >= 0 || out_fd >= 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                       "a console on descriptors of the caller's: not for a machine in a monitor");
    }
    return vh_remote_simple(vm, VH_REQUEST_CONSOLE_DETACH, err);
}

/* ------------------------------------------------------------------ statistics */

static int32_t map_stats(struct vmmhpc *vm)
{
    struct vh_client *remote = vh_client_of(vm);
    struct stat info;
    int fd = -1;
    int32_t status = vh_remote_fd(vm, VH_REQUEST_STATS, NULL, &fd, NULL, NULL);
    if (status != VMMHPC_OK) {
        return status;
    }
    void *base = MAP_FAILED;
    /* What can be cut off under a mapping is not mapped. */
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &info) == 0 &&
        info.st_size >= (off_t)sizeof(struct vmmhpc_stats_page)) {
        base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    }
    if (base == MAP_FAILED) {
        (void)close(fd);
        return VMMHPC_E_IO;
    }
    (void)pthread_mutex_lock(&remote->lock);
    bool first = remote->stats == NULL;
    if (first) {
        remote->stats_bytes = (uint64_t)info.st_size;
        remote->stats_fd = fd;
        remote->stats = base;
    }
    (void)pthread_mutex_unlock(&remote->lock);
    if (!first) {
        (void)munmap(base, (size_t)info.st_size);
        (void)close(fd);
    }
    return VMMHPC_OK;
}

static const struct vmmhpc_stats_page *stats(struct vmmhpc *vm, uint64_t *bytes)
{
    struct vh_client *remote = vh_client_of(vm);
    if (remote->stats == NULL && map_stats(vm) != VMMHPC_OK) {
        return NULL;
    }
    if (bytes != NULL) {
        *bytes = remote->stats_bytes;
    }
    return remote->stats;
}

static int stats_fd(struct vmmhpc *vm)
{
    (void)stats(vm, NULL);
    return vh_client_of(vm)->stats_fd;
}

static int32_t kvm_stats(struct vmmhpc *vm, int32_t vcpu, struct vmmhpc_kvm_stat *out,
                         uint32_t capacity, uint32_t *count, struct vmmhpc_error *err)
{
    struct vh_wire request;
    struct vh_wire in;
    uint8_t data[8];
    uint8_t *reply = malloc(VH_WIRE_PAYLOAD);
    if (reply == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_WIRE_PAYLOAD, "no memory for statistics");
    }
    vh_wire_init(&request, data, sizeof(data));
    vh_wire_init(&in, reply, VH_WIRE_PAYLOAD);
    vh_put_u32(&request, (uint32_t)vcpu);
    int32_t status = vh_remote_call(vm, VH_REQUEST_KVM_STATS, &request, &in, err);
    if (status == VMMHPC_OK) {
        *count = vh_get_u32(&in);
        for (uint32_t i = 0; i < *count && !in.bad; i++) {
            struct vmmhpc_kvm_stat stat;
            vh_get_bytes(&in, &stat, sizeof(stat));
            stat.name[sizeof(stat.name) - 1] = '\0';
            if (i < capacity) {
                out[i] = stat;
            }
        }
        if (!vh_wire_done(&in)) {
            status = vh_remote_nonsense(&in, err);
        }
    }
    free(reply);
    return status;
}

/* ------------------------------------------------------------------ devices */

static int32_t irq_set(struct vmmhpc *vm, uint32_t gsi, uint32_t level, struct vmmhpc_error *err)
{
    struct vh_wire out;
    uint8_t data[8];
    vh_wire_init(&out, data, sizeof(data));
    vh_put_u32(&out, gsi);
    vh_put_u32(&out, level);
    return vh_remote_call(vm, VH_REQUEST_IRQ_SET, &out, NULL, err);
}

static int32_t balloon_set(struct vmmhpc *vm, uint64_t bytes, struct vmmhpc_error *err)
{
    struct vh_wire out;
    uint8_t data[8];
    vh_wire_init(&out, data, sizeof(data));
    vh_put_u64(&out, bytes);
    return vh_remote_call(vm, VH_REQUEST_BALLOON_SET, &out, NULL, err);
}

static int32_t balloon_get(struct vmmhpc *vm, struct vmmhpc_balloon_state *state,
                           struct vmmhpc_error *err)
{
    struct vh_wire in;
    uint8_t data[512];
    vh_wire_init(&in, data, sizeof(data));
    int32_t status = vh_remote_call(vm, VH_REQUEST_BALLOON_GET, NULL, &in, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    state->target_bytes = vh_get_u64(&in);
    state->actual_bytes = vh_get_u64(&in);
    state->reported_bytes = vh_get_u64(&in);
    return vh_wire_done(&in) ? VMMHPC_OK : vh_remote_nonsense(&in, err);
}

static int32_t generation(struct vmmhpc *vm, bool change, const uint8_t id[16],
                          struct vmmhpc_error *err)
{
    struct vh_wire out;
    uint8_t data[16];
    vh_wire_init(&out, data, sizeof(data));
    vh_put_bytes(&out, id, 16);
    return vh_remote_call(vm, change ? VH_REQUEST_GENERATION_SET : VH_REQUEST_ADD_GENERATION, &out,
                          NULL, err);
}

/* ------------------------------------------------------------------ the monitor */

static int32_t remote_only(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    return vm->remote != NULL
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_STATE, 0, 0, "this machine has no monitor process");
}

int32_t vmmhpc_ping(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = remote_only(vm, err);
    return status == VMMHPC_OK ? vh_remote_simple(vm, VH_REQUEST_PING, err) : status;
}

int32_t vmmhpc_quit(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = remote_only(vm, err);
    return status == VMMHPC_OK ? vh_remote_simple(vm, VH_REQUEST_QUIT, err) : status;
}

int32_t vmmhpc_monitor_info(struct vmmhpc *vm, struct vmmhpc_monitor_info *info,
                            struct vmmhpc_error *err)
{
    struct vh_wire in;
    uint8_t data[512];
    if (info == NULL || info->size != sizeof(*info)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "struct vmmhpc_monitor_info has another size");
    }
    int32_t status = remote_only(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_wire_init(&in, data, sizeof(data));
    status = vh_remote_call(vm, VH_REQUEST_INFO, NULL, &in, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    memset(info, 0, sizeof(*info));
    info->size = sizeof(*info);
    info->protocol_major = in.head.major;
    info->protocol_minor = in.head.minor;
    info->library_version = vh_get_u32(&in);
    info->state = vh_get_u32(&in);
    info->cpus = vh_get_u32(&in);
    info->image_kind = vh_get_u32(&in);
    info->console_attached = vh_get_u32(&in);
    info->clients = vh_get_u32(&in);
    info->memory_bytes = vh_get_u64(&in);
    struct vmmhpc_status_page page;
    (void)vh_remote_page(vm, &page);
    info->pid = page.pid;
    info->started_ns = page.started_ns;
    memcpy(info->name, page.name, sizeof(info->name));
    info->name[sizeof(info->name) - 1] = '\0';
    return vh_wire_done(&in) ? VMMHPC_OK : vh_remote_nonsense(&in, err);
}

/* ------------------------------------------------------------------ modules */

static int32_t module_load(struct vmmhpc *vm, const char *path, const char *args, uint32_t *id,
                           struct vmmhpc_error *err)
{
    struct vh_wire out;
    struct vh_wire in;
    uint8_t data[8192];
    uint8_t reply[512];
    vh_wire_init(&out, data, sizeof(data));
    vh_wire_init(&in, reply, sizeof(reply));
    vh_put_text(&out, path == NULL ? "" : path);
    vh_put_text(&out, args == NULL ? "" : args);
    int32_t status = vh_remote_call(vm, VH_REQUEST_MODULE_ADD, &out, &in, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    uint32_t got = vh_get_u32(&in);
    if (!vh_wire_done(&in)) {
        return vh_remote_nonsense(&in, err);
    }
    if (id != NULL) {
        *id = got;
    }
    return VMMHPC_OK;
}

static int32_t module_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err)
{
    struct vh_wire out;
    uint8_t data[8];
    vh_wire_init(&out, data, sizeof(data));
    vh_put_u32(&out, id);
    return vh_remote_call(vm, VH_REQUEST_MODULE_REMOVE, &out, NULL, err);
}

static int32_t module_list(struct vmmhpc *vm, struct vmmhpc_module_info *out, uint32_t capacity,
                           uint32_t *count, struct vmmhpc_error *err)
{
    struct vh_wire in;
    uint8_t *reply = malloc(VH_WIRE_PAYLOAD);
    if (reply == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_WIRE_PAYLOAD, "no memory for a list");
    }
    vh_wire_init(&in, reply, VH_WIRE_PAYLOAD);
    int32_t status = vh_remote_call(vm, VH_REQUEST_MODULE_LIST, NULL, &in, err);
    if (status == VMMHPC_OK) {
        *count = vh_get_u32(&in);
        for (uint32_t i = 0; i < *count && !in.bad; i++) {
            struct vmmhpc_module_info info;
            vh_get_bytes(&in, &info, sizeof(info));
            info.name[sizeof(info.name) - 1] = '\0';
            info.version[sizeof(info.version) - 1] = '\0';
            info.text[sizeof(info.text) - 1] = '\0';
            if (i < capacity) {
                out[i] = info;
            }
        }
        status = vh_wire_done(&in) ? VMMHPC_OK : vh_remote_nonsense(&in, err);
    }
    free(reply);
    return status;
}

static int32_t verb(struct vmmhpc *vm, enum vh_remote_verb verb, struct vmmhpc_error *err)
{
    static const uint32_t requests[] = {
        [VH_REMOTE_PAUSE] = VH_REQUEST_PAUSE,
        [VH_REMOTE_RESUME] = VH_REQUEST_RESUME,
        [VH_REMOTE_RESET] = VH_REQUEST_RESET,
        [VH_REMOTE_STOP] = VH_REQUEST_STOP,
    };
    return vh_remote_simple(vm, requests[verb], err);
}

static uint32_t image_kind(const struct vmmhpc *vm)
{
    return vh_client_of(vm)->image_kind;
}

const struct vh_remote_ops vh_client_ops = {
    .destroy = vh_remote_destroy,
    .load = vh_remote_load,
    .image_kind = image_kind,
    .start = vh_remote_start,
    .wait = await_end,
    .verb = verb,
    .state = vh_remote_state,
    .stop_info = stop_info,
    .events = events,
    .console_open = console_open,
    .console_attach = console_attach,
    .stats = stats,
    .stats_fd = stats_fd,
    .kvm_stats = kvm_stats,
    .irq_set = irq_set,
    .add_blk = vh_remote_add_blk,
    .add_net = vh_remote_add_net,
    .add_hvc = vh_remote_add_hvc,
    .add_vsock = vh_remote_add_vsock,
    .add_pmem = vh_remote_add_pmem,
    .add_shm = vh_remote_add_shm,
    .add_vfio = vh_remote_add_vfio,
    .place = vh_remote_place,
    .add_plain = vh_remote_add_plain,
    .balloon_set = balloon_set,
    .balloon_get = balloon_get,
    .generation = generation,
    .snapshot = vh_remote_snapshot,
    .restore = vh_remote_restore,
    .module_load = module_load,
    .module_remove = module_remove,
    .module_list = module_list,
};
