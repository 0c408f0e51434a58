/* SPDX-License-Identifier: Apache-2.0 */
/* Minimal valid images of each kind, for tests and as seeds for the fuzzers. */
#ifndef IMAGES_H
#define IMAGES_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>

#define IMAGE_MAX 0x20000u

struct image {
    uint64_t bytes;
    uint8_t data[IMAGE_MAX];
};

/** Store the low `bytes` bytes of a value, little-endian. */
void image_set(struct image *image, uint64_t offset, uint64_t value, uint32_t bytes);

/* A bzImage with 4 setup sectors and IMAGE_CODE_BYTES of code filled with 0x90. */
#define IMAGE_CODE_OFFSET 0xa00u
#define IMAGE_CODE_BYTES 0x2000u
#define IMAGE_INIT_SIZE 0x100000u
void image_bzimage(struct image *image);

/* An ELF file with segments 0 and 1 to load and segment 2 for notes, which is empty at first. */
#define IMAGE_TEXT 0x1000000ull /* segment 0: 0x200 bytes at file offset 0x1000 */
#define IMAGE_TEXT_OFFSET 0x1000u
#define IMAGE_DATA 0x1200000ull /* segment 1: 0x100 of 0x3000 bytes at file offset 0x2000 */
#define IMAGE_ENTRY (IMAGE_TEXT + 0x40)
#define IMAGE_NOTES_OFFSET 0x800u
#define IMAGE_KERNEL_MAP 0xffffffff80000000ull
void image_elf64(struct image *image);
void image_elf32(struct image *image);
Elf64_Ehdr *image_header(struct image *image);
Elf64_Phdr *image_segment(struct image *image, uint32_t index); /* ELF64 only */

/** Append a note to segment 2 of either class. */
void image_note(struct image *image, const char *name, uint32_t type, const void *descriptor,
                uint32_t bytes, uint32_t alignment);
void image_pvh_note(struct image *image, uint64_t entry, uint32_t bytes);
void image_linux_note(struct image *image);

/** Write a multiboot 1 header; addresses: header, load, load end, bss end, entry; or NULL. */
void image_multiboot(struct image *image, uint64_t at, uint32_t flags, const uint32_t addresses[5]);
/** A multiboot image without ELF, at 1 MiB by its address fields. */
void image_multiboot_flat(struct image *image);

#endif
