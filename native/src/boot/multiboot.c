/* SPDX-License-Identifier: Apache-2.0 */
/* Multiboot 1 (Multiboot Specification 0.6.96): address fields, ELF32 or ELF64. */
#include "elf.h"

#include <inttypes.h>
#include <string.h>

#include "recognise.h"

#define SEARCH_BYTES 8192u
#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC 0x2badb002u

/* Header flags: bits 0 to 15 are requests that a loader must be able to meet. */
#define WANTS_UNKNOWN                                                                              \
    0xfff8u /* we meet 0 (aligned modules) and 1 (memory); 2 (video) is a wish                     \
             */
#define HAS_ADDRESSES 0x10000u

/* Info flags. */
#define INFO_MEMORY 0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MAP 0x40u
#define INFO_LOADER_NAME 0x200u

struct header {
    uint32_t magic;
    uint32_t flags;
    uint32_t checksum;
    uint32_t header_addr; /* these only with HAS_ADDRESSES */
    uint32_t load_addr;
    uint32_t load_end_addr;
    uint32_t bss_end_addr;
    uint32_t entry_addr;
};

#define SHORT_HEADER 12u

struct info {
    uint32_t flags;
    uint32_t mem_lower;
    uint32_t mem_upper;
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t modules_count;
    uint32_t modules;
    uint32_t symbols[4];
    uint32_t map_bytes;
    uint32_t map;
    uint32_t drives[2];
    uint32_t config_table;
    uint32_t loader_name;
    uint32_t reserved[12];
};

struct module {
    uint32_t start;
    uint32_t end;
    uint32_t string;
    uint32_t reserved;
};

struct map_entry {
    uint32_t bytes; /* of the entry, without this field */
    uint64_t start;
    uint64_t length;
    uint32_t type;
} __attribute__((packed));

/* All of it goes into the page at VH_START_INFO_GPA. */
struct info_page {
    struct info info;
    struct module module;
    char empty[4];
    char name[4];
    struct map_entry map[VH_MAP_MAX];
};

_Static_assert(offsetof(struct info, loader_name) == 64, "multiboot_info");
_Static_assert(sizeof(struct map_entry) == 24, "multiboot_mmap_entry");
_Static_assert(sizeof(struct info_page) <= VH_PAGE, "one page");

int64_t vh_find_multiboot(const struct vh_blob *file)
{
    uint64_t end = file->bytes < SEARCH_BYTES ? file->bytes : SEARCH_BYTES;

    for (uint64_t at = 0; at + SHORT_HEADER <= end; at += 4) {
        uint32_t field[3];

        memcpy(field, file->data + at, sizeof(field));
        if (field[0] == HEADER_MAGIC && field[0] + field[1] + field[2] == 0) {
            return (int64_t)at;
        }
    }
    return -1;
}

/* The image by the header's address fields (3.1.3). */
static int32_t load_addresses(struct vh_memory *memory, const struct vh_blob *file,
                              const struct header *header, uint64_t at, struct vh_claims *claims,
                              struct vmmhpc_error *err)
{
    uint64_t before = (uint64_t)header->header_addr - header->load_addr;
    uint64_t offset = at - before;
    uint64_t bytes;
    uint64_t room;
    int32_t status;

    if (header->header_addr < header->load_addr || before > at) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->load_addr,
                       "multiboot: load_addr 0x%x does not fit header_addr 0x%x, found at byte "
                       "%" PRIu64 " of the file",
                       header->load_addr, header->header_addr, at);
    }
    bytes = file->bytes - offset;
    if (header->load_end_addr != 0) {
        if (header->load_end_addr <= header->load_addr) {
            return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->load_end_addr,
                           "multiboot: load_end_addr 0x%x is not above load_addr 0x%x",
                           header->load_end_addr, header->load_addr);
        }
        if (header->load_end_addr - header->load_addr > bytes) {
            return vh_fail(err, VMMHPC_E_TRUNCATED, 0, header->load_end_addr,
                           "multiboot: the header asks for %u bytes, the file has %" PRIu64,
                           header->load_end_addr - header->load_addr, bytes);
        }
        bytes = header->load_end_addr - header->load_addr;
    }
    room = bytes;
    if (header->bss_end_addr != 0) {
        if (header->bss_end_addr < header->load_addr + bytes) {
            return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->bss_end_addr,
                           "multiboot: bss_end_addr 0x%x lies before the end of the data",
                           header->bss_end_addr);
        }
        room = header->bss_end_addr - header->load_addr;
    }
    if (header->entry_addr < header->load_addr || header->entry_addr - header->load_addr >= room) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->entry_addr,
                       "multiboot: the entry point 0x%x lies outside the image",
                       header->entry_addr);
    }
    status = vh_claim(claims, header->load_addr, room, "the multiboot image", err);
    if (status != VMMHPC_OK) {
        return status;
    }
    return vh_put(memory, header->load_addr, file->data + offset, bytes, "the multiboot image",
                  err);
}

