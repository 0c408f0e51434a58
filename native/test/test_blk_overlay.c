/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays: against a model, across crashes, and damaged ones (docs/reference/overlay.md). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"
#include "virtio/blk_overlay.h"
#include "vmmhpc_devices.h"

#define CLUSTER_SECTORS 128u
#define SECTORS (40u * CLUSTER_SECTORS + 77u) /* the last cluster is a part of one */
#define TABLE 65536u
#define DATA 131072u
#define MOST 300u /* sectors of a request */

struct bench {
    struct vmmhpc_error err;
    struct vh_blk_store *store;
    char dir[160], base[180], path[180], crashed[180];
    uint64_t random;
    uint64_t stamp;        /* of the next write */
    uint64_t now[SECTORS]; /* each sector is filled with a stamp; 0: zeroes */
    uint8_t buffer[MOST * 512];
};

static uint64_t draw(struct bench *bench, uint64_t limit)
{
    bench->random ^= bench->random << 13; /* xorshift64 */
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return (bench->random >> 11) % limit;
}

static void paint(uint8_t *at, uint64_t stamp)
{
    for (uint32_t i = 0; i < 64; i++) {
        memcpy(at + 8ull * i, &stamp, 8);
    }
}

static bool open_it(struct bench *bench, const char *path, uint32_t flags,
                    struct vh_blk_store **store)
{
    return CHECK_OK(vh_blk_overlay_open(NULL, path, bench->base, flags, store, &bench->err),
                    &bench->err);
}

static struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    const char *where = getenv("TMPDIR");
    FILE *base;

    bench->err.size = sizeof(bench->err);
    bench->random = 0x9e3779b97f4a7c15;
    (void)snprintf(bench->dir, sizeof(bench->dir), "%.100s/v3m-overlay-XXXXXX",
                   where == NULL ? "/tmp" : where);
    CHECK(mkdtemp(bench->dir) != NULL);
    (void)snprintf(bench->base, sizeof(bench->base), "%s/base", bench->dir);
    (void)snprintf(bench->path, sizeof(bench->path), "%s/overlay", bench->dir);
    (void)snprintf(bench->crashed, sizeof(bench->crashed), "%s/crashed", bench->dir);
    base = fopen(bench->base, "w");
    for (uint32_t i = 0; i < SECTORS; i++) {
        bench->now[i] = ++bench->stamp;
        paint(bench->buffer, bench->now[i]);
        CHECK_EQ(fwrite(bench->buffer, 512, 1, base), 1);
    }
    (void)fclose(base);
    CHECK_OK(vmmhpc_overlay_create(bench->path, bench->base, &bench->err), &bench->err);
    return bench;
}

static void bench_drop(struct bench *bench)
{
    if (bench->store != NULL) {
        bench->store->ops->close(bench->store);
    }
    (void)unlink(bench->base);
    (void)unlink(bench->path);
    (void)unlink(bench->crashed);
    (void)rmdir(bench->dir);
    free(bench);
}

static bool read_sectors(struct bench *bench, struct vh_blk_store *store, uint32_t sector,
                         uint32_t count)
{
    uint32_t first = count / 3; /* in two pieces */
    struct iovec iov[2] = {{bench->buffer, first * 512ull},
                           {bench->buffer + first * 512ull, (count - first) * 512ull}};
    struct vh_blk_buffers buffers = {first == 0 ? iov + 1 : iov, first == 0 ? 1 : 2};

    return CHECK_EQ(store->ops->read(store, buffers, sector * 512ull), 0);
}

static bool sector_is(const uint8_t *at, uint64_t stamp)
{
    uint8_t expected[512];

    paint(expected, stamp);
    return memcmp(at, expected, 512) == 0;
}

static bool matches(struct bench *bench, uint32_t sector, uint32_t count)
{
    if (!read_sectors(bench, bench->store, sector, count)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!CHECK(sector_is(bench->buffer + i * 512ull, bench->now[sector + i]))) {
            return false;
        }
    }
    return true;
}

