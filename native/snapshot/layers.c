/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is in several files. A snapshot with a base has the pages that differ; of the others
 * it knows in which of the files below they are. VH_SNAP_RUNS says so for each region, as runs of
 * pages that lie one behind the other and cover all of it. A hole in a file reads as zeroes.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"

/* A file that is too short would be noticed by the guest, as SIGBUS in this process. */
int32_t vh_snap_check_file(int fd, uint64_t total, struct vmmhpc_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "a snapshot's memory is a regular file");
    }
    if ((uint64_t)info.st_size != total) {
        return vh_fail(
            err, (uint64_t)info.st_size < total ? VMMHPC_E_TRUNCATED : VMMHPC_E_BAD_IMAGE, 0,
            (uint64_t)info.st_size, "the snapshot's memory has %llu bytes and should have %llu",
            (unsigned long long)info.st_size, (unsigned long long)total);
    }
    return VMMHPC_OK;
}

/* They begin with page 0, ascend, and lie within the region and the files. */
static bool runs_sound(const struct vh_snap_run *runs, size_t count, uint64_t pages,
                       uint32_t layers)
{
    for (size_t i = 0; i < count; i++) {
        bool ascends = i == 0 ? runs[i].first == 0 : runs[i].first > runs[i - 1].first;
        if (!ascends || runs[i].first >= pages || runs[i].layer >= layers) {
            return false;
        }
    }
    return count > 0;
}

static int32_t find_runs(struct vh_snap_memory *memory, const struct vh_snap_reader *reader,
                         uint32_t region, struct vmmhpc_error *err)
{
    size_t bytes = 0;
    struct vh_snap_part *part = &memory->parts[region];
    if (memory->layers == 1) {
        part->runs = &memory->whole;
        part->run_count = 1;
        return VMMHPC_OK;
    }
    part->runs = vh_snap_find(reader, VH_SNAP_RUNS, region, &bytes);
    part->run_count = bytes / sizeof(*part->runs);
    return part->runs != NULL && bytes % sizeof(*part->runs) == 0 &&
                   runs_sound(part->runs, part->run_count, part->bytes / VH_PAGE, memory->layers)
               ? VMMHPC_OK
               : vh_snap_damaged(err, VH_SNAP_RUNS, region,
                                 "what it says of its base makes no sense");
}

int32_t vh_snap_layers(const struct vh_snap_reader *reader, struct vh_snap_layers *layers,
                       struct vmmhpc_error *err)
{
    size_t bytes = 0;
    const struct vh_snap_layers *found = vh_snap_find(reader, VH_SNAP_LAYERS, 0, &bytes);
    *layers = (struct vh_snap_layers){.count = 1};
    if (found == NULL) {
        return VMMHPC_OK;
    }
    if (bytes != sizeof(*found) || found->count < 2 || found->count > VH_SNAPSHOT_LAYERS) {
        return vh_snap_damaged(err, VH_SNAP_LAYERS, 0, "what it says of its base makes no sense");
    }
    *layers = *found;
    return VMMHPC_OK;
}

int32_t vh_snap_total(const struct vh_snap_reader *reader, uint64_t *total,
                      struct vmmhpc_error *err)
{
    const struct vh_snap_region *regions = NULL;
    uint32_t count = 0;
    int32_t status = vh_snap_regions(reader, &regions, &count, err);
    *total = 0;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        *total += regions[i].bytes;
    }
    return status;
}

int32_t vh_snap_packed(const struct vh_snap_reader *reader, uint32_t layers,
                       struct vh_snap_packed packed[VH_SNAPSHOT_LAYERS], struct vmmhpc_error *err)
{
    size_t bytes = 0;
    const void *found = vh_snap_find(reader, VH_SNAP_PACKED, 0, &bytes);
    memset(packed, 0, VH_SNAPSHOT_LAYERS * sizeof(*packed));
    if (found == NULL) {
        return VMMHPC_OK;
    }
    if (layers > VH_SNAPSHOT_LAYERS || bytes != layers * sizeof(*packed)) {
        return vh_snap_damaged(err, VH_SNAP_PACKED, 0,
                               "what it says of its compressed memory makes no sense");
    }
    memcpy(packed, found, bytes);
    for (uint32_t i = 0; i < layers; i++) {
        if (packed[i].codec > VMMHPC_SNAPSHOT_ZSTD) {
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, packed[i].codec,
                           "the snapshot's memory is compressed in a way that this version does "
                           "not know");
        }
    }
    return VMMHPC_OK;
}

