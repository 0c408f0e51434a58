/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the seed corpora, DIRECTORY/TARGET/NAME, made from the images that the unit tests use. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../test/packed.h"
#include "protocol.h"
#include "vmmhpc.h"
#include "vmmhpc_devices.h"
#include "vmmhpc_unpack.h"
#include "wire.h"

static const char *root;
static struct image image;

static void store(const char *target, const char *name)
{
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", root, target);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof(path), "%s/%s/%s", root, target, name);
    file = fopen(path, "w");
    if (file == NULL || fwrite(image.data, 1, image.bytes, file) != image.bytes ||
        fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void bzimages(void)
{
    image_bzimage(&image);
    store("bzimage", "plain");
    store("boot", "bzimage");
    image_set(&image, 0x258, 0, 8); /* no preferred address */
    store("bzimage", "no-preference");
    image_set(&image, 0x234, 0, 1);
    store("bzimage", "fixed");
    image_bzimage(&image);
    image_set(&image, 0x258, 0x1f00000, 8); /* up to the end of RAM: the initrd goes below */
    store("bzimage", "high");
    store("boot", "bzimage-high");
    image_set(&image, 0x22c, 0x17fffff, 4); /* initrd_addr_max */
    store("bzimage", "initrd-low");
    image_bzimage(&image);
    image_set(&image, 0x1f4, 0x21, 4); /* the smallest code */
    image.bytes = IMAGE_CODE_OFFSET + 0x210;
    store("bzimage", "small");
}

static void elves(void)
{
    uint64_t entry = IMAGE_ENTRY;

    image_elf64(&image);
    image_linux_note(&image);
    store("elf", "linux");
    store("boot", "linux");
    image_pvh_note(&image, IMAGE_ENTRY, 4);
    store("elf", "linux-pvh");
    image_elf64(&image);
    image_pvh_note(&image, IMAGE_ENTRY, 8);
    store("elf", "pvh");
    store("boot", "pvh");
    image_elf64(&image);
    image_pvh_note(&image, IMAGE_ENTRY, 4);
    image_segment(&image, 1)->p_paddr = 0x1ffd000; /* up to the end of RAM */
    image.bytes++;                                 /* another size of the initrd */
    store("elf", "high");
    image_elf64(&image);
    image_note(&image, "GNU", 3, "123456789", 9, 8);
    image_note(&image, "Xen", 18, &entry, 8, 8);
    store("elf", "pvh-align-8");
    image_elf32(&image);
    image_pvh_note(&image, IMAGE_ENTRY, 4);
    store("elf", "pvh-32");
    image_elf64(&image);
    image_header(&image)->e_entry = IMAGE_KERNEL_MAP + IMAGE_TEXT;
    memcpy(image.data + 0x1100, "Linux version 3", 16);
    store("elf", "virtual");
    image_header(&image)->e_entry = IMAGE_ENTRY;
    store("boot", "old-linux");
}

static void multiboots(void)
{
    image_multiboot_flat(&image);
    store("multiboot", "addresses");
    store("boot", "multiboot");
    image_elf32(&image);
    image_multiboot(&image, IMAGE_TEXT_OFFSET, 3, NULL);
    store("multiboot", "elf32");
    image_elf64(&image);
    image_multiboot(&image, IMAGE_TEXT_OFFSET, 0, NULL);
    store("multiboot", "elf64");
}

static void flats(void)
{
    memset(&image, 0, sizeof(image));
    image.bytes = 41;
    image_set(&image, 0, 1, 1);
    image_set(&image, 1, 0x7c00, 8);
    memset(image.data + 9, 0xf4, 32);
    store("flat", "16");
    image_set(&image, 0, 0, 1);
    image_set(&image, 1, 0x100000, 8);
    store("flat", "64");
}

static void packed(void)
{
    static const struct {
        const char *name;
        uint32_t format;
    } formats[] = {{"elf", VMMHPC_PAYLOAD_ELF},
                   {"lz4", VMMHPC_PAYLOAD_LZ4},
                   {"gzip", VMMHPC_PAYLOAD_GZIP},
                   {"xz", VMMHPC_PAYLOAD_XZ},
                   {"zstd", VMMHPC_PAYLOAD_ZSTD}};

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        uint32_t length;

        if (!packed_image(&image, formats[i].format, 0)) {
            continue;
        }
        /* Only what matters: the file ends with its payload. */
        memcpy(&length, image.data + 0x24c, sizeof(length));
        image.bytes = IMAGE_CODE_OFFSET + 0x300 + length;
        store("unpack", formats[i].name);
    }
}

/* Add two ranges, access them at either end and between, remove one. */
static void dispatch(void)
{
    static const struct {
        uint8_t what;
        uint8_t id;
        uint64_t address;
        uint64_t value;
    } steps[] = {{0, 1, 0x100, 7}, {0, 2, 0x200, 0xff},   {2, 0, 0x100, 0},     {2, 2, 0x104, 5},
                 {2, 3, 0x101, 5}, {3, 4, 0x2ff, 9},      {2, 0, 0x180, 0},     {1, 0, 0, 0},
                 {2, 0, 0x100, 0}, {0, 3, UINT64_MAX, 0}, {2, 0, UINT64_MAX, 0}};

    memset(&image, 0, sizeof(image));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        image_set(&image, i * 20, steps[i].what, 1);
        image_set(&image, i * 20 + 1, steps[i].id, 1);
        image_set(&image, i * 20 + 2, steps[i].address, 8);
        image_set(&image, i * 20 + 10, steps[i].value, 8);
        image.bytes = (i + 1) * 20;
    }
    store("dispatch", "ranges");
}

