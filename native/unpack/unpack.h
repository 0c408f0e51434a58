/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the unpacker: a bounded sink, and one function for each format. */
#ifndef VU_UNPACK_H
#define VU_UNPACK_H

#include "internal.h"
#include "vmmhpc_unpack.h"

/** Where unpacked bytes go. It takes exactly `expected` of them, and no more. */
struct vu_sink {
    int fd;
    uint64_t expected;
    uint64_t done;
};

struct vu_input {
    const uint8_t *data;
    uint64_t bytes; /* at most 4 GiB: a 32-bit field */
};

/** Append; E_BAD_IMAGE beyond `expected`, or where the first bytes are no ELF file. */
int32_t vu_sink_write(struct vu_sink *sink, const uint8_t *data, uint64_t bytes,
                      struct vmmhpc_error *err);

/* Decoders: all of the input up to the end of its stream. E_TRUNCATED where the input ends first,
 * E_BAD_IMAGE where it is damaged, E_LIMIT where it wants too much memory. */
int32_t vu_lz4(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err);
int32_t vu_gzip(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err);
int32_t vu_xz(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err);
int32_t vu_zstd(const struct vu_input *input, struct vu_sink *sink, struct vmmhpc_error *err);

/* A decoder's working buffer, and the memory that a stream's dictionary may take. */
#define VU_CHUNK ((size_t)256 * 1024)
#define VU_MEMORY_MAX (192 * VH_MIB)

/** The errors that every decoder has. */
int32_t vu_fail_damaged(const struct vu_sink *sink, const char *format, struct vmmhpc_error *err);
int32_t vu_fail_truncated(const struct vu_sink *sink, const char *format, struct vmmhpc_error *err);
int32_t vu_fail_memory(const char *format, struct vmmhpc_error *err);

#endif
