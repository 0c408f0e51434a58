/* SPDX-License-Identifier: Apache-2.0 */
/* Making the machine, at the starter's request: what remote/client_setup.c sends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/monitor.h"
#include "snapshot_files.h"
#include "vmmhpc_devices.h"
#include "vmmhpc_shm.h"
#include "vmmhpc_vfio.h"

#define FILES_MAX 6u
#define PINS_MAX 8192u
#define DISKS_MAX 32u /* as many as the bus has slots */

static int32_t nonsense(const struct vh_wire *in, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_INVALID, EBADMSG, in->head.type, "request %u makes no sense",
                   in->head.type);
}

/* ------------------------------------------------------------------ files that were sent */

struct files {
    struct vh_file list[FILES_MAX];
    struct vh_files files;
};

static void get_files(struct vh_wire *in, struct files *files, uint32_t count)
{
    memset(files, 0, sizeof(*files));
    files->files.list = files->list;
    for (uint32_t i = 0; i < count; i++) {
        if (i == FILES_MAX) {
            in->bad = true;
            return;
        }
        struct vh_file *file = &files->list[i];
        const char *path = vh_get_text(in);
        file->flags = (int)vh_get_u32(in);
        file->error = (int)vh_get_u32(in);
        file->fd = !in->bad && file->error == 0 ? vh_get_fd(in) : -1;
        if (path == NULL) {
            in->bad = true;
            path = "";
        }
        file->path = path;
        files->files.count++;
    }
}

static void close_files(struct files *files)
{
    for (uint32_t i = 0; i < files->files.count; i++) {
        if (files->list[i].fd >= 0) {
            (void)close(files->list[i].fd);
        }
    }
}

/* ------------------------------------------------------------------ the machine */

/* With the machine's locks held, before any stream of events is told. */
static void on_event(void *opaque, const struct vmmhpc_event *event)
{
    struct vh_monitor *monitor = opaque;
    struct vmmhpc_status_page *page = monitor->page;
    if (event->type == VMMHPC_EVENT_RESET) {
        page->resets = (uint32_t)event->arg;
        return;
    }
    if (event->arg >= VMMHPC_STATE_STOPPED && monitor->vm != NULL) {
        page->stop = monitor->vm->stop;
        page->stop.size = sizeof(page->stop);
        page->stop.state = (uint32_t)event->arg;
    }
    __atomic_store_n(&page->state, (uint32_t)event->arg, __ATOMIC_RELEASE);
    (void)eventfd_write(monitor->wake_fd, 1);
}

static int32_t adopt(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    struct stat info;
    monitor->disks = vh_get_u32(in);
    int listener = vh_get_fd(in);
    int status_fd = vh_get_fd(in);
    int history = vh_get_fd(in);
    int log = vh_get_u32(in) != 0 ? vh_get_fd(in) : -1;
    void *page = MAP_FAILED;
    if (vh_wire_done(in) && monitor->page == NULL && fstat(status_fd, &info) == 0 &&
        info.st_size >= (off_t)sizeof(*monitor->page)) {
        page = mmap(NULL, sizeof(*monitor->page), PROT_READ | PROT_WRITE, MAP_SHARED, status_fd, 0);
    }
    if (page == MAP_FAILED) {
        in->fd_at = 0; /* all are closed with the message */
        return nonsense(in, err);
    }
    monitor->page = page;
    monitor->listener = listener;
    monitor->status_fd = status_fd;
    monitor->history_fd = history;
    monitor->log_fd = log;
    return VMMHPC_OK;
}

/* Before the machine: from then on nobody here makes threads. */
static int32_t make_threads(struct vh_monitor *monitor, const struct vmmhpc_config *config, int kvm,
                            struct vmmhpc_error *err)
{
    int limit = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    const struct vh_threads_config threads = {
        /* Too many are refused by the machine, which knows how to say it. */
        .vcpus = limit > 0 && config->cpus > (uint32_t)limit ? 0 : config->cpus,
        .disks = monitor->disks,
        .confine = monitor->confine,
        .enter = vh_words_thread,
    };
    if (monitor->threads != NULL || threads.vcpus > PINS_MAX || threads.disks > DISKS_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, config->cpus, "too many vCPUs or disks");
    }
    int32_t status = vh_threads_create(&threads, &monitor->threads, err);
    return status == VMMHPC_OK && monitor->confine ? vh_seccomp_install(VH_SECCOMP_SETUP, err)
                                                   : status;
}

