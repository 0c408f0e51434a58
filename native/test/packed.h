/* SPDX-License-Identifier: Apache-2.0 */
/* bzImages with a payload packed in each format, for tests and as seeds for the fuzzers. */
#ifndef PACKED_H
#define PACKED_H

#include "images.h"

/** The vmlinux inside: an ELF image with a Linux note, followed by `extra` bytes that compress. */
uint64_t packed_kernel(uint8_t *kernel, uint64_t capacity, uint64_t extra);

/** Put a payload of these bytes and this announced size into a bzImage. */
void packed_store(struct image *image, const uint8_t *payload, uint32_t bytes, uint32_t announced,
                  bool append_size);

/** A bzImage of packed_kernel(extra), packed as enum vmmhpc_payload says; false if unsupported. */
bool packed_image(struct image *image, uint32_t format, uint64_t extra);

#endif
