/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as directories: made beside their place, durable before they are moved there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot_packed.h"

#define STATE "state"
#define RAW "raw" /* memory that is still to be compressed: in drafts only */

/* The snapshot's own pages, and those of what it is based on, the youngest first. */
static const char *const MEMORY[VH_SNAPSHOT_LAYERS] = {
    "memory", "memory-1", "memory-2", "memory-3", "memory-4", "memory-5", "memory-6", "memory-7"};

static int32_t io_failed(struct vmmhpc_error *err, const char *what, const char *path)
{
    int failed = errno;
    return vh_fail(err, failed == EACCES || failed == EPERM ? VMMHPC_E_PERMISSION : VMMHPC_E_IO,
                   failed, 0, "cannot %s %.120s: %s", what, path, vh_errno_text(failed));
}

/* A temporary directory, open, and the files in it. */
struct draft {
    const char *path; /* where it is to be */
    char *name;       /* where it is */
    int parent_fd;
    int fd;
    int state_fd;
    int memory_fd;
    int raw_fd; /* -1: memory is written as it is */
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static int32_t draft_open(struct draft *draft, const char *path, bool raw, struct vmmhpc_error *err)
{
    struct stat info;
    size_t length = strlen(path);
    *draft = (struct draft){
        .path = path, .parent_fd = -1, .fd = -1, .state_fd = -1, .memory_fd = -1, .raw_fd = -1};
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    if (lstat(path, &info) == 0) {
        errno = EEXIST;
        return io_failed(err, "make", path);
    }
    draft->name = malloc(length + sizeof(".XXXXXX"));
    char *parent = malloc(length + 3);
    if (draft->name == NULL || parent == NULL) {
        free(parent);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, length, "no memory for a path");
    }
    memcpy(draft->name, path, length);
    memcpy(draft->name + length, ".XXXXXX", sizeof(".XXXXXX"));
    memcpy(parent, path, length);
    parent[length] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        memcpy(parent, ".", 2);
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    draft->parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (draft->parent_fd < 0 || mkdtemp(draft->name) == NULL) {
        int32_t status = io_failed(err, "make a directory beside", path);
        free(draft->name);
        draft->name = NULL;
        return status;
    }
    draft->fd = open(draft->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (draft->fd >= 0) {
        const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
        draft->state_fd = openat(draft->fd, STATE, flags, 0600);
        draft->memory_fd = openat(draft->fd, MEMORY[0], flags, 0600);
        draft->raw_fd = raw ? openat(draft->fd, RAW, flags, 0600) : -1;
    }
    return draft->state_fd >= 0 && draft->memory_fd >= 0 && (!raw || draft->raw_fd >= 0)
               ? VMMHPC_OK
               : io_failed(err, "make files in", path);
}

/* Compress what was written, which is gone then. */
static int32_t draft_compress(const struct draft *draft, struct vmmhpc_error *err)
{
    const struct vh_snap_pair raw = {.state_fd = draft->state_fd, .memory_fd = draft->raw_fd};
    const struct vh_snap_pair to = {.state_fd = draft->state_fd, .memory_fd = draft->memory_fd};
    int32_t status = vh_snap_compress(&raw, &to, true, err);
    if (status == VMMHPC_OK && unlinkat(draft->fd, RAW, 0) != 0) {
        status = io_failed(err, "finish", draft->path);
    }
    return status;
}

/* On the disk before it has its name; never to be written again. */
static int32_t draft_publish(const struct draft *draft, struct vmmhpc_error *err)
{
    if (fchmod(draft->state_fd, 0400) != 0 || fchmod(draft->memory_fd, 0400) != 0 ||
        fsync(draft->state_fd) != 0 || fsync(draft->memory_fd) != 0 || fsync(draft->fd) != 0 ||
        rename(draft->name, draft->path) != 0) {
        return io_failed(err, "finish", draft->path);
    }
    (void)fsync(draft->parent_fd);
    return VMMHPC_OK;
}

static void draft_close(struct draft *draft, bool published)
{
    if (draft->fd >= 0 && !published) {
        (void)unlinkat(draft->fd, STATE, 0);
        (void)unlinkat(draft->fd, RAW, 0);
        for (size_t i = 0; i < VH_COUNT(MEMORY); i++) {
            (void)unlinkat(draft->fd, MEMORY[i], 0);
        }
    }
    if (draft->name != NULL && !published) {
        (void)rmdir(draft->name);
    }
    close_fd(&draft->state_fd);
    close_fd(&draft->memory_fd);
    close_fd(&draft->raw_fd);
    close_fd(&draft->fd);
    close_fd(&draft->parent_fd);
    free(draft->name);
}

/* What is based on a snapshot, or is a copy of it, has its files, too, so each can be removed by
 * itself. The first of them gets the number `to`. */
static int32_t link_layers(const struct draft *draft, const char *path, uint32_t from, uint32_t to,
                           uint32_t count, struct vmmhpc_error *err)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        return io_failed(err, "open the snapshot", path);
    }
    int32_t status = VMMHPC_OK;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        if (linkat(directory, MEMORY[from + i], draft->fd, MEMORY[to + i], 0) != 0) {
            status = io_failed(err, "link into the new snapshot what it is based on,", path);
        }
    }
    (void)close(directory);
    return status;
}