/* As a driver starts the chip, sends and receives; then until the transmitter is full. */
static void uart(void)
{
    static const uint8_t start[] = {9,  3, 0x80, 9,  0, 1, 9,   1, 0, 9, 3, 3, 9,   2, 0xc7, 9,  4,
                                    11, 9, 1,    15, 2, 0, 'a', 6, 2, 0, 1, 5, 'x', 0, 0,    255};

    memset(&image, 0, sizeof(image));
    memcpy(image.data, start, sizeof(start));
    image.bytes = sizeof(start);
    store("uart", "driver");
    for (uint32_t i = 0; i < 300; i++) {
        image.data[image.bytes] = i < 260 ? 2 : 9;
        image.data[image.bytes + 2] = (uint8_t)i;
        image.bytes += 3;
    }
    store("uart", "full");
}

/* fuzz_snapshot.c: a good file, one with a base, and one that is compressed; one with another byte
 * in the UART's; a header alone. */
static void snapshot(void)
{
    memset(&image, 0, sizeof(image));
    image.bytes = 1;
    store("snapshot", "good");
    image.data[0] = 2;
    store("snapshot", "based");
    image.data[0] = 4;
    store("snapshot", "compressed");
    image.data[0] = 0;
    image_set(&image, 1, 0x00ff0020, 4);
    image.bytes = 5;
    store("snapshot", "changed");
    memset(&image, 0, sizeof(image));
    image.data[0] = 1;
    image.bytes = 65;
    store("snapshot", "header");
}

