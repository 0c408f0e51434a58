/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loader says: memory map, module, RSDP. All of it lies in memory that will be used for
 * other things, so it is copied now, while the first 4 GiB are mapped one to one.
 */
#include "qk.h"

struct machine machine;

_Static_assert(YOD_PORT + YOD_REG_MAGIC == 0xe00 && YOD_PORT + YOD_REG_TRACE == 0xe0c &&
                   YOD_MAGIC == 0x31444f59 && YOD_TRACE_ENTRY == 1,
               "entry.S");

/* Multiboot Specification 0.6.96, 3.3. */
struct multiboot {
    uint32_t flags, lower, upper, device, cmdline, modules, module, symbols[4], map_bytes, map;
};
#define MULTIBOOT_MODULES 0x8
#define MULTIBOOT_MAP 0x40
struct multiboot_module {
    uint32_t start, end, string, reserved;
};
struct multiboot_entry {
    uint32_t bytes; /* of what follows */
    uint64_t start, length;
    uint32_t type;
} __attribute__((packed));

/* Xen public/arch-x86/hvm/start_info.h. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module, cmdline, rsdp, map;
    uint32_t map_entries, reserved;
};
struct pvh_module {
    uint64_t start, bytes, cmdline, reserved;
};
struct pvh_entry {
    uint64_t start, bytes;
    uint32_t type, reserved;
};

/* boot_params: Linux Documentation/arch/x86/zero-page.rst. */
struct e820_entry {
    uint64_t start, bytes;
    uint32_t type;
} __attribute__((packed));
#define ZERO_PAGE_RSDP 0x070
#define ZERO_PAGE_E820_ENTRIES 0x1e8
#define ZERO_PAGE_RAMDISK 0x218 /* address and size, 32 bits each */
#define ZERO_PAGE_E820 0x2d0

#define TYPE_RAM 1

/* RAM above 1 MiB, in whole pages. */
static void add_ram(uint64_t start, uint64_t bytes, uint32_t type)
{
    uint64_t end = (start + bytes) & ~(LWK_PAGE - 1);

    start = (start + LWK_PAGE - 1) & ~(LWK_PAGE - 1);
    if (start < VH_HIGH_RAM_START) {
        start = VH_HIGH_RAM_START;
    }
    if (type == TYPE_RAM && start < end && machine.ranges < MAX_RANGES) {
        machine.ram[machine.ranges++] = (struct range){start, end};
    }
}

static void parse_multiboot(const struct multiboot *m)
{
    if ((m->flags & MULTIBOOT_MODULES) != 0 && m->modules > 0) {
        const struct multiboot_module *module = (void *)(uint64_t)m->module;
        machine.module = (struct range){module->start, module->end};
    }
    if ((m->flags & MULTIBOOT_MAP) != 0) {
        uint64_t at = m->map;
        while (at < (uint64_t)m->map + m->map_bytes) {
            const struct multiboot_entry *e = (void *)at;
            add_ram(e->start, e->length, e->type);
            at += e->bytes + sizeof(e->bytes);
        }
    }
}

static void parse_pvh(const struct start_info *s)
{
    if (s->modules > 0) {
        const struct pvh_module *module = (void *)s->module;
        machine.module = (struct range){module->start, module->start + module->bytes};
    }
    machine.rsdp = s->rsdp;
    if (s->version >= 1) {
        const struct pvh_entry *e = (void *)s->map;
        for (uint32_t i = 0; i < s->map_entries; i++) {
            add_ram(e[i].start, e[i].bytes, e[i].type);
        }
    }
}

static void parse_linux(const uint8_t *zero_page)
{
    const uint32_t *ramdisk = (const void *)(zero_page + ZERO_PAGE_RAMDISK);
    const struct e820_entry *e = (const void *)(zero_page + ZERO_PAGE_E820);

    machine.module = (struct range){ramdisk[0], (uint64_t)ramdisk[0] + ramdisk[1]};
    machine.rsdp = *(const uint64_t *)(zero_page + ZERO_PAGE_RSDP);
    for (uint32_t i = 0; i < zero_page[ZERO_PAGE_E820_ENTRIES]; i++) {
        add_ram(e[i].start, e[i].bytes, e[i].type);
    }
}