static bool all_matches(struct bench *bench)
{
    bool good = true;

    for (uint32_t at = 0; good && at < SECTORS; at += MOST) {
        good = matches(bench, at, MOST < SECTORS - at ? MOST : SECTORS - at);
    }
    return good;
}

/* What a write changes, in the model; its data is in the buffer then. */
static void stamp(struct bench *bench, uint32_t sector, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bench->now[sector + i] = ++bench->stamp;
        paint(bench->buffer + i * 512ull, bench->now[sector + i]);
    }
}

static int write_out(struct bench *bench, uint32_t sector, uint32_t count)
{
    uint32_t first = count / 2;
    struct iovec iov[2] = {{bench->buffer, first * 512ull},
                           {bench->buffer + first * 512ull, (count - first) * 512ull}};
    struct vh_blk_buffers buffers = {first == 0 ? iov + 1 : iov, first == 0 ? 1 : 2};

    return bench->store->ops->write(bench->store, buffers, sector * 512ull);
}

static int write_sectors(struct bench *bench, uint32_t sector, uint32_t count)
{
    stamp(bench, sector, count);
    return write_out(bench, sector, count);
}

static void zero_model(struct bench *bench, uint32_t sector, uint32_t count)
{
    memset(bench->now + sector, 0, count * sizeof(bench->now[0]));
}

/* Somewhere, often at a cluster's boundary. */
static uint32_t place(struct bench *bench, uint32_t *count)
{
    uint32_t sector = (uint32_t)draw(bench, SECTORS);

    *count = (uint32_t)(1 + draw(bench, draw(bench, 2) == 0 ? 8 : MOST - 1));
    if (draw(bench, 4) == 0) {
        sector -= sector % CLUSTER_SECTORS;
    }
    if (draw(bench, 6) == 0) {
        *count = 2 * CLUSTER_SECTORS;
    }
    *count = *count < SECTORS - sector ? *count : SECTORS - sector;
    return sector;
}

/* ------------------------------------------------------------------ against a model */

static void step(struct bench *bench, uint32_t flags)
{
    uint32_t count;
    uint32_t sector = place(bench, &count);
    struct vh_blk_store *store = bench->store;

    switch (draw(bench, 12)) {
    case 0:
        CHECK_EQ(store->ops->flush(store), 0);
        break;
    case 1:
    case 2:
        zero_model(bench, sector, count);
        CHECK_EQ(store->ops->zero(store, sector * 512ull, count * 512ull, draw(bench, 2) == 0), 0);
        break;
    case 3:
        store->ops->close(store);
        (void)open_it(bench, bench->path, flags, &bench->store);
        break;
    case 4:
    case 5:
    case 6:
        (void)matches(bench, sector, count);
        break;
    default:
        CHECK_EQ(write_sectors(bench, sector, count), 0);
        break;
    }
}

TEST(overlay_against_a_model)
{
    for (uint32_t flags = 0; flags <= VMMHPC_BLK_DIRECT; flags += VMMHPC_BLK_DIRECT) {
        struct bench *bench = bench_new();
        struct stat before;
        struct stat after;

        CHECK_EQ(stat(bench->base, &before), 0);
        if (open_it(bench, bench->path, flags, &bench->store)) {
            CHECK_EQ(bench->store->bytes, SECTORS * 512ull);
            CHECK(all_matches(bench));
            for (uint32_t i = 0; i < 600 && bench->store != NULL; i++) {
                step(bench, flags);
            }
            CHECK(all_matches(bench));
        }
        CHECK_EQ(stat(bench->base, &after), 0);
        CHECK_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
        bench_drop(bench);
    }
}