/* fuzz_packed.c: a good file; one with another byte in a frame; one that is a tail alone. */
static void compressed(void)
{
    static const uint8_t tail[] = {0x56, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
    memset(&image, 0, sizeof(image));
    image.bytes = 1;
    store("packed", "good");
    image_set(&image, 1, 0x00ff0010, 4);
    image.bytes = 5;
    store("packed", "changed");
    image.data[0] = 1;
    memcpy(image.data + 1, tail, sizeof(tail));
    image.bytes = 1 + sizeof(tail);
    store("packed", "nothing");
}

/* A client's two packets; fuzz_dhcp.c puts the header right. */
static void dhcp(void)
{
    static const uint8_t discover[] = {53, 1, 1, 55, 3, 1, 3, 6, 255};
    static const uint8_t request[] = {53, 1, 3, 50, 4, 10, 0, 0, 2, 54, 4, 10, 0, 0, 1, 255};
    const uint8_t *const options[] = {discover, request};
    const size_t bytes[] = {sizeof(discover), sizeof(request)};
    static const char *const names[] = {"discover", "request"};

    for (size_t i = 0; i < 2; i++) {
        memset(&image, 0, sizeof(image));
        memcpy(image.data + 240, options[i], bytes[i]);
        image.bytes = 300;
        store("dhcp", names[i]);
    }
}

/* Each call of fuzz_yod.c after the opening of a file and of a directory, with some usual
 * arguments. */
static void yod(void)
{
    static const uint8_t opened[] = {0, 0, 1, 19, 0, 3, 0xff, 0, 0, 0, 19, 0, 0};
    static const uint8_t arguments[][16] = {
        {0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a, 0x4a},
        {1, 19, 0, 1, 19, 7, 0, 8, 0, 8, 0},           /* two paths: TREE/rw/file, TREE/rw/new */
        {0x4b, 0, 0, 0x4b, 0, 7, 0, 8, 0, 8},          /* from the directory: file, new */
        {0, 1, 0, 7, 8, 1, 2, 1, 9, 8, 7, 3, 2, 1, 4}, /* from the cwd: sub/../.. */
        {1, 19, 6, 10, 1, 19, 6, 10, 8, 8, 8},         /* through a link that leads out */
        {0, 23, 9, 8, 9, 8, 9, 8},                     /* of yod's making: /dev/null */
        {0x48, 10, 5, 5, 0x49, 10, 64, 64},            /* standard streams */
    };
    /* A directory that yod makes, opened and listed in both ways; its files. */
    static const uint8_t listed[] = {0, 0, 0,    37, 0,  0, 0,  22,   0x4a, 6, 0,  21, 0x4a, 6,
                                     0, 8, 0x4a, 0,  0,  0, 21, 0x4a, 10,   0, 0,  0,  33,   0,
                                     0, 0, 0,    0,  35, 0, 0,  0,    0,    0, 36, 0,  0};
    char name[32];

    memset(&image, 0, sizeof(image));
    memcpy(image.data, listed, sizeof(listed));
    image.bytes = sizeof(listed);
    store("yod", "listed");
    for (uint32_t call = 0; call < 72; call++) {
        for (uint32_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++) {
            memset(&image, 0, sizeof(image));
            memcpy(image.data, opened, sizeof(opened));
            image.data[sizeof(opened) + 1] = (uint8_t)call;
            memcpy(image.data + sizeof(opened) + 2, arguments[i], sizeof(arguments[i]));
            image.bytes = sizeof(opened) + 2 + sizeof(arguments[i]);
            (void)snprintf(name, sizeof(name), "call%u-%u", call, i);
            store("yod", name);
        }
    }
}

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static void put_descs(uint64_t at, const struct desc *descs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, at += 16) {
        image_set(&image, at, descs[i].addr, 8);
        image_set(&image, at + 8, descs[i].len, 4);
        image_set(&image, at + 12, descs[i].flags, 2);
        image_set(&image, at + 14, descs[i].next, 2);
    }
}

/* Index, and the heads in the ring. */
static void put_avail(uint64_t at, uint32_t count, const uint8_t *heads)
{
    image_set(&image, at + 2, count, 2);
    for (uint32_t i = 0; i < count; i++) {
        image_set(&image, at + 4 + 2ull * i, heads[i], 2);
    }
}

static void put_steps(const uint8_t (*steps)[4], uint32_t count)
{
    memcpy(image.data + image.bytes, steps, 4ull * count);
    image.bytes += 4ull * count;
}

/* fuzz_virtqueue.c: direct, indirect and split buffers, popped and pushed. */
static void virtqueue(void)
{
    static const struct desc descs[] = {{0x3000, 16, 1, 1},
                                        {0x4000, 512, 3, 2},
                                        {0x5000, 1, 2, 0},
                                        {0x800, 48, 4, 0},
                                        {0xffff0, 32, 0, 0}};
    static const uint8_t heads[] = {0, 3, 4};
    static const uint8_t steps[][4] = {{5}, {5}, {3, 0, 0, 7}, {3, 0, 0, 1}, {4}, {1, 2}, {5}};

    for (uint32_t event_idx = 0; event_idx < 2; event_idx++) {
        memset(&image, 0, sizeof(image));
        image_set(&image, 0, 3 | event_idx << 4, 1); /* 8 entries */
        image_set(&image, 4, 0x1800, 2);
        put_descs(16, descs, 5);
        put_descs(16 + 0x800, descs, 3);
        put_avail(16 + 0x1000, 3, heads);
        image.bytes = 16 + 0x1800;
        put_steps(steps, sizeof(steps) / 4);
        store("virtqueue", event_idx != 0 ? "event-idx" : "flags");
    }
}

