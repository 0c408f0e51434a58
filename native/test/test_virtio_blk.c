/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk from the driver's side, on each engine and store (virtio 1.2, 5.2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "virtio/blk.h"
#include "virtio_rig.h"

#define SECTORS 4096u /* 2 MiB */
#define WRITE_BACK                                                                                 \
    (1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES)
#define PATIENCE_MS 10000

enum kind { URING, DIRECT, THREAD, OVERLAY, KINDS };

struct disk {
    struct vh_virtio *device;
    struct virtio_rig *rig;
    struct vmmhpc_error err;
    struct vmmhpc_blk config;
    char path[200];
    char overlay[208];
};

static void make_file(struct disk *disk)
{
    const char *where = getenv("TMPDIR");
    uint8_t sector[512];
    int fd;

    (void)snprintf(disk->path, sizeof(disk->path), "%.150s/v3m-blk-XXXXXX",
                   where == NULL ? "/tmp" : where);
    fd = mkstemp(disk->path);
    CHECK(fd >= 0);
    for (uint32_t i = 0; i < SECTORS; i++) {
        memset(sector, (int)(i & 0xff), sizeof(sector));
        memcpy(sector, &i, sizeof(i));
        CHECK_EQ(write(fd, sector, sizeof(sector)), sizeof(sector));
    }
    (void)close(fd);
    (void)snprintf(disk->overlay, sizeof(disk->overlay), "%s.overlay", disk->path);
}

static struct disk *disk_closed(void)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    disk->err.size = sizeof(disk->err);
    make_file(disk);
    disk->config.size = sizeof(disk->config);
    disk->config.path = disk->path;
    disk->config.serial = "SERIAL-0123456789abc";
    return disk;
}

static bool disk_open(struct disk *disk)
{
    if (!CHECK_OK(vh_blk_new(NULL, &disk->config, NULL, &disk->device, &disk->err), &disk->err)) {
        return false;
    }
    disk->rig = virtio_rig_new(disk->device);
    return true;
}

static void disk_drop(struct disk *disk)
{
    if (disk->rig != NULL) {
        virtio_rig_free(disk->rig);
    }
    (void)unlink(disk->path);
    (void)unlink(disk->overlay);
    free(disk);
}

static struct disk *disk_kind(enum kind kind, uint32_t flags)
{
    struct disk *disk = disk_closed();

    disk->config.flags = flags | (kind == DIRECT ? VMMHPC_BLK_DIRECT : 0) |
                         (kind == THREAD ? VMMHPC_BLK_NO_URING : 0);
    if (kind == OVERLAY) {
        CHECK_OK(vmmhpc_overlay_create(disk->overlay, disk->path, &disk->err), &disk->err);
        disk->config.overlay_path = disk->overlay;
    }
    (void)disk_open(disk);
    return disk;
}

static struct disk *disk_started(enum kind kind)
{
    struct disk *disk = disk_kind(kind, 0);

    CHECK_OK(virtio_rig_start(disk->rig, WRITE_BACK), &disk->rig->err);
    return disk;
}

/* ------------------------------------------------------------------ requests */

static void put_header(uint8_t *at, uint32_t type, uint64_t sector)
{
    memset(at, 0, 16);
    memcpy(at, &type, sizeof(type));
    memcpy(at + 8, &sector, sizeof(sector));
}

static uint64_t header_at(struct disk *disk, uint32_t type, uint64_t sector)
{
    uint8_t header[16];

    put_header(header, type, sector);
    return virtio_rig_put(disk->rig, header, sizeof(header));
}

static bool used(struct disk *disk, uint32_t *id, uint32_t *written)
{
    while (!virtio_rig_used(disk->rig, 0, id, written)) {
        if (!CHECK(virtio_rig_ready(vh_blk_source(disk->device), EPOLLIN, PATIENCE_MS) != 0)) {
            return false;
        }
    }
    return true;
}

