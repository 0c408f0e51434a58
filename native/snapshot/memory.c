/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM. The file is as long as RAM, and pages of zeroes are holes in it. Restoring maps it,
 * private to the machine: the kernel reads a page when the guest first touches it, and copies it
 * when it is first written.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "snapshot.h"

#define MAP_BYTES (16 * VH_PAGE) /* a run of a younger file that is worth a mapping */
#define MAP_RUNS 4096u           /* of 65,530 mappings that a process usually has */
#define NUMA_NODE_MAX 1024

/* Eight words at a time: what is not zero mostly shows in the first ones. */
bool vh_snap_is_zero(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < VH_PAGE / 8; i += 8) {
        if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] |
             words[i + 6] | words[i + 7]) != 0) {
            return false;
        }
    }
    return true;
}

void vh_snap_add_page(struct vh_snap_region *region, uint64_t number, const uint8_t *page)
{
    region->crc = vh_crc32c(region->crc, &number, sizeof(number));
    region->crc = vh_crc32c(region->crc, page, VH_PAGE);
    region->data_bytes += VH_PAGE;
}

/* ------------------------------------------------------------------ saving */

/* A region while it is written. */
struct saving {
    const struct vh_mapping *mapping;
    int fd;
    uint64_t offset; /* in the file */
    struct vh_snap_region *region;
    uint64_t run; /* bytes before the present page that are still to be written */
    /* With a base: */
    const struct vh_snap_memory *base;
    uint32_t index;  /* of the region */
    uint8_t *window; /* the base's pages, VH_SNAP_STEP of them; NULL: no base */
    uint32_t layer;  /* of the page before; UINT32_MAX: there is none */
    size_t base_run;
    uint64_t own_bytes;
    struct vh_snap_writer *writer;
};

static int write_run(struct saving *saving, uint64_t end)
{
    const uint8_t *from = (const uint8_t *)saving->mapping->base + end - saving->run;
    int failed = 0;
    if (saving->run > 0) {
        failed =
            vh_snap_write_at(saving->fd, from, saving->run, saving->offset + end - saving->run);
    }
    saving->run = 0;
    return failed;
}

/* The file that the page at `at` is in: a new run begins where it is another one. */
static void put_layer(struct saving *saving, uint64_t at, bool changed)
{
    const struct vh_snap_part *part = &saving->base->parts[saving->index];
    const uint64_t page = at / VH_PAGE;
    if (page == vh_snap_run_end(part, saving->base_run)) {
        saving->base_run++;
    }
    uint32_t layer = changed ? 0 : part->runs[saving->base_run].layer + 1;
    if (layer != saving->layer) {
        const struct vh_snap_run run = {.first = page, .layer = layer};
        vh_snap_put(saving->writer, &run, sizeof(run));
        saving->layer = layer;
    }
}

static int save_page(struct saving *saving, uint64_t at)
{
    const uint8_t *page = (const uint8_t *)saving->mapping->base + at;
    bool data = !vh_snap_is_zero(page);
    if (data) {
        vh_snap_add_page(saving->region, at / VH_PAGE, page);
    }
    if (saving->window != NULL) {
        bool changed = memcmp(page, saving->window + at % VH_SNAP_STEP, VH_PAGE) != 0;
        put_layer(saving, at, changed);
        data = data && changed;
    }
    if (data) {
        saving->run += VH_PAGE;
        saving->own_bytes += VH_PAGE;
    }
    if (!data) {
        return write_run(saving, at);
    }
    return saving->run == VH_SNAP_STEP ? write_run(saving, at + VH_PAGE) : 0;
}

