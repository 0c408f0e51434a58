/* SPDX-License-Identifier: Apache-2.0 */
/* Telling the kinds of images apart, and giving a hint where a file is none of them. */
#include "recognise.h"

#include <string.h>

#include "elf.h"

/* Where the linker puts x86-64 Linux: __START_KERNEL_map. */
#define LINUX_MAP 0xffffffff80000000ull

static int32_t not_a_kernel(const struct vh_blob *file, struct vmmhpc_error *err)
{
    static const struct {
        uint64_t at;
        const char *magic;
        uint64_t bytes;
        const char *hint;
    } known[] = {
        {0, "\x1f\x8b", 2, "gzip-compressed data: decompress it first"},
        {0,
         "\xfd"
         "7zXZ",
         5, "xz-compressed data: decompress it first"},
        {0, "\x28\xb5\x2f\xfd", 4, "zstd-compressed data: decompress it first"},
        {0, "\x02\x21\x4c\x18", 4, "lz4-compressed data: decompress it first"},
        {0, "\x04\x22\x4d\x18", 4, "lz4-compressed data: decompress it first"},
        {0, "BZh", 3, "bzip2-compressed data: decompress it first"},
        {0, "070701", 6, "a cpio archive: give it as the initrd"},
        {0, "!<arch>\n", 8, "an archive (a .deb or .a file): take the kernel out of it"},
        {0, "#!", 2, "a script"},
        {0, "QFI\xfb", 4, "a qcow2 disk image"},
        {0x38, "ARM\x64", 4, "an arm64 Linux kernel: not for x86"},
        {0, "MZ", 2, "an EFI or DOS program that is not a Linux bzImage"},
        {0x1fe, "\x55\xaa", 2, "a boot sector or a disk image"},
    };

    for (size_t i = 0; i < VH_COUNT(known); i++) {
        if (file->bytes >= known[i].at + known[i].bytes &&
            memcmp(file->data + known[i].at, known[i].magic, known[i].bytes) == 0) {
            return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "not a kernel: this is %s",
                           known[i].hint);
        }
    }
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                   "not a kernel that can be recognised (a Linux bzImage or vmlinux, an ELF file "
                   "with a PVH note, multiboot 1): raw code must be loaded as a flat image");
}

/* A vmlinux without any note (old or cut down): linked where Linux is, and holding its banner. */
static bool looks_like_linux(const struct vh_elf *elf)
{
    static const char banner[] = "Linux version ";
    const struct vh_segment *first = &elf->segments[0];

    return elf->is_64 && first->vaddr >= LINUX_MAP && first->vaddr - LINUX_MAP == first->paddr &&
           vh_elf_contains(elf, elf->entry) &&
           memmem(elf->file.data, elf->file.bytes, banner, sizeof(banner) - 1) != NULL;
}

static int32_t recognise_elf(const struct vh_blob *file, uint32_t *kind, struct vmmhpc_error *err)
{
    struct vh_elf elf;
    int32_t status = vh_elf_parse(file, &elf, err);
    bool has_multiboot;

    if (status != VMMHPC_OK) {
        return status;
    }
    has_multiboot = vh_find_multiboot(file) >= 0;
    /* Linux first: entered by PVH it scans 256 CPUID leaves for Xen, each an exit. */
    if ((elf.has_linux && elf.is_64) ||
        (!elf.has_pvh && !has_multiboot && looks_like_linux(&elf))) {
        *kind = VMMHPC_IMAGE_ELF_LINUX;
    } else if (elf.has_pvh) {
        *kind = VMMHPC_IMAGE_ELF_PVH;
    } else if (has_multiboot) {
        *kind = VMMHPC_IMAGE_MULTIBOOT;
    } else if (elf.has_interpreter) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "not a kernel: this ELF file is a program for a running system");
    } else {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "this ELF file has no Linux note, no PVH entry note and no multiboot "
                       "header: nothing says how to enter it");
    }
    return VMMHPC_OK;
}

int32_t vh_recognise(const struct vh_blob *file, uint32_t *kind, struct vmmhpc_error *err)
{
    if (file->bytes == 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "the kernel file is empty");
    }
    if (vh_is_bzimage(file)) {
        *kind = VMMHPC_IMAGE_BZIMAGE;
        return VMMHPC_OK;
    }
    if (vh_is_elf(file)) {
        return recognise_elf(file, kind, err);
    }
    if (vh_find_multiboot(file) >= 0) {
        *kind = VMMHPC_IMAGE_MULTIBOOT;
        return VMMHPC_OK;
    }
    return not_a_kernel(file, err);
}
