/* SPDX-License-Identifier: Apache-2.0 */
/* Multiboot 1: address fields, ELF of both classes, the info block. */
#include "rig.h"

#define INFO VH_START_INFO_GPA

TEST(boot_multiboot_addresses)
{
    struct rig *rig = rig_new(64);
    uint8_t initrd[5000] = {7};
    uint64_t module;
    uint64_t map;

    image_multiboot_flat(&rig->image);
    rig->source.initrd = (struct vh_blob){initrd, sizeof(initrd)};
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_MULTIBOOT);
    CHECK_EQ(rig->entry.mode, VH_MODE_PROT32);
    CHECK_EQ(rig->entry.rip, 0x100040);
    CHECK_EQ(rig->entry.rax, 0x2badb002);
    CHECK_EQ(rig->entry.rbx, INFO);
    CHECK_EQ(rig_read(rig, 0x100010, 4), 0x1badb002);
    CHECK_EQ(rig_read(rig, 0x1003ff, 1), 0xf4);
    CHECK_EQ(rig_read(rig, 0x100400, 1), 0); /* beyond load_end_addr */
    CHECK_EQ(rig_read(rig, INFO, 4), 0x24d);
    CHECK_EQ(rig_read(rig, INFO + 4, 4), 639);
    CHECK_EQ(rig_read(rig, INFO + 8, 4), 63 * 1024);
    CHECK_CONTAINS(rig_text(rig, rig_read(rig, INFO + 16, 4)), "test");
    CHECK_EQ(rig_read(rig, INFO + 20, 4), 1);
    module = rig_read(rig, INFO + 24, 4);
    CHECK_EQ(rig_read(rig, module, 4), 64 * VH_MIB - 8192);
    CHECK_EQ(rig_read(rig, module + 4, 4), 64 * VH_MIB - 8192 + 5000);
    CHECK_EQ(rig_read(rig, rig_read(rig, module + 8, 4), 1), 0);
    CHECK_EQ(rig_read(rig, INFO + 44, 4), 3 * 24);
    map = rig_read(rig, INFO + 48, 4);
    CHECK_EQ(rig_read(rig, map, 4), 20);
    CHECK_EQ(rig_read(rig, map + 12, 8), VH_LOW_RAM_END);
    CHECK_EQ(rig_read(rig, map + 48 + 4, 8), VH_MIB);
    CHECK_EQ(rig_read(rig, map + 48 + 20, 4), 1);
    CHECK_CONTAINS(rig_text(rig, rig_read(rig, INFO + 64, 4)), "V3M");
    rig_free(rig);
}

TEST(boot_multiboot_whole_file)
{
    struct rig *rig = rig_new(64);
    const uint32_t addresses[5] = {0x100010, 0x100000, 0, 0, 0x1005ff};

    image_multiboot_flat(&rig->image);
    image_multiboot(&rig->image, 0x210, 0x10000, addresses);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, 0x1005ff, 2), 0xf4);
    rig_free(rig);
}

TEST(boot_multiboot_elf)
{
    struct rig *rig = rig_new(64);

    image_elf32(&rig->image);
    image_multiboot(&rig->image, IMAGE_TEXT_OFFSET, 3, NULL);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_MULTIBOOT);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    image_elf64(&rig->image);
    image_multiboot(&rig->image, IMAGE_TEXT_OFFSET, 4, NULL); /* a wish for a video mode */
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.mode, VH_MODE_PROT32);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    rig_free(rig);
}

TEST(boot_multiboot_search)
{
    struct rig *rig = rig_new(64);

    image_elf32(&rig->image);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err, VMMHPC_E_BAD_IMAGE,
                "no multiboot header");
    /* The last place: wholly within 8 KiB. */
    image_multiboot(&rig->image, 8192 - 12, 3, NULL);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err);
    image_elf32(&rig->image);
    image_multiboot(&rig->image, 8192 - 8, 3, NULL);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err, VMMHPC_E_BAD_IMAGE, "8 KiB");
    image_elf32(&rig->image);
    image_multiboot(&rig->image, 0x1002, 3, NULL); /* not 4-aligned */
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err, VMMHPC_E_BAD_IMAGE, "8 KiB");
    image_elf32(&rig->image);
    image_multiboot(&rig->image, 0x1000, 3, NULL);
    image_set(&rig->image, 0x1008, 1, 1); /* checksum */
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err, VMMHPC_E_BAD_IMAGE, "checksum");
    rig_free(rig);
}

