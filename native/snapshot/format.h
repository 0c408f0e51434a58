/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `state` file: a header, then sections, docs/reference/snapshot-format.md. All numbers are
 * little-endian, as the only host that this library runs on. Structures of KVM are stored as
 * <linux/kvm.h> has them: they are the kernel's binary interface.
 */
#ifndef VH_SNAPSHOT_FORMAT_H
#define VH_SNAPSHOT_FORMAT_H

#include "internal.h"
#include "vmmhpc_snapshot.h"

#define VH_SNAP_MAGIC 0x50414e5348564d56ull /* "VMVHSNAP" */
#define VH_SNAP_SECTIONS 65536u             /* at most */

struct vh_snap_header {
    uint64_t magic;
    uint16_t major;
    uint16_t minor;
    uint32_t header_bytes;
    uint64_t file_bytes;
    uint32_t sections;
    uint32_t crc; /* CRC-32C of the whole file, with this as 0 */
    uint64_t created_ns;
    uint8_t id[16];
    uint32_t library_version;
    uint32_t reserved;
};

/* A section's payload follows, padded with zeroes to a multiple of 8. */
struct vh_snap_section {
    uint32_t type;  /* enum vh_snap_type */
    uint32_t index; /* of the vCPU, slot or chip */
    uint64_t bytes; /* of the payload */
};

_Static_assert(sizeof(struct vh_snap_header) == 64 && sizeof(struct vh_snap_section) == 16,
               "format");

/* A number never gets another meaning within a major version. */
enum vh_snap_type {
    VH_SNAP_MACHINE = 1,
    VH_SNAP_RANGES = 2,
    VH_SNAP_MEMORY = 3,
    VH_SNAP_CLOCK = 4,
    VH_SNAP_IRQCHIP = 5,
    VH_SNAP_UART = 6,
    VH_SNAP_PCI = 7,
    VH_SNAP_VIRTIO = 8,
    VH_SNAP_CPUID = 16,
    VH_SNAP_REGS = 17,
    VH_SNAP_SREGS = 18,
    VH_SNAP_XSAVE = 19,
    VH_SNAP_FPU = 20,
    VH_SNAP_XCRS = 21,
    VH_SNAP_LAPIC = 22,
    VH_SNAP_EVENTS = 23,
    VH_SNAP_MP_STATE = 24,
    VH_SNAP_DEBUGREGS = 25,
    VH_SNAP_MSRS = 26,
    VH_SNAP_TSC = 27,
    VH_SNAP_LAYERS = 28,
    VH_SNAP_RUNS = 29,
    VH_SNAP_PACKED = 30,
    VH_SNAP_LAST = VH_SNAP_PACKED,
    /* From here on: a reader that does not know them passes over them. */
    VH_SNAP_OPTIONAL = 0x80000000,
    VH_SNAP_NOTE = 0x80000001,
};

/* ---- crc.c */

/** CRC-32C (Castagnoli) of what `crc` is of, and these bytes behind it; begin with 0. */
uint32_t vh_crc32c(uint32_t crc, const void *data, size_t bytes);

/* ---- write.c */

struct vh_snap_writer {
    uint8_t *data; /* NULL until something was put; the caller frees it */
    size_t bytes;
    size_t capacity;
    size_t section; /* where the open one is */
    uint32_t sections;
    bool failed; /* no memory, or too much */
};

/** Room for the header is made by the first section. */
void vh_snap_begin(struct vh_snap_writer *writer, uint32_t type, uint32_t index);
void vh_snap_put(struct vh_snap_writer *writer, const void *data, size_t bytes);
void vh_snap_end(struct vh_snap_writer *writer);
/** A section of one piece. */
void vh_snap_section(struct vh_snap_writer *writer, uint32_t type, uint32_t index, const void *data,
                     size_t bytes);
/** Fill in the header, of which created_ns, id and library_version are the caller's, and write all
 *  of it to fd. */
int32_t vh_snap_finish(struct vh_snap_writer *writer, const struct vh_snap_header *header, int fd,
                       struct vmmhpc_error *err);
/** Write all of the data to fd, at `offset`. 0 or an errno. */
int vh_snap_write_at(int fd, const void *data, size_t bytes, uint64_t offset);

/* ---- read.c */

/** A checked file in memory: every section lies inside it. */
struct vh_snap_reader {
    uint8_t *data;
    size_t bytes;
    struct vh_snap_header header;
};

/** Check and take over `data`, of malloc(), which vh_snap_close() frees, also after a failure. */
int32_t vh_snap_open(struct vh_snap_reader *reader, uint8_t *data, size_t bytes,
                     struct vmmhpc_error *err);
/** Read a file and open it. */
int32_t vh_snap_open_file(struct vh_snap_reader *reader, int fd, struct vmmhpc_error *err);
void vh_snap_close(struct vh_snap_reader *reader);
/** A section's payload, aligned to 8, and its length; NULL where there is none. */
const void *vh_snap_find(const struct vh_snap_reader *reader, uint32_t type, uint32_t index,
                         size_t *bytes);
/** Copy one that has exactly this length; E_BAD_IMAGE where there is none. */
int32_t vh_snap_get(const struct vh_snap_reader *reader, uint32_t type, uint32_t index, void *data,
                    size_t bytes, struct vmmhpc_error *err);
/** "the snapshot is damaged: `what`" */
int32_t vh_snap_damaged(struct vmmhpc_error *err, uint32_t type, uint32_t index, const char *what);

#endif
