/* SPDX-License-Identifier: Apache-2.0 */
#include "images.h"

#include <string.h>

void image_set(struct image *image, uint64_t offset, uint64_t value, uint32_t bytes)
{
    memcpy(image->data + offset, &value, bytes);
}

void image_bzimage(struct image *image)
{
    memset(image, 0, sizeof(*image));
    image->bytes = IMAGE_CODE_OFFSET + IMAGE_CODE_BYTES;
    memset(image->data + IMAGE_CODE_OFFSET, 0x90, IMAGE_CODE_BYTES);
    image->data[0x1f1] = 4;                            /* setup_sects */
    image_set(image, 0x1f2, 1, 2);                     /* root_flags */
    image_set(image, 0x1f4, IMAGE_CODE_BYTES / 16, 4); /* syssize */
    image_set(image, 0x1fe, 0xaa55, 2);
    image_set(image, 0x200, 0x6aeb, 2); /* the header ends at 0x26c */
    memcpy(image->data + 0x202, "HdrS", 4);
    image_set(image, 0x206, 0x020f, 2);
    image_set(image, 0x211, 1, 1);          /* LOADED_HIGH */
    image_set(image, 0x214, 0x100000, 4);   /* code32_start */
    image_set(image, 0x22c, 0x7fffffff, 4); /* initrd_addr_max */
    image_set(image, 0x230, 0x200000, 4);   /* kernel_alignment */
    image_set(image, 0x234, 1, 1);          /* relocatable */
    image_set(image, 0x235, 21, 1);         /* min_alignment */
    image_set(image, 0x236, 3, 2);          /* XLF_KERNEL_64, above 4 GiB */
    image_set(image, 0x238, 2047, 4);       /* cmdline_size */
    image_set(image, 0x258, IMAGE_TEXT, 8); /* pref_address */
    image_set(image, 0x260, IMAGE_INIT_SIZE, 4);
}

Elf64_Ehdr *image_header(struct image *image)
{
    return (Elf64_Ehdr *)(void *)image->data;
}

Elf64_Phdr *image_segment(struct image *image, uint32_t index)
{
    return (Elf64_Phdr *)(void *)(image->data + sizeof(Elf64_Ehdr)) + index;
}

static void fill_elf(struct image *image)
{
    memset(image, 0, sizeof(*image));
    image->bytes = 0x2100;
    memset(image->data + IMAGE_TEXT_OFFSET, 0xf4, 0x200);
    memset(image->data + 0x2000, 0xda, 0x100);
    memcpy(image->data, ELFMAG, SELFMAG);
    image->data[EI_DATA] = ELFDATA2LSB;
    image->data[EI_VERSION] = EV_CURRENT;
}

void image_elf64(struct image *image)
{
    Elf64_Ehdr *header = image_header(image);

    fill_elf(image);
    image->data[EI_CLASS] = ELFCLASS64;
    header->e_type = ET_EXEC;
    header->e_machine = EM_X86_64;
    header->e_version = EV_CURRENT;
    header->e_entry = IMAGE_ENTRY;
    header->e_phoff = sizeof(*header);
    header->e_ehsize = sizeof(*header);
    header->e_phentsize = sizeof(Elf64_Phdr);
    header->e_phnum = 3;
    *image_segment(image, 0) = (Elf64_Phdr){.p_type = PT_LOAD,
                                            .p_offset = IMAGE_TEXT_OFFSET,
                                            .p_vaddr = IMAGE_KERNEL_MAP + IMAGE_TEXT,
                                            .p_paddr = IMAGE_TEXT,
                                            .p_filesz = 0x200,
                                            .p_memsz = 0x200,
                                            .p_align = 0x1000};
    *image_segment(image, 1) = (Elf64_Phdr){.p_type = PT_LOAD,
                                            .p_offset = 0x2000,
                                            .p_vaddr = IMAGE_KERNEL_MAP + IMAGE_DATA,
                                            .p_paddr = IMAGE_DATA,
                                            .p_filesz = 0x100,
                                            .p_memsz = 0x3000,
                                            .p_align = 0x1000};
    *image_segment(image, 2) =
        (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = IMAGE_NOTES_OFFSET, .p_align = 4};
}