int32_t vh_snap_memory_open(struct vh_snap_memory *memory, const struct vh_snapshot_files *files,
                            const struct vh_snap_reader *reader,
                            const struct vh_snap_source *sources, struct vmmhpc_error *err)
{
    struct vh_snap_layers layers;
    *memory = (struct vh_snap_memory){.fds = files->memory_fds};
    int32_t status = vh_snap_regions(reader, &memory->regions, &memory->count, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_layers(reader, &layers, err);
    }
    if (status == VMMHPC_OK && layers.count != files->layers) {
        status = vh_fail(err, VMMHPC_E_INVALID, 0, files->layers,
                         "the snapshot's memory is in %u files, and %u are given", layers.count,
                         files->layers);
    }
    uint64_t total = 0;
    for (uint32_t i = 0; status == VMMHPC_OK && i < memory->count; i++) {
        memory->layers = layers.count;
        memory->parts[i].bytes = memory->regions[i].bytes;
        memory->parts[i].offset = total;
        total += memory->regions[i].bytes;
        status = find_runs(memory, reader, i, err);
    }
    memory->total = total;
    for (uint32_t i = 0; status == VMMHPC_OK && i < memory->layers; i++) {
        if (sources != NULL && sources[i].self != NULL) {
            memory->sources[i] = sources[i];
        } else {
            status = vh_snap_check_file(files->memory_fds[i], total, err);
        }
    }
    return status;
}

size_t vh_snap_run_at(const struct vh_snap_part *part, uint64_t page)
{
    size_t low = 0;
    size_t high = part->run_count; /* the run is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (part->runs[middle].first <= page) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t vh_snap_run_end(const struct vh_snap_part *part, size_t run)
{
    return run + 1 < part->run_count ? part->runs[run + 1].first : part->bytes / VH_PAGE;
}

bool vh_snap_is_hole(int fd, uint64_t offset, uint64_t bytes)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (uint64_t)data >= offset + bytes;
}

int32_t vh_snap_read_at(int fd, uint8_t *to, uint64_t bytes, uint64_t offset,
                        struct vmmhpc_error *err)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = vh_pread(fd, to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return vh_fail(err, VMMHPC_E_IO, got < 0 ? errno : EIO, offset + done,
                           "cannot read the snapshot's memory");
        }
        done += (uint64_t)got;
    }
    return VMMHPC_OK;
}

static bool layer_is_hole(const struct vh_snap_memory *memory, uint32_t layer, uint64_t offset,
                          uint64_t bytes)
{
    const struct vh_snap_source *source = &memory->sources[layer];
    return source->self != NULL ? source->is_hole(source->self, offset, bytes)
                                : vh_snap_is_hole(memory->fds[layer], offset, bytes);
}

static int32_t read_layer(const struct vh_snap_memory *memory, uint32_t layer, uint64_t offset,
                          uint64_t bytes, uint8_t *to, struct vmmhpc_error *err)
{
    const struct vh_snap_source *source = &memory->sources[layer];
    return source->self != NULL ? source->read(source->self, offset, bytes, to, err)
                                : vh_snap_read_at(memory->fds[layer], to, bytes, offset, err);
}

bool vh_snap_are_holes(const struct vh_snap_memory *memory, uint32_t region, uint64_t page,
                       uint64_t pages)
{
    const struct vh_snap_part *part = &memory->parts[region];
    const uint64_t end = page + pages;
    bool holes = true;
    for (size_t run = vh_snap_run_at(part, page); holes && page < end; run++) {
        uint64_t until = vh_snap_run_end(part, run);
        until = until < end ? until : end;
        holes = layer_is_hole(memory, part->runs[run].layer, part->offset + page * VH_PAGE,
                              (until - page) * VH_PAGE);
        page = until;
    }
    return holes;
}

int32_t vh_snap_read_pages(const struct vh_snap_memory *memory, uint32_t region, uint64_t page,
                           uint64_t pages, uint8_t *to, struct vmmhpc_error *err)
{
    const struct vh_snap_part *part = &memory->parts[region];
    const uint64_t end = page + pages;
    int32_t status = VMMHPC_OK;
    for (size_t run = vh_snap_run_at(part, page); status == VMMHPC_OK && page < end; run++) {
        uint64_t until = vh_snap_run_end(part, run);
        until = until < end ? until : end;
        const uint64_t bytes = (until - page) * VH_PAGE;
        const uint64_t offset = part->offset + page * VH_PAGE;
        const uint32_t layer = part->runs[run].layer;
        if (layer_is_hole(memory, layer, offset, bytes)) {
            memset(to, 0, bytes);
        } else {
            status = read_layer(memory, layer, offset, bytes, to, err);
        }
        to += bytes;
        page = until;
    }
    return status;
}
