/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a machine's state, each in its file: saved to a writer, loaded from a reader. While
 * they are, the machine's lock is held, no vCPU runs and no device is served. */
#ifndef VH_SNAPSHOT_H
#define VH_SNAPSHOT_H

#include "format.h"
#include "machine.h"
#include "snapshot_files.h"
#include "snapshot_hooks.h"

/* Of guest RAM: what VH_SNAP_MEMORY holds, for each region. They lie one behind the other in the
 * `memory` file, in the order of the machine's regions. */
struct vh_snap_region {
    uint64_t bytes;
    uint64_t data_bytes; /* of it in pages that are not all zeroes */
    uint32_t crc;        /* CRC-32C of those pages, each with its number before it */
    uint32_t reserved;
};

/* VH_SNAP_LAYERS, of a snapshot that has a base. */
struct vh_snap_layers {
    uint32_t count; /* of files, its own included: 2 to VH_SNAPSHOT_LAYERS */
    uint32_t reserved;
    uint8_t base[16];   /* the base's id */
    uint64_t own_bytes; /* of pages in its own file that are not all zeroes */
};

/* VH_SNAP_RUNS: the pages from `first` to the next run's are in this file. */
struct vh_snap_run {
    uint64_t first;
    uint32_t layer;
    uint32_t reserved;
};

/* VH_SNAP_PACKED, of each file of memory, where one of them is compressed (snapshot_packed.h). */
struct vh_snap_packed {
    uint64_t file_bytes;
    uint64_t index_bytes;
    uint32_t index_crc; /* CRC-32C */
    uint32_t codec;     /* VMMHPC_SNAPSHOT_PLAIN: this one is not */
};

/* ---- layers.c */

/** A file of memory that has to be read in a way of its own: compressed. Parts are whole pages, and
 *  are asked for by ascending offset. */
struct vh_snap_source {
    void *self; /* NULL: it is as it is mapped */
    bool (*is_hole)(void *self, uint64_t offset, uint64_t bytes);
    int32_t (*read)(void *self, uint64_t offset, uint64_t bytes, uint8_t *to,
                    struct vmmhpc_error *err);
};

/** A region, and where its pages are. */
struct vh_snap_part {
    uint64_t bytes;
    uint64_t offset; /* in each file */
    const struct vh_snap_run *runs;
    size_t run_count;
};

/** Checked: every run lies in its region, every region in every file. */
struct vh_snap_memory {
    const struct vh_snap_region *regions;
    uint32_t count;
    uint32_t layers;
    uint64_t total; /* bytes of each file, were it not compressed */
    const int *fds;
    struct vh_snap_source sources[VH_SNAPSHOT_LAYERS];
    struct vh_snap_run whole; /* where there is one file */
    struct vh_snap_part parts[VMMHPC_MEMORY_MAX];
};

/** How many files there are, checked; count 1 where there is no base. */
int32_t vh_snap_layers(const struct vh_snap_reader *reader, struct vh_snap_layers *layers,
                       struct vmmhpc_error *err);
/** How each of these files is compressed. */
int32_t vh_snap_packed(const struct vh_snap_reader *reader, uint32_t layers,
                       struct vh_snap_packed packed[VH_SNAPSHOT_LAYERS], struct vmmhpc_error *err);
/** What the reader says of these files, which stay the caller's. *memory must not be moved.
 *  @param sources of each file; or NULL: all are as they are mapped */
int32_t vh_snap_memory_open(struct vh_snap_memory *memory, const struct vh_snapshot_files *files,
                            const struct vh_snap_reader *reader,
                            const struct vh_snap_source *sources, struct vmmhpc_error *err);
/** The run that a page of the region is in, and the page behind a run. */
size_t vh_snap_run_at(const struct vh_snap_part *part, uint64_t page);
uint64_t vh_snap_run_end(const struct vh_snap_part *part, size_t run);
/** Bytes of all regions, checked: how long a file of memory is. */
int32_t vh_snap_total(const struct vh_snap_reader *reader, uint64_t *total,
                      struct vmmhpc_error *err);
/** E_TRUNCATED, E_BAD_IMAGE where it has another length. */
int32_t vh_snap_check_file(int fd, uint64_t total, struct vmmhpc_error *err);
/** Whether there is nothing in a part of a file. */
bool vh_snap_is_hole(int fd, uint64_t offset, uint64_t bytes);
/** Read, not mapped: what cannot be read is an error then, and not SIGBUS. */
int32_t vh_snap_read_at(int fd, uint8_t *to, uint64_t bytes, uint64_t offset,
                        struct vmmhpc_error *err);
/** Whether these pages of a region are holes, in whichever files they are. */
bool vh_snap_are_holes(const struct vh_snap_memory *memory, uint32_t region, uint64_t page,
                       uint64_t pages);
/** Pages of a region, wherever they are. */
int32_t vh_snap_read_pages(const struct vh_snap_memory *memory, uint32_t region, uint64_t page,
                           uint64_t pages, uint8_t *to, struct vmmhpc_error *err);