/* Take [cut.start, cut.end), in whole pages, out of the ranges. */
static void subtract(struct range *range, uint32_t *count, struct range cut)
{
    cut.start &= ~(LWK_PAGE - 1);
    cut.end = (cut.end + LWK_PAGE - 1) & ~(LWK_PAGE - 1);
    for (uint32_t i = 0, n = *count; i < n; i++) {
        struct range r = range[i];
        if (cut.start >= r.end || cut.end <= r.start || cut.start >= cut.end) {
            continue;
        }
        range[i].end = cut.start > r.start ? cut.start : r.start;
        if (cut.end < r.end && *count < 2 * MAX_RANGES) {
            range[(*count)++] = (struct range){cut.end, r.end};
        }
    }
}

static uint64_t align_2m(uint64_t a)
{
    return (a + LWK_PAGE_2M - 1) & ~(LWK_PAGE_2M - 1);
}

/* The pool goes to the lowest place that holds it, the heap is the largest region then left. */
static void divide_ram(void)
{
    struct range left[2 * MAX_RANGES];
    uint32_t count = machine.ranges;
    uint64_t bytes;

    for (uint32_t i = 0; i < count; i++) {
        left[i] = machine.ram[i];
        info.ram_bytes += left[i].end - left[i].start;
    }
    subtract(left, &count, (struct range){0, IMAGE_END});
    subtract(left, &count, machine.module);
    /* Page tables for all of RAM in 4 KiB pages, and a page for every thread; less if RAM is small.
     */
    bytes =
        info.ram_bytes / 32 < MAX_THREADS * LWK_PAGE ? info.ram_bytes / 32 : MAX_THREADS * LWK_PAGE;
    bytes = align_2m(bytes + info.ram_bytes / 512 + 64 * LWK_PAGE);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t start = align_2m(left[i].start);
        /* Below 4 GiB: it is used before there are other page tables. */
        if (start + bytes <= left[i].end && start + bytes <= 4 * LWK_PAGE_1G &&
            (machine.pool.end == 0 || start < machine.pool.start)) {
            machine.pool = (struct range){start, start + bytes};
        }
    }
    if (machine.pool.end == 0) {
        panic(NULL, "%lu MiB of RAM are too little", info.ram_bytes >> 20);
    }
    subtract(left, &count, machine.pool);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t start = align_2m(left[i].start);
        if (start < left[i].end && left[i].end - start > info.heap_bytes) {
            info.heap_pa = start;
            info.heap_bytes = left[i].end - start;
        }
    }
}

void boot_parse(uint32_t kind, uint64_t pa)
{
    enum { BOOT_MULTIBOOT = 1, BOOT_PVH, BOOT_LINUX };
    const struct yod_launch *launch;

    switch (kind) {
    case BOOT_MULTIBOOT:
        parse_multiboot((const void *)pa);
        break;
    case BOOT_PVH:
        parse_pvh((const void *)pa);
        break;
    case BOOT_LINUX:
        parse_linux((const void *)pa);
        break;
    }
    divide_ram();
    launch = (const void *)machine.module.start;
    if (machine.module.end - machine.module.start >= sizeof(*launch) &&
        machine.module.end <= 4 * LWK_PAGE_1G) {
        info.module_pa = machine.module.start;
        info.module_bytes = machine.module.end - machine.module.start;
        machine.unix_ns = launch->magic == YOD_LAUNCH_MAGIC ? launch->unix_ns : 0;
    }
    machine.yod = inl(YOD_PORT + YOD_REG_MAGIC) == YOD_MAGIC;
    info.yod = machine.yod;
}
