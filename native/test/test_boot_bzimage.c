/* SPDX-License-Identifier: Apache-2.0 */
/* bzImage: what is loaded where, and every way in which a header can lie. */
#include "rig.h"

#define PARAMS VH_BOOT_PARAMS_GPA

TEST(boot_bzimage_loads)
{
    struct rig *rig = rig_new(64);
    uint8_t initrd[5000];

    memset(initrd, 0x5a, sizeof(initrd));
    rig->source.initrd = (struct vh_blob){initrd, sizeof(initrd)};
    rig->source.cmdline = "console=ttyS0 quiet";
    image_bzimage(&rig->image);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_BZIMAGE);
    CHECK_EQ(rig->entry.mode, VH_MODE_LONG64);
    CHECK_EQ(rig->entry.rip, IMAGE_TEXT + 0x200);
    CHECK_EQ(rig->entry.rsi, PARAMS);
    CHECK_EQ(rig_read(rig, IMAGE_TEXT, 8), 0x9090909090909090);
    CHECK_EQ(rig_read(rig, IMAGE_TEXT + IMAGE_CODE_BYTES, 1), 0);
    /* The header is copied and filled in (offsets: boot.rst, zero-page.rst). */
    CHECK_EQ(rig_read(rig, PARAMS + 0x1ef, 1), 0); /* sentinel */
    CHECK_EQ(rig_read(rig, PARAMS + 0x1f1, 1), 4);
    CHECK_EQ(rig_read(rig, PARAMS + 0x202, 4), 0x53726448);
    CHECK_EQ(rig_read(rig, PARAMS + 0x210, 1), 0xff);
    CHECK_EQ(rig_read(rig, PARAMS + 0x214, 4), IMAGE_TEXT);
    CHECK_EQ(rig_read(rig, PARAMS + 0x260, 4), IMAGE_INIT_SIZE);
    CHECK_EQ(rig_read(rig, PARAMS + 0x228, 4), VH_CMDLINE_GPA);
    CHECK_CONTAINS(rig_text(rig, VH_CMDLINE_GPA), "console=ttyS0 quiet");
    CHECK_EQ(rig_read(rig, PARAMS + 0x70, 8), VH_ACPI_GPA);
    CHECK_EQ(rig_read(rig, PARAMS + 0x06, 1), 0); /* screen_info: no video mode */
    CHECK_EQ(rig_read(rig, PARAMS + 0x0f, 1), 0);
    /* The initrd ends at the end of RAM, on a page boundary. */
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 64 * VH_MIB - 8192);
    CHECK_EQ(rig_read(rig, PARAMS + 0x21c, 4), sizeof(initrd));
    CHECK_EQ(rig_read(rig, 64 * VH_MIB - 8192 + sizeof(initrd) - 1, 2), 0x5a);
    /* e820. */
    CHECK_EQ(rig_read(rig, PARAMS + 0x1e8, 1), 3);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0 + 8, 8), VH_LOW_RAM_END);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0 + 20, 8), VH_ACPI_GPA);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0 + 36, 4), 2);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0 + 40, 8), VH_MIB);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0 + 48, 8), 63 * VH_MIB);
    rig_free(rig);
}

TEST(boot_bzimage_entry_tables)
{
    struct rig *rig = rig_new(64);

    image_bzimage(&rig->image);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_BZIMAGE), &rig->err);
    CHECK_EQ(rig_read(rig, VH_GDT_GPA + 0x10, 8), 0x00af9b000000ffff);
    CHECK_EQ(rig_read(rig, VH_GDT_GPA + 0x18, 8), 0x00cf93000000ffff);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA, 8), (VH_PAGE_TABLES_GPA + 0x1000) | 3);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA + 0x1018, 8), (VH_PAGE_TABLES_GPA + 0x5000) | 3);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA + 0x1020, 8), 0);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA + 0x2000, 8), 0x83);
    CHECK_EQ(rig_read(rig, VH_PAGE_TABLES_GPA + 0x5ff8, 8), (4 * VH_GIB - 2 * VH_MIB) | 0x83);
    rig_free(rig);
}