/* ---- memory.c */

#define VH_SNAP_STEP VH_MIB /* of memory, read or written in one go, at most */

bool vh_snap_is_zero(const uint8_t *page);
/** Count a page that is not all zeroes in. */
void vh_snap_add_page(struct vh_snap_region *region, uint64_t number, const uint8_t *page);

/** What a snapshot is based on. */
struct vh_snap_base {
    struct vh_snap_reader reader;
    struct vh_snap_memory memory;
};

/** Write guest RAM to fd, with a base what differs from it; its description to the writer. */
int32_t vh_snap_save_memory(const struct vmmhpc *vm, int fd, const struct vh_snap_base *base,
                            struct vh_snap_writer *writer, struct vmmhpc_error *err);
/** Check that the machine has the same regions, and map the files over them.
 *  @param take move the pages out of the files instead */
int32_t vh_snap_load_memory(struct vmmhpc *vm, const struct vh_snapshot_files *files,
                            const struct vh_snap_reader *reader, bool take,
                            struct vmmhpc_error *err);
/** The regions that a file describes, checked: their number, and *regions points into the file. */
int32_t vh_snap_regions(const struct vh_snap_reader *reader, const struct vh_snap_region **regions,
                        uint32_t *count, struct vmmhpc_error *err);

/* ---- take.c */

/** An empty file in memory, for the caller to close. */
int32_t vh_snap_memory_file(const char *name, int *fd, struct vmmhpc_error *err);

/* ---- machine.c */

int32_t vh_snap_save_machine(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                             struct vmmhpc_error *err);
/** E_INVALID where the machine is another one. */
int32_t vh_snap_check_machine(const struct vmmhpc *vm, const struct vh_snap_reader *reader,
                              struct vmmhpc_error *err);
/** What the snapshot says of itself. */
int32_t vh_snap_info(const struct vh_snap_reader *reader, struct vmmhpc_snapshot_info *info,
                     struct vmmhpc_error *err);
/** The generation ID of the new machine, and the kind of its kernel. */
int32_t vh_snap_load_machine(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                             struct vmmhpc_error *err);

/* ---- vcpu.c, cpuid.c, msrs.c */

int32_t vh_snap_save_vcpu(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err);
int32_t vh_snap_load_vcpu(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err);
int32_t vh_snap_save_cpuid(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                           struct vmmhpc_error *err);
/** E_UNSUPPORTED where the guest was told of a feature that this host's CPU lacks; else it is told
 *  the same again. */
int32_t vh_snap_load_cpuid(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                           struct vmmhpc_error *err);
int32_t vh_snap_save_msrs(const struct vh_vcpu *vcpu, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err);
int32_t vh_snap_load_msrs(const struct vh_vcpu *vcpu, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err);

/* ---- chip.c: interrupt controllers, kvmclock, TSC */

int32_t vh_snap_save_chips(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                           struct vmmhpc_error *err);
int32_t vh_snap_load_chips(const struct vmmhpc *vm, const struct vh_snap_reader *reader,
                           struct vmmhpc_error *err);
/** The guest's clocks as they were when it was paused. */
int32_t vh_snap_save_time(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                          struct vmmhpc_error *err);
/** They stand still until the machine is started. Before MSRs are loaded. */
int32_t vh_snap_load_time(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err);

/* ---- uart.c */

void vh_snap_save_uart(struct vmmhpc *vm, struct vh_snap_writer *writer);
int32_t vh_snap_load_uart(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                          struct vmmhpc_error *err);

/* ---- pci.c, virtio.c */

/** Wait until no device has a request under way. */
int32_t vh_snap_drain(struct vmmhpc *vm, struct vmmhpc_error *err);
int32_t vh_snap_save_devices(struct vmmhpc *vm, struct vh_snap_writer *writer,
                             struct vmmhpc_error *err);
/** Last: interrupts arrive from here on. */
int32_t vh_snap_load_devices(struct vmmhpc *vm, const struct vh_snap_reader *reader, uint32_t flags,
                             struct vmmhpc_error *err);
struct vh_virtio_pci;
/** The virtio device behind a function, or NULL. */
struct vh_virtio_pci *vh_snap_virtio_of(struct vh_pci_device *pci);
int32_t vh_snap_drain_virtio(struct vh_virtio_pci *device, struct vmmhpc_error *err);
int32_t vh_snap_save_virtio(struct vh_virtio_pci *device, struct vh_snap_writer *writer,
                            struct vmmhpc_error *err);
/** Registers, queues, and the device itself; it is started where it was. */
int32_t vh_snap_load_virtio(struct vh_virtio_pci *device, const struct vh_snap_reader *reader,
                            uint32_t flags, struct vmmhpc_error *err);
/** Look at all queues again, and have the driver look, too: what was signalled when the machine
 *  was paused may have been on its way. */
void vh_snap_wake_virtio(struct vh_virtio_pci *device);

#endif