static int32_t save_region(struct saving *saving, struct vmmhpc_error *err)
{
    const uint64_t bytes = saving->mapping->bytes;
    int32_t status = VMMHPC_OK;
    int failed = 0;
    *saving->region = (struct vh_snap_region){.bytes = bytes};
    for (uint64_t at = 0; status == VMMHPC_OK && failed == 0 && at < bytes; at += VH_PAGE) {
        if (saving->window != NULL && at % VH_SNAP_STEP == 0) {
            uint64_t window = bytes - at < VH_SNAP_STEP ? bytes - at : VH_SNAP_STEP;
            status = vh_snap_read_pages(saving->base, saving->index, at / VH_PAGE, window / VH_PAGE,
                                        saving->window, err);
        }
        failed = status == VMMHPC_OK ? save_page(saving, at) : 0;
    }
    if (status == VMMHPC_OK && failed == 0) {
        failed = write_run(saving, bytes);
    }
    return failed == 0
               ? status
               : vh_fail(err, VMMHPC_E_IO, failed, saving->offset,
                         "cannot write guest memory to the snapshot: %s", vh_errno_text(failed));
}

static int32_t check_base(const struct vh_memory *memory, const struct vh_snap_base *base,
                          struct vmmhpc_error *err)
{
    bool same = base->memory.count == memory->mapping_count;
    for (uint32_t i = 0; same && i < memory->mapping_count; i++) {
        same = base->memory.regions[i].bytes == memory->mappings[i].bytes;
    }
    if (!same) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, base->memory.count,
                       "the base is of another machine: it has other memory");
    }
    return base->memory.layers < VH_SNAPSHOT_LAYERS
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_LIMIT, 0, base->memory.layers,
                         "%u snapshots are based on each other already, which is the limit",
                         base->memory.layers);
}

/* What the new snapshot is based on. Files of the base that are compressed stay so. */
static int32_t save_layers(const struct vh_snap_base *base, uint64_t own_bytes,
                           struct vh_snap_writer *writer, struct vmmhpc_error *err)
{
    struct vh_snap_layers layers = {.count = base->memory.layers + 1, .own_bytes = own_bytes};
    struct vh_snap_packed packed[1 + VH_SNAPSHOT_LAYERS] = {{.codec = VMMHPC_SNAPSHOT_PLAIN}};
    memcpy(layers.base, base->reader.header.id, sizeof(layers.base));
    vh_snap_section(writer, VH_SNAP_LAYERS, 0, &layers, sizeof(layers));
    int32_t status = vh_snap_packed(&base->reader, base->memory.layers, packed + 1, err);
    bool any = false;
    for (uint32_t i = 1; i < layers.count; i++) {
        any = any || packed[i].codec != VMMHPC_SNAPSHOT_PLAIN;
    }
    if (any) {
        vh_snap_section(writer, VH_SNAP_PACKED, 0, packed, layers.count * sizeof(packed[0]));
    }
    return status;
}

/* All regions; runs go to the writer, each region's in a section of its own. */
static int32_t save_regions(const struct vh_memory *memory, int fd, const struct vh_snap_base *base,
                            uint8_t *window, struct vh_snap_writer *writer,
                            struct vmmhpc_error *err)
{
    struct vh_snap_region regions[VMMHPC_MEMORY_MAX];
    struct saving saving = {.fd = fd, .writer = writer, .window = window};
    int32_t status = VMMHPC_OK;
    for (uint32_t i = 0; status == VMMHPC_OK && i < memory->mapping_count; i++) {
        saving.mapping = &memory->mappings[i];
        saving.region = &regions[i];
        saving.index = i;
        if (base != NULL) {
            saving.base = &base->memory;
            saving.layer = UINT32_MAX;
            saving.base_run = 0;
            vh_snap_begin(writer, VH_SNAP_RUNS, i);
        }
        status = save_region(&saving, err);
        if (base != NULL) {
            vh_snap_end(writer);
        }
        saving.offset += memory->mappings[i].bytes;
    }
    vh_snap_section(writer, VH_SNAP_MEMORY, 0, regions, memory->mapping_count * sizeof(regions[0]));
    if (status == VMMHPC_OK && base != NULL) {
        status = save_layers(base, saving.own_bytes, writer, err);
    }
    return status;
}

/* The file is as long as RAM, whatever is in it; this takes no further system call to be allowed.
 * What is in this page has no meaning where it is in another file. */
static int32_t set_length(const struct vh_memory *memory, int fd, struct vmmhpc_error *err)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < memory->mapping_count; i++) {
        total += memory->mappings[i].bytes;
    }
    const struct vh_mapping *last = &memory->mappings[memory->mapping_count - 1];
    int failed = vh_snap_write_at(fd, (uint8_t *)last->base + last->bytes - VH_PAGE, VH_PAGE,
                                  total - VH_PAGE);
    return failed == 0
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_IO, failed, total,
                         "cannot write guest memory to the snapshot: %s", vh_errno_text(failed));
}