/* A request of three buffers; its status, and what the device says that it wrote. */
static uint8_t ask_for(struct disk *disk, uint32_t type, uint64_t sector, uint64_t data,
                       uint32_t bytes, bool writable, uint32_t *written)
{
    uint8_t unanswered = 0xee;
    uint64_t status = virtio_rig_put(disk->rig, &unanswered, 1);
    struct rig_buffer chain[3] = {
        {header_at(disk, type, sector), 16, false}, {data, bytes, writable}, {status, 1, true}};

    CHECK(virtio_rig_add(disk->rig, 0, chain, 3) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    return used(disk, NULL, written) ? *(uint8_t *)virtio_rig_at(disk->rig, status, 1) : 0xff;
}

static uint8_t ask(struct disk *disk, uint32_t type, uint64_t sector, uint64_t data, uint32_t bytes,
                   bool writable)
{
    return ask_for(disk, type, sector, data, bytes, writable, NULL);
}

static uint8_t ask_range(struct disk *disk, uint32_t type, uint64_t sector, uint32_t count,
                         uint32_t flags)
{
    uint8_t range[16];

    memcpy(range, &sector, 8);
    memcpy(range + 8, &count, 4);
    memcpy(range + 12, &flags, 4);
    return ask(disk, type, 0, virtio_rig_put(disk->rig, range, 16), 16, false);
}

static bool sector_is(struct disk *disk, uint64_t gpa, uint32_t sector)
{
    uint8_t expected[512];

    memset(expected, (int)(sector & 0xff), sizeof(expected));
    memcpy(expected, &sector, sizeof(sector));
    return memcmp(virtio_rig_at(disk->rig, gpa, 512), expected, 512) == 0;
}

static bool all_are(struct disk *disk, uint64_t gpa, uint32_t bytes, uint8_t value)
{
    const uint8_t *at = virtio_rig_at(disk->rig, gpa, bytes);

    for (uint32_t i = 0; i < bytes; i++) {
        if (at[i] != value) {
            return false;
        }
    }
    return true;
}

static uint64_t filled(struct disk *disk, uint32_t bytes, uint8_t value)
{
    uint64_t gpa = virtio_rig_alloc(disk->rig, bytes);

    memset(virtio_rig_at(disk->rig, gpa, bytes), value, bytes);
    return gpa;
}

/* ------------------------------------------------------------------ tests */

TEST(blk_configuration)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_kind((enum kind)kind, 0);
        const uint64_t features = disk->device->features;

        CHECK_EQ(disk->device->id, 2);
        CHECK_EQ(virtio_rig_config(disk->rig, 0, 8), SECTORS);
        CHECK_EQ(virtio_rig_config(disk->rig, 12, 4), 254);
        CHECK((features >> VIRTIO_BLK_F_FLUSH & 1) != 0);
        CHECK((features >> VIRTIO_BLK_F_RO & 1) == 0);
        CHECK_EQ(virtio_rig_config(disk->rig, 20, 4) % 512, 0);
        CHECK_EQ(disk->device->config_bytes, 60);
        if ((features >> VIRTIO_BLK_F_DISCARD & 1) != 0) {
            CHECK_EQ(virtio_rig_config(disk->rig, 40, 4), 1); /* segments */
            CHECK(virtio_rig_config(disk->rig, 36, 4) > 0);
            CHECK(virtio_rig_config(disk->rig, 44, 4) > 0);
        }
        if (kind == THREAD || kind == OVERLAY) {
            CHECK(!vh_blk_has_uring(disk->device));
        }
        disk_drop(disk);
    }
}

TEST(blk_reads_and_writes)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = virtio_rig_alloc(disk->rig, 8192);
        uint32_t written = 0;

        CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_IN, 5, data, 8192, true, &written), 0);
        CHECK_EQ(written, 8193);
        for (uint32_t i = 0; i < 16; i++) {
            CHECK(sector_is(disk, data + i * 512ull, 5 + i));
        }
        CHECK_EQ(
            ask_for(disk, VIRTIO_BLK_T_OUT, 7, filled(disk, 1024, 0xa5), 1024, false, &written), 0);
        CHECK_EQ(written, 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 6, data, 2048, true), 0);
        CHECK(sector_is(disk, data, 6));
        CHECK(all_are(disk, data + 512, 1024, 0xa5));
        CHECK(sector_is(disk, data + 1536, 9));
        /* The last sectors, and addresses that O_DIRECT does not take. */
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, SECTORS - 1, filled(disk, 528, 0x5a) + 16, 512, false),
                 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, SECTORS - 2, data + 16, 1024, true), 0);
        CHECK(sector_is(disk, data + 16, SECTORS - 2));
        CHECK(all_are(disk, data + 16 + 512, 512, 0x5a));
        CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_IN, SECTORS, data, 0, true, &written), 0); /* nothing */
        CHECK_EQ(written, 1);
        disk_drop(disk);
    }
}