TEST(overlay_reuses_its_room)
{
    struct bench *bench = bench_new();
    struct stat info;

    if (open_it(bench, bench->path, 0, &bench->store)) {
        struct vh_blk_store *store = bench->store;

        for (uint32_t i = 0; i < 50; i++) {
            CHECK_EQ(write_sectors(bench, 0, 2 * CLUSTER_SECTORS), 0);
            CHECK_EQ(store->ops->discard(store, 0, 131072), 0);
            CHECK_EQ(store->ops->flush(store), 0);
        }
        CHECK_EQ(stat(bench->path, &info), 0);
        CHECK(info.st_size <= DATA + 4 * 65536);
        CHECK_EQ(read_sectors(bench, store, 0, 1), true);
        CHECK(sector_is(bench->buffer, 0)); /* not the base again */
        CHECK_EQ(write_sectors(bench, 0, 1), 0);
        zero_model(bench, 1, 2 * CLUSTER_SECTORS - 1);
        CHECK(all_matches(bench));
        /* Of a cluster that is discarded in part everything stays. */
        CHECK_EQ(store->ops->discard(store, 512, 65536 - 512), 0);
        CHECK_EQ(store->ops->discard(store, 5 * 65536, 65536), 0);
        CHECK(all_matches(bench));
    }
    bench_drop(bench);
}

/* ------------------------------------------------------------------ crashes */

#define IMAGE (16u << 20)
#define HISTORY 200000u

/* What reaches the overlay's file is seen here, and what a crash may leave of it is made up: all
 * that a sync has made durable, and any of the sectors that were written since. */
static struct {
    struct bench *bench;
    const struct vh_blk_store_ops *real;
    uint8_t *durable;
    uint64_t durable_end;
    struct {
        uint64_t offset, bytes;
        uint8_t *data;
    } writes[20000];
    uint32_t count;
    uint64_t *stable; /* of the disk: what the last flush guarantees */
    struct {
        uint32_t sector;
        uint64_t stamp;
    } * possible; /* what was written since then */
    uint32_t possible_count;
    uint32_t crashes;
} spy;

static void maybe(uint32_t sector, uint64_t value)
{
    spy.possible[spy.possible_count].sector = sector;
    spy.possible[spy.possible_count++].stamp = value;
}

static void apply(uint8_t *image, uint64_t *end, uint64_t offset, const uint8_t *data,
                  uint64_t bytes)
{
    CHECK(offset + bytes <= IMAGE);
    memcpy(image + offset, data, bytes);
    *end = offset + bytes > *end ? offset + bytes : *end;
}