/* ------------------------------------------------------------------ opening */

static int32_t open_part(const char *path, const char *name, int *fd, struct vmmhpc_error *err)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        return io_failed(err, "open the snapshot", path);
    }
    /* O_NONBLOCK: a FIFO is to be refused, not waited for. */
    *fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int32_t status = *fd >= 0 ? VMMHPC_OK : io_failed(err, "open the snapshot", path);
    (void)close(directory);
    return status;
}

static void close_all(struct vh_snapshot_files *files)
{
    close_fd(&files->state_fd);
    for (uint32_t i = 0; i < files->layers; i++) {
        close_fd(&files->memory_fds[i]);
    }
    files->layers = 0;
}

/* As many files of memory as the state says. To be closed, also after a failure. */
static int32_t open_all(const char *path, struct vh_snapshot_files *files, struct vmmhpc_error *err)
{
    struct vh_snap_reader reader;
    struct vh_snap_layers layers = {.count = 0};
    *files = (struct vh_snapshot_files){.state_fd = -1};
    if (path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no path");
    }
    int32_t status = open_part(path, STATE, &files->state_fd, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vh_snap_open_file(&reader, files->state_fd, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_layers(&reader, &layers, err);
    }
    vh_snap_close(&reader);
    for (uint32_t i = 0; status == VMMHPC_OK && i < layers.count; i++) {
        files->memory_fds[i] = -1;
        files->layers = i + 1;
        status = open_part(path, MEMORY[i], &files->memory_fds[i], err);
    }
    return status;
}

/* ------------------------------------------------------------------ saving */

/* Write the machine into the draft; *layers gets the number of files that the base has. */
static int32_t write_machine(struct vmmhpc *vm, const struct draft *draft, const char *base,
                             uint32_t *layers, const void *note, uint64_t note_bytes,
                             struct vmmhpc_error *err)
{
    const int memory_fd = draft->raw_fd >= 0 ? draft->raw_fd : draft->memory_fd;
    struct vh_snapshot_files files;
    struct vh_snap_plain plain;
    if (base == NULL) {
        return vh_snap_write(vm, draft->state_fd, memory_fd, NULL, note, note_bytes, err);
    }
    int32_t status = open_all(base, &files, err);
    *layers = files.layers;
    if (status == VMMHPC_OK) {
        status = vh_snap_plain(&plain, vm, &files, err);
        if (status == VMMHPC_OK) {
            status =
                vh_snap_write(vm, draft->state_fd, memory_fd, &plain.files, note, note_bytes, err);
        }
        vh_snap_plain_close(&plain);
    }
    close_all(&files);
    return status;
}

int32_t vmmhpc_snapshot_save_since(struct vmmhpc *vm, const char *path, const char *base,
                                   uint32_t flags, const void *note, uint64_t note_bytes,
                                   struct vmmhpc_error *err)
{
    struct draft draft;
    uint32_t layers = 0;
    const bool compress = (flags & VMMHPC_SNAPSHOT_COMPRESS) != 0;
    if (vm == NULL || path == NULL || path[0] == '\0') {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no machine, or no path");
    }
    if ((flags & ~VMMHPC_SNAPSHOT_COMPRESS) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, flags, "unknown flags 0x%x", flags);
    }
    int32_t status = draft_open(&draft, path, compress, err);
    if (status == VMMHPC_OK) {
        status = write_machine(vm, &draft, base, &layers, note, note_bytes, err);
    }
    if (status == VMMHPC_OK && base != NULL) {
        status = link_layers(&draft, base, 0, 1, layers, err);
    }
    if (status == VMMHPC_OK && compress) {
        status = draft_compress(&draft, err);
    }
    if (status == VMMHPC_OK) {
        status = draft_publish(&draft, err);
    }
    draft_close(&draft, status == VMMHPC_OK);
    return status;
}