TEST(blk_the_file_has_what_was_written)
{
    for (int kind = URING; kind <= THREAD; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint8_t buffer[1024];
        int fd = open(disk->path, O_RDONLY);

        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 100, filled(disk, 1024, 0x77), 1024, false), 0);
        CHECK_EQ(pread(fd, buffer, sizeof(buffer), 51200), sizeof(buffer));
        CHECK(buffer[0] == 0x77 && buffer[1023] == 0x77);
        (void)close(fd);
        disk_drop(disk);
    }
}

/* Header, data and status cut anywhere, and together in one buffer where that is possible. */
static void cut(struct disk *disk, uint32_t piece, bool indirect)
{
    struct rig_buffer chain[80];
    uint32_t count = 0;
    uint64_t header = header_at(disk, VIRTIO_BLK_T_IN, 9);
    uint64_t data = filled(disk, 513, 0xee);

    for (uint32_t at = 0; at < 16; at += piece) {
        uint32_t bytes = piece < 16 - at ? piece : 16 - at;

        chain[count++] = (struct rig_buffer){header + at, bytes, false};
    }
    for (uint32_t at = 0; at < 513; at += piece * 32) {
        uint32_t bytes = piece * 32 < 513 - at ? piece * 32 : 513 - at;

        chain[count++] = (struct rig_buffer){data + at, bytes, true};
    }
    CHECK((indirect ? virtio_rig_add_indirect(disk->rig, 0, chain, count)
                    : virtio_rig_add(disk->rig, 0, chain, count)) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    CHECK(used(disk, NULL, NULL));
    CHECK(sector_is(disk, data, 9));
    CHECK_EQ(*(uint8_t *)virtio_rig_at(disk->rig, data + 512, 1), 0);
}

/* A write whose header and data share a buffer. */
static void joined(struct disk *disk)
{
    uint64_t request = filled(disk, 16 + 1024, 0x3c);
    uint64_t status = filled(disk, 1, 0xee);
    struct rig_buffer chain[] = {
        {request, 100, false}, {request + 100, 940, false}, {status, 1, true}};

    put_header(virtio_rig_at(disk->rig, request, 16), VIRTIO_BLK_T_OUT, 20);
    CHECK(virtio_rig_add(disk->rig, 0, chain, 3) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    CHECK(used(disk, NULL, NULL));
    CHECK_EQ(*(uint8_t *)virtio_rig_at(disk->rig, status, 1), 0);
    CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 20, request, 1024, true), 0);
    CHECK(all_are(disk, request, 1024, 0x3c));
}

TEST(blk_framing_is_free)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);

        for (uint32_t piece = 1; piece <= 17; piece++) {
            cut(disk, piece, false);
            cut(disk, piece, true);
        }
        joined(disk);
        disk_drop(disk);
    }
}

TEST(blk_as_many_segments_as_told)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        struct rig_buffer chain[256];
        uint64_t data = virtio_rig_alloc(disk->rig, 254 * 1024ull);
        uint64_t status = filled(disk, 1, 0xee);

        chain[0] = (struct rig_buffer){header_at(disk, VIRTIO_BLK_T_IN, 300), 16, false};
        for (uint32_t i = 0; i < 254; i++) { /* not in the order of addresses */
            chain[1 + i] = (struct rig_buffer){data + (253 - i) * 1024ull, 512, true};
        }
        chain[255] = (struct rig_buffer){status, 1, true};
        CHECK(virtio_rig_add_indirect(disk->rig, 0, chain, 256) >= 0);
        (void)virtio_rig_kick(disk->rig, 0);
        CHECK(used(disk, NULL, NULL));
        CHECK_EQ(*(uint8_t *)virtio_rig_at(disk->rig, status, 1), 0);
        for (uint32_t i = 0; i < 254; i++) {
            CHECK(sector_is(disk, data + (253 - i) * 1024ull, 300 + i));
        }
        disk_drop(disk);
    }
}

