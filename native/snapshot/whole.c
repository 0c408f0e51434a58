/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots read as a whole, with what is compressed of them: to verify one, and to have its files
 * as a machine takes them. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "snapshot_packed.h"

static int32_t open_packed(struct vh_snap_whole *whole, const struct vh_snapshot_files *files,
                           struct vh_snap_source sources[VH_SNAPSHOT_LAYERS],
                           struct vmmhpc_error *err)
{
    struct vh_snap_packed packed[VH_SNAPSHOT_LAYERS];
    uint64_t total = 0;
    int32_t status = vh_snap_packed(&whole->reader, files->layers, packed, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_total(&whole->reader, &total, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < files->layers; i++) {
        if (packed[i].codec != VMMHPC_SNAPSHOT_PLAIN) {
            status =
                vh_unpack_open(&whole->unpackers[i], files->memory_fds[i], &packed[i], total, err);
            sources[i] = vh_unpack_source(whole->unpackers[i]);
        }
    }
    return status;
}

int32_t vh_snap_whole_open(struct vh_snap_whole *whole, const struct vh_snapshot_files *files,
                           struct vmmhpc_error *err)
{
    struct vh_snap_source sources[VH_SNAPSHOT_LAYERS] = {{.self = NULL}};
    *whole = (struct vh_snap_whole){.reader = {.data = NULL}};
    int32_t status = vh_snap_open_file(&whole->reader, files->state_fd, err);
    if (status == VMMHPC_OK) {
        status = open_packed(whole, files, sources, err);
    }
    return status == VMMHPC_OK
               ? vh_snap_memory_open(&whole->memory, files, &whole->reader, sources, err)
               : status;
}

void vh_snap_whole_close(struct vh_snap_whole *whole)
{
    for (size_t i = 0; i < VH_SNAPSHOT_LAYERS; i++) {
        vh_unpack_close(whole->unpackers[i]);
    }
    vh_snap_close(&whole->reader);
}

/* ------------------------------------------------------------------ reading all of it */

/* What is done with a step's pages, of which not all are zeroes. */
typedef int32_t step_fn(void *self, uint64_t page, const uint8_t *pages, uint64_t bytes,
                        struct vmmhpc_error *err);

/* All of a region that is no hole. */
static int32_t each_step(const struct vh_snap_memory *memory, uint32_t region, uint8_t *buffer,
                         step_fn *work, void *self, struct vmmhpc_error *err)
{
    const uint64_t bytes = memory->regions[region].bytes;
    int32_t status = VMMHPC_OK;
    for (uint64_t at = 0; status == VMMHPC_OK && at < bytes; at += VH_SNAP_STEP) {
        const uint64_t step = bytes - at < VH_SNAP_STEP ? bytes - at : VH_SNAP_STEP;
        if (vh_snap_are_holes(memory, region, at / VH_PAGE, step / VH_PAGE)) {
            continue;
        }
        status = vh_snap_read_pages(memory, region, at / VH_PAGE, step / VH_PAGE, buffer, err);
        if (status == VMMHPC_OK) {
            status = work(self, at / VH_PAGE, buffer, step, err);
        }
    }
    return status;
}

static int32_t add_pages(void *self, uint64_t page, const uint8_t *pages, uint64_t bytes,
                         struct vmmhpc_error *err)
{
    (void)err;
    for (uint64_t at = 0; at < bytes; at += VH_PAGE) {
        if (!vh_snap_is_zero(pages + at)) {
            vh_snap_add_page(self, page + at / VH_PAGE, pages + at);
        }
    }
    return VMMHPC_OK;
}

static int32_t verify_region(const struct vh_snap_memory *memory, uint32_t region, uint8_t *buffer,
                             struct vmmhpc_error *err)
{
    const struct vh_snap_region *expected = &memory->regions[region];
    struct vh_snap_region found = {.bytes = expected->bytes};
    int32_t status = each_step(memory, region, buffer, add_pages, &found, err);
    if (status == VMMHPC_OK &&
        (found.crc != expected->crc || found.data_bytes != expected->data_bytes)) {
        status =
            vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, region,
                    "the snapshot is damaged: the checksum of memory region %u is wrong", region);
    }
    return status;
}

static uint8_t *step_buffer(struct vmmhpc_error *err)
{
    uint8_t *buffer = malloc(VH_SNAP_STEP);
    if (buffer == NULL) {
        (void)vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_SNAP_STEP, "no memory to read a snapshot");
    }
    return buffer;
}

int32_t vh_snap_verify(const struct vh_snapshot_files *files, struct vmmhpc_error *err)
{
    struct vh_snap_whole whole;
    uint8_t *buffer = NULL;
    int32_t status = vh_snap_whole_open(&whole, files, err);
    if (status == VMMHPC_OK) {
        buffer = step_buffer(err);
        status = buffer == NULL ? VMMHPC_E_NO_MEMORY : VMMHPC_OK;
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < whole.memory.count; i++) {
        status = verify_region(&whole.memory, i, buffer, err);
    }
    free(buffer);
    vh_snap_whole_close(&whole);
    return status;
}