static const struct {
    uint32_t flags;
    uint32_t addresses[5]; /* header, load, load end, bss end, entry; the header is at 0x210 */
    int32_t status;
    const char *text;
} damages[] = {
    {0x10008, {0x100010, 0x100000, 0, 0, 0x100040}, VMMHPC_E_BAD_IMAGE, "unknown features"},
    {0x10000, {0x100010, 0x100011, 0, 0, 0x100040}, VMMHPC_E_BAD_IMAGE, "does not fit header_addr"},
    {0x10000, {0x100211, 0x100000, 0, 0, 0x100040}, VMMHPC_E_BAD_IMAGE, "does not fit header_addr"},
    {0x10000, {0x100010, 0x100000, 0x100000, 0, 0x100040}, VMMHPC_E_BAD_IMAGE, "load_end_addr"},
    {0x10000,
     {0x100010, 0x100000, 0x100601, 0, 0x100040},
     VMMHPC_E_TRUNCATED,
     "asks for 1537 bytes"},
    {0x10000,
     {0x100010, 0x100000, 0x100400, 0x1003ff, 0x100040},
     VMMHPC_E_BAD_IMAGE,
     "bss_end_addr"},
    {0x10000, {0x100010, 0x100000, 0, 0, 0xfffff}, VMMHPC_E_BAD_IMAGE, "entry point 0xfffff"},
    {0x10000, {0x100010, 0x100000, 0, 0, 0x100600}, VMMHPC_E_BAD_IMAGE, "outside the image"},
    {0x10000,
     {0x100010, 0x100000, 0, 0xffffffff, 0x100040},
     VMMHPC_E_NO_ROOM,
     "the multiboot image"},
    {0x10000, {0x80000010, 0x80000000, 0, 0, 0x80000040}, VMMHPC_E_NO_ROOM, "the multiboot image"},
    {0x10000, {0x6010, 0x6000, 0, 0, 0x6040}, VMMHPC_E_OVERLAP, "the start info"},
    {0x10000, {0xffe10, 0xffe00, 0, 0, 0xffe40}, VMMHPC_E_OVERLAP, "the reserved area"},
    {0, {0}, VMMHPC_E_BAD_IMAGE, "neither address fields nor an ELF file"},
};

TEST(boot_multiboot_damaged)
{
    for (size_t i = 0; i < VH_COUNT(damages); i++) {
        struct rig *rig = rig_new(64);

        image_multiboot_flat(&rig->image);
        image_multiboot(&rig->image, 0x210, damages[i].flags, damages[i].addresses);
        if (!CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, damages[i].status,
                         damages[i].text)) {
            CHECK_EQ(i, UINT64_MAX); /* which one */
        }
        rig_free(rig);
    }
}

TEST(boot_multiboot_every_prefix)
{
    struct rig *rig = rig_new(16);
    const uint32_t addresses[5] = {0x100010, 0x100000, 0x100600, 0, 0x100040};

    image_multiboot_flat(&rig->image);
    image_multiboot(&rig->image, 0x210, 0x10000, addresses);
    for (uint64_t bytes = 0; bytes < 0x800; bytes++) {
        rig->image.bytes = bytes;
        CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_MULTIBOOT), &rig->err,
                    bytes < 0x21c ? VMMHPC_E_BAD_IMAGE : VMMHPC_E_TRUNCATED,
                    bytes < 0x21c   ? "8 KiB"
                    : bytes < 0x230 ? "inside its multiboot header"
                                    : "asks for 1536 bytes");
    }
    rig_free(rig);
}