void image_elf32(struct image *image)
{
    Elf32_Ehdr *header = (Elf32_Ehdr *)(void *)image->data;
    Elf32_Phdr *segment = (Elf32_Phdr *)(void *)(image->data + sizeof(*header));

    fill_elf(image);
    image->data[EI_CLASS] = ELFCLASS32;
    header->e_type = ET_EXEC;
    header->e_machine = EM_386;
    header->e_version = EV_CURRENT;
    header->e_entry = IMAGE_ENTRY;
    header->e_phoff = sizeof(*header);
    header->e_ehsize = sizeof(*header);
    header->e_phentsize = sizeof(Elf32_Phdr);
    header->e_phnum = 3;
    segment[0] = (Elf32_Phdr){.p_type = PT_LOAD,
                              .p_offset = IMAGE_TEXT_OFFSET,
                              .p_vaddr = IMAGE_TEXT,
                              .p_paddr = IMAGE_TEXT,
                              .p_filesz = 0x200,
                              .p_memsz = 0x200};
    segment[1] = (Elf32_Phdr){.p_type = PT_LOAD,
                              .p_offset = 0x2000,
                              .p_vaddr = IMAGE_DATA,
                              .p_paddr = IMAGE_DATA,
                              .p_filesz = 0x100,
                              .p_memsz = 0x3000};
    segment[2] = (Elf32_Phdr){.p_type = PT_NOTE, .p_offset = IMAGE_NOTES_OFFSET, .p_align = 4};
}

static uint32_t round_up(uint32_t value, uint32_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

void image_note(struct image *image, const char *name, uint32_t type, const void *descriptor,
                uint32_t bytes, uint32_t alignment)
{
    Elf32_Phdr *narrow = (Elf32_Phdr *)(void *)(image->data + sizeof(Elf32_Ehdr)) + 2;
    Elf64_Phdr *wide = image_segment(image, 2);
    bool is_64 = image->data[EI_CLASS] == ELFCLASS64;
    uint32_t start = is_64 ? (uint32_t)wide->p_filesz : narrow->p_filesz;
    uint8_t *at = image->data + IMAGE_NOTES_OFFSET + start;
    Elf64_Nhdr header = {.n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = bytes, .n_type = type};
    uint32_t after = round_up((uint32_t)sizeof(header) + header.n_namesz, alignment);

    memcpy(at, &header, sizeof(header));
    memcpy(at + sizeof(header), name, header.n_namesz);
    memcpy(at + after, descriptor, bytes);
    start += round_up(after + bytes, alignment);
    if (is_64) {
        wide->p_filesz = start;
        wide->p_memsz = start;
        wide->p_align = alignment;
    } else {
        narrow->p_filesz = start;
        narrow->p_align = alignment;
    }
}

void image_pvh_note(struct image *image, uint64_t entry, uint32_t bytes)
{
    image_note(image, "Xen", 18, &entry, bytes, 4);
}

void image_linux_note(struct image *image)
{
    image_note(image, "Linux", 0x101, "6.1.0", 6, 4);
}

void image_multiboot(struct image *image, uint64_t at, uint32_t flags, const uint32_t addresses[5])
{
    const uint32_t magic = 0x1badb002;

    image_set(image, at, magic, 4);
    image_set(image, at + 4, flags, 4);
    image_set(image, at + 8, 0u - magic - flags, 4);
    for (uint64_t i = 0; i < 5 && addresses != NULL; i++) {
        image_set(image, at + 12 + i * 4, addresses[i], 4);
    }
}

void image_multiboot_flat(struct image *image)
{
    const uint32_t addresses[5] = {0x100010, 0x100000, 0x100400, 0x102000, 0x100040};

    memset(image, 0, sizeof(*image));
    image->bytes = 0x800;
    memset(image->data + 0x200, 0xf4, 0x600); /* the image starts at 0x200 of the file */
    image_multiboot(image, 0x210, 0x10003, addresses);
}