TEST(blk_refuses_bad_requests)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = filled(disk, 4096, 0xcc);
        uint32_t written = 99;
        static const uint64_t sectors[] = {SECTORS,        SECTORS - 7, 1ull << 55,      1ull << 63,
                                           UINT64_MAX - 7, UINT64_MAX,  (1ull << 55) + 1};

        for (size_t i = 0; i < VH_COUNT(sectors); i++) {
            CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_IN, sectors[i], data, 4096, true, &written), 1);
            CHECK_EQ(written, 0); /* the status lies behind what was not written */
            CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, sectors[i], data, 4096, false), 1);
        }
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 0, data, 511, true), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 0, data, 513, false), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_SECURE_ERASE, 0, data, 512, false), 2);
        CHECK_EQ(ask(disk, 0xffffffff, 0, data, 512, false), 2);
        CHECK_EQ(ask(disk, 16, 0, data, 512, true), 2); /* a report of zones */
        CHECK(all_are(disk, data, 4096, 0xcc));
        CHECK(!disk->device->broken);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 3, data, 512, true), 0);
        CHECK(sector_is(disk, data, 3)); /* none of the writes took place */
        disk_drop(disk);
    }
}

TEST(blk_short_headers)
{
    struct disk *disk = disk_started(URING);
    uint64_t data = filled(disk, 600, 0xee);
    struct rig_buffer no_header[] = {{data, 513, true}};
    struct rig_buffer half[] = {{data, 15, false}, {data + 16, 1, true}};
    struct rig_buffer no_status[] = {{data, 16, false}};

    CHECK(virtio_rig_add(disk->rig, 0, no_header, 1) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    CHECK(used(disk, NULL, NULL));
    CHECK_EQ(*(uint8_t *)virtio_rig_at(disk->rig, data + 512, 1), 1);
    CHECK(virtio_rig_add(disk->rig, 0, half, 2) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    CHECK(used(disk, NULL, NULL));
    CHECK_EQ(*(uint8_t *)virtio_rig_at(disk->rig, data + 16, 1), 1);
    CHECK(!disk->device->broken);
    CHECK(virtio_rig_add(disk->rig, 0, no_status, 1) >= 0);
    (void)virtio_rig_kick(disk->rig, 0);
    CHECK(disk->device->broken);
    CHECK(!virtio_rig_used(disk->rig, 0, NULL, NULL));
    virtio_rig_reset(disk->rig);
    CHECK_OK(virtio_rig_start(disk->rig, WRITE_BACK), &disk->rig->err);
    CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 3, data, 512, true), 0);
    disk_drop(disk);
}

TEST(blk_identity)
{
    struct disk *disk = disk_started(URING);
    uint64_t data = filled(disk, 64, 0xee);
    uint32_t written = 0;

    CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_GET_ID, 0, data, 20, true, &written), 0);
    CHECK_EQ(written, 21);
    CHECK_EQ(memcmp(virtio_rig_at(disk->rig, data, 20), "SERIAL-0123456789abc", 20), 0);
    CHECK(all_are(disk, data + 20, 44, 0xee));
    CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_GET_ID, 0, data + 20, 30, true, &written), 0);
    CHECK_EQ(written, 20);
    CHECK(all_are(disk, data + 40, 24, 0xee));
    CHECK_EQ(ask_for(disk, VIRTIO_BLK_T_GET_ID, 0, data + 40, 6, true, &written), 0);
    CHECK_EQ(written, 7);
    CHECK_EQ(memcmp(virtio_rig_at(disk->rig, data + 40, 7), "SERIAL\xee", 7), 0);
    disk_drop(disk);
}

static bool can_discard(const struct disk *disk)
{
    return (disk->device->features >> VIRTIO_BLK_F_DISCARD & 1) != 0;
}

TEST(blk_discard_and_zeroes)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_kind((enum kind)kind, 0);
        uint64_t data = virtio_rig_alloc(disk->rig, 512ull * 512);

        if (!can_discard(disk)) {
            disk_drop(disk);
            tap_skip("the file system cannot punch holes");
            return;
        }
        CHECK_OK(virtio_rig_start(disk->rig, WRITE_BACK), &disk->rig->err);
        for (uint32_t unmap = 0; unmap <= 1; unmap++) {
            CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, 1000 + unmap * 600, 300, unmap), 0);
            CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 999 + unmap * 600, data, 302 * 512, true), 0);
            CHECK(sector_is(disk, data, 999 + unmap * 600));
            CHECK(all_are(disk, data + 512, 300 * 512, 0));
            CHECK(sector_is(disk, data + 301ull * 512, 1300 + unmap * 600));
        }
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 2048, 1024, 0), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 2047, data, 512, true), 0);
        CHECK(sector_is(disk, data, 2047));
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, SECTORS, 0, 0), 0);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, SECTORS - 1, 2, 0), 1);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 2, 0), 1);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, UINT32_MAX, 0), 1);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 0, 8, 1), 2); /* unmap (5.2.6.2) */
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 0, 8, 2), 2);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2), 2);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_DISCARD, 0, data, 32, false), 1); /* two segments */
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_DISCARD, 0, data, 15, false), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_DISCARD, 0, data, 0, false), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 0, data, 512, true), 0);
        CHECK(sector_is(disk, data, 0));
        disk_drop(disk);
    }
}

