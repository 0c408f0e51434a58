/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc-snapshot: the whole state of a machine in two files, and machines made of them
 * (docs/reference/snapshot-format.md).
 *
 * A snapshot is a directory with `state` (small, checksummed) and `memory` (guest RAM, with holes
 * for pages of zeroes; one that is based on others has theirs as well). Neither is ever changed
 * once it is there: restored machines map `memory`, and read a page of it when the guest first
 * touches it. Where it is compressed, they read all of it.
 *
 * Disks, pmem files, and what the other ends of networks and consoles remember are not part of it.
 */
#ifndef VMMHPC_SNAPSHOT_H
#define VMMHPC_SNAPSHOT_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the format: readers refuse another major one. */
#define VMMHPC_SNAPSHOT_MAJOR 1u
#define VMMHPC_SNAPSHOT_MINOR 2u

#define VMMHPC_SNAPSHOT_STATE_MAX (64ull << 20) /* bytes of `state` */
#define VMMHPC_SNAPSHOT_NOTE_MAX (1ull << 20)   /* bytes of a note */

/** How the pages in a snapshot's own file of memory are compressed. */
enum vmmhpc_snapshot_codec {
    VMMHPC_SNAPSHOT_PLAIN = 0, /* not */
    VMMHPC_SNAPSHOT_ZSTD = 1,
};

/** Of vmmhpc_snapshot_save_since(): its own file of memory is compressed. */
#define VMMHPC_SNAPSHOT_COMPRESS 1u

/** The copy is a machine beside the first one: network devices keep the MAC addresses that the new
 *  machine was given, and where that is another one have no link until the guest's driver is bound
 *  again. Else they get those of the snapshot. */
#define VMMHPC_RESTORE_CLONE 1u

#define VMMHPC_CLONE_NAME_MAX 63u /* bytes of a clone's name, as of a Linux host's */

/** What a snapshot says of itself. */
struct vmmhpc_snapshot_info {
    uint32_t size; /* sizeof(struct vmmhpc_snapshot_info) */
    uint32_t major;
    uint32_t minor;
    uint32_t library_version; /* of the libvmmhpc that wrote it: vmmhpc_version() */
    uint32_t cpus;
    uint32_t image_kind;    /* enum vmmhpc_image_kind */
    uint64_t memory_bytes;  /* guest RAM */
    uint64_t data_bytes;    /* of it, pages that are not all zeroes */
    uint64_t created_ns;    /* CLOCK_REALTIME */
    uint64_t guest_time_ns; /* the guest's kvmclock, 0 where the host has none */
    uint64_t note_bytes;
    uint8_t id[16];        /* another one for each snapshot */
    uint64_t own_bytes;    /* of the data, what is not in the snapshots that it is based on */
    uint8_t base[16];      /* id of the snapshot that it is based on; else zeroes */
    uint32_t layers;       /* files of memory: 1 where there is no base */
    uint32_t codec;        /* enum vmmhpc_snapshot_codec */
    uint64_t stored_bytes; /* what own_bytes take in the file */
};

/**
 * Write a snapshot to a new directory, by way of a temporary one beside it: it is there whole or
 * not at all. A running machine is paused meanwhile and goes on afterwards, whether this succeeded
 * or not; a paused one stays paused. Not from a device handler.
 * @param path must not exist (E_IO with EEXIST)
 * @param note anything to be kept with it, at most VMMHPC_SNAPSHOT_NOTE_MAX bytes; or NULL, 0
 * @return E_STATE: it neither runs nor is paused; E_UNSUPPORTED: it has something that cannot be
 *         saved (a module, a device of the host's kernel, read-only pmem); E_IO: a disk is full, or
 *         whatever errno says
 */
VMMHPC_API int32_t vmmhpc_snapshot_save(struct vmmhpc *vm, const char *path, const void *note,
                                        uint64_t note_bytes, struct vmmhpc_error *err);

/**
 * As vmmhpc_snapshot_save(), and only those pages are written that differ from an older snapshot's,
 * whoever wrote to them; all are compared. Files of the older one are linked into the new one, so
 * each can be removed by itself, and both have to be in one file system. A compressed base is
 * decompressed for the comparison, into memory.
 *
 * A machine is paused for the writing only: it goes on before anything is compressed, and until
 * then its pages take their room in the file system.
 * @param base directory of the older one, of a machine with the same memory; or NULL
 * @param flags 0 or VMMHPC_SNAPSHOT_COMPRESS
 * @return as vmmhpc_snapshot_save(); E_INVALID: the base has other memory; E_LIMIT: it is based on
 *         too many others; E_BAD_IMAGE, E_TRUNCATED: it is damaged (its memory's checksum is not
 *         looked at)
 */
