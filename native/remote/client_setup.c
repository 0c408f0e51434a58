/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a machine in a monitor: what is opened by path in vmmhpc_create() and its like is opened
 * here, with the rights of the caller, and sent along. Where that fails the reason is sent instead,
 * and the monitor refuses in the same words as a machine in this process would.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "remote.h"
#include "status.h"

#define FILES_MAX 6u

struct request {
    struct vh_wire wire;
    uint8_t *data;
    int opened[FILES_MAX];
    uint32_t opened_count;
};

static int32_t request_new(struct request *request, struct vmmhpc_error *err)
{
    request->data = malloc(VH_WIRE_PAYLOAD);
    request->opened_count = 0;
    if (request->data == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_WIRE_PAYLOAD, "no memory for a request");
    }
    vh_wire_init(&request->wire, request->data, VH_WIRE_PAYLOAD);
    return VMMHPC_OK;
}

static void request_free(struct request *request)
{
    for (uint32_t i = 0; i < request->opened_count; i++) {
        (void)close(request->opened[i]);
    }
    free(request->data);
}

/* Send it, take the device's number from the answer, and give everything back. */
static int32_t finish(struct vmmhpc *vm, uint32_t type, struct request *request, uint32_t *number,
                      struct vmmhpc_error *err)
{
    struct vh_wire in;
    uint8_t data[512];
    vh_wire_init(&in, data, sizeof(data));
    int32_t status = vh_remote_call(vm, type, &request->wire, &in, err);
    request_free(request);
    if (status != VMMHPC_OK) {
        return status;
    }
    uint32_t got = vh_get_u32(&in);
    bool good = vh_wire_done(&in);
    vh_wire_close_fds(&in);
    if (!good) {
        return vh_fail(err, VMMHPC_E_IO, EBADMSG, type, "the monitor's answer makes no sense");
    }
    if (number != NULL) {
        *number = got;
    }
    return VMMHPC_OK;
}

static void put_file(struct request *request, const char *path, int flags, int fd, int failed)
{
    vh_put_text(&request->wire, path);
    vh_put_u32(&request->wire, (uint32_t)flags);
    vh_put_u32(&request->wire, fd >= 0 ? 0 : (uint32_t)failed);
    if (fd >= 0) {
        vh_put_fd(&request->wire, fd);
        request->opened[request->opened_count++] = fd;
    }
}

/* A file that the monitor will ask for by this path. */
static void open_file(struct request *request, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    put_file(request, path, flags, fd, errno);
}

/* Content that is no file becomes one. */
static int32_t content_file(const char *name, const void *content, uint64_t bytes, int *out,
                            struct vmmhpc_error *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        int failed = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, bytes, "no memory for the %s", name);
    }
    const uint8_t *at = content;
    while (bytes > 0) {
        ssize_t written = write(fd, at, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            int failed = errno;
            (void)close(fd);
            return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, bytes, "no memory for the %s", name);
        }
        at += written;
        bytes -= (uint64_t)written;
    }
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    *out = fd;
    return VMMHPC_OK;
}

static int32_t put_content(struct request *request, const char *name, const void *content,
                           uint64_t bytes, struct vmmhpc_error *err)
{
    int fd = -1;
    int32_t status = content_file(name, content, bytes, &fd, err);
    if (status == VMMHPC_OK) {
        put_file(request, name, O_RDONLY, fd, 0);
    }
    return status;
}