static void make_crashed_file(void)
{
    struct bench *bench = spy.bench;
    uint8_t *image = malloc(IMAGE);
    uint64_t end = spy.durable_end;
    uint64_t odds = 1 + draw(bench, 4); /* 1: all of it arrived */
    int fd;

    memcpy(image, spy.durable, IMAGE);
    for (uint32_t i = 0; i < spy.count; i++) {
        for (uint64_t at = 0; at < spy.writes[i].bytes; at += 512) {
            if (draw(bench, odds) == 0) {
                apply(image, &end, spy.writes[i].offset + at, spy.writes[i].data + at, 512);
            }
        }
    }
    fd = open(bench->crashed, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK_EQ(write(fd, image, end), end);
    (void)close(fd);
    free(image);
}

static bool may_be(uint32_t sector, const uint8_t *at)
{
    if (sector_is(at, spy.stable[sector])) {
        return true;
    }
    for (uint32_t i = 0; i < spy.possible_count; i++) {
        if (spy.possible[i].sector == sector && sector_is(at, spy.possible[i].stamp)) {
            return true;
        }
    }
    return false;
}

static void crash(void)
{
    struct bench *bench = spy.bench;
    struct vh_blk_store *store = NULL;
    uint8_t *keep = malloc(sizeof(bench->buffer)); /* the request under way */

    memcpy(keep, bench->buffer, sizeof(bench->buffer));
    make_crashed_file();
    if (open_it(bench, bench->crashed, 0, &store)) {
        for (uint32_t at = 0; at < SECTORS; at += CLUSTER_SECTORS) {
            uint32_t count = CLUSTER_SECTORS < SECTORS - at ? CLUSTER_SECTORS : SECTORS - at;

            if (!read_sectors(bench, store, at, count)) {
                break;
            }
            for (uint32_t i = 0; i < count; i++) {
                CHECK(may_be(at + i, bench->buffer + i * 512ull));
            }
        }
        store->ops->close(store);
    }
    memcpy(bench->buffer, keep, sizeof(bench->buffer));
    free(keep);
    spy.crashes++;
}

static int spy_read(struct vh_blk_store *store, struct vh_blk_buffers to, uint64_t offset)
{
    return spy.real->read(store, to, offset);
}

static int spy_write(struct vh_blk_store *store, struct vh_blk_buffers from, uint64_t offset)
{
    uint64_t bytes = vh_blk_total(&from);
    uint8_t *data = malloc(bytes);
    uint64_t at = 0;

    for (uint32_t i = 0; i < from.count; i++) {
        memcpy(data + at, from.iov[i].iov_base, from.iov[i].iov_len);
        at += from.iov[i].iov_len;
    }
    CHECK(spy.count < 20000);
    spy.writes[spy.count].offset = offset;
    spy.writes[spy.count].bytes = bytes;
    spy.writes[spy.count++].data = data;
    if (draw(spy.bench, 8) == 0) {
        crash();
    }
    return spy.real->write(store, from, offset);
}

static int spy_flush(struct vh_blk_store *store)
{
    if (draw(spy.bench, 2) == 0) {
        crash();
    }
    for (uint32_t i = 0; i < spy.count; i++) {
        apply(spy.durable, &spy.durable_end, spy.writes[i].offset, spy.writes[i].data,
              spy.writes[i].bytes);
        free(spy.writes[i].data);
    }
    spy.count = 0;
    if (draw(spy.bench, 2) == 0) {
        crash();
    }
    return spy.real->flush(store);
}

static const struct vh_blk_store_ops spy_ops = {spy_read, spy_write, spy_flush, NULL, NULL, NULL};

static void spy_begin(struct bench *bench)
{
    struct vh_blk_raw *file = ((struct vh_overlay *)bench->store)->file;
    FILE *now = fopen(bench->path, "r");

    memset(&spy, 0, sizeof(spy));
    spy.bench = bench;
    spy.durable = calloc(1, IMAGE);
    spy.durable_end = fread(spy.durable, 1, IMAGE, now);
    (void)fclose(now);
    spy.stable = malloc(sizeof(bench->now));
    memcpy(spy.stable, bench->now, sizeof(bench->now));
    spy.possible = calloc(HISTORY, sizeof(*spy.possible));
    spy.real = file->store.ops;
    file->store.ops = &spy_ops;
}

static void spy_end(void)
{
    ((struct vh_overlay *)spy.bench->store)->file->store.ops = spy.real;
    for (uint32_t i = 0; i < spy.count; i++) {
        free(spy.writes[i].data);
    }
    free(spy.durable);
    free(spy.stable);
    free(spy.possible);
}

static void crash_step(struct bench *bench)
{
    uint32_t count;
    uint32_t sector = place(bench, &count);
    struct vh_blk_store *store = bench->store;
    uint64_t what = draw(bench, 10);

    if (what == 0 || spy.possible_count > HISTORY - 2 * MOST) {
        CHECK_EQ(store->ops->flush(store), 0);
        memcpy(spy.stable, bench->now, sizeof(bench->now));
        spy.possible_count = 0;
    } else if (what <= 2) {
        zero_model(bench, sector, count);
        for (uint32_t i = 0; i < count; i++) {
            maybe(sector + i, 0);
        }
        CHECK_EQ(store->ops->zero(store, sector * 512ull, count * 512ull, true), 0);
    } else {
        stamp(bench, sector, count);
        for (uint32_t i = 0; i < count; i++) {
            maybe(sector + i, bench->now[sector + i]);
        }
        CHECK_EQ(write_out(bench, sector, count), 0);
    }
}

TEST(overlay_survives_crashes)
{
    struct bench *bench = bench_new();

    if (open_it(bench, bench->path, 0, &bench->store)) {
        spy_begin(bench);
        for (uint32_t i = 0; i < 400; i++) {
            crash_step(bench);
        }
        CHECK(spy.crashes > 50);
        CHECK(all_matches(bench));
        spy_end();
    }
    bench_drop(bench);
}

static int no_flush(struct vh_blk_store *store)
{
    (void)store;
    return EIO;
}

TEST(overlay_does_not_forget_a_failed_flush)
{
    struct bench *bench = bench_new();
    struct vh_blk_store_ops failing;
    struct vh_blk_raw *file;

    if (open_it(bench, bench->path, 0, &bench->store)) {
        file = ((struct vh_overlay *)bench->store)->file;
        const struct vh_blk_store_ops *real = file->store.ops;

        failing = *real;
        failing.flush = no_flush;
        CHECK_EQ(write_sectors(bench, 3, 1), 0);
        file->store.ops = &failing;
        CHECK_EQ(bench->store->ops->flush(bench->store), EIO);
        file->store.ops = real;
        CHECK_EQ(bench->store->ops->flush(bench->store), EIO); /* the data may be gone */
    }
    bench_drop(bench);
}

/* ------------------------------------------------------------------ damage */

static void poke(struct bench *bench, uint64_t offset, const void *data, size_t bytes)
{
    int fd = open(bench->path, O_WRONLY);

    CHECK_EQ(pwrite(fd, data, bytes, (off_t)offset), bytes);
    (void)close(fd);
}

static uint64_t peek(struct bench *bench, uint64_t offset)
{
    uint64_t value = 0;
    int fd = open(bench->path, O_RDONLY);

    CHECK_EQ(pread(fd, &value, sizeof(value), (off_t)offset), sizeof(value));
    (void)close(fd);
    return value;
}

static int32_t try_open(struct bench *bench)
{
    struct vh_blk_store *store = NULL;
    int32_t status = vh_blk_overlay_open(NULL, bench->path, bench->base, 0, &store, &bench->err);

    if (status == VMMHPC_OK) {
        store->ops->close(store);
    }
    return status;
}

/* An overlay with two clusters, closed. */
static struct bench *bench_written(void)
{
    struct bench *bench = bench_new();

    if (open_it(bench, bench->path, 0, &bench->store)) {
        CHECK_EQ(write_sectors(bench, 0, 1), 0);
        CHECK_EQ(write_sectors(bench, 1000, 1), 0);
        bench->store->ops->close(bench->store);
        bench->store = NULL;
    }
    return bench;
}

TEST(overlay_damaged_header)
{
    struct bench *bench = bench_written();
    static const uint32_t offsets[] = {0,  7,  12, 16, 20,   24,   32,  40,
                                       48, 56, 64, 72, 4087, 4088, 4095};
    uint32_t version = 2;

    CHECK_EQ(try_open(bench), VMMHPC_OK);
    for (size_t i = 0; i < VH_COUNT(offsets); i++) {
        uint8_t byte = (uint8_t)peek(bench, offsets[i] < 4088 ? offsets[i] : 4088);

        byte = offsets[i] == 4095 ? (uint8_t)(peek(bench, 4088) >> 56) : byte;
        uint8_t changed = byte ^ 0x10;

        poke(bench, offsets[i], &changed, 1);
        CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE,
                    offsets[i] < 8 ? "not an overlay" : "damaged");
        poke(bench, offsets[i], &byte, 1);
    }
    poke(bench, 8, &version, 4);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_UNSUPPORTED, "version 2");
    version = 1;
    poke(bench, 8, &version, 4);
    CHECK_EQ(try_open(bench), VMMHPC_OK);
    bench_drop(bench);
}

