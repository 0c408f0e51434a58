/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels with a PVH entry (Xen docs/misc/pvh, public/arch-x86/hvm/start_info.h). */
#include "elf.h"

#include <inttypes.h>
#include <string.h>

#define START_INFO_MAGIC 0x336ec578u

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t memory_map; /* version 1 and later */
    uint32_t memory_map_count;
    uint32_t reserved;
};

struct module {
    uint64_t start;
    uint64_t bytes;
    uint64_t cmdline;
    uint64_t reserved;
};

struct map_entry {
    uint64_t start;
    uint64_t bytes;
    uint32_t type;
    uint32_t reserved;
};

/* All of it goes into the page at VH_START_INFO_GPA. */
struct start_page {
    struct start_info info;
    struct module module;
    struct map_entry map[VH_MAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "ABI of hvm_start_info version 1");
_Static_assert(sizeof(struct module) == 32, "ABI of hvm_modlist_entry");
_Static_assert(sizeof(struct map_entry) == 24, "ABI of hvm_memmap_table_entry");
_Static_assert(sizeof(struct start_page) <= VH_PAGE, "one page");

static void fill_page(const struct vh_memory *memory, const struct vh_boot_source *source,
                      uint64_t initrd, struct start_page *page)
{
    struct vh_map_entry map[VH_MAP_MAX];
    uint32_t count = vh_memory_map(memory, map);

    memset(page, 0, sizeof(*page));
    page->info.magic = START_INFO_MAGIC;
    page->info.version = 1;
    page->info.cmdline = VH_CMDLINE_GPA;
    page->info.rsdp = source->rsdp;
    page->info.memory_map = VH_START_INFO_GPA + offsetof(struct start_page, map);
    page->info.memory_map_count = count;
    if (initrd != 0) {
        page->info.module_count = 1;
        page->info.modules = VH_START_INFO_GPA + offsetof(struct start_page, module);
        page->module.start = initrd;
        page->module.bytes = source->initrd.bytes;
    }
    for (uint32_t i = 0; i < count; i++) {
        page->map[i].start = map[i].start;
        page->map[i].bytes = map[i].bytes;
        page->map[i].type = map[i].type;
    }
}

int32_t vh_boot_pvh(struct vh_memory *memory, const struct vh_boot_source *source,
                    struct vh_entry *entry, struct vmmhpc_error *err)
{
    struct start_page page;
    struct vh_claims claims;
    struct vh_elf elf;
    uint64_t initrd;
    int32_t status;

    *entry = (struct vh_entry){.kind = VMMHPC_IMAGE_ELF_PVH, .mode = VH_MODE_PROT32};
    vh_claims_init(&claims, memory);
    status = vh_elf_parse(&source->kernel, &elf, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (!elf.has_pvh) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "the ELF file has no PVH entry note (for Linux: CONFIG_PVH=y)");
    }
    if (!vh_elf_contains(&elf, elf.pvh_entry)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, elf.pvh_entry,
                       "the PVH entry point 0x%" PRIx64 " lies in no segment of the ELF file",
                       elf.pvh_entry);
    }
    status = vh_claim_low(&claims, VH_LOW_START_INFO | VH_LOW_CMDLINE | VH_LOW_ROM, err);
    if (status == VMMHPC_OK) {
        status = vh_elf_load(memory, &elf, &claims, err);
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
    entry->rip = elf.pvh_entry;
    entry->rbx = VH_START_INFO_GPA;
    return vh_put(memory, VH_START_INFO_GPA, &page, sizeof(page), "the PVH start info", err);
}
