/* SPDX-License-Identifier: Apache-2.0 */
/* Flat images of 16 and 64 bits, and recognition of what is no kernel at all. */
#include "rig.h"

TEST(boot_flat16)
{
    struct rig *rig = rig_new(1);

    memcpy(rig->image.data, "\xf4\x90", 2);
    rig->image.bytes = 2;
    rig->source.load_address = 0x7c00;
    rig->source.cmdline = "";
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_FLAT16);
    CHECK_EQ(rig->entry.mode, VH_MODE_REAL16);
    CHECK_EQ(rig->entry.rip, 0x7c00);
    CHECK_EQ(rig->entry.rsi, 0);
    CHECK_EQ(rig_read(rig, 0x7c00, 2), 0x90f4);
    CHECK_EQ(rig_read(rig, VH_GDT_GPA + 0x10, 8), 0); /* no tables */
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA, 8), 0);
    rig_free(rig);
}

TEST(boot_flat64)
{
    struct rig *rig = rig_new(2);

    memset(rig->image.data, 0xf4, 100);
    rig->image.bytes = 100;
    rig->source.load_address = 0x100000;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err);
    CHECK_EQ(rig->entry.mode, VH_MODE_LONG64);
    CHECK_EQ(rig->entry.rip, 0x100000);
    CHECK_EQ(rig->entry.rsp, VH_STACK_GPA);
    CHECK_EQ(rig->entry.rsi, VH_CMDLINE_GPA);
    CHECK_CONTAINS(rig_text(rig, VH_CMDLINE_GPA), "test");
    CHECK_EQ(rig_read(rig, VH_GDT_GPA + 0x10, 8), 0x00af9b000000ffff);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA + 0x2000, 8), 0x83);
    rig_free(rig);
}

TEST(boot_flat_refused)
{
    struct rig *rig = rig_new(1);
    uint8_t initrd = 1;

    rig->source.load_address = 0x100000 - 100;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err, VMMHPC_E_BAD_IMAGE, "is empty");
    rig->image.bytes = 101;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err, VMMHPC_E_NO_ROOM,
                "101 bytes at 0xfff9c does not end below 1 MiB");
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err, VMMHPC_E_NO_ROOM, "the flat image");
    rig->image.bytes = 100;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err, VMMHPC_E_OVERLAP, "the ACPI tables");
    rig->source.rsdp = 0; /* a bare machine: all of the first MiB may be used */
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err);
    rig->source.load_address = VH_PAGE_TABLES_GPA - 99;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err, VMMHPC_E_OVERLAP, "the initial");
    rig->source.load_address = UINT64_MAX;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err, VMMHPC_E_BAD_IMAGE, "wraps");
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT16), &rig->err, VMMHPC_E_NO_ROOM, "1 MiB");
    rig->source.initrd = (struct vh_blob){&initrd, 1};
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_FLAT64), &rig->err, VMMHPC_E_INVALID, "no initrd");
    rig_free(rig);
}

static const struct {
    uint32_t at;
    const char *magic;
    const char *text;
} strangers[] = {
    {0, "\x1f\x8b\x08", "gzip-compressed data"},
    {0,
     "\xfd"
     "7zXZ",
     "xz-compressed data"},
    {0, "\x28\xb5\x2f\xfd", "zstd-compressed data"},
    {0, "\x02\x21\x4c\x18", "lz4-compressed data"},
    {0, "BZh9", "bzip2-compressed data"},
    {0, "070701", "give it as the initrd"},
    {0, "!<arch>\n", "a .deb"},
    {0, "#!/bin/sh", "a script"},
    {0, "QFI\xfb", "a qcow2 disk image"},
    {0x38, "ARM\x64", "an arm64 Linux kernel"},
    {0, "MZ", "an EFI or DOS program"},
    {0x1fe, "\x55\xaa", "a boot sector"},
    {0, "hello", "must be loaded as a flat image"},
};

TEST(boot_recognises_strangers)
{
    struct rig *rig = rig_new(1);

    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE, "is empty");
    for (size_t i = 0; i < VH_COUNT(strangers); i++) {
        memset(&rig->image, 0, sizeof(rig->image));
        rig->image.bytes = 0x400;
        memcpy(rig->image.data + strangers[i].at, strangers[i].magic, strlen(strangers[i].magic));
        CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                    strangers[i].text);
    }
    CHECK_ERROR(rig_load(rig, 77), &rig->err, VMMHPC_E_INVALID, "unknown image kind 77");
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_BZIMAGE), &rig->err, VMMHPC_E_BAD_IMAGE,
                "not a bzImage");
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_ELF_LINUX), &rig->err, VMMHPC_E_BAD_IMAGE,
                "not an ELF file");
    rig_free(rig);
}

/* Which way in, where a file offers several. */
TEST(boot_recognises_elf)
{
    struct rig *rig = rig_new(64);
    const char banner[] = "Linux version 3.2";

    image_elf64(&rig->image);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                "nothing says how to enter it");
    image_segment(&rig->image, 2)->p_type = PT_INTERP;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                "a program for a running system");
    /* An old vmlinux without notes. */
    image_elf64(&rig->image);
    memcpy(rig->image.data + 0x1100, banner, sizeof(banner));
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_LINUX);
    /* Multiboot before that guess, PVH before multiboot, Linux notes before all. */
    image_multiboot(&rig->image, 0x1000, 3, NULL);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_MULTIBOOT);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 4);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_PVH);
    image_note(&rig->image, "Xen", 6, "linux", 6, 4);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_LINUX);
    rig_free(rig);
}