TEST(overlay_damaged_table)
{
    struct bench *bench = bench_written();
    struct vh_overlay overlay = {.salt = peek(bench, 56)};
    uint64_t entry = peek(bench, TABLE);
    static const uint32_t values[] = {2, 4, 5, 1000, UINT32_MAX};

    CHECK_EQ((uint32_t)entry, 2);
    CHECK_EQ((uint32_t)peek(bench, TABLE + 7 * 8), 3);
    CHECK_EQ(entry, vh_overlay_encode(&overlay, 0, 2));
    for (uint32_t bit = 0; bit < 64; bit++) {
        uint64_t changed = entry ^ 1ull << bit;

        poke(bench, TABLE, &changed, 8);
        CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE, "check value");
    }
    poke(bench, TABLE, &entry, 8);
    poke(bench, TABLE + 8, &entry, 8); /* an entry in another's place */
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE, "check value");
    for (size_t i = 0; i < VH_COUNT(values); i++) { /* made by somebody who knows the format */
        uint64_t bad = vh_overlay_encode(&overlay, 1, values[i]);

        poke(bench, TABLE + 8, &bad, 8);
        CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE,
                    i == 0 ? "the same data" : "refers to no data");
    }
    bench_drop(bench);
}

TEST(overlay_cut_off)
{
    struct bench *bench = bench_written();

    CHECK_EQ(truncate(bench->path, DATA + 65536 + 65535), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE, "refers to no data");
    CHECK_EQ(truncate(bench->path, DATA - 512), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_TRUNCATED, "within its table");
    CHECK_EQ(truncate(bench->path, 2048), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_TRUNCATED, "too short");
    CHECK_EQ(truncate(bench->path, 0), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_INVALID, "empty");
    CHECK_EQ(truncate(bench->path, 1 << 20), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_BAD_IMAGE, "not an overlay");
    bench_drop(bench);
}