/* fuzz_virtio_small.c: rings of queues 0, 1, 2 and 4; page numbers at 0xc00; a kick of each queue,
 * the host's side, the configuration, a reset. */
static void virtio_small(void)
{
    static const char *const names[] = {"rng", "hvc", "balloon", "pmem"};
    static const struct desc descs[4][2] = {{{0x80000, 64, 2, 0}, {0x81000, 100, 3, 0}},
                                            {{0x80000, 64, 2, 0}, {0x81000, 9000, 0, 0}},
                                            {{0xc00, 12, 0, 0}, {0x80000, 8192, 2, 0}},
                                            {{0xc40, 4, 1, 1}, {0xc80, 4, 2, 0}}};
    /* hvc: receive into 0, transmit from 1; balloon: numbers in 0, pages in 1 */
    static const uint8_t steps[][4] = {{2, 1},          {5, 0, 65, 9}, {2, 0},         {2, 2},
                                       {2, 4},          {5, 2, 0, 1},  {5, 1, 0, 200}, {5, 2, 1, 4},
                                       {4, 0x44, 9},    {4, 0x48, 66}, {1, 0, 2},      {1, 1, 3},
                                       {7, 0, 0, 0x93}, {2, 0},        {2, 1}};

    for (uint32_t kind = 0; kind < 4; kind++) {
        memset(&image, 0, sizeof(image));
        image_set(&image, 0, kind | 3 << 2, 1);
        image_set(&image, 1, kind == 2 ? 0x93 : 3, 1); /* rings' features, reporting */
        image_set(&image, 2, 0x4d00, 2);
        for (uint32_t queue = 0; queue < 5; queue++) {
            uint64_t page = 4 + 0x1000ull * queue;
            uint8_t heads[2] = {kind == 1 ? queue & 1 : kind == 2 && queue > 1, 1};

            put_descs(page, descs[kind], 2);
            put_avail(page + 0x400, 1, heads);
        }
        image_set(&image, 4 + 0xc00, kind == 3 ? 0 : 256, 4);
        image_set(&image, 4 + 0xc04, kind == 3 ? 0 : 257, 4);
        image_set(&image, 4 + 0xc08, kind == 3 ? 0 : 300, 4);
        image.bytes = 4 + 0x4d00;
        put_steps(steps, sizeof(steps) / 4);
        store("virtio_small", names[kind]);
    }
}

/* fuzz_pci.c: a driver that does all in order, on both devices, then masks its vector. */
static void pci(void)
{
    struct access {
        uint8_t kind, slot;
        uint16_t offset;
        uint32_t value;
    };
    enum { BAR0 = 2, BAR2 = 3, RAM = 5, SERVE = 6, ON = 7, OUT = 8, W1 = 0, W2 = 16, W4 = 32 };
    static const struct access accesses[] = {
        {ON, 0, 0, 0},
        {BAR2 | OUT | W4, 0, 16, 0xfee00000},
        {BAR2 | OUT | W4, 0, 24, 0x41},
        {BAR2 | OUT | W4, 0, 28, 0},
        {0 | OUT | W2, 0, 0x42, 0x8000},
        {BAR0 | OUT | W1, 0, 20, 3},
        {BAR0 | OUT | W4, 0, 8, 1},
        {BAR0 | OUT | W4, 0, 12, 1},
        {BAR0 | OUT | W1, 0, 20, 11},
        {BAR0 | OUT | W2, 0, 22, 0},
        {BAR0 | OUT | W2, 0, 24, 8},
        {BAR0 | OUT | W2, 0, 26, 1},
        {BAR0 | OUT | W4, 0, 32, 0x1000},
        {BAR0 | OUT | W4, 0, 40, 0x2000},
        {BAR0 | OUT | W4, 0, 48, 0x3000},
        {BAR0 | OUT | W2, 0, 28, 1},
        {BAR0 | OUT | W1, 0, 20, 15},
        {RAM, 0, 0x1000 / 4, 0x4000},
        {RAM, 0, 0x1008 / 4, 64},
        {RAM, 0, 0x100c / 4, 2},
        {RAM, 0, 0x2000 / 4, 0x00010000},
        {BAR0 | OUT | W2, 0, 0x3000, 0},
        {SERVE, 0, 0, 0},
        {BAR0 | W1, 0, 0x1000, 0},
        {BAR0 | W4, 0, 0x2000, 0},
        {BAR2 | OUT | W4, 0, 28, 1},
        {BAR0 | OUT | W1, 0, 20, 0},
        {0 | OUT | W4, 1, 0x10, 0xc0004000},
        {0 | OUT | W4, 1, 0x14, 0},
        {ON, 1, 0, 0},
        {BAR0 | W4, 1, 0, 0},
        {4 | OUT | W4, 0, 0, 0x80000800},
        {4 | W4, 0, 4, 0},
    };
    memset(&image, 0, sizeof(image));
    memcpy(image.data, accesses, sizeof(accesses));
    image.bytes = sizeof(accesses);
    store("pci", "driver");
}