static int32_t create(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    struct files files;
    struct vmmhpc_memory memory[VMMHPC_MEMORY_MAX];
    struct vmmhpc_config config = {.size = sizeof(config), .memory = memory};
    int32_t *pins = NULL;
    get_files(in, &files, 1);
    config.kvm_path = files.list[0].path;
    config.cpus = vh_get_u32(in);
    config.cores_per_socket = vh_get_u32(in);
    config.threads_per_core = vh_get_u32(in);
    config.flags = vh_get_u32(in);
    config.memory_count = vh_get_u32(in);
    config.pin_count = vh_get_u32(in);
    if (config.memory_count > VMMHPC_MEMORY_MAX || config.pin_count > PINS_MAX) {
        in->bad = true;
    }
    for (uint32_t i = 0; !in->bad && i < config.memory_count; i++) {
        memory[i] = (struct vmmhpc_memory){.size = sizeof(memory[i])};
        memory[i].backing = vh_get_u32(in);
        memory[i].bytes = vh_get_u64(in);
        memory[i].flags = vh_get_u32(in);
        memory[i].numa_node = (int32_t)vh_get_u32(in);
    }
    if (!in->bad && config.pin_count > 0) {
        pins = calloc(config.pin_count, sizeof(*pins));
        vh_get_bytes(in, pins, pins == NULL ? 0 : config.pin_count * (uint32_t)sizeof(*pins));
        config.pin = pins;
    }
    int32_t status = VMMHPC_OK;
    if (!vh_wire_done(in) || monitor->vm != NULL || monitor->page == NULL) {
        status = nonsense(in, err);
    } else if ((config.flags & VMMHPC_FLAG_EXTERNAL_VCPUS) != 0) {
        status = vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, config.flags,
                         "a monitor runs its vCPUs by itself");
    } else {
        const struct vh_event_hook hook = {on_event, monitor};
        status = make_threads(monitor, &config, files.list[0].fd, err);
        if (status == VMMHPC_OK) {
            status = vh_create(&config, &files.files, &hook, &monitor->vm, err);
        }
    }
    if (status == VMMHPC_OK && monitor->vm != NULL) {
        monitor->vm->threads = vh_threads_source(monitor->threads);
        status = vh_history_keep(monitor->vm, monitor->history_fd, monitor->log_fd,
                                 &monitor->history, err);
    }
    close_files(&files);
    free(pins);
    return status;
}

/* ------------------------------------------------------------------ devices */

static int32_t add_blk(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                       struct vmmhpc_error *err)
{
    struct files files;
    struct vmmhpc_blk config = {.size = sizeof(config)};
    get_files(in, &files, vh_get_u32(in));
    config.flags = vh_get_u32(in);
    config.path = vh_get_text(in);
    config.overlay_path = vh_get_text(in);
    config.serial = vh_get_text(in);
    monitor->vm->files = &files.files;
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_blk(monitor->vm, &config, id, err) : nonsense(in, err);
    close_files(&files);
    return status;
}

static int32_t add_net(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                       struct vmmhpc_error *err)
{
    struct files files;
    struct vmmhpc_net config = {.size = sizeof(config)};
    get_files(in, &files, vh_get_u32(in));
    config.flags = vh_get_u32(in);
    config.kind = vh_get_u32(in);
    vh_get_bytes(in, config.mac, sizeof(config.mac));
    config.mtu = (uint16_t)vh_get_u32(in);
    config.fd = vh_get_fd(in);
    monitor->vm->files = &files.files;
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_net(monitor->vm, &config, id, err) : nonsense(in, err);
    if (config.fd >= 0) {
        (void)close(config.fd);
    }
    close_files(&files);
    return status;
}

static int32_t add_hvc(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                       struct vmmhpc_error *err)
{
    struct vmmhpc_hvc config = {.size = sizeof(config)};
    config.in_fd = vh_get_u32(in) != 0 ? vh_get_fd(in) : -1;
    config.out_fd = vh_get_u32(in) != 0 ? vh_get_fd(in) : -1;
    config.columns = (uint16_t)vh_get_u32(in);
    config.rows = (uint16_t)vh_get_u32(in);
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_hvc(monitor->vm, &config, id, err) : nonsense(in, err);
    if (config.in_fd >= 0) {
        (void)close(config.in_fd);
    }
    if (config.out_fd >= 0) {
        (void)close(config.out_fd);
    }
    return status;
}

static int32_t add_vsock(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                         struct vmmhpc_error *err)
{
    struct files files;
    get_files(in, &files, vh_get_u32(in));
    uint64_t cid = vh_get_u64(in);
    monitor->vm->files = &files.files;
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_vsock(monitor->vm, cid, id, err) : nonsense(in, err);
    close_files(&files);
    return status;
}

static int32_t add_pmem(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                        struct vmmhpc_error *err)
{
    struct files files;
    struct vmmhpc_pmem config = {.size = sizeof(config)};
    get_files(in, &files, vh_get_u32(in));
    config.flags = vh_get_u32(in);
    config.path = vh_get_text(in);
    monitor->vm->files = &files.files;
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_pmem(monitor->vm, &config, id, err) : nonsense(in, err);
    close_files(&files);
    return status;
}

static int32_t add_shm(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                       struct vmmhpc_error *err)
{
    struct vmmhpc_shm config = {.size = sizeof(config), .fd = vh_get_fd(in)};
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_shm(monitor->vm, &config, id, err) : nonsense(in, err);
    if (config.fd >= 0) {
        (void)close(config.fd);
    }
    return status;
}

static int32_t add_vfio(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                        struct vmmhpc_error *err)
{
    struct vmmhpc_vfio config = {.size = sizeof(config)};
    config.container = vh_get_fd(in);
    config.group = vh_get_fd(in);
    config.device = vh_get_fd(in);
    int32_t status =
        vh_wire_done(in) ? vmmhpc_add_vfio(monitor->vm, &config, id, err) : nonsense(in, err);
    vmmhpc_vfio_close(&config);
    return status;
}