int32_t vh_remote_create(struct vmmhpc *vm, const struct vmmhpc_config *config,
                         struct vmmhpc_error *err)
{
    struct request request;
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->size,
                       "the configuration is missing or of another version");
    }
    if ((config->flags & VMMHPC_FLAG_EXTERNAL_VCPUS) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, config->flags,
                       "vCPUs in the caller's threads: not for a machine in a monitor process");
    }
    if (config->memory_count > VMMHPC_MEMORY_MAX ||
        (config->memory == NULL && config->memory_count > 0)) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, config->memory_count,
                       "a machine has 1 to %u memory regions, not %u", VMMHPC_MEMORY_MAX,
                       config->memory_count);
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_wire *wire = &request.wire;
    const char *kvm = config->kvm_path == NULL ? "/dev/kvm" : config->kvm_path;
    open_file(&request, kvm, O_RDWR);
    vh_put_u32(wire, config->cpus);
    vh_put_u32(wire, config->cores_per_socket);
    vh_put_u32(wire, config->threads_per_core);
    vh_put_u32(wire, config->flags);
    vh_put_u32(wire, config->memory_count);
    vh_put_u32(wire, config->pin == NULL ? 0 : config->pin_count);
    for (uint32_t i = 0; i < config->memory_count; i++) {
        const struct vmmhpc_memory *memory = &config->memory[i];
        vh_put_u32(wire, memory->backing);
        vh_put_u64(wire, memory->bytes);
        vh_put_u32(wire, memory->flags);
        vh_put_u32(wire, (uint32_t)memory->numa_node);
        vm->remote->memory_bytes += memory->bytes;
    }
    for (uint32_t i = 0; config->pin != NULL && i < config->pin_count; i++) {
        vh_put_u32(wire, (uint32_t)config->pin[i]);
    }
    status = finish(vm, VH_REQUEST_CREATE, &request, NULL, err);
    vm->cpus = status == VMMHPC_OK ? config->cpus : 0;
    vh_client_of(vm)->regions = config->memory_count;
    return status;
}

/* ------------------------------------------------------------------ devices */

int32_t vh_remote_add_blk(struct vmmhpc *vm, const struct vmmhpc_blk *config, uint32_t *id,
                          struct vmmhpc_error *err)
{
    struct request request;
    if (config == NULL || config->size != sizeof(*config) || config->path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "a disk needs a path, and struct vmmhpc_blk this size");
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    /* As blk_raw.c and blk_overlay.c open them; O_NONBLOCK lets a FIFO be refused, not waited for.
     */
    const bool read_only = (config->flags & VMMHPC_BLK_READ_ONLY) != 0;
    const bool direct = (config->flags & VMMHPC_BLK_DIRECT) != 0;
    const int mode = read_only ? O_RDONLY : O_RDWR;
    const int base_mode = config->overlay_path != NULL ? O_RDONLY : mode;
    vh_put_u32(&request.wire, (direct ? 2 : 1) * (config->overlay_path != NULL ? 2 : 1));
    open_file(&request, config->path, base_mode | O_NONBLOCK);
    if (direct) {
        open_file(&request, config->path, base_mode | O_DIRECT);
    }
    if (config->overlay_path != NULL) {
        open_file(&request, config->overlay_path, mode | O_NONBLOCK);
        if (direct) {
            open_file(&request, config->overlay_path, mode | O_DIRECT);
        }
    }
    vh_put_u32(&request.wire, config->flags);
    vh_put_text(&request.wire, config->path);
    vh_put_text(&request.wire, config->overlay_path);
    vh_put_text(&request.wire, config->serial);
    return finish(vm, VH_REQUEST_ADD_BLK, &request, id, err);
}

int32_t vh_remote_add_net(struct vmmhpc *vm, const struct vmmhpc_net *config, uint32_t *id,
                          struct vmmhpc_error *err)
{
    struct request request;
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "struct vmmhpc_net has another size");
    }
    if (config->fd < 0 || fcntl(config->fd, F_GETFD) < 0) {
        return vh_fail(err, VMMHPC_E_INVALID, EBADF, (uint64_t)(uint32_t)config->fd,
                       "cannot use descriptor %d for a network", config->fd);
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    const bool vhost = (config->flags & VMMHPC_NET_VHOST) != 0;
    vh_put_u32(&request.wire, vhost ? 1 : 0);
    if (vhost) {
        open_file(&request, "/dev/vhost-net", O_RDWR);
    }
    vh_put_u32(&request.wire, config->flags);
    vh_put_u32(&request.wire, config->kind);
    vh_put_bytes(&request.wire, config->mac, sizeof(config->mac));
    vh_put_u32(&request.wire, config->mtu);
    vh_put_fd(&request.wire, config->fd);
    return finish(vm, VH_REQUEST_ADD_NET, &request, id, err);
}