TEST(overlay_of_another_base)
{
    struct bench *bench = bench_written();
    int fd = open(bench->base, O_WRONLY);
    uint64_t end = SECTORS * 512ull;

    CHECK_EQ(pwrite(fd, "x", 1, 1080), 1); /* as a file system does it when it is mounted */
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_INVALID, "another base");
    CHECK_EQ(pwrite(fd, "\x03", 1, 1080), 1);
    CHECK_EQ(try_open(bench), VMMHPC_OK);
    CHECK_EQ(ftruncate(fd, (off_t)end + 512), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_INVALID, "another base");
    (void)close(fd);
    CHECK_EQ(unlink(bench->base), 0);
    CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_IO, "base");
    bench_drop(bench);
}

TEST(overlay_creation)
{
    struct bench *bench = bench_new();
    struct vh_blk_raw *raw = NULL;
    struct vh_blk_store *second = NULL;

    CHECK_ERROR(vmmhpc_overlay_create(bench->path, bench->base, &bench->err), &bench->err,
                VMMHPC_E_IO, "cannot create");
    CHECK_EQ(bench->err.sys_errno, EEXIST);
    CHECK_ERROR(vmmhpc_overlay_create(NULL, bench->base, &bench->err), &bench->err,
                VMMHPC_E_INVALID, "path");
    CHECK_ERROR(vmmhpc_overlay_create(bench->crashed, bench->crashed, &bench->err), &bench->err,
                VMMHPC_E_IO, "cannot open");
    CHECK_EQ(access(bench->crashed, F_OK), -1); /* nothing is left behind */
    CHECK_ERROR(vmmhpc_overlay_create(bench->crashed, bench->path, &bench->err), &bench->err,
                VMMHPC_E_INVALID, "itself an overlay");
    CHECK_OK(vmmhpc_overlay_create(bench->crashed, bench->base, &bench->err), &bench->err);
    /* Two overlays share a base, which nobody may write meanwhile. */
    if (open_it(bench, bench->path, 0, &bench->store) &&
        open_it(bench, bench->crashed, 0, &second)) {
        CHECK_ERROR(vh_blk_raw_open(NULL, bench->base, 0, &raw, &bench->err), &bench->err,
                    VMMHPC_E_IO, "in use");
        CHECK_ERROR(try_open(bench), &bench->err, VMMHPC_E_IO, "in use");
        second->ops->close(second);
    }
    bench_drop(bench);
}