TEST(boot_bzimage_address)
{
    struct rig *rig = rig_new(64);

    /* No preference: the alignment decides. */
    image_bzimage(&rig->image);
    image_set(&rig->image, 0x258, 0, 8);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.rip, 0x200200);
    /* Not relocatable and no preference: where bzImages have always gone. */
    image_set(&rig->image, 0x234, 0, 1);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.rip, 0x100200);
    /* setup_sects 0 means 4. */
    image_set(&rig->image, 0x1f1, 0, 1);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, 0x100000, 1), 0x90);
    rig_free(rig);
}

/* One field of a good image changed: the error that must follow. */
static const struct {
    const char *what;
    uint32_t offset;
    uint32_t field_bytes;
    uint64_t value;
    int32_t status;
    const char *text;
} damages[] = {
    {"old protocol", 0x206, 2, 0x20b, VMMHPC_E_BAD_IMAGE, "boot protocol 2.11"},
    {"32-bit", 0x236, 2, 0, VMMHPC_E_BAD_IMAGE, "a 32-bit Linux kernel"},
    {"zImage", 0x211, 1, 0, VMMHPC_E_BAD_IMAGE, "zImage"},
    {"short header", 0x201, 1, 0x40, VMMHPC_E_BAD_IMAGE, "the setup header ends at 0x242"},
    {"no code", 0x1f4, 4, 0, VMMHPC_E_BAD_IMAGE, "too few"},
    {"code without entry", 0x1f4, 4, 0x20, VMMHPC_E_BAD_IMAGE, "its code has 512 bytes"},
    {"one paragraph more", 0x1f4, 4, 0x201, VMMHPC_E_TRUNCATED, "asks for 10768 bytes"},
    {"huge code", 0x1f4, 4, 0xffffffff, VMMHPC_E_TRUNCATED, "truncated"},
    {"huge setup", 0x1f1, 1, 0xff, VMMHPC_E_TRUNCATED, "the file has 10752"},
    {"alignment 0", 0x230, 4, 0, VMMHPC_E_BAD_IMAGE, "alignment of 0x0"},
    {"alignment 3 MiB", 0x230, 4, 0x300000, VMMHPC_E_BAD_IMAGE, "not a power of two"},
    {"wraps", 0x258, 8, UINT64_MAX - 0xfff, VMMHPC_E_BAD_IMAGE, "wraps round"},
    {"above RAM", 0x258, 8, 0x4000000, VMMHPC_E_NO_ROOM, "needs RAM up to 0x4100000 (65 MiB)"},
    {"above 4 GiB", 0x258, 8, 1ull << 32, VMMHPC_E_NO_ROOM, "give the machine more memory"},
    {"init_size", 0x260, 4, 0xffffffff, VMMHPC_E_NO_ROOM, "the kernel (bzImage) needs RAM up to"},
};

TEST(boot_bzimage_damaged)
{
    for (size_t i = 0; i < VH_COUNT(damages); i++) {
        struct rig *rig = rig_new(64);

        image_bzimage(&rig->image);
        image_set(&rig->image, damages[i].offset, damages[i].value, damages[i].field_bytes);
        if (!CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, damages[i].status,
                         damages[i].text)) {
            CHECK_CONTAINS(damages[i].what, "?");
        }
        rig_free(rig);
    }
}

TEST(boot_bzimage_error_values)
{
    struct rig *rig = rig_new(16);

    image_bzimage(&rig->image);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "16 MiB");
    CHECK_EQ(rig->err.value, IMAGE_TEXT + IMAGE_INIT_SIZE);
    image_set(&rig->image, 0x206, 0x204, 2);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE, "2.04");
    CHECK_EQ(rig->err.value, 0x204);
    rig_free(rig);
}

/* Every prefix of a good file: an error, and never a read beyond the end (ASan). */
TEST(boot_bzimage_every_prefix)
{
    struct rig *rig = rig_new(32);
    uint64_t whole;

    image_bzimage(&rig->image);
    whole = rig->image.bytes;
    for (uint64_t bytes = 0; bytes < whole; bytes += bytes < 0xb00 ? 1 : 64) {
        int32_t status;

        rig->image.bytes = bytes;
        status = rig_load(rig, VMMHPC_IMAGE_AUTO);
        if (bytes < 0x206) {
            CHECK_EQ(status, VMMHPC_E_BAD_IMAGE);
        } else {
            CHECK_ERROR(status, &rig->err, VMMHPC_E_TRUNCATED,
                        bytes < 0x26c ? "inside its setup header" : "truncated");
        }
    }
    rig_free(rig);
}