int32_t vh_remote_add_hvc(struct vmmhpc *vm, const struct vmmhpc_hvc *config, uint32_t *id,
                          struct vmmhpc_error *err)
{
    struct request request;
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "struct vmmhpc_hvc has another size");
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    const int fds[2] = {config->in_fd, config->out_fd};
    for (size_t i = 0; i < VH_COUNT(fds); i++) {
        vh_put_u32(&request.wire, fds[i] >= 0 ? 1 : 0);
        if (fds[i] >= 0) {
            vh_put_fd(&request.wire, fds[i]);
        }
    }
    vh_put_u32(&request.wire, config->columns);
    vh_put_u32(&request.wire, config->rows);
    return finish(vm, VH_REQUEST_ADD_HVC, &request, id, err);
}

int32_t vh_remote_add_vsock(struct vmmhpc *vm, uint64_t cid, uint32_t *id, struct vmmhpc_error *err)
{
    struct request request;
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_put_u32(&request.wire, 1);
    open_file(&request, "/dev/vhost-vsock", O_RDWR);
    vh_put_u64(&request.wire, cid);
    return finish(vm, VH_REQUEST_ADD_VSOCK, &request, id, err);
}

int32_t vh_remote_add_pmem(struct vmmhpc *vm, const struct vmmhpc_pmem *config, uint32_t *id,
                           struct vmmhpc_error *err)
{
    struct request request;
    if (config == NULL || config->size != sizeof(*config) || config->path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "pmem needs a path, and struct vmmhpc_pmem this size");
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    const bool read_only = (config->flags & VMMHPC_PMEM_READ_ONLY) != 0;
    vh_put_u32(&request.wire, 1);
    open_file(&request, config->path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK);
    vh_put_u32(&request.wire, config->flags);
    vh_put_text(&request.wire, config->path);
    return finish(vm, VH_REQUEST_ADD_PMEM, &request, id, err);
}