TEST(blk_discard_frees_room)
{
    for (int kind = URING; kind <= THREAD; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        struct stat before;
        struct stat after;

        if (can_discard(disk)) {
            CHECK_EQ(ask(disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), 0);
            CHECK_EQ(stat(disk->path, &before), 0);
            CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 1024, 2048, 0), 0);
            CHECK_EQ(stat(disk->path, &after), 0);
            CHECK_EQ(after.st_blocks + 2048, before.st_blocks);
            CHECK_EQ(after.st_size, before.st_size);
        }
        disk_drop(disk);
    }
}

TEST(blk_unnegotiated_requests)
{
    struct disk *disk = disk_kind(URING, 0);

    CHECK_OK(virtio_rig_start(disk->rig, 0), &disk->rig->err);
    CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), 2);
    CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), 2);
    disk_drop(disk);
}

/* Without FLUSH writes are stable when they are done: they take a second step. */
TEST(blk_write_through)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_kind((enum kind)kind, 0);
        uint64_t data = virtio_rig_alloc(disk->rig, 512);

        CHECK_OK(virtio_rig_start(disk->rig, 1ull << VIRTIO_BLK_F_CONFIG_WCE), &disk->rig->err);
        CHECK_EQ(virtio_rig_config(disk->rig, 32, 1), 0); /* 5.2.5.2: no FLUSH */
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 1, filled(disk, 512, 0x11), 512, false), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 1, data, 512, true), 0);
        CHECK(all_are(disk, data, 512, 0x11));
        virtio_rig_config_write(disk->rig, 32, 1, 1);
        CHECK_EQ(virtio_rig_config(disk->rig, 32, 1), 1);
        virtio_rig_config_write(disk->rig, 0, 8, 1); /* read-only */
        virtio_rig_config_write(disk->rig, 33, 1, 1);
        CHECK_EQ(virtio_rig_config(disk->rig, 0, 8), SECTORS);
        CHECK_EQ(virtio_rig_config(disk->rig, 33, 1), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 1, filled(disk, 512, 0x22), 512, false), 0);
        virtio_rig_reset(disk->rig);
        CHECK_OK(virtio_rig_start(disk->rig,
                                  1ull << VIRTIO_BLK_F_CONFIG_WCE | 1ull << VIRTIO_BLK_F_FLUSH),
                 &disk->rig->err);
        CHECK_EQ(virtio_rig_config(disk->rig, 32, 1), 1);
        virtio_rig_config_write(disk->rig, 32, 1, 0);
        CHECK_EQ(virtio_rig_config(disk->rig, 32, 1), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 1, filled(disk, 512, 0x33), 512, false), 0);
        disk_drop(disk);
    }
}

TEST(blk_read_only)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_kind((enum kind)kind, VMMHPC_BLK_READ_ONLY);
        uint64_t data = virtio_rig_alloc(disk->rig, 512);

        CHECK((disk->device->features >> VIRTIO_BLK_F_RO & 1) != 0);
        CHECK(!can_discard(disk));
        CHECK_OK(virtio_rig_start(disk->rig, 1ull << VIRTIO_BLK_F_RO | 1ull << VIRTIO_BLK_F_FLUSH),
                 &disk->rig->err);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_OUT, 1, data, 512, false), 1);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), 1);
        CHECK_EQ(ask_range(disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 1, data, 512, true), 0);
        CHECK(sector_is(disk, data, 1));
        disk_drop(disk);
    }
}

