/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a machine that was started. Nothing in them is trusted but that the sender may ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/monitor.h"
#include "snapshot_files.h"
#include "vmmhpc_devices.h"

#define STATS_MAX 512u

static int32_t nonsense(const struct vh_wire *in, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_INVALID, EBADMSG, in->head.type, "request %u makes no sense",
                   in->head.type);
}

static int32_t send_fd(struct vh_wire *out, int fd, struct vmmhpc_error *err)
{
    if (fd < 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "the monitor has no descriptor left");
    }
    vh_put_fd(out, fd);
    return VMMHPC_OK;
}

static int32_t info(struct vh_monitor *monitor, struct vh_wire *out)
{
    struct vmmhpc *vm = monitor->vm;
    uint32_t clients = 0;
    for (uint32_t i = 0; i < VH_CLIENTS; i++) {
        clients += monitor->clients[i] >= 0 ? 1 : 0;
    }
    vh_put_u32(out, vmmhpc_version());
    vh_put_u32(out, vmmhpc_get_state(vm));
    vh_put_u32(out, vm->cpus);
    vh_put_u32(out, vmmhpc_image_kind(vm));
    vh_put_u32(out, vh_console_attached(vm) ? 1 : 0);
    vh_put_u32(out, clients);
    vh_put_u64(out, vm->memory.total);
    return VMMHPC_OK;
}

static int32_t console_open(struct vh_monitor *monitor, struct vh_wire *out,
                            struct vmmhpc_error *err)
{
    int fd = -1;
    int32_t status = vmmhpc_console_open(monitor->vm, &fd, err);
    return status == VMMHPC_OK ? send_fd(out, fd, err) : status;
}

static int32_t events(struct vh_monitor *monitor, struct vh_wire *out, struct vmmhpc_error *err)
{
    int fd = -1;
    int32_t status = vmmhpc_open_events(monitor->vm, &fd, err);
    return status == VMMHPC_OK ? send_fd(out, fd, err) : status;
}

static int32_t kvm_stats(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                         struct vmmhpc_error *err)
{
    int32_t vcpu = (int32_t)vh_get_u32(in);
    uint32_t count = 0;
    if (!vh_wire_done(in)) {
        return nonsense(in, err);
    }
    struct vmmhpc_kvm_stat *stats = calloc(STATS_MAX, sizeof(*stats));
    if (stats == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for statistics");
    }
    int32_t status = vmmhpc_kvm_stats(monitor->vm, vcpu, stats, STATS_MAX, &count, err);
    if (status == VMMHPC_OK) {
        count = count < STATS_MAX ? count : STATS_MAX;
        vh_put_u32(out, count);
        vh_put_bytes(out, stats, count * (uint32_t)sizeof(*stats));
    }
    free(stats);
    return status;
}

static int32_t irq_set(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    uint32_t gsi = vh_get_u32(in);
    uint32_t level = vh_get_u32(in);
    return vh_wire_done(in) ? vmmhpc_irq_set(monitor->vm, gsi, level, err) : nonsense(in, err);
}

static int32_t balloon_set(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    uint64_t bytes = vh_get_u64(in);
    return vh_wire_done(in) ? vmmhpc_balloon_set(monitor->vm, bytes, err) : nonsense(in, err);
}

static int32_t balloon_get(struct vh_monitor *monitor, struct vh_wire *out,
                           struct vmmhpc_error *err)
{
    struct vmmhpc_balloon_state state = {.size = sizeof(state)};
    int32_t status = vmmhpc_balloon_get(monitor->vm, &state, err);
    vh_put_u64(out, state.target_bytes);
    vh_put_u64(out, state.actual_bytes);
    vh_put_u64(out, state.reported_bytes);
    return status;
}

static int32_t generation_set(struct vh_monitor *monitor, struct vh_wire *in,
                              struct vmmhpc_error *err)
{
    uint8_t id[16];
    vh_get_bytes(in, id, sizeof(id));
    return vh_wire_done(in) ? vmmhpc_set_generation_id(monitor->vm, id, err) : nonsense(in, err);
}

/* Anything but a file could keep this thread waiting. */
static bool is_file(int fd, uint64_t *bytes)
{
    struct stat info;
    bool file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    *bytes = file ? (uint64_t)info.st_size : 0;
    return file;
}

void vh_monitor_get_files(struct vh_wire *in, struct vh_snapshot_files *files)
{
    *files = (struct vh_snapshot_files){.state_fd = vh_get_fd(in)};
    while (in->fd_at < in->fd_count && files->layers < VH_SNAPSHOT_LAYERS) {
        files->memory_fds[files->layers++] = vh_get_fd(in);
    }
}

void vh_monitor_close_files(struct vh_snapshot_files *files)
{
    if (files->state_fd >= 0) {
        (void)close(files->state_fd);
    }
    for (uint32_t i = 0; i < files->layers; i++) {
        (void)close(files->memory_fds[i]);
    }
    *files = (struct vh_snapshot_files){.state_fd = -1};
}