int32_t vmmhpc_snapshot_save(struct vmmhpc *vm, const char *path, const void *note,
                             uint64_t note_bytes, struct vmmhpc_error *err)
{
    return vmmhpc_snapshot_save_since(vm, path, NULL, 0, note, note_bytes, err);
}

int32_t vmmhpc_snapshot_compress(const char *from, const char *to, struct vmmhpc_error *err)
{
    struct draft draft;
    struct vh_snapshot_files files;
    if (to == NULL || to[0] == '\0') {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no path");
    }
    int32_t status = open_all(from, &files, err);
    if (status == VMMHPC_OK) {
        status = draft_open(&draft, to, false, err);
        if (status == VMMHPC_OK) {
            const struct vh_snap_pair own = {files.state_fd, files.memory_fds[0]};
            const struct vh_snap_pair made = {draft.state_fd, draft.memory_fd};
            status = vh_snap_compress(&own, &made, false, err);
        }
        if (status == VMMHPC_OK) {
            status = link_layers(&draft, from, 1, 1, files.layers - 1, err);
        }
        if (status == VMMHPC_OK) {
            status = draft_publish(&draft, err);
        }
        draft_close(&draft, status == VMMHPC_OK);
    }
    close_all(&files);
    return status;
}

/* ------------------------------------------------------------------ reading */

int32_t vmmhpc_snapshot_restore(struct vmmhpc *vm, const char *path, uint32_t flags,
                                struct vmmhpc_error *err)
{
    struct vh_snapshot_files files;
    int32_t status = open_all(path, &files, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_load_plain(vm, &files, flags, NULL, err);
    }
    close_all(&files);
    return status;
}

int32_t vmmhpc_snapshot_read(const char *path, struct vmmhpc_snapshot_info *info, void *note,
                             uint64_t capacity, struct vmmhpc_error *err)
{
    struct vh_snap_reader reader;
    int fd = -1;
    if (path == NULL || info == NULL || info->size != sizeof(*info)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "no path, or struct vmmhpc_snapshot_info has another size");
    }
    int32_t status = open_part(path, STATE, &fd, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vh_snap_open_file(&reader, fd, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_info(&reader, info, err);
    }
    if (status == VMMHPC_OK && note != NULL) {
        size_t bytes = 0;
        const void *found = vh_snap_find(&reader, VH_SNAP_NOTE, 0, &bytes);
        if (found != NULL) {
            memcpy(note, found, bytes < capacity ? bytes : capacity);
        }
    }
    vh_snap_close(&reader);
    (void)close(fd);
    return status;
}

int32_t vmmhpc_snapshot_verify(const char *path, struct vmmhpc_error *err)
{
    struct vh_snapshot_files files;
    int32_t status = open_all(path, &files, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_verify(&files, err);
    }
    close_all(&files);
    return status;
}