/* More at once than the device works on: all are done, each once, with its own data. */
TEST(blk_many_under_way)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = virtio_rig_alloc(disk->rig, 256 * 512);
        uint64_t status = filled(disk, 256, 0xee);
        bool seen[256] = {false};

        for (uint32_t round = 0; round < 3; round++) {
            for (uint32_t i = 0; i < 256; i++) {
                uint32_t sector = (i * 37 + round) % SECTORS;
                struct rig_buffer chain[] = {{header_at(disk, VIRTIO_BLK_T_IN, sector), 16, false},
                                             {data + i * 512ull, 512, true},
                                             {status + i, 1, true}};

                CHECK(virtio_rig_add_indirect(disk->rig, 0, chain, 3) >= 0);
            }
            (void)virtio_rig_kick(disk->rig, 0);
            memset(seen, 0, sizeof(seen));
            for (uint32_t i = 0; i < 256; i++) {
                uint32_t id = 0;

                if (!used(disk, &id, NULL)) {
                    break;
                }
                CHECK(!seen[id]);
                seen[id] = true;
            }
            CHECK(virtio_rig_interrupts(disk->rig, 0) < 256); /* not one for each */
            CHECK(!virtio_rig_used(disk->rig, 0, NULL, NULL));
            for (uint32_t i = 0; i < 256; i++) {
                CHECK(sector_is(disk, data + i * 512ull, (i * 37 + round) % SECTORS));
            }
            CHECK(all_are(disk, status, 256, 0));
            CHECK_EQ(((struct vh_blk *)disk->device)->engine->under_way, 0);
        }
        disk_drop(disk);
    }
}

TEST(blk_one_interrupt_a_batch)
{
    struct disk *disk = disk_started(THREAD);
    uint64_t data = virtio_rig_alloc(disk->rig, 512);

    for (uint32_t i = 0; i < 32; i++) {
        struct rig_buffer chain[] = {{header_at(disk, VIRTIO_BLK_T_GET_ID, 0), 16, false},
                                     {data, 21, true}};

        CHECK(virtio_rig_add(disk->rig, 0, chain, 2) >= 0);
    }
    (void)virtio_rig_kick(disk->rig, 0);
    for (uint32_t i = 0; i < 32; i++) {
        CHECK(virtio_rig_used(disk->rig, 0, NULL, NULL));
    }
    CHECK_EQ(virtio_rig_interrupts(disk->rig, 0), 1);
    disk_drop(disk);
}

/* The same head again and again, never collected: no more under way than there are slots. */
TEST(blk_hostile_repetition)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = virtio_rig_alloc(disk->rig, 513);
        struct rig_buffer chain[] = {{header_at(disk, VIRTIO_BLK_T_IN, 0), 16, false},
                                     {data, 513, true}};
        int head = virtio_rig_add(disk->rig, 0, chain, 2);

        for (uint32_t i = 0; i < 255; i++) {
            virtio_rig_make_available(disk->rig, 0, (uint16_t)head);
        }
        virtio_rig_force_kick(disk->rig, 0);
        for (uint32_t i = 0; i < 256; i++) {
            CHECK(used(disk, NULL, NULL));
        }
        CHECK(!disk->device->broken);
        disk_drop(disk);
    }
}

TEST(blk_reset_while_under_way)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = virtio_rig_alloc(disk->rig, 1 << 20);
        uint64_t status = virtio_rig_alloc(disk->rig, 4096);

        for (uint32_t round = 0; round < 20; round++) {
            for (uint32_t i = 0; i < 64; i++) {
                struct rig_buffer chain[] = {
                    {header_at(disk, i % 2 == 0 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, 0), 16,
                     false},
                    {data, 1 << 19, i % 2 == 0},
                    {status + i, 1, true}};

                CHECK(virtio_rig_add_indirect(disk->rig, 0, chain, 3) >= 0);
            }
            (void)virtio_rig_kick(disk->rig, 0);
            virtio_rig_reset(disk->rig);
            CHECK_EQ(((struct vh_blk *)disk->device)->engine->under_way, 0);
            /* From now on the memory is the guest's. */
            memset(virtio_rig_at(disk->rig, data, 1 << 20), 0xdd, 1 << 20);
            memset(virtio_rig_at(disk->rig, status, 64), 0xdd, 64);
            (void)virtio_rig_ready(vh_blk_source(disk->device), EPOLLIN, 1);
            CHECK(all_are(disk, data, 1 << 20, 0xdd));
            CHECK(all_are(disk, status, 64, 0xdd));
            /* What was allocated since is free, and zero as virtio_rig_alloc() promises. */
            memset(virtio_rig_at(disk->rig, status, 1), 0, disk->rig->next_gpa - status);
            disk->rig->next_gpa = status + 4096;
            CHECK_OK(virtio_rig_start(disk->rig, WRITE_BACK), &disk->rig->err);
        }
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, SECTORS - 1, data, 512, true), 0);
        CHECK(sector_is(disk, data, SECTORS - 1));
        disk_drop(disk);
    }
}

