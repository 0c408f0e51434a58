/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed memory, docs/reference/snapshot-format.md: of every 256 KiB those pages that hold
 * something, as a Zstandard frame (RFC 8878) of their own, and behind the frames an index. For the
 * side that knows paths; a monitor in its jail has neither the code nor the library.
 */
#ifndef VH_SNAPSHOT_PACKED_H
#define VH_SNAPSHOT_PACKED_H

#include "snapshot.h"

#define VH_PACKED_PAGES 64u /* of a chunk: as many as a word has bits */
#define VH_PACKED_CHUNK (VH_PACKED_PAGES * VH_PAGE)
#define VH_PACKED_INDEX_MAX (256ull << 20) /* bytes: for 2.6 TiB that are not zeroes */

/* A Zstandard frame that decompressors pass over: the index is in it, and ends the file. */
struct vh_packed_tail {
    uint32_t magic;
    uint32_t bytes; /* of the index */
};
#define VH_PACKED_TAIL_MAGIC 0x184d2a56u

/* Of a chunk that has pages. Frames lie one behind the other in the order of the index. */
struct vh_packed_entry {
    uint64_t chunk; /* its number: where its pages are, in units of VH_PACKED_CHUNK */
    uint64_t pages; /* a bit for each page that is in the frame; others are zeroes */
    uint32_t bytes; /* of the frame */
    uint32_t crc;   /* CRC-32C of the frame */
};

_Static_assert(sizeof(struct vh_packed_tail) == 8 && sizeof(struct vh_packed_entry) == 24,
               "format");

/* ---- pack.c */

/** Compress a file of memory, `total` bytes long, into an empty one.
 *  @param take whether what was read is taken out of the first one, to save room */
int32_t vh_pack(int from, uint64_t total, int to, bool take, struct vh_snap_packed *made,
                struct vmmhpc_error *err);

/** A snapshot's own two files. */
struct vh_snap_pair {
    int state_fd;
    int memory_fd;
};

/** Compress a snapshot's own memory into an empty file, and write the state that says so, perhaps
 *  over the old one. */
int32_t vh_snap_compress(const struct vh_snap_pair *from, const struct vh_snap_pair *to, bool take,
                         struct vmmhpc_error *err);

/* ---- unpack.c */

struct vh_unpacker;

/** Check the index; the descriptor stays the caller's, and open until vh_unpack_close(). */
int32_t vh_unpack_open(struct vh_unpacker **unpacker, int fd, const struct vh_snap_packed *about,
                       uint64_t total, struct vmmhpc_error *err);
void vh_unpack_close(struct vh_unpacker *unpacker);
/** The file as if it were not compressed, by ascending offset and whole pages. */
struct vh_snap_source vh_unpack_source(struct vh_unpacker *unpacker);

/* ---- whole.c */

/** The memory of a snapshot, whatever of it is compressed. */
struct vh_snap_whole {
    struct vh_snap_reader reader;
    struct vh_snap_memory memory;
    struct vh_unpacker *unpackers[VH_SNAPSHOT_LAYERS];
};

/** To be closed, also after a failure. The files stay the caller's; *whole must not be moved. */
int32_t vh_snap_whole_open(struct vh_snap_whole *whole, const struct vh_snapshot_files *files,
                           struct vmmhpc_error *err);
void vh_snap_whole_close(struct vh_snap_whole *whole);
/** Read all of the memory and compare it with the checksums. */
int32_t vh_snap_verify(const struct vh_snapshot_files *files, struct vmmhpc_error *err);

/** Files as vh_snap_load() and vh_snap_write() take them. */
struct vh_snap_plain {
    struct vh_snapshot_files files; /* those that were given, or a file in memory in their place */
    int fd;                         /* that file, or -1: nothing is compressed */
};

/** @param vm the machine they are for: more than its memory is not unpacked */
int32_t vh_snap_plain(struct vh_snap_plain *plain, const struct vmmhpc *vm,
                      const struct vh_snapshot_files *files, struct vmmhpc_error *err);
void vh_snap_plain_close(struct vh_snap_plain *plain);
/** vh_snap_load(), whatever is compressed. */
int32_t vh_snap_load_plain(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                           const char *name, struct vmmhpc_error *err);

#endif