/* fuzz_shm.c: a peer comes, is rung, rings, changes its state and leaves; by INTx and by MSI-X. */
static void shm(void)
{
    struct step {
        uint8_t kind, more;
        uint16_t offset;
        uint32_t value;
    };
    enum { REG = 0, WINDOW = 1, MSIX = 2, CONFIG = 3, SAY = 4, SERVE = 5, RESET = 6, ON = 7 };
    enum { OUT = 8, W2 = 16, W4 = 32 };
    static const struct step all[] = {
        {ON, 0, 0, 0},
        {SAY, 5, 0, 2},
        {SERVE, 0, 0, 0},
        {REG | OUT | W4, 0, 0x08, 1},
        {SERVE, 0, 0, 0},
        {REG | W4, 0, 0x00, 0},
        {REG | W4, 0, 0x04, 0},
        {REG | W4, 0, 0x08, 0},
        {REG | OUT | W4, 0, 0x0c, 0x20001},
        {REG | OUT | W4, 0, 0x10, 7},
        {REG | W4, 0, 0x10, 0},
        {CONFIG | OUT | W2, 0, 0x04, 0x406},
        {SAY, 7, 0, 2},
        {SERVE, 0, 0, 0},
        {CONFIG | OUT | W2, 0, 0x04, 6},
        {SERVE, 0, 0, 0},
        {MSIX | OUT | W4, 0, 0, 0xfee00000},
        {MSIX | OUT | W4, 0, 8, 0x41},
        {MSIX | OUT | W4, 0, 12, 0},
        {CONFIG | OUT | W2, 0, 0x42, 0x8000},
        {SAY, 6, 0, 2},
        {SERVE, 0, 0, 0},
        {WINDOW | OUT | W4, 0, 0, 9},
        {RESET, 0, 0, 0},
        {ON, 0, 0, 0},
        {SAY, 9, 0, 0},
        {SERVE, 0, 0, 0},
    };
    memset(&image, 0, sizeof(image));
    memcpy(image.data, all, sizeof(all));
    image.bytes = sizeof(all);
    store("shm", "life");
}