VMMHPC_API int32_t vmmhpc_snapshot_save_since(struct vmmhpc *vm, const char *path, const char *base,
                                              uint32_t flags, const void *note, uint64_t note_bytes,
                                              struct vmmhpc_error *err);

/**
 * Make a compressed copy of a snapshot, in the same file system. It has the same id; where there is
 * a base its files are linked, as they are.
 * @param from directory, which stays
 * @param to must not exist; it is there whole or not at all
 * @return E_INVALID: it is compressed already; E_BAD_IMAGE, E_TRUNCATED: it is damaged (checksums
 *         of memory are not looked at); E_IO
 */
VMMHPC_API int32_t vmmhpc_snapshot_compress(const char *from, const char *to,
                                            struct vmmhpc_error *err);

/** As vmmhpc_snapshot_save(), into two empty files that are open for writing, and memory_fd for
 *  positioned writes (so memfds do, too). They stay the caller's, who makes them durable. */
VMMHPC_API int32_t vmmhpc_snapshot_write(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd,
                                         const void *note, uint64_t note_bytes,
                                         struct vmmhpc_error *err);

/**
 * Give a new machine the state of a snapshot. It was created with the same vCPUs, RAM and flags,
 * has the same devices in the same order, and nothing is loaded yet. vmmhpc_load() then only keeps
 * what a later reset boots, and vmmhpc_start() lets the guest go on where it was.
 *
 * RAM is mapped from the file, private to the machine; where it is shared (memfd, huge pages) it is
 * read, and where any of it is compressed, all is read. The generation ID is the new machine's, and
 * the guest is told.
 * @param flags VMMHPC_RESTORE_*
 * @return E_BAD_IMAGE, E_TRUNCATED: damaged, or no snapshot; E_UNSUPPORTED: of a version, or for a
 *         CPU, that this is not; E_INVALID: the machine is another one; E_IO; E_STATE. After a
 *         failure the machine can only be destroyed.
 */
VMMHPC_API int32_t vmmhpc_snapshot_restore(struct vmmhpc *vm, const char *path, uint32_t flags,
                                           struct vmmhpc_error *err);

/** As vmmhpc_snapshot_restore(), from open files, which stay the caller's. */
VMMHPC_API int32_t vmmhpc_snapshot_load(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd,
                                        uint32_t flags, struct vmmhpc_error *err);

/**
 * The state of a machine at this moment in two files in memory, sealed against changes: clones are
 * made of them, and share the pages that none of them writes. The files go with their last user.
 * The machine goes on as after vmmhpc_snapshot_save(), with memory of its own.
 * @param state_fd, memory_fd get descriptors, which the caller closes
 */
VMMHPC_API int32_t vmmhpc_snapshot_take(struct vmmhpc *vm, int32_t *state_fd, int32_t *memory_fd,
                                        struct vmmhpc_error *err);

/**
 * As vmmhpc_snapshot_load() with VMMHPC_RESTORE_CLONE, and the guest finds the clone's name behind
 * its generation ID (docs/how-to/fork-a-vm.md).
 * @param name 1 to VMMHPC_CLONE_NAME_MAX printable characters of ASCII, no space
 */
VMMHPC_API int32_t vmmhpc_snapshot_clone(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd,
                                         const char *name, struct vmmhpc_error *err);

/**
 * Let KVM log the pages of RAM that vCPUs write, until the next reset; writing is slower meanwhile.
 * What devices write is not logged. For a machine that was made or restored; not in a monitor
 * (E_UNSUPPORTED).
 */
VMMHPC_API int32_t vmmhpc_dirty_log_start(struct vmmhpc *vm, struct vmmhpc_error *err);

/** How many pages vCPUs have written since the start of the log, or the last call of this. */
VMMHPC_API int32_t vmmhpc_dirty_log_count(struct vmmhpc *vm, uint64_t *pages,
                                          struct vmmhpc_error *err);

/**
 * What is in a directory, by its checked `state`. Needs no KVM.
 * @param note gets the first `capacity` bytes of the note; or NULL, 0
 */
VMMHPC_API int32_t vmmhpc_snapshot_read(const char *path, struct vmmhpc_snapshot_info *info,
                                        void *note, uint64_t capacity, struct vmmhpc_error *err);

/** Read all of a snapshot and compare it with its checksums. E_BAD_IMAGE: it was damaged. */
VMMHPC_API int32_t vmmhpc_snapshot_verify(const char *path, struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif
