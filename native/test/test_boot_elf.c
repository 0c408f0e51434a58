/* SPDX-License-Identifier: Apache-2.0 */
/* vmlinux by the 64-bit protocol, and the ELF reader that all ELF loaders share. */
#include "rig.h"

#define PARAMS VH_BOOT_PARAMS_GPA

static struct rig *new_linux(uint64_t mib)
{
    struct rig *rig = rig_new(mib);

    image_elf64(&rig->image);
    image_linux_note(&rig->image);
    return rig;
}

TEST(boot_elf_linux_loads)
{
    struct rig *rig = new_linux(64);
    uint8_t initrd[100] = {1};

    rig->source.initrd = (struct vh_blob){initrd, sizeof(initrd)};
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_LINUX);
    CHECK_EQ(rig->entry.mode, VH_MODE_LONG64);
    CHECK_EQ(rig->entry.rip, IMAGE_ENTRY);
    CHECK_EQ(rig->entry.rsi, PARAMS);
    CHECK_EQ(rig_read(rig, IMAGE_TEXT + 0x1ff, 2), 0xf4);
    CHECK_EQ(rig_read(rig, IMAGE_DATA + 0xff, 2), 0xda);
    CHECK_EQ(rig_read(rig, PARAMS + 0x202, 4), 0x53726448);
    CHECK_EQ(rig_read(rig, PARAMS + 0x1f2, 2), 1);
    CHECK_EQ(rig_read(rig, PARAMS + 0x210, 1), 0xff);
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 64 * VH_MIB - 4096);
    CHECK_EQ(rig_read(rig, PARAMS + 0x1e8, 1), 3);
    CHECK_EQ(rig_read(rig, PARAMS + 0x70, 8), VH_ACPI_GPA);
    CHECK_CONTAINS(rig_text(rig, VH_CMDLINE_GPA), "test");
    rig_free(rig);
}

TEST(boot_elf_linux_virtual_entry)
{
    struct rig *rig = new_linux(64);

    image_header(&rig->image)->e_entry = IMAGE_KERNEL_MAP + IMAGE_TEXT + 0x80;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.rip, IMAGE_TEXT + 0x80);
    image_header(&rig->image)->e_entry = IMAGE_TEXT + 0x200;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_BAD_IMAGE,
                "the entry point 0x1000200 lies in no segment");
    CHECK_EQ(rig->err.value, IMAGE_TEXT + 0x200);
    rig_free(rig);
}

/* The initrd must not land between two segments: Linux takes that range as its own. */
TEST(boot_elf_linux_initrd_not_between_segments)
{
    struct rig *rig = new_linux(19); /* segments at 16 MiB and 18 MiB */
    uint8_t *initrd = calloc(1, 14 * VH_MIB);

    rig->source.initrd = (struct vh_blob){initrd, VH_MIB + 0x200000 / 4};
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig_read(rig, PARAMS + 0x218, 4), 16 * VH_MIB - rig->source.initrd.bytes);
    rig_free(rig);
    free(initrd);
}

TEST(boot_elf_linux_refuses_32_bit)
{
    struct rig *rig = rig_new(64);

    image_elf32(&rig->image);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_ELF_LINUX), &rig->err, VMMHPC_E_BAD_IMAGE,
                "a 32-bit ELF file");
    rig_free(rig);
}