static int32_t load_image(struct vh_memory *memory, const struct vh_blob *file,
                          struct vh_claims *claims, uint64_t *rip, struct vmmhpc_error *err)
{
    int64_t at = vh_find_multiboot(file);
    struct header header = {0};
    struct vh_elf elf;
    int32_t status;

    if (at < 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "no multiboot header with a right checksum in the first 8 KiB");
    }
    memcpy(&header, file->data + at, SHORT_HEADER);
    if ((header.flags & WANTS_UNKNOWN) != 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header.flags,
                       "multiboot: the kernel requires unknown features (flags 0x%x)",
                       header.flags);
    }
    if ((header.flags & HAS_ADDRESSES) != 0) {
        if (file->bytes - (uint64_t)at < sizeof(header)) {
            return vh_fail(err, VMMHPC_E_TRUNCATED, 0, file->bytes,
                           "the file ends at byte %" PRIu64 ", inside its multiboot header",
                           file->bytes);
        }
        memcpy(&header, file->data + at, sizeof(header));
        *rip = header.entry_addr;
        return load_addresses(memory, file, &header, (uint64_t)at, claims, err);
    }
    if (!vh_is_elf(file)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header.flags,
                       "multiboot: neither address fields nor an ELF file");
    }
    status = vh_elf_parse(file, &elf, err);
    if (status == VMMHPC_OK) {
        status = vh_elf_entry(&elf, rip, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_elf_load(memory, &elf, claims, err);
    }
    return status;
}

static void fill_page(const struct vh_memory *memory, const struct vh_boot_source *source,
                      uint64_t initrd, struct info_page *page)
{
    struct vh_map_entry map[VH_MAP_MAX];
    uint32_t count = vh_memory_map(memory, map);

    memset(page, 0, sizeof(*page));
    memcpy(page->name, "V3M", sizeof(page->name));
    page->info.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_LOADER_NAME;
    page->info.mem_lower = (uint32_t)(VH_LOW_RAM_END / VH_KIB);
    page->info.mem_upper = (uint32_t)((vh_memory_low_end(memory) - VH_HIGH_RAM_START) / VH_KIB);
    page->info.cmdline = (uint32_t)VH_CMDLINE_GPA;
    page->info.loader_name = (uint32_t)(VH_START_INFO_GPA + offsetof(struct info_page, name));
    page->info.map = (uint32_t)(VH_START_INFO_GPA + offsetof(struct info_page, map));
    page->info.map_bytes = count * (uint32_t)sizeof(struct map_entry);
    if (initrd != 0) {
        page->info.modules_count = 1;
        page->info.modules = (uint32_t)(VH_START_INFO_GPA + offsetof(struct info_page, module));
        page->module.start = (uint32_t)initrd;
        page->module.end = (uint32_t)(initrd + source->initrd.bytes);
        page->module.string = (uint32_t)(VH_START_INFO_GPA + offsetof(struct info_page, empty));
    }
    for (uint32_t i = 0; i < count; i++) {
        page->map[i].bytes = (uint32_t)(sizeof(struct map_entry) - 4);
        page->map[i].start = map[i].start;
        page->map[i].length = map[i].bytes;
        page->map[i].type = map[i].type;
    }
}

int32_t vh_boot_multiboot(struct vh_memory *memory, const struct vh_boot_source *source,
                          struct vh_entry *entry, struct vmmhpc_error *err)
{
    struct info_page page;
    struct vh_claims claims;
    uint64_t initrd = 0;
    int32_t status;

    *entry = (struct vh_entry){.kind = VMMHPC_IMAGE_MULTIBOOT, .mode = VH_MODE_PROT32};
    vh_claims_init(&claims, memory);
    status = vh_claim_low(&claims, VH_LOW_START_INFO | VH_LOW_CMDLINE | VH_LOW_ROM, err);
    if (status == VMMHPC_OK) {
        status = load_image(memory, &source->kernel, &claims, &entry->rip, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put_initrd(memory, source, &claims, UINT64_MAX, &initrd, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put_cmdline(memory, source, UINT64_MAX, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    fill_page(memory, source, initrd, &page);
    entry->rax = BOOT_MAGIC;
    entry->rbx = VH_START_INFO_GPA;
    return vh_put(memory, VH_START_INFO_GPA, &page, sizeof(page), "the multiboot info", err);
}
