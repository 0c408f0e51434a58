/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t inputs;
static uint64_t successes;

static void report(void)
{
    /* Read by test/unit/fuzz.test.ts. */
    fprintf(stderr, "v3m-fuzz inputs=%llu successes=%llu\n", (unsigned long long)inputs,
            (unsigned long long)successes);
}

void fuzz_count(bool success)
{
    if (inputs == 0) {
        (void)atexit(report);
    }
    inputs++;
    successes += success ? 1 : 0;
}

void fuzz_must(bool condition, const char *text, const char *file, int line)
{
    if (!condition) {
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
        abort();
    }
}

static const char cmdline[] = "console=ttyS0 fuzz";

static void check_state(const struct vh_memory *memory, const struct vh_boot_source *source,
                        const struct vh_entry *entry)
{
    const uint8_t *params = vh_memory_at(memory, VH_BOOT_PARAMS_GPA, VH_PAGE);
    uint64_t gdt = 0;
    uint32_t initrd = 0;
    uint32_t init_size = 0;
    uint32_t type;

    MUST(entry->mode == VH_MODE_REAL16 || entry->mode == VH_MODE_PROT32 ||
         entry->mode == VH_MODE_LONG64);
    MUST(vh_memory_at(memory, entry->rip, 1) != NULL);
    /* Nothing that was written later went over the command line, the tables or the initrd. */
    MUST(memcmp(vh_memory_at(memory, VH_CMDLINE_GPA, sizeof(cmdline)), cmdline, sizeof(cmdline)) ==
         0);
    if (entry->mode == VH_MODE_LONG64) {
        memcpy(&gdt, vh_memory_at(memory, VH_GDT_GPA + 0x10, 8), 8);
        MUST(gdt == 0x00af9b000000ffff);
        memcpy(&gdt, vh_memory_at(memory, VH_PAGE_TABLES_GPA + 0x5ff8, 8), 8);
        MUST(gdt == ((4 * VH_GIB - 2 * VH_MIB) | 0x83));
    }
    if (entry->kind == VMMHPC_IMAGE_BZIMAGE || entry->kind == VMMHPC_IMAGE_ELF_LINUX) {
        MUST(entry->rsi == VH_BOOT_PARAMS_GPA);
        MUST(params[0x1e8] == 4); /* e820: 640 KiB, ROM, RAM below and above 4 GiB */
        memcpy(&type, params + 0x2d0 + 16, sizeof(type));
        MUST(type == 1);
        memcpy(&initrd, params + 0x218, sizeof(initrd));
        memcpy(&init_size, params + 0x260, sizeof(init_size));
        /* The initrd is clear of what a bzImage needs to run; a vmlinux does not say. */
        MUST(entry->kind != VMMHPC_IMAGE_BZIMAGE || initrd == 0 ||
             initrd + source->initrd.bytes <= entry->rip - 0x200 ||
             initrd >= entry->rip - 0x200 + init_size);
    } else if (entry->kind == VMMHPC_IMAGE_ELF_PVH) {
        memcpy(&initrd, vh_memory_at(memory, VH_START_INFO_GPA + 56, 4), 4);
    } else if (entry->kind == VMMHPC_IMAGE_MULTIBOOT) {
        memcpy(&initrd, vh_memory_at(memory, VH_START_INFO_GPA + 116, 4), 4);
    } else {
        return;
    }
    if (source->initrd.bytes == 0) {
        MUST(initrd == 0);
        return;
    }
    MUST(initrd >= VH_HIGH_RAM_START && initrd % VH_PAGE == 0);
    MUST(memcmp(vh_memory_at(memory, initrd, source->initrd.bytes), source->initrd.data,
                source->initrd.bytes) == 0);
}

/* 32 MiB in two regions, and 1 MiB above 4 GiB; its slots are what create() would not do cheaply.
 */
static struct vh_memory *machine(void)
{
    static struct vh_memory memory;
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory specs[3];

    if (memory.slot_count == 0) {
        for (uint32_t i = 0; i < 3; i++) {
            specs[i] = (struct vmmhpc_memory){
                .size = sizeof(specs[i]), .bytes = i == 1 ? 31 * VH_MIB : VH_MIB, .numa_node = -1};
        }
        MUST(vh_memory_create(&memory, specs, 3, &err) == VMMHPC_OK);
        memory.slots[2].gpa = VMMHPC_HOLE_END; /* as if the RAM reached up to the hole */
    }
    return &memory;
}

void fuzz_load(uint32_t kind, const uint8_t *data, size_t bytes, uint64_t load_address)
{
    static const uint16_t sizes[] = {0, 1, 4096, 20000};
    static uint8_t initrd[20000];
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_memory *memory = machine();
    struct vh_entry entry;
    struct vh_boot_source source = {.kind = kind,
                                    .kernel = {data, bytes},
                                    .cmdline = cmdline,
                                    .load_address = load_address,
                                    .rsdp = VH_ACPI_GPA};
    int32_t status;

    memset(initrd, 0xa5, sizeof(initrd));
    source.initrd.data = initrd;
    if (kind != VMMHPC_IMAGE_FLAT16 && kind != VMMHPC_IMAGE_FLAT64) {
        source.initrd.bytes = sizes[bytes % VH_COUNT(sizes)];
    }
    status = vh_boot_load(memory, &source, &entry, &err);
    if (status == VMMHPC_OK) {
        check_state(memory, &source, &entry);
    } else {
        MUST(err.code == status);
        MUST(err.text[0] != '\0' && memchr(err.text, '\0', sizeof(err.text)) != NULL);
    }
    fuzz_count(status == VMMHPC_OK);
    /* A refused image has mostly written nothing, but an initrd may be refused after the kernel. */
    if (status == VMMHPC_OK || status == VMMHPC_E_NO_ROOM) {
        MUST(vh_memory_clear(memory, &err) == VMMHPC_OK);
    }
}