TEST(boot_bzimage_header_is_limited)
{
    struct rig *rig = rig_new(64);

    /* A header said to end at 0x301 must not reach into what follows it in boot_params. */
    image_bzimage(&rig->image);
    image_set(&rig->image, 0x201, 0xff, 1);
    memset(rig->image.data + 0x270, 0xee, 0x100);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, PARAMS + 0x28f, 1), 0xee);
    CHECK_EQ(rig_read(rig, PARAMS + 0x290, 1), 0);
    CHECK_EQ(rig_read(rig, PARAMS + 0x2d0, 8), 0);
    /* A pointer that the file puts into the header is not handed on. */
    image_set(&rig->image, 0x250, 0x1234, 8);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, PARAMS + 0x250, 8), 0);
    rig_free(rig);
}

TEST(boot_bzimage_cmdline)
{
    struct rig *rig = rig_new(64);
    char text[300];

    memset(text, 'x', sizeof(text));
    text[256] = '\0';
    rig->source.cmdline = text;
    image_bzimage(&rig->image);
    image_set(&rig->image, 0x238, 255, 4);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM,
                "the command line has 256 characters; this kernel takes 255");
    CHECK_EQ(rig->err.value, 256);
    image_set(&rig->image, 0x238, 0, 4); /* not said: the old limit */
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "takes 255");
    text[255] = '\0';
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    rig_free(rig);
}

TEST(boot_bzimage_cmdline_max)
{
    struct rig *rig = rig_new(64);
    char *text = malloc(VH_CMDLINE_MAX + 1);

    memset(text, 'x', VH_CMDLINE_MAX);
    text[VH_CMDLINE_MAX] = '\0';
    rig->source.cmdline = text;
    image_bzimage(&rig->image);
    image_set(&rig->image, 0x238, 0xffffffff, 4);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "takes 65535");
    text[VH_CMDLINE_MAX - 1] = '\0';
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    free(text);
    rig_free(rig);
}

TEST(boot_bzimage_initrd_placement)
{
    struct rig *rig = rig_new(64);
    const uint64_t bytes = 20 * VH_MIB;
    uint8_t *initrd = calloc(1, 64 * VH_MIB);

    rig->source.initrd = (struct vh_blob){initrd, bytes};
    image_bzimage(&rig->image);
    /* initrd_addr_max is the last byte that may be used. */
    image_set(&rig->image, 0x22c, 0x2ffffff, 4);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 48 * VH_MIB - bytes);
    /* Where the kernel is in the way it goes below the kernel, but not into the first MiB. */
    rig->source.initrd.bytes = 10 * VH_MIB;
    image_set(&rig->image, 0x22c, 0x17fffff, 4);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 6 * VH_MIB);
    rig->source.initrd.bytes = 15 * VH_MIB + 1;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM,
                "the initrd of 15728641 bytes does not fit");
    CHECK_EQ(rig->err.value, 15 * VH_MIB + 1);
    rig->source.initrd.bytes = 64 * VH_MIB;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "the initrd");
    free(initrd);
    rig_free(rig);
}

TEST(boot_bzimage_many_regions)
{
    const uint64_t mib[] = {1, 16, 1, 46};
    struct rig *rig = rig_new_regions(mib, 4);
    uint8_t *initrd = malloc(40 * VH_MIB);

    /* Kernel and initrd lie across borders of regions. */
    memset(initrd, 0x77, 40 * VH_MIB);
    rig->source.initrd = (struct vh_blob){initrd, 40 * VH_MIB};
    image_bzimage(&rig->image);
    image_set(&rig->image, 0x258, 17 * VH_MIB - 0x1000, 8);
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, 17 * VH_MIB - 1, 1), 0x90);
    CHECK_EQ(rig_read(rig, 17 * VH_MIB, 1), 0x90);
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 24 * VH_MIB);
    CHECK_EQ(rig_read(rig, 64 * VH_MIB - 1, 1), 0x77);
    CHECK_EQ(rig_read(rig, PARAMS + 0x1e8, 1), 3); /* regions that touch are one entry */
    free(initrd);
    rig_free(rig);
}