/* ------------------------------------------------------------------ for a machine */

/* Where a region's pages go. */
struct target {
    int fd;
    uint64_t offset;
};

static int32_t put_run(const struct target *target, uint64_t page, const uint8_t *pages,
                       uint64_t bytes, struct vmmhpc_error *err)
{
    int failed = bytes == 0
                     ? 0
                     : vh_snap_write_at(target->fd, pages, bytes, target->offset + page * VH_PAGE);
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_NO_MEMORY, failed, page,
                                 "no memory for what was compressed: %s", vh_errno_text(failed));
}

static int32_t put_pages(void *self, uint64_t page, const uint8_t *pages, uint64_t bytes,
                         struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    uint64_t begin = 0; /* of pages that are still to be written */
    for (uint64_t at = 0; status == VMMHPC_OK && at < bytes; at += VH_PAGE) {
        if (vh_snap_is_zero(pages + at)) {
            status = put_run(self, page + begin / VH_PAGE, pages + begin, at - begin, err);
            begin = at + VH_PAGE;
        }
    }
    return status == VMMHPC_OK
               ? put_run(self, page + begin / VH_PAGE, pages + begin, bytes - begin, err)
               : status;
}

/* A few bytes can say that they are terabytes. So no more is unpacked than the machine has; what it
 * has is not known here where another program made it, and then no more than this host has. */
static int32_t check_room(const struct vmmhpc *vm, uint64_t total, struct vmmhpc_error *err)
{
    uint64_t room = vm->remote != NULL ? vm->remote->memory_bytes : 0;
    for (uint32_t i = 0; vm->remote == NULL && i < vm->memory.mapping_count; i++) {
        room += vm->memory.mappings[i].bytes;
    }
    struct sysinfo info;
    if (room == 0 && sysinfo(&info) == 0) {
        room = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    }
    return total <= room
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_INVALID, 0, total,
                         "the snapshot is of %llu MiB of memory, the machine has %llu MiB",
                         (unsigned long long)(total >> 20), (unsigned long long)(room >> 20));
}

static int32_t unpack_all(const struct vh_snap_whole *whole, int fd, struct vmmhpc_error *err)
{
    const struct vh_snap_memory *memory = &whole->memory;
    struct target target = {.fd = fd};
    if (ftruncate(fd, (off_t)memory->total) != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, memory->total,
                       "no memory for what was compressed: %s", vh_errno_text(errno));
    }
    uint8_t *buffer = step_buffer(err);
    int32_t status = buffer == NULL ? VMMHPC_E_NO_MEMORY : VMMHPC_OK;
    for (uint32_t i = 0; status == VMMHPC_OK && i < memory->count; i++) {
        target.offset = memory->parts[i].offset;
        status = each_step(memory, i, buffer, put_pages, &target, err);
    }
    free(buffer);
    return status;
}

/* Every page is where its own file would have it, so one file is good for all. */
static int32_t unpack(struct vh_snap_plain *plain, const struct vmmhpc *vm,
                      const struct vh_snapshot_files *files, struct vmmhpc_error *err)
{
    struct vh_snap_whole whole;
    int32_t status = vh_snap_whole_open(&whole, files, err);
    if (status == VMMHPC_OK) {
        status = check_room(vm, whole.memory.total, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_memory_file("v3m-memory", &plain->fd, err);
    }
    if (status == VMMHPC_OK) {
        status = unpack_all(&whole, plain->fd, err);
    }
    for (uint32_t i = 0; i < files->layers; i++) {
        plain->files.memory_fds[i] = plain->fd;
    }
    vh_snap_whole_close(&whole);
    return status;
}

/* Whether it has a file that is compressed. */
static int32_t is_packed(const struct vh_snapshot_files *files, bool *packed,
                         struct vmmhpc_error *err)
{
    struct vh_snap_reader reader;
    size_t bytes = 0;
    int32_t status = vh_snap_open_file(&reader, files->state_fd, err);
    *packed = status == VMMHPC_OK && vh_snap_find(&reader, VH_SNAP_PACKED, 0, &bytes) != NULL;
    vh_snap_close(&reader);
    return status;
}

int32_t vh_snap_plain(struct vh_snap_plain *plain, const struct vmmhpc *vm,
                      const struct vh_snapshot_files *files, struct vmmhpc_error *err)
{
    bool packed = false;
    *plain = (struct vh_snap_plain){.files = *files, .fd = -1};
    int32_t status = is_packed(files, &packed, err);
    return packed ? unpack(plain, vm, files, err) : status;
}

void vh_snap_plain_close(struct vh_snap_plain *plain)
{
    if (plain->fd >= 0) {
        (void)close(plain->fd);
        plain->fd = -1;
    }
}