static int32_t save_with_base(const struct vh_memory *memory, int fd,
                              const struct vh_snap_base *base, struct vh_snap_writer *writer,
                              struct vmmhpc_error *err)
{
    int32_t status = check_base(memory, base, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    uint8_t *window = malloc(VH_SNAP_STEP);
    if (window == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, VH_SNAP_STEP, "no memory to read the base");
    }
    status = save_regions(memory, fd, base, window, writer, err);
    free(window);
    return status;
}

int32_t vh_snap_save_memory(const struct vmmhpc *vm, int fd, const struct vh_snap_base *base,
                            struct vh_snap_writer *writer, struct vmmhpc_error *err)
{
    int32_t status = base == NULL ? save_regions(&vm->memory, fd, NULL, NULL, writer, err)
                                  : save_with_base(&vm->memory, fd, base, writer, err);
    return status == VMMHPC_OK ? set_length(&vm->memory, fd, err) : status;
}

/* ------------------------------------------------------------------ loading */

int32_t vh_snap_regions(const struct vh_snap_reader *reader, const struct vh_snap_region **regions,
                        uint32_t *count, struct vmmhpc_error *err)
{
    size_t bytes = 0;
    uint64_t total = 0;
    const struct vh_snap_region *list = vh_snap_find(reader, VH_SNAP_MEMORY, 0, &bytes);
    if (list == NULL || bytes == 0 || bytes % sizeof(*list) != 0 ||
        bytes / sizeof(*list) > VMMHPC_MEMORY_MAX) {
        return vh_snap_damaged(err, VH_SNAP_MEMORY, 0, "what it says of memory makes no sense");
    }
    for (size_t i = 0; i < bytes / sizeof(*list); i++) {
        if (list[i].bytes == 0 || list[i].bytes % VH_PAGE != 0 || list[i].bytes > 1ull << 46 ||
            list[i].data_bytes > list[i].bytes || !vh_add(total, list[i].bytes, &total)) {
            return vh_snap_damaged(err, VH_SNAP_MEMORY, 0, "what it says of memory makes no sense");
        }
    }
    *regions = list;
    *count = (uint32_t)(bytes / sizeof(*list));
    return VMMHPC_OK;
}

/* Pages that hold something, a step at a time, so that there is never much in two places. */
static int32_t copy_data(int fd, uint8_t *to, uint64_t bytes, uint64_t offset, bool take,
                         struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    for (uint64_t done = 0; status == VMMHPC_OK && done < bytes; done += VH_SNAP_STEP) {
        uint64_t step = bytes - done < VH_SNAP_STEP ? bytes - done : VH_SNAP_STEP;
        status = vh_snap_read_at(fd, to + done, step, offset + done, err);
        if (take) {
            (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(offset + done),
                            (off_t)step);
        }
    }
    return status;
}

/* What is shared with others cannot be private to us: its pages are copied. The new machine's are
 * zeroes, as a hole's. */