static void damage_class(struct image *i)
{
    i->data[EI_CLASS] = 3;
}
static void damage_endian(struct image *i)
{
    i->data[EI_DATA] = ELFDATA2MSB;
}
static void damage_machine(struct image *i)
{
    image_header(i)->e_machine = EM_AARCH64;
}
static void damage_type(struct image *i)
{
    image_header(i)->e_type = ET_REL;
}
static void damage_version(struct image *i)
{
    image_header(i)->e_version = 2;
}
static void damage_phnum(struct image *i)
{
    image_header(i)->e_phnum = 0;
}
static void damage_xnum(struct image *i)
{
    image_header(i)->e_phnum = PN_XNUM;
}
static void damage_phentsize(struct image *i)
{
    image_header(i)->e_phentsize = 57;
}
static void damage_phoff(struct image *i)
{
    image_header(i)->e_phoff = 0x2100 - 3 * 56 + 1;
}
static void damage_phoff_wrap(struct image *i)
{
    image_header(i)->e_phoff = UINT64_MAX - 8;
}
static void damage_offset(struct image *i)
{
    image_segment(i, 1)->p_offset = 0x2001;
}
static void damage_offset_wrap(struct image *i)
{
    image_segment(i, 1)->p_offset = UINT64_MAX;
}
static void damage_filesz(struct image *i)
{
    image_segment(i, 0)->p_filesz = 0x201;
}
static void damage_paddr_wrap(struct image *i)
{
    image_segment(i, 1)->p_paddr = UINT64_MAX - 9;
}
static void damage_paddr(struct image *i)
{
    image_segment(i, 1)->p_paddr = 64 * VH_MIB;
}
static void damage_memsz(struct image *i)
{
    image_segment(i, 1)->p_memsz = 1ull << 62;
}
static void damage_overlap(struct image *i)
{
    image_segment(i, 1)->p_paddr = IMAGE_TEXT + 0x1ff;
}
static void damage_params(struct image *i)
{
    image_segment(i, 1)->p_paddr = PARAMS - 0x1000;
}
static void damage_tables(struct image *i)
{
    image_segment(i, 1)->p_paddr = VH_PAGE_TABLES_GPA;
}
static void damage_cmdline(struct image *i)
{
    image_segment(i, 1)->p_paddr = VH_CMDLINE_GPA + 1;
}
static void damage_acpi(struct image *i)
{
    image_segment(i, 1)->p_paddr = VH_ACPI_GPA;
}
static void damage_note(struct image *i)
{
    image_segment(i, 2)->p_filesz = 0x2000;
}
static void damage_note_size(struct image *i)
{
    image_set(i, IMAGE_NOTES_OFFSET, UINT32_MAX, 4);
}
static void damage_note_desc(struct image *i)
{
    image_set(i, IMAGE_NOTES_OFFSET + 4, 9, 4);
}
static void damage_empty(struct image *i)
{
    image_segment(i, 0)->p_type = PT_NULL;
    image_segment(i, 1)->p_type = PT_NULL;
}

static const struct {
    void (*damage)(struct image *image);
    int32_t status;
    const char *text;
} damages[] = {
    {damage_class, VMMHPC_E_BAD_IMAGE, "the ELF class is 3"},
    {damage_endian, VMMHPC_E_BAD_IMAGE, "big-endian"},
    {damage_machine, VMMHPC_E_BAD_IMAGE, "machine 183, not for x86"},
    {damage_type, VMMHPC_E_BAD_IMAGE, "an object file"},
    {damage_version, VMMHPC_E_BAD_IMAGE, "unknown ELF version 2"},
    {damage_phnum, VMMHPC_E_BAD_IMAGE, "no program headers"},
    {damage_xnum, VMMHPC_E_BAD_IMAGE, "too many program headers"},
    {damage_phentsize, VMMHPC_E_BAD_IMAGE, "57 bytes each instead of 56"},
    {damage_phoff, VMMHPC_E_TRUNCATED, "the ELF program headers at 0x2059 lie beyond"},
    {damage_phoff_wrap, VMMHPC_E_TRUNCATED, "program headers"},
    {damage_offset, VMMHPC_E_TRUNCATED, "ELF segment 1 (0x100 bytes at 0x2001) lies beyond"},
    {damage_offset_wrap, VMMHPC_E_TRUNCATED, "ELF segment 1"},
    {damage_filesz, VMMHPC_E_BAD_IMAGE, "ELF segment 0 has 0x201 bytes in the file but 0x200"},
    {damage_paddr_wrap, VMMHPC_E_BAD_IMAGE, "wraps round"},
    {damage_paddr, VMMHPC_E_NO_ROOM, "loadable ELF segment 1 needs RAM up to 0x4003000"},
    {damage_memsz, VMMHPC_E_NO_ROOM, "give the machine more memory"},
    {damage_overlap, VMMHPC_E_OVERLAP, "segment 1 (0x10001ff ... 0x10031ff) overlaps loadable ELF"},
    {damage_params, VMMHPC_E_OVERLAP, "overlaps boot_params (0x7000"},
    {damage_tables, VMMHPC_E_OVERLAP, "overlaps the initial page tables"},
    {damage_cmdline, VMMHPC_E_OVERLAP, "overlaps the command line"},
    {damage_acpi, VMMHPC_E_OVERLAP, "overlaps the reserved area below 1 MiB"},
    {damage_note, VMMHPC_E_TRUNCATED, "ELF segment 2"},
    {damage_note_size, VMMHPC_E_BAD_IMAGE, "the ELF note at 0x800 runs past"},
    {damage_note_desc, VMMHPC_E_BAD_IMAGE, "the ELF note at 0x800 runs past"},
    {damage_empty, VMMHPC_E_BAD_IMAGE, "nothing to load"},
};

