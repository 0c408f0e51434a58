/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc-unpack: the vmlinux inside a compressed bzImage, so that a guest need not spend its
 * boot decompressing. A library of its own because it needs liblz4, zlib, liblzma and libzstd.
 * Status codes, struct vmmhpc_error and all conventions are those of vmmhpc.h.
 */
#ifndef VMMHPC_UNPACK_H
#define VMMHPC_UNPACK_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

enum vmmhpc_payload {
    VMMHPC_PAYLOAD_UNKNOWN = 0,
    VMMHPC_PAYLOAD_ELF = 1, /* not compressed */
    VMMHPC_PAYLOAD_LZ4 = 2,
    VMMHPC_PAYLOAD_GZIP = 3,
    VMMHPC_PAYLOAD_XZ = 4,
    VMMHPC_PAYLOAD_ZSTD = 5,
    VMMHPC_PAYLOAD_LZMA = 6,  /* recognised, not unpacked */
    VMMHPC_PAYLOAD_BZIP2 = 7, /* recognised, not unpacked */
    VMMHPC_PAYLOAD_LZO = 8,   /* recognised, not unpacked */
};

/** What a bzImage holds. */
struct vmmhpc_payload_info {
    uint32_t size;         /* sizeof(struct vmmhpc_payload_info) */
    uint32_t format;       /* enum vmmhpc_payload */
    uint64_t offset;       /* of the payload in the file */
    uint64_t packed_bytes; /* without the size word behind it */
    uint64_t bytes;        /* once unpacked, as the file says */
};

/** Find the payload of a bzImage. E_BAD_IMAGE where it is not one, E_TRUNCATED. */
VMMHPC_API int32_t vmmhpc_unpack_probe(const void *image, uint64_t image_bytes,
                                       struct vmmhpc_payload_info *info, struct vmmhpc_error *err);

/**
 * Unpack the payload to out_fd, an empty regular file or memfd, from offset 0 (pages of zeros
 * become holes). E_LIMIT where it would exceed max_bytes, E_UNSUPPORTED for LZMA, bzip2 and LZO. On
 * failure the contents of out_fd are undefined. info may be NULL.
 */
VMMHPC_API int32_t vmmhpc_unpack(const void *image, uint64_t image_bytes, int32_t out_fd,
                                 uint64_t max_bytes, struct vmmhpc_payload_info *info,
                                 struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif /* VMMHPC_UNPACK_H */