static int32_t add_generation(struct vh_monitor *monitor, struct vh_wire *in,
                              struct vmmhpc_error *err)
{
    uint8_t id[16];
    vh_get_bytes(in, id, sizeof(id));
    return vh_wire_done(in) ? vmmhpc_add_generation_id(monitor->vm, id, err) : nonsense(in, err);
}

static int32_t load(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    struct files files;
    struct vmmhpc_boot boot = {.size = sizeof(boot)};
    get_files(in, &files, vh_get_u32(in));
    boot.kind = vh_get_u32(in);
    boot.load_address = vh_get_u64(in);
    boot.kernel_path = vh_get_text(in);
    boot.initrd_path = vh_get_text(in);
    boot.cmdline = vh_get_text(in);
    monitor->vm->files = &files.files;
    int32_t status = vh_wire_done(in) && boot.kernel_path != NULL
                         ? vmmhpc_load(monitor->vm, &boot, err)
                         : nonsense(in, err);
    close_files(&files);
    return status;
}

static int32_t restore(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    struct vh_snapshot_files files;
    uint32_t flags = vh_get_u32(in);
    const char *name = in->at < in->bytes ? vh_get_text(in) : NULL;
    vh_monitor_get_files(in, &files);
    bool sound = vh_wire_done(in) && files.layers > 0 &&
                 (name == NULL || (flags & VMMHPC_RESTORE_CLONE) != 0);
    int32_t status =
        sound ? vh_snap_load(monitor->vm, &files, flags, name, err) : nonsense(in, err);
    vh_monitor_close_files(&files); /* they stay mapped */
    return status;
}

static int32_t start(struct vh_monitor *monitor, struct vmmhpc_error *err)
{
    int32_t status = vmmhpc_start(monitor->vm, err);
    if (status == VMMHPC_OK) {
        vh_threads_close(monitor->threads);
        status = monitor->confine ? vh_seccomp_install(VH_SECCOMP_CONTROL, err) : VMMHPC_OK;
        monitor->quit = status != VMMHPC_OK;
    }
    if (status == VMMHPC_OK) {
        monitor->started = true;
        __atomic_store_n(&monitor->page->phase, VMMHPC_PHASE_ALIVE, __ATOMIC_RELEASE);
    }
    return status;
}

static int32_t with_machine(struct vh_monitor *monitor, struct vh_wire *in, uint32_t *id,
                            struct vmmhpc_error *err)
{
    switch (in->head.type) {
    case VH_REQUEST_ADD_BLK:
        return add_blk(monitor, in, id, err);
    case VH_REQUEST_ADD_NET:
        return add_net(monitor, in, id, err);
    case VH_REQUEST_ADD_RNG:
        return vmmhpc_add_rng(monitor->vm, id, err);
    case VH_REQUEST_ADD_HVC:
        return add_hvc(monitor, in, id, err);
    case VH_REQUEST_ADD_BALLOON:
        return vmmhpc_add_balloon(monitor->vm, id, err);
    case VH_REQUEST_ADD_VSOCK:
        return add_vsock(monitor, in, id, err);
    case VH_REQUEST_ADD_PMEM:
        return add_pmem(monitor, in, id, err);
    case VH_REQUEST_ADD_SHM:
        return add_shm(monitor, in, id, err);
    case VH_REQUEST_ADD_VFIO:
        return add_vfio(monitor, in, id, err);
    case VH_REQUEST_ADD_GENERATION:
        return add_generation(monitor, in, err);
    case VH_REQUEST_PLACE:
        return vh_monitor_place(monitor, in, err);
    case VH_REQUEST_LOAD: {
        int32_t status = load(monitor, in, err);
        *id = vmmhpc_image_kind(monitor->vm);
        return status;
    }
    case VH_REQUEST_RESTORE: {
        int32_t status = restore(monitor, in, err);
        *id = vmmhpc_image_kind(monitor->vm);
        return status;
    }
    case VH_REQUEST_START:
        return start(monitor, err);
    default:
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, in->head.type,
                       "this monitor does not know request %u", in->head.type);
    }
}

int32_t vh_monitor_setup(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                         struct vmmhpc_error *err)
{
    uint32_t id = 0;
    int32_t status = VMMHPC_OK;
    if (in->head.type == VH_REQUEST_ADOPT) {
        return adopt(monitor, in, err);
    }
    if (in->head.type == VH_REQUEST_CREATE) {
        status = create(monitor, in, err);
    } else if (monitor->vm == NULL) {
        status = vh_fail(err, VMMHPC_E_STATE, 0, in->head.type, "there is no machine yet");
    } else {
        status = with_machine(monitor, in, &id, err);
        monitor->vm->files = NULL;
    }
    if (status == VMMHPC_OK && in->head.type != VH_REQUEST_START &&
        in->head.type != VH_REQUEST_ADD_GENERATION && in->head.type != VH_REQUEST_PLACE) {
        vh_put_u32(out, id);
    }
    return status;
}
