/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of image a file is. */
#ifndef VH_BOOT_RECOGNISE_H
#define VH_BOOT_RECOGNISE_H

#include "boot.h"

bool vh_is_bzimage(const struct vh_blob *file);

/** Offset of a multiboot 1 header with a right checksum, or -1. */
int64_t vh_find_multiboot(const struct vh_blob *file);

/** VMMHPC_IMAGE_BZIMAGE, _ELF_LINUX, _ELF_PVH or _MULTIBOOT; else E_BAD_IMAGE with a hint. */
int32_t vh_recognise(const struct vh_blob *file, uint32_t *kind, struct vmmhpc_error *err);

#endif