TEST(blk_the_file_becomes_shorter)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct disk *disk = disk_started((enum kind)kind);
        uint64_t data = virtio_rig_alloc(disk->rig, 4096);

        CHECK_EQ(truncate(disk->path, 64 * 512), 0);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 60, data, 4096, true), 1); /* half of it is there */
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 100, data, 4096, true), 1);
        CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 56, data, 4096, true), 0);
        CHECK(sector_is(disk, data + 3584, 63));
        disk_drop(disk);
    }
}

TEST(blk_one_writer)
{
    struct disk *disk = disk_kind(URING, 0);
    struct vh_virtio *other = NULL;
    struct vmmhpc_blk config = disk->config;

    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &other, &disk->err), &disk->err, VMMHPC_E_IO,
                "in use");
    CHECK_EQ(disk->err.sys_errno, EBUSY);
    config.flags = VMMHPC_BLK_READ_ONLY;
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &other, &disk->err), &disk->err, VMMHPC_E_IO,
                "being written by another");
    virtio_rig_free(disk->rig);
    disk->config.flags = VMMHPC_BLK_READ_ONLY;
    if (disk_open(disk)) { /* readers share */
        CHECK_OK(vh_blk_new(NULL, &config, NULL, &other, &disk->err), &disk->err);
        config.flags = 0;
        struct vh_virtio *third = NULL;
        CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &third, &disk->err), &disk->err, VMMHPC_E_IO,
                    "in use");
        other->ops->destroy(other);
    }
    disk_drop(disk);
}

TEST(blk_what_is_no_disk)
{
    struct disk *disk = disk_closed();
    struct vh_virtio *device = NULL;
    struct vmmhpc_blk config = disk->config;

    config.size--;
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_INVALID,
                "size");
    config.size++;
    config.flags = 8;
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_INVALID,
                "0x8");
    config.flags = 0;
    config.serial = "SERIAL-0123456789abcd";
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_INVALID,
                "serial");
    config.serial = NULL;
    config.path = NULL;
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_INVALID,
                "path");
    config.path = "/nowhere/at/all";
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_IO,
                "cannot open");
    config.path = "/";
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_IO,
                "cannot open");
    config.flags = VMMHPC_BLK_READ_ONLY;
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_IO,
                "neither");
    config.path = "/dev/null";
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_IO,
                "neither");
    config.path = disk->path;
    CHECK_EQ(truncate(disk->path, 511), 0);
    CHECK_ERROR(vh_blk_new(NULL, &config, NULL, &device, &disk->err), &disk->err, VMMHPC_E_INVALID,
                "empty");
    CHECK_EQ(truncate(disk->path, 1025), 0);
    if (disk_open(disk)) {
        CHECK_EQ(virtio_rig_config(disk->rig, 0, 8), 2);
    }
    disk_drop(disk);
}

/* ------------------------------------------------------------------ without io_uring */

/* As a container does it: for this thread, and for ever. */
static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = VH_COUNT(code), .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void *in_sandbox(void *arg)
{
    bool *ran = arg;
    struct disk *disk;
    uint64_t data;

    if (!forbid_io_uring()) {
        return NULL;
    }
    *ran = true;
    disk = disk_started(URING);
    CHECK(!vh_blk_has_uring(disk->device));
    data = virtio_rig_alloc(disk->rig, 512);
    CHECK_EQ(ask(disk, VIRTIO_BLK_T_IN, 77, data, 512, true), 0);
    CHECK(sector_is(disk, data, 77));
    disk_drop(disk);
    return NULL;
}

TEST(blk_falls_back_to_a_thread)
{
    pthread_t thread;
    bool ran = false;

    CHECK_EQ(pthread_create(&thread, NULL, in_sandbox, &ran), 0);
    (void)pthread_join(thread, NULL);
    if (!ran) {
        tap_skip("no seccomp");
    }
}