TEST(boot_elf_damaged)
{
    for (size_t i = 0; i < VH_COUNT(damages); i++) {
        struct rig *rig = new_linux(64);

        damages[i].damage(&rig->image);
        if (!CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_ELF_LINUX), &rig->err, damages[i].status,
                         damages[i].text)) {
            CHECK_EQ(i, UINT64_MAX); /* which one */
        }
        /* A file refused leaves RAM as it was. */
        CHECK_EQ(rig_read(rig, IMAGE_TEXT, 8), 0);
        rig_free(rig);
    }
}

TEST(boot_elf_every_prefix)
{
    struct rig *rig = new_linux(32);
    uint64_t whole = rig->image.bytes;

    for (uint64_t bytes = 0; bytes < whole; bytes++) {
        rig->image.bytes = bytes;
        CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err,
                    bytes < 4 ? VMMHPC_E_BAD_IMAGE : VMMHPC_E_TRUNCATED, "");
    }
    rig_free(rig);
}

TEST(boot_elf_too_many_segments)
{
    struct rig *rig = rig_new(64);

    image_elf64(&rig->image);
    image_header(&rig->image)->e_phoff = 0x10000;
    image_header(&rig->image)->e_phnum = 65;
    for (uint32_t i = 0; i < 65; i++) {
        Elf64_Phdr program = {
            .p_type = PT_LOAD, .p_paddr = IMAGE_TEXT + i * VH_PAGE, .p_memsz = VH_PAGE};

        memcpy(rig->image.data + 0x10000 + i * sizeof(program), &program, sizeof(program));
    }
    rig->image.bytes = 0x10000 + 65 * sizeof(Elf64_Phdr);
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_ELF_LINUX), &rig->err, VMMHPC_E_LIMIT,
                "more than 64 segments");
    image_header(&rig->image)->e_phnum = 64;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_ELF_LINUX), &rig->err);
    rig_free(rig);
}

/* Zero pages of a file stay untouched in RAM: the footprint of a kernel's .bss in the file. */
TEST(boot_elf_skips_zero_pages)
{
    struct rig *rig = new_linux(64);
    uint8_t *data = vh_memory_at(&rig->memory, IMAGE_DATA, 0x3000);

    rig->image.bytes = 0x5000;
    image_segment(&rig->image, 1)->p_filesz = 0x3000;
    rig->image.data[0x4fff] = 0x11;
    data[0x1800] = 0x99; /* would be overwritten if zeros were copied */
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(data[0], 0xda);
    CHECK_EQ(data[0x1800], 0x99);
    CHECK_EQ(data[0x2fff], 0x11);
    rig_free(rig);
}