static int32_t copy_range(int fd, uint8_t *to, uint64_t bytes, uint64_t offset, bool take,
                          struct vmmhpc_error *err)
{
    const uint64_t end = offset + bytes;
    uint64_t at = offset;
    while (at < end) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= end) {
            if (data >= 0 || errno == ENXIO) {
                return VMMHPC_OK; /* zeroes to the end */
            }
            data = (off_t)at; /* a file system without holes */
        }
        off_t hole = lseek(fd, data, SEEK_HOLE);
        at = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        const uint64_t from = (uint64_t)data;
        int32_t status = copy_data(fd, to + (from - offset), at - from, from, take, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

static int32_t copy_region(const struct vh_mapping *mapping, const struct vh_snap_memory *memory,
                           uint32_t index, bool take, struct vmmhpc_error *err)
{
    const struct vh_snap_part *part = &memory->parts[index];
    int32_t status = VMMHPC_OK;
    for (size_t run = 0; status == VMMHPC_OK && run < part->run_count; run++) {
        uint64_t from = part->runs[run].first * VH_PAGE;
        status =
            copy_range(memory->fds[part->runs[run].layer], (uint8_t *)mapping->base + from,
                       vh_snap_run_end(part, run) * VH_PAGE - from, part->offset + from, take, err);
    }
    return status;
}

static int32_t map_range(const struct vh_mapping *mapping, uint64_t at, uint64_t bytes, int fd,
                         uint64_t offset, struct vmmhpc_error *err)
{
    uint8_t *base = (uint8_t *)mapping->base + at;
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
             (off_t)offset) == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_IO, errno, bytes, "cannot map the snapshot's memory: %s",
                       vh_errno_text(errno));
    }
    (void)madvise(base, bytes, MADV_DONTFORK);
    (void)madvise(base, bytes, MADV_DONTDUMP);
    if (mapping->numa_node >= 0 && mapping->numa_node < NUMA_NODE_MAX) {
        /* It was bound when it was made, so this succeeds. */
        unsigned long mask[NUMA_NODE_MAX / (8 * sizeof(unsigned long))] = {0};
        const unsigned bits = 8 * sizeof(unsigned long);
        mask[(unsigned)mapping->numa_node / bits] |= 1ul << ((unsigned)mapping->numa_node % bits);
        (void)syscall(SYS_mbind, base, bytes, MPOL_BIND, mask, NUMA_NODE_MAX, 0);
    }
    return VMMHPC_OK;
}

/* The oldest file, which has most of it, is mapped as a whole. Of the younger ones long runs are
 * mapped over it, as many as the kernel has mappings to spare; others are read. */
static int32_t map_region(const struct vh_mapping *mapping, const struct vh_snap_memory *memory,
                          uint32_t index, uint32_t *mapped, struct vmmhpc_error *err)
{
    const struct vh_snap_part *part = &memory->parts[index];
    const uint32_t oldest = memory->layers - 1;
    int32_t status = map_range(mapping, 0, part->bytes, memory->fds[oldest], part->offset, err);
    for (size_t run = 0; status == VMMHPC_OK && run < part->run_count; run++) {
        const uint32_t layer = part->runs[run].layer;
        const uint64_t from = part->runs[run].first * VH_PAGE;
        const uint64_t bytes = vh_snap_run_end(part, run) * VH_PAGE - from;
        const int fd = memory->fds[layer];
        if (layer == oldest) {
            continue;
        }
        if (bytes >= MAP_BYTES && *mapped < MAP_RUNS) {
            (*mapped)++;
            status = map_range(mapping, from, bytes, fd, part->offset + from, err);
        } else {
            status = vh_snap_read_at(fd, (uint8_t *)mapping->base + from, bytes,
                                     part->offset + from, err);
        }
    }
    return status;
}

int32_t vh_snap_load_memory(struct vmmhpc *vm, const struct vh_snapshot_files *files,
                            const struct vh_snap_reader *reader, bool take,
                            struct vmmhpc_error *err)
{
    struct vh_memory *memory = &vm->memory;
    struct vh_snap_memory there;
    uint32_t mapped = 0;
    int32_t status = vh_snap_memory_open(&there, files, reader, NULL, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (there.count != memory->mapping_count) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, there.count,
                       "the snapshot has %u memory regions, the machine %u", there.count,
                       memory->mapping_count);
    }
    for (uint32_t i = 0; i < there.count; i++) {
        const uint64_t bytes = there.regions[i].bytes;
        if (bytes != memory->mappings[i].bytes) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, bytes,
                           "memory region %u has %llu MiB in the snapshot, %llu MiB in the machine",
                           i, (unsigned long long)(bytes >> 20),
                           (unsigned long long)(memory->mappings[i].bytes >> 20));
        }
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < there.count; i++) {
        const struct vh_mapping *mapping = &memory->mappings[i];
        if (mapping->fd >= 0 || take) {
            status = copy_region(mapping, &there, i, take, err);
        } else {
            memory->restored = true;
            status = map_region(mapping, &there, i, &mapped, err);
        }
    }
    return status;
}