int32_t vh_remote_add_shm(struct vmmhpc *vm, const struct vmmhpc_shm *config, uint32_t *id,
                          struct vmmhpc_error *err)
{
    struct request request;
    if (config->fd < 0 || fcntl(config->fd, F_GETFD) < 0) {
        return vh_fail(err, VMMHPC_E_INVALID, EBADF, (uint64_t)(uint32_t)config->fd,
                       "cannot use descriptor %d for a channel", config->fd);
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_put_fd(&request.wire, config->fd);
    return finish(vm, VH_REQUEST_ADD_SHM, &request, id, err);
}

/* Who starts the machine may be allowed to pin memory; the monitor, in its jail, is not. */
static void let_pin(const struct vmmhpc *vm)
{
    const struct rlimit limitless = {RLIM_INFINITY, RLIM_INFINITY};
    struct vmmhpc_status_page page;
    if (vh_remote_page(vm, &page) && page.pid != 0 &&
        vh_process_start(page.pid) == page.pid_start) {
        (void)prlimit((pid_t)page.pid, RLIMIT_MEMLOCK, &limitless, NULL);
    }
}

int32_t vh_remote_add_vfio(struct vmmhpc *vm, const struct vmmhpc_vfio *config, uint32_t *id,
                           struct vmmhpc_error *err)
{
    struct request request;
    const int fds[] = {config->container, config->group, config->device};
    int32_t status = request_new(&request, err);
    for (size_t i = 0; status == VMMHPC_OK && i < VH_COUNT(fds); i++) {
        if (fds[i] < 0 || fcntl(fds[i], F_GETFD) < 0) {
            request_free(&request);
            return vh_fail(err, VMMHPC_E_INVALID, EBADF, (uint64_t)(uint32_t)fds[i],
                           "cannot use descriptor %d for a device", fds[i]);
        }
        vh_put_fd(&request.wire, fds[i]);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    let_pin(vm);
    return finish(vm, VH_REQUEST_ADD_VFIO, &request, id, err);
}

int32_t vh_remote_add_plain(struct vmmhpc *vm, enum vh_remote_plain device, uint32_t *id,
                            struct vmmhpc_error *err)
{
    struct request request;
    uint32_t type = device == VH_REMOTE_RNG ? VH_REQUEST_ADD_RNG : VH_REQUEST_ADD_BALLOON;
    int32_t status = request_new(&request, err);
    return status == VMMHPC_OK ? finish(vm, type, &request, id, err) : status;
}

/* ------------------------------------------------------------------ load and start */

static const char *const kernel_name = "kernel (in memory)";
static const char *const initrd_name = "initrd (in memory)";

static int32_t put_boot(struct request *request, const struct vmmhpc_boot *boot,
                        struct vmmhpc_error *err)
{
    const bool initrd = boot->initrd_path != NULL || boot->initrd_bytes > 0;
    int32_t status = VMMHPC_OK;
    vh_put_u32(&request->wire, initrd ? 2 : 1);
    if (boot->kernel_path != NULL) {
        open_file(request, boot->kernel_path, O_RDONLY);
    } else if (boot->kernel == NULL || boot->kernel_bytes == 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the kernel is empty");
    } else {
        status = put_content(request, kernel_name, boot->kernel, boot->kernel_bytes, err);
    }
    if (status == VMMHPC_OK && boot->initrd_path != NULL) {
        open_file(request, boot->initrd_path, O_RDONLY);
    } else if (status == VMMHPC_OK && initrd) {
        if (boot->initrd == NULL) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the initrd is empty");
        }
        status = put_content(request, initrd_name, boot->initrd, boot->initrd_bytes, err);
    }
    vh_put_u32(&request->wire, boot->kind);
    vh_put_u64(&request->wire, boot->load_address);
    vh_put_text(&request->wire, boot->kernel_path != NULL ? boot->kernel_path : kernel_name);
    vh_put_text(&request->wire, boot->initrd_path != NULL ? boot->initrd_path
                                : initrd                  ? initrd_name
                                                          : NULL);
    vh_put_text(&request->wire, boot->cmdline);
    return status;
}

int32_t vh_remote_load(struct vmmhpc *vm, const struct vmmhpc_boot *boot, struct vmmhpc_error *err)
{
    struct request request;
    if (boot == NULL || boot->size != sizeof(*boot)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the boot structure has another version");
    }
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = put_boot(&request, boot, err);
    if (status != VMMHPC_OK) {
        request_free(&request);
        return status;
    }
    return finish(vm, VH_REQUEST_LOAD, &request, &vh_client_of(vm)->image_kind, err);
}

static void put_files(struct vh_wire *wire, const struct vh_snapshot_files *files)
{
    vh_put_fd(wire, files->state_fd);
    for (uint32_t i = 0; i < files->layers; i++) {
        vh_put_fd(wire, files->memory_fds[i]);
    }
}

int32_t vh_remote_restore(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                          const char *name, struct vmmhpc_error *err)
{
    struct request request;
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_put_u32(&request.wire, flags);
    put_files(&request.wire, files);
    if (name != NULL) {
        vh_put_text(&request.wire, name);
    }
    return finish(vm, VH_REQUEST_RESTORE, &request, NULL, err);
}

/* A note may be longer than a message. Writing takes as long as it takes: the monitor's end would
 * be noticed, so the answer is waited for without a limit. */
int32_t vh_remote_snapshot(struct vmmhpc *vm, int state_fd, int memory_fd,
                           const struct vh_snapshot_files *base, const void *note,
                           uint64_t note_bytes, struct vmmhpc_error *err)
{
    struct request request;
    int32_t status = request_new(&request, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    int note_fd = -1;
    if (note_bytes > 0) {
        status = content_file("note", note, note_bytes, &note_fd, err);
    }
    if (status == VMMHPC_OK) {
        vh_put_u32(&request.wire, note_fd >= 0 ? 1 : 0);
        vh_put_fd(&request.wire, state_fd);
        vh_put_fd(&request.wire, memory_fd);
        if (note_fd >= 0) {
            vh_put_fd(&request.wire, note_fd);
            request.opened[request.opened_count++] = note_fd;
        }
        if (base != NULL) {
            put_files(&request.wire, base);
        }
        const int fd = vh_client_of(vm)->fd;
        const struct timeval limitless = {.tv_sec = 0};
        struct timeval patience = {.tv_sec = 0};
        socklen_t bytes = sizeof(patience);
        (void)getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &bytes);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limitless, sizeof(limitless));
        status = vh_remote_call(vm, VH_REQUEST_SNAPSHOT, &request.wire, NULL, err);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
    request_free(&request);
    return status;
}

int32_t vh_remote_start(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = vh_remote_simple(vm, VH_REQUEST_START, err);
    if (status == VMMHPC_OK) {
        vh_client_of(vm)->starter = false; /* it is on its own */
    }
    return status;
}