/* fuzz_vfio.c: a driver finds its BARs, goes through the registers, and turns MSI-X on. */
static void vfio(void)
{
    struct step {
        uint8_t kind, more;
        uint16_t offset;
        uint32_t value;
    };
    enum { BAR0 = 0, BAR1 = 1, CONFIG = 2, BARS = 3, BAR4 = 4, STATUS = 5, RESET = 6, ON = 7 };
    enum { OUT = 8, W2 = 16, W4 = 32, W8 = 48 };
    static const struct step all[] = {
        {ON, 0, 0, 0},
        {BARS | OUT, 0, 0x00, 0xffffffff},
        {BARS, 0, 0x00, 0},
        {BARS | OUT, 0, 0x00, 0xc0100000},
        {BAR0 | OUT | W4, 0, 0x40, 1},
        {BAR0 | W8, 0, 0x40, 0},
        {BAR1 | OUT | W2, 0, 0x02, 5},
        {CONFIG | W4, 0, 0x60, 0},
        {CONFIG | OUT | W4, 0, 0x68, 7},
        {CONFIG | OUT | W4, 0, 0x88, 0x5810},
        {BAR4 | OUT | W4, 0, 0x1010, 0xfee00000},
        {BAR4 | OUT | W4, 0, 0x101c, 0},
        {CONFIG | OUT | W2, 0, 0x72, 0x8000},
        {BAR4 | W8, 0, 0x3000, 0},
        {STATUS, 0, 0, 0x18},
        {CONFIG | W2, 0, 0x06, 0},
        {CONFIG | OUT | W2, 0, 0x04, 0x402},
        {CONFIG | OUT | W2, 0, 0x72, 0},
        {RESET, 0, 0, 0},
        {ON, 0, 0, 0},
    };
    memset(&image, 0, sizeof(image));
    memcpy(image.data, all, sizeof(all));
    image.bytes = sizeof(all);
    store("vfio", "life");
    image.data[0] |= 0x80;
    image.data[1] = 0x21;
    image.data[2] = 0x80;
    store("vfio", "spoilt");
}

/* For targets whose input is a list of steps, any of which makes sense: a fixed "random" list. */
static void steps(const char *target, uint32_t count)
{
    uint32_t state = 1;
    for (uint32_t i = 0; i < count; i++) {
        char name[32];
        image.bytes = 512;
        for (uint32_t n = 0; n < image.bytes; n++) {
            state = state * 1664525u + 1013904223u;
            image.data[n] = (uint8_t)(state >> 24);
        }
        image.data[0] = (uint8_t)i; /* which disk, which back end */
        (void)snprintf(name, sizeof(name), "steps-%u", i);
        store(target, name);
    }
}

/* fuzz_gdb.c: what gdb says, each packet behind its length; bit 15: then the machine stops. */
static void gdb(void)
{
    static const char *const sessions[][12] = {
        {"qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+", "QStartNoAckMode",
         "qXfer:features:read:target.xml:0,ffb", "Hg0", "?", "qfThreadInfo", "qsThreadInfo",
         "qThreadExtraInfo,1", "g", "p10", "m1000,40", "D"},
        {"Z0,1000,1", "Z1,2000,1", "Z2,3000,4", "vCont?", "!vCont;c", "z0,1000,1", "!vCont;s:1;c",
         "M1000,4:00112233", "X1000,2:ab", "P10=0000000000100000", "qRcmd,68656c70", "k"},
        {"Hc-1", "!c", "!s", "T1", "qC", "qAttached", "G00", "m0,0", "Z3,10,8", "Z4,18,8", "!c",
         "z4,18,8"},
    };
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
        char name[32];
        image.bytes = 0;
        for (size_t n = 0; n < sizeof(sessions[i]) / sizeof(sessions[i][0]); n++) {
            const char *text = sessions[i][n];
            bool stops = *text == '!';
            size_t length = strlen(text + stops);
            image.data[image.bytes++] = (uint8_t)length;
            image.data[image.bytes++] = (uint8_t)(length >> 8 | (stops ? 0x80 : 0));
            memcpy(image.data + image.bytes, text + stops, length);
            image.bytes += length;
        }
        (void)snprintf(name, sizeof(name), "session-%zu", i);
        store("gdb", name);
    }
}

/* fuzz_control.c: requests, each behind flags (descriptors from bit 4 on), length and number. */
static void record(uint8_t flags, uint8_t type, const struct vh_wire *payload)
{
    image.data[image.bytes++] = flags;
    image.data[image.bytes++] = (uint8_t)payload->bytes;
    image.data[image.bytes++] = (uint8_t)(payload->bytes >> 8);
    image.data[image.bytes++] = type;
    memcpy(image.data + image.bytes, payload->data, payload->bytes);
    image.bytes += payload->bytes;
}

static void put_file(struct vh_wire *wire, const char *path, uint32_t flags)
{
    vh_put_text(wire, path);
    vh_put_u32(wire, flags);
    vh_put_u32(wire, 0);
}

