/* SPDX-License-Identifier: Apache-2.0 */
/* PVH: the note in all its forms, and the start info. */
#include "rig.h"

#define INFO VH_START_INFO_GPA

TEST(boot_pvh_loads)
{
    struct rig *rig = rig_new(64);
    uint8_t initrd[100] = {1};
    uint64_t module;
    uint64_t map;

    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_TEXT + 0x80, 4);
    rig->source.initrd = (struct vh_blob){initrd, sizeof(initrd)};
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_PVH);
    CHECK_EQ(rig->entry.mode, VH_MODE_PROT32);
    CHECK_EQ(rig->entry.rip, IMAGE_TEXT + 0x80);
    CHECK_EQ(rig->entry.rbx, INFO);
    CHECK_EQ(rig_read(rig, IMAGE_TEXT, 1), 0xf4);
    CHECK_EQ(rig_read(rig, INFO, 4), 0x336ec578);
    CHECK_EQ(rig_read(rig, INFO + 4, 4), 1);
    CHECK_EQ(rig_read(rig, INFO + 12, 4), 1);
    module = rig_read(rig, INFO + 16, 8);
    CHECK_EQ(rig_read(rig, module, 8), 64 * VH_MIB - 4096);
    CHECK_EQ(rig_read(rig, module + 8, 8), sizeof(initrd));
    CHECK_CONTAINS(rig_text(rig, rig_read(rig, INFO + 24, 8)), "test");
    CHECK_EQ(rig_read(rig, INFO + 32, 8), VH_ACPI_GPA);
    map = rig_read(rig, INFO + 40, 8);
    CHECK_EQ(rig_read(rig, INFO + 48, 4), 3);
    CHECK_EQ(rig_read(rig, map + 8, 8), VH_LOW_RAM_END);
    CHECK_EQ(rig_read(rig, map + 24 + 16, 4), 2);
    CHECK_EQ(rig_read(rig, map + 48, 8), VH_MIB);
    CHECK_EQ(rig_read(rig, map + 56, 8), 63 * VH_MIB);
    rig_free(rig);
}

TEST(boot_pvh_no_initrd)
{
    struct rig *rig = rig_new(64);

    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 8);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_ELF_PVH), &rig->err);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    CHECK_EQ(rig_read(rig, INFO + 12, 4), 0);
    CHECK_EQ(rig_read(rig, INFO + 16, 8), 0);
    rig_free(rig);
}

TEST(boot_pvh_elf32)
{
    struct rig *rig = rig_new(64);

    image_elf32(&rig->image);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 4);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_PVH);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    rig_free(rig);
}

/* Notes padded to 8 bytes, among others, with the entry as the second. */
TEST(boot_pvh_note_alignment_8)
{
    struct rig *rig = rig_new(64);
    uint64_t entry = IMAGE_ENTRY;

    image_elf64(&rig->image);
    image_note(&rig->image, "GNU", 3, "123456789", 9, 8); /* the next at 32, not at 28 */
    image_note(&rig->image, "Xen", 18, &entry, 4, 8);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    rig_free(rig);
}

TEST(boot_pvh_last_note_without_padding)
{
    struct rig *rig = rig_new(64);

    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 4);
    image_note(&rig->image, "Foo", 1, "x", 1, 4);
    image_segment(&rig->image, 2)->p_filesz -= 3;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    rig_free(rig);
}

TEST(boot_pvh_bad_entry)
{
    struct rig *rig = rig_new(64);

    image_elf64(&rig->image);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_ELF_PVH), &rig->err, VMMHPC_E_BAD_IMAGE,
                "no PVH entry note");
    image_pvh_note(&rig->image, 0x123, 4);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                "the PVH entry point 0x123 lies in no segment");
    /* It is a physical address; a virtual one will not do. */
    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_KERNEL_MAP + IMAGE_TEXT, 8);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE, "no segment");
    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 3);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                "the PVH entry note has 3 bytes");
    rig_free(rig);
}

TEST(boot_pvh_collisions)
{
    struct rig *rig = rig_new(64);

    image_elf64(&rig->image);
    image_pvh_note(&rig->image, IMAGE_ENTRY, 4);
    image_segment(&rig->image, 1)->p_paddr = INFO;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_OVERLAP, "the start info");
    /* A kernel below 1 MiB is fine where it is clear of ours. */
    image_segment(&rig->image, 1)->p_paddr = 0x40000;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, 0x40000, 1), 0xda);
    image_segment(&rig->image, 1)->p_paddr = 64 * VH_MIB - 0x2fff;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "segment 1");
    rig_free(rig);
}