static bool are_files(const struct vh_snapshot_files *files)
{
    uint64_t bytes = 0;
    bool sound = is_file(files->state_fd, &bytes) && files->layers > 0;
    for (uint32_t i = 0; sound && i < files->layers; i++) {
        sound = is_file(files->memory_fds[i], &bytes);
    }
    return sound;
}

static int32_t read_note(int fd, uint64_t bytes, uint8_t **note, struct vmmhpc_error *err)
{
    if (bytes > VMMHPC_SNAPSHOT_NOTE_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, bytes, "a note has at most %llu bytes",
                       VMMHPC_SNAPSHOT_NOTE_MAX);
    }
    *note = malloc(bytes);
    return *note != NULL && vh_pread(fd, *note, bytes, 0) == (ssize_t)bytes
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_NO_MEMORY, errno, bytes, "no memory for a note");
}

/* Two empty files, one with the note where there is one, and those of a base where there is one. */
static int32_t snapshot(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    uint64_t bytes = 0;
    struct vh_snapshot_files base = {.state_fd = -1};
    const bool has_note = vh_get_u32(in) != 0;
    const int state_fd = vh_get_fd(in);
    const int memory_fd = vh_get_fd(in);
    const int note_fd = has_note ? vh_get_fd(in) : -1;
    const bool has_base = !in->bad && in->fd_at < in->fd_count;
    int32_t status = VMMHPC_OK;
    uint8_t *note = NULL;
    if (has_base) {
        vh_monitor_get_files(in, &base);
    }
    if (!vh_wire_done(in) || !is_file(state_fd, &bytes) || !is_file(memory_fd, &bytes) ||
        (has_base && !are_files(&base)) ||
        (has_note && (!is_file(note_fd, &bytes) || bytes == 0))) {
        status = nonsense(in, err);
    } else if (has_note) {
        status = read_note(note_fd, bytes, &note, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_write(monitor->vm, state_fd, memory_fd, has_base ? &base : NULL, note,
                               has_note ? bytes : 0, err);
    }
    free(note);
    vh_monitor_close_files(&base);
    const int fds[] = {state_fd, memory_fd, note_fd};
    for (size_t i = 0; i < VH_COUNT(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    return status;
}

static int32_t plain(struct vh_monitor *monitor, const struct vh_wire *in, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = monitor->vm;
    if (!vh_wire_done(in)) {
        return nonsense(in, err);
    }
    switch (in->head.type) {
    case VH_REQUEST_PAUSE:
        return vmmhpc_pause(vm, err);
    case VH_REQUEST_RESUME:
        return vmmhpc_resume(vm, err);
    case VH_REQUEST_RESET:
        return vmmhpc_reset(vm, err);
    case VH_REQUEST_STOP:
        return vmmhpc_stop(vm, err);
    default:
        return VMMHPC_OK;
    }
}

static int32_t status_page(struct vh_monitor *monitor, struct vh_wire *out,
                           struct vmmhpc_error *err)
{
    return send_fd(out, fcntl(monitor->status_fd, F_DUPFD_CLOEXEC, 0), err);
}

int32_t vh_monitor_request(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                           struct vmmhpc_error *err)
{
    switch (in->head.type) {
    case VH_REQUEST_PING:
    case VH_REQUEST_PAUSE:
    case VH_REQUEST_RESUME:
    case VH_REQUEST_RESET:
    case VH_REQUEST_STOP:
        return plain(monitor, in, err);
    case VH_REQUEST_INFO:
        return info(monitor, out);
    case VH_REQUEST_CONSOLE_OPEN:
        return console_open(monitor, out, err);
    case VH_REQUEST_CONSOLE_DETACH:
        return vmmhpc_console_detach(monitor->vm, err);
    case VH_REQUEST_EVENTS:
        return events(monitor, out, err);
    case VH_REQUEST_STATS:
        return send_fd(out, fcntl(vmmhpc_stats_fd(monitor->vm), F_DUPFD_CLOEXEC, 0), err);
    case VH_REQUEST_STATUS_PAGE:
        return status_page(monitor, out, err);
    case VH_REQUEST_KVM_STATS:
        return kvm_stats(monitor, in, out, err);
    case VH_REQUEST_IRQ_SET:
        return irq_set(monitor, in, err);
    case VH_REQUEST_BALLOON_SET:
        return balloon_set(monitor, in, err);
    case VH_REQUEST_BALLOON_GET:
        return balloon_get(monitor, out, err);
    case VH_REQUEST_GENERATION_SET:
        return generation_set(monitor, in, err);
    case VH_REQUEST_SNAPSHOT:
        return snapshot(monitor, in, err);
    case VH_REQUEST_MODULE_ADD:
    case VH_REQUEST_MODULE_REMOVE:
    case VH_REQUEST_MODULE_LIST:
        return vh_monitor_module_request(monitor, in, out, err);
    default:
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, in->head.type,
                       "this monitor does not know request %u", in->head.type);
    }
}