static void control_setup(void)
{
    uint8_t data[1024];
    struct vh_wire wire;
    image.bytes = 0;
    vh_wire_init(&wire, data, sizeof(data));
    vh_put_u32(&wire, 1);
    put_file(&wire, "disk", 2);
    vh_put_u32(&wire, 0);
    vh_put_text(&wire, "disk");
    vh_put_text(&wire, NULL);
    vh_put_text(&wire, "serial");
    record(0x10, VH_REQUEST_ADD_BLK, &wire);
    vh_wire_init(&wire, data, sizeof(data));
    vh_put_u32(&wire, 0);
    vh_put_u32(&wire, 0);
    vh_put_u32(&wire, VMMHPC_NET_LINK);
    vh_put_bytes(&wire, "\x02\0\0\0\0\1", 6);
    vh_put_u32(&wire, 1500);
    record(0x10, VH_REQUEST_ADD_NET, &wire);
    vh_wire_init(&wire, data, sizeof(data));
    record(0, VH_REQUEST_ADD_RNG, &wire);
    record(0, VH_REQUEST_ADD_BALLOON, &wire);
    vh_put_u32(&wire, 1);
    vh_put_u32(&wire, 1);
    vh_put_u32(&wire, 80);
    vh_put_u32(&wire, 25);
    record(0x20, VH_REQUEST_ADD_HVC, &wire);
    vh_wire_init(&wire, data, sizeof(data));
    vh_put_u32(&wire, 1);
    put_file(&wire, "pmem", 2);
    vh_put_u32(&wire, 0);
    vh_put_text(&wire, "pmem");
    record(0x10, VH_REQUEST_ADD_PMEM, &wire);
    vh_wire_init(&wire, data, sizeof(data));
    vh_put_bytes(&wire, "0123456789abcdef", 16);
    record(0, VH_REQUEST_ADD_GENERATION, &wire);
    vh_wire_init(&wire, data, sizeof(data));
    vh_put_u32(&wire, 2);
    put_file(&wire, "kernel", 0);
    put_file(&wire, "initrd", 0);
    vh_put_u32(&wire, VMMHPC_IMAGE_FLAT64);
    vh_put_u64(&wire, 0x100000);
    vh_put_text(&wire, "kernel");
    vh_put_text(&wire, "initrd");
    vh_put_text(&wire, "console=ttyS0");
    record(0x20, VH_REQUEST_LOAD, &wire);
    store("control", "setup");
}

static void control(void)
{
    static const uint8_t plain[] = {
        VH_REQUEST_PING,  VH_REQUEST_INFO,        VH_REQUEST_RESUME,
        VH_REQUEST_RESET, VH_REQUEST_EVENTS,      VH_REQUEST_STATS,
        VH_REQUEST_QUIT,  VH_REQUEST_STATUS_PAGE, VH_REQUEST_BALLOON_GET};
    uint8_t data[64];
    struct vh_wire wire;
    control_setup();
    image.bytes = 0;
    vh_wire_init(&wire, data, sizeof(data));
    for (size_t i = 0; i < sizeof(plain); i++) {
        record(i == 0 ? 2 : 0, plain[i], &wire);
    }
    store("control", "plain");
    image.bytes = 0;
    vh_put_u32(&wire, 1);
    record(2, VH_REQUEST_CONSOLE_OPEN, &wire);
    record(2, VH_REQUEST_KVM_STATS, &wire);
    vh_put_u32(&wire, 1);
    record(0, VH_REQUEST_CONSOLE_DETACH, &wire);
    record(0, VH_REQUEST_IRQ_SET, &wire);
    record(0, VH_REQUEST_BALLOON_SET, &wire);
    vh_put_u64(&wire, 7);
    record(0, VH_REQUEST_GENERATION_SET, &wire);
    store("control", "arguments");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds DIRECTORY\n");
        return 2;
    }
    root = argv[1];
    (void)mkdir(root, 0777);
    bzimages();
    elves();
    multiboots();
    flats();
    packed();
    dispatch();
    uart();
    dhcp();
    snapshot();
    compressed();
    yod();
    virtqueue();
    virtio_small();
    pci();
    shm();
    vfio();
    steps("virtio_blk", 6);
    steps("virtio_net", 6);
    gdb();
    control();
    return 0;
}
