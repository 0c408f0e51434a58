/* SPDX-License-Identifier: Apache-2.0 */
/* Virtqueues: chains of every kind, hostile rings, notifications both ways (virtio 1.2, 2.7). */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio_rig.h"

#define SIZE 8u

static void nothing(struct vh_virtio *device)
{
    (void)device;
}

static void no_kick(struct vh_virtio *device, uint32_t index)
{
    (void)device;
    (void)index;
}

static const struct vh_virtio_ops ops = {.stop = nothing, .kick = no_kick, .destroy = nothing};

struct bench {
    struct vh_virtio device;
    struct virtio_rig *rig;
    struct vh_virtqueue *queue;
    struct rig_ring *ring;
    struct vh_chain chain;
    uint64_t data; /* 64 KiB of guest memory */
};

static struct bench *bench_regions(const uint64_t *mib, uint32_t count, uint16_t size,
                                   uint64_t features)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    bench->device.ops = &ops;
    bench->device.name = "test";
    bench->device.queue_count = 1;
    bench->device.queue_size[0] = size;
    bench->rig = virtio_rig_new_memory(&bench->device, mib, count, VMMHPC_BACKING_ANON);
    CHECK_OK(virtio_rig_start(bench->rig, features), &bench->rig->err);
    bench->queue = &bench->device.queues[0];
    bench->ring = &bench->rig->rings[0];
    bench->data = virtio_rig_alloc(bench->rig, 65536);
    return bench;
}

static struct bench *bench_new(uint16_t size, uint64_t features)
{
    uint64_t mib = 16;

    return bench_regions(&mib, 1, size, features);
}

static void bench_free(struct bench *bench)
{
    virtio_rig_free(bench->rig);
    free(bench);
}

static int pop(struct bench *bench)
{
    memset(&bench->chain, 0xee, sizeof(bench->chain)); /* nothing is taken from before */
    return vh_queue_pop(bench->queue, &bench->chain);
}

/* One readable buffer of that many bytes, at the start of the data. */
static int add_one(struct bench *bench, uint32_t bytes)
{
    struct rig_buffer buffer = {bench->data, bytes, false};

    return virtio_rig_add(bench->rig, 0, &buffer, 1);
}

static void give_back(struct bench *bench, uint32_t written)
{
    vh_queue_push(bench->queue, bench->chain.head, written);
}

static bool is_at(struct bench *bench, uint32_t iov, uint64_t gpa, uint64_t bytes)
{
    return bench->chain.iov[iov].iov_base == vh_memory_at(&bench->rig->memory, gpa, bytes) &&
           bench->chain.iov[iov].iov_len == bytes;
}

/* ------------------------------------------------------------------ setting up */

static int32_t restart(struct bench *bench)
{
    return vh_queue_start(bench->queue, &bench->rig->memory, &bench->rig->err);
}

TEST(virtqueue_refuses_bad_rings)
{
    struct bench *bench = bench_new(SIZE, 0);
    struct vmmhpc_error *err = &bench->rig->err;
    struct vh_virtqueue good = *bench->queue;
    const uint64_t end = 16 * VH_MIB;

    static const uint16_t sizes[] = {0, 3, 12, 257, 512, 0x8000, 0xffff};
    for (uint32_t i = 0; i < VH_COUNT(sizes); i++) {
        bench->queue->size = sizes[i];
        CHECK_ERROR(restart(bench), err, VMMHPC_E_INVALID, "entries");
    }
    *bench->queue = good;
    bench->queue->desc_gpa += 8;
    CHECK_ERROR(restart(bench), err, VMMHPC_E_INVALID, "descriptor table");
    *bench->queue = good;
    bench->queue->avail_gpa += 1;
    CHECK_ERROR(restart(bench), err, VMMHPC_E_INVALID, "available ring");
    *bench->queue = good;
    bench->queue->used_gpa += 2;
    CHECK_ERROR(restart(bench), err, VMMHPC_E_INVALID, "used ring");
    *bench->queue = good;
    bench->queue->desc_gpa = end - 16ull * (SIZE - 1);
    CHECK_ERROR(restart(bench), err, VMMHPC_E_RANGE, "descriptor table");
    bench->queue->desc_gpa = UINT64_MAX - 15;
    CHECK_ERROR(restart(bench), err, VMMHPC_E_RANGE, "descriptor table");
    *bench->queue = good;
    bench->queue->avail_gpa = end - (4 + 2 * SIZE); /* no room for used_event */
    CHECK_ERROR(restart(bench), err, VMMHPC_E_RANGE, "available ring");
    *bench->queue = good;
    bench->queue->used_gpa = end - (4 + 8 * SIZE);
    CHECK_ERROR(restart(bench), err, VMMHPC_E_RANGE, "used ring");
    /* Right up to the end of RAM is good. */
    *bench->queue = good;
    bench->queue->desc_gpa = end - 16ull * SIZE;
    CHECK_OK(restart(bench), err);
    bench->queue->desc_gpa = good.desc_gpa;
    bench->queue->avail_gpa = end - (6 + 2 * SIZE);
    CHECK_OK(restart(bench), err);
    bench_free(bench);
}

TEST(virtqueue_start_failure_breaks_the_device)
{
    struct bench *bench = bench_new(SIZE, 0);

    virtio_rig_reset(bench->rig);
    CHECK_EQ(bench->queue->size, 0);
    CHECK(!bench->queue->enabled);
    CHECK(bench->queue->kick_fd >= 0);
    virtio_rig_negotiate(bench->rig, 0);
    virtio_rig_queue(bench->rig, 0, SIZE);
    bench->queue->used_gpa = 1ull << 40;
    CHECK_ERROR(vh_virtio_start(&bench->device, &bench->rig->memory, &bench->rig->err),
                &bench->rig->err, VMMHPC_E_RANGE, "used ring");
    CHECK(bench->device.broken);
    CHECK_EQ(bench->rig->config_interrupts, 1);
    CHECK_EQ(vh_virtio_pop(&bench->device, 0, &bench->chain), 0);
    virtio_rig_reset(bench->rig);
    CHECK_OK(virtio_rig_start(bench->rig, 0), &bench->rig->err);
    bench_free(bench);
}

/* ------------------------------------------------------------------ chains */

TEST(virtqueue_direct_chain)
{
    struct bench *bench = bench_new(SIZE, 0);
    struct rig_buffer buffers[] = {{bench->data, 16, false},
                                   {bench->data + 100, 3, false},
                                   {bench->data + 200, 5, true},
                                   {bench->data + 300, 1, true}};
    struct vh_chain *chain = &bench->chain;

    CHECK_EQ(pop(bench), 0);
    int head = virtio_rig_add(bench->rig, 0, buffers, 4);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(chain->head, head);
    CHECK_EQ(chain->out_count, 2);
    CHECK_EQ(chain->in_count, 2);
    CHECK_EQ(chain->out_bytes, 19);
    CHECK_EQ(chain->in_bytes, 6);
    CHECK(is_at(bench, 0, bench->data, 16));
    CHECK(is_at(bench, 1, bench->data + 100, 3));
    CHECK(is_at(bench, 2, bench->data + 200, 5));
    CHECK(is_at(bench, 3, bench->data + 300, 1));
    CHECK_EQ(pop(bench), 0);
    chain->head = (uint16_t)head;
    give_back(bench, 6);
    uint32_t id = 99;
    uint32_t written = 0;
    CHECK(virtio_rig_used(bench->rig, 0, &id, &written));
    CHECK_EQ(id, head);
    CHECK_EQ(written, 6);
    CHECK(!virtio_rig_used(bench->rig, 0, NULL, NULL));
    bench_free(bench);
}

TEST(virtqueue_buffers_of_no_length)
{
    struct bench *bench = bench_new(SIZE, 0);
    /* They count for nothing, wherever they are said to lie, not even for the order. */
    struct rig_buffer buffers[] = {{UINT64_MAX, 0, true},
                                   {bench->data, 1, false},
                                   {1ull << 40, 0, false},
                                   {bench->data + 8, 2, true},
                                   {0, 0, false}};

    virtio_rig_add(bench->rig, 0, buffers, 5);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count, 1);
    CHECK_EQ(bench->chain.in_count, 1);
    CHECK(is_at(bench, 1, bench->data + 8, 2));
    virtio_rig_add(bench->rig, 0, buffers, 1);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count + bench->chain.in_count, 0);
    CHECK_EQ(bench->chain.out_bytes + bench->chain.in_bytes, 0);
    bench_free(bench);
}

TEST(virtqueue_read_write_slice)
{
    struct bench *bench = bench_new(SIZE, 0);
    struct rig_buffer buffers[] = {{bench->data, 3, false},      {bench->data + 10, 4, false},
                                   {bench->data + 20, 2, false}, {bench->data + 30, 2, true},
                                   {bench->data + 40, 3, true},  {bench->data + 50, 4, true}};
    uint8_t *memory = virtio_rig_at(bench->rig, bench->data, 64);
    struct iovec out[4];
    char text[16] = {0};

    memcpy(memory, "abc", 3);
    memcpy(memory + 10, "defg", 4);
    memcpy(memory + 20, "hi", 2);
    virtio_rig_add(bench->rig, 0, buffers, 6);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(vh_chain_read(&bench->chain, 0, text, sizeof(text)), 9);
    CHECK(memcmp(text, "abcdefghi", 10) == 0);
    CHECK_EQ(vh_chain_read(&bench->chain, 2, text, 3), 3);
    CHECK(memcmp(text, "cde", 3) == 0);
    CHECK_EQ(vh_chain_read(&bench->chain, 8, text, 3), 1);
    CHECK_EQ(vh_chain_read(&bench->chain, 9, text, 3), 0);
    CHECK_EQ(vh_chain_read(&bench->chain, UINT64_MAX, text, 3), 0);
    CHECK_EQ(vh_chain_write(&bench->chain, 1, "123456789", 9), 8);
    CHECK(memcmp(memory + 30, "\0001", 3) == 0);
    CHECK(memcmp(memory + 40, "234", 4) == 0);
    CHECK(memcmp(memory + 50, "5678", 5) == 0);
    CHECK_EQ(vh_chain_write(&bench->chain, 9, "x", 1), 0);

    CHECK_EQ(vh_chain_slice(&bench->chain, false, 0, 9, out, 4), 3);
    CHECK_EQ(vh_chain_slice(&bench->chain, false, 0, 9, out, 2), -1);
    CHECK_EQ(vh_chain_slice(&bench->chain, false, 0, 10, out, 4), -1);
    CHECK_EQ(vh_chain_slice(&bench->chain, false, UINT64_MAX, 2, out, 4), -1);
    CHECK_EQ(vh_chain_slice(&bench->chain, false, 2, UINT64_MAX, out, 4), -1);
    CHECK_EQ(vh_chain_slice(&bench->chain, false, 9, 0, out, 0), 0);
    CHECK_EQ(vh_chain_slice(&bench->chain, true, 1, 5, out, 4), 3);
    CHECK(out[0].iov_base == memory + 31 && out[0].iov_len == 1);
    CHECK(out[1].iov_base == memory + 40 && out[1].iov_len == 3);
    CHECK(out[2].iov_base == memory + 50 && out[2].iov_len == 1);
    CHECK_EQ(vh_chain_slice(&bench->chain, true, 2, 3, out, 1), 1);
    bench_free(bench);
}

TEST(virtqueue_indirect)
{
    struct bench *bench = bench_new(SIZE, 0);
    struct rig_buffer buffers[VH_QUEUE_MAX + 1];

    for (uint32_t i = 0; i <= VH_QUEUE_MAX; i++) {
        buffers[i] = (struct rig_buffer){bench->data + i, 1, i >= 100};
    }
    int head = virtio_rig_add_indirect(bench->rig, 0, buffers, 3);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.head, head);
    CHECK_EQ(bench->chain.out_count, 3);
    /* Longer than the queue, as Linux does it; and the write flag of the reference says nothing. */
    head = virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX);
    bench->ring->desc[head].flags |= RIG_DESC_WRITE;
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count, 100);
    CHECK_EQ(bench->chain.in_count, VH_QUEUE_MAX - 100);
    CHECK(is_at(bench, VH_QUEUE_MAX - 1, bench->data + VH_QUEUE_MAX - 1, 1));
    /* Behind direct descriptors; the table at an odd address. */
    struct rig_desc *desc = bench->ring->desc;
    struct rig_desc table[2] = {{bench->data + 1, 2, RIG_DESC_NEXT, 1},
                                {bench->data + 8, 4, RIG_DESC_WRITE, 77}};
    memcpy(virtio_rig_at(bench->rig, bench->data + 0x1001, 32), table, 32);
    desc[4] = (struct rig_desc){bench->data, 1, RIG_DESC_NEXT, 6};
    desc[6] = (struct rig_desc){bench->data + 0x1001, 32, RIG_DESC_INDIRECT, 0};
    virtio_rig_make_available(bench->rig, 0, 4);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count, 2);
    CHECK_EQ(bench->chain.out_bytes, 3);
    CHECK_EQ(bench->chain.in_bytes, 4);
    virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX + 1);
    CHECK(pop(bench) < 0);
    bench_free(bench);
}

TEST(virtqueue_longest_chains)
{
    struct bench *bench = bench_new(VH_QUEUE_MAX, 0);
    struct rig_buffer buffers[VH_QUEUE_MAX];

    for (uint32_t i = 0; i < VH_QUEUE_MAX; i++) {
        buffers[i] = (struct rig_buffer){bench->data + i, 1, true};
    }
    virtio_rig_add(bench->rig, 0, buffers, VH_QUEUE_MAX);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.in_count, VH_QUEUE_MAX);
    give_back(bench, 0);
    CHECK(virtio_rig_used(bench->rig, 0, NULL, NULL));
    CHECK(virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX) >= 0);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.in_count, VH_QUEUE_MAX);
    bench_free(bench);
}

TEST(virtqueue_buffers_across_slots)
{
    const uint64_t mib[] = {2, 1, 1, 2};
    struct bench *bench = bench_regions(mib, 4, SIZE, 0);
    struct rig_buffer across = {2 * VH_MIB - 10, 30, false};
    struct rig_buffer all = {VH_MIB, 5 * VH_MIB, true};
    struct rig_buffer beyond = {6 * VH_MIB - 1, 2, true};

    virtio_rig_add(bench->rig, 0, &across, 1);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count, 2);
    CHECK_EQ(bench->chain.out_bytes, 30);
    CHECK(is_at(bench, 0, 2 * VH_MIB - 10, 10));
    CHECK(is_at(bench, 1, 2 * VH_MIB, 20));
    virtio_rig_add(bench->rig, 0, &all, 1);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.in_count, 4);
    CHECK_EQ(bench->chain.in_bytes, 5 * VH_MIB);
    CHECK(is_at(bench, 3, 4 * VH_MIB, 2 * VH_MIB));
    virtio_rig_add(bench->rig, 0, &beyond, 1);
    CHECK(pop(bench) < 0);
    bench_free(bench);

    bench = bench_regions(mib, 4, SIZE, 0);
    bench->rig->memory.slots[3].gpa += VH_PAGE; /* a hole */
    virtio_rig_add(bench->rig, 0, &all, 1);
    CHECK(pop(bench) < 0);
    bench_free(bench);
}

/* A boundary takes one more element; many buffers across the same one are no driver's doing. */
TEST(virtqueue_too_many_pieces)
{
    const uint64_t mib[] = {1, 1};
    struct bench *bench = bench_regions(mib, 2, SIZE, 0);
    struct rig_buffer buffers[VH_QUEUE_MAX];

    for (uint32_t i = 0; i < VH_QUEUE_MAX; i++) {
        buffers[i] = (struct rig_buffer){VH_MIB - 1, i < VH_SLOT_MAX ? 2 : 1, false};
    }
    virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.out_count, VH_CHAIN_IOV);
    buffers[VH_SLOT_MAX].bytes = 2;
    virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX);
    CHECK(pop(bench) < 0);
    bench_free(bench);
}

/* ------------------------------------------------------------------ hostile rings */

/* A chain that starts at descriptor 0 and must be refused. */
static void refused(struct tap_site site, const struct rig_desc *descs, uint32_t count,
                    const struct rig_desc *table, uint32_t entries)
{
    struct bench *bench = bench_new(SIZE, 0);

    for (uint32_t i = 0; i < count; i++) {
        bench->ring->desc[i] = descs[i];
        if ((descs[i].flags & RIG_DESC_INDIRECT) != 0 && descs[i].addr == 0) {
            bench->ring->desc[i].addr = bench->data;
        }
    }
    if (entries > 0) {
        memcpy(virtio_rig_at(bench->rig, bench->data, 16ull * entries), table, 16ull * entries);
    }
    virtio_rig_make_available(bench->rig, 0, 0);
    tap_check(site, vh_virtio_pop(&bench->device, 0, &bench->chain) < 0, "refused");
    tap_check(site, bench->device.broken && bench->rig->config_interrupts == 1, "reset wanted");
    tap_check(site, vh_virtio_pop(&bench->device, 0, &bench->chain) == 0, "nothing until then");
    tap_check(site, bench->ring->used[1] == 0, "nothing is given back");
    bench_free(bench);
}

#define REFUSED(...)                                                                               \
    do {                                                                                           \
        const struct rig_desc descs[] = {__VA_ARGS__};                                             \
        refused(TAP_SITE, descs, VH_COUNT(descs), NULL, 0);                                        \
    } while (0)

TEST(virtqueue_hostile_chains)
{
    const uint64_t end = 16 * VH_MIB;
    const uint16_t next = RIG_DESC_NEXT;
    const uint16_t write = RIG_DESC_WRITE;

    REFUSED({end, 1, 0, 0});
    REFUSED({end - 1, 2, write, 0});
    REFUSED({0, UINT32_MAX, 0, 0});
    REFUSED({UINT64_MAX, 1, 0, 0});
    REFUSED({UINT64_MAX - 15, 16, 0, 0});
    REFUSED({UINT64_MAX - 15, 32, 0, 0}); /* the sum wraps */
    REFUSED({0, 1, next, SIZE});          /* no such descriptor */
    REFUSED({0, 1, next, 0xffff});
    REFUSED({0, 1, next, 0}); /* loops */
    REFUSED({0, 0, next, 0});
    REFUSED({0, 1, next, 1}, {0, 1, next, 0});
    REFUSED({0, 1, write | next, 1}, {0, 1, 0, 0}); /* readable behind writable */
}

TEST(virtqueue_hostile_lengths)
{
    const uint32_t most = 16 * 1024 * 1024;
    struct bench *bench = bench_new(SIZE, 0);
    struct rig_buffer buffers[VH_QUEUE_MAX];

    for (uint32_t i = 0; i < VH_QUEUE_MAX; i++) {
        buffers[i] = (struct rig_buffer){0, most, i > 7};
    }
    buffers[200].bytes = most - 1;
    virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX);
    CHECK_EQ(pop(bench), 1);
    CHECK_EQ(bench->chain.in_bytes + bench->chain.out_bytes, UINT32_MAX);
    buffers[200].bytes = most;
    virtio_rig_add_indirect(bench->rig, 0, buffers, VH_QUEUE_MAX);
    CHECK(pop(bench) < 0);
    bench_free(bench);
}

TEST(virtqueue_hostile_tables)
{
    const uint16_t table = RIG_DESC_INDIRECT;
    const struct rig_desc good[] = {{0, 1, 0, 0}, {0, 1, 0, 0}};
    const struct rig_desc nested[] = {{0x100000, 16, RIG_DESC_INDIRECT, 0}};
    const struct rig_desc outside[] = {{0, 1, RIG_DESC_NEXT, 2}, {0, 1, 0, 0}};
    const struct rig_desc loop[] = {{0, 1, RIG_DESC_NEXT, 1}, {0, 1, RIG_DESC_NEXT, 0}};
    const struct rig_desc one = {0, 16, table, 0};
    const struct rig_desc two = {0, 32, table, 0};
    const struct rig_desc lengths[] = {{0, 0, table, 0}, {0, 15, table, 0}, {0, 17, table, 0}};
    const struct rig_desc followed[] = {{0, 16, table | RIG_DESC_NEXT, 1}, {0, 1, 0, 0}};

    for (uint32_t i = 0; i < VH_COUNT(lengths); i++) {
        refused(TAP_SITE, &lengths[i], 1, good, 2);
    }
    refused(TAP_SITE, followed, 2, good, 1);
    refused(TAP_SITE, &one, 1, nested, 1);
    refused(TAP_SITE, &two, 1, outside, 2);
    refused(TAP_SITE, &two, 1, loop, 2);
    REFUSED({16 * VH_MIB - 16, 32, table, 0});
    REFUSED({UINT64_MAX - 15, 16, table, 0});
    REFUSED({16, 0xfffffff0, table, 0});
}

TEST(virtqueue_hostile_indices)
{
    static const uint16_t heads[] = {SIZE, 0x100, 0xffff};

    for (uint32_t i = 0; i < VH_COUNT(heads); i++) {
        struct bench *bench = bench_new(SIZE, 0);

        virtio_rig_make_available(bench->rig, 0, heads[i]);
        CHECK(pop(bench) < 0);
        bench_free(bench);
    }
    static const uint16_t jumps[] = {SIZE + 1, 0x7fff, 0x8000, 0xffff};
    for (uint32_t i = 0; i < VH_COUNT(jumps); i++) {
        struct bench *bench = bench_new(SIZE, 0);

        bench->ring->avail[1] = jumps[i];
        CHECK(pop(bench) < 0);
        bench_free(bench);
    }
}

TEST(virtqueue_too_many_outstanding)
{
    struct bench *bench = bench_new(SIZE, 0);

    bench->ring->desc[0] = (struct rig_desc){0, 1, 0, 0};
    for (uint32_t i = 0; i < SIZE; i++) { /* the same one each time: that does no harm */
        virtio_rig_make_available(bench->rig, 0, 0);
    }
    for (uint32_t i = 0; i < SIZE; i++) {
        CHECK_EQ(pop(bench), 1);
    }
    CHECK_EQ(pop(bench), 0);
    give_back(bench, 0);
    virtio_rig_make_available(bench->rig, 0, 0);
    CHECK_EQ(pop(bench), 1);
    virtio_rig_make_available(bench->rig, 0, 0); /* one more than there are descriptors */
    CHECK(pop(bench) < 0);
    bench_free(bench);

    bench = bench_new(SIZE, 0); /* with one outstanding the index goes back */
    add_one(bench, 1);
    CHECK_EQ(pop(bench), 1);
    bench->ring->avail[1] = 0;
    CHECK(pop(bench) < 0);
    bench_free(bench);
}

/* ------------------------------------------------------------------ notifications */

TEST(virtqueue_kicks_are_asked_for_when_idle)
{
    for (uint32_t round = 0; round < 2; round++) {
        struct bench *bench = bench_new(SIZE, round == 0 ? 0 : RIG_F_EVENT_IDX);

        for (uint32_t i = 0; i < 20; i++) {
            add_one(bench, 1);
            CHECK(virtio_rig_kick(bench->rig, 0)); /* it was idle */
            CHECK_EQ(pop(bench), 1);
            give_back(bench, 0);
            add_one(bench, 1);
            CHECK(!virtio_rig_kick(bench->rig, 0)); /* it is at work */
            CHECK_EQ(pop(bench), 1);
            give_back(bench, 0);
            add_one(bench, 1);
            CHECK(!virtio_rig_kick(bench->rig, 0));
            CHECK_EQ(pop(bench), 1);
            give_back(bench, 0);
            CHECK_EQ(pop(bench), 0);
            CHECK_EQ(pop(bench), 0);
            for (uint32_t used = 0; used < 3; used++) {
                CHECK(virtio_rig_used(bench->rig, 0, NULL, NULL));
            }
        }
        bench_free(bench);
    }
}

/* What the driver left in the fields that are the device's does not count. */
TEST(virtqueue_first_kick_after_a_dirty_start)
{
    for (uint32_t round = 0; round < 2; round++) {
        struct bench *bench = bench_new(SIZE, round == 0 ? 0 : RIG_F_EVENT_IDX);

        bench->ring->used[0] = 1;
        bench->ring->used[2 + 4 * SIZE] = 1234;
        CHECK_OK(restart(bench), &bench->rig->err);
        add_one(bench, 1);
        CHECK(virtio_rig_kick(bench->rig, 0));
        bench_free(bench);
    }
}

TEST(virtqueue_interrupts_by_flag)
{
    struct bench *bench = bench_new(SIZE, 0);

    CHECK(!vh_queue_wants_interrupt(bench->queue)); /* nothing was pushed */
    for (uint32_t i = 0; i < 3; i++) {
        add_one(bench, 1);
        CHECK_EQ(pop(bench), 1);
        virtio_rig_want_interrupts(bench->rig, 0, i != 1);
        give_back(bench, 0);
        vh_virtio_notify(&bench->device, 0);
        CHECK_EQ(virtio_rig_interrupts(bench->rig, 0), i != 1);
        vh_virtio_notify(&bench->device, 0);
        CHECK_EQ(virtio_rig_interrupts(bench->rig, 0), 0);
    }
    bench_free(bench);
}

/* Pushes up to `from`, asks, pushes up to `to`; does it want an interrupt with that used_event? */
static bool wanted(uint16_t from, uint32_t pushes, uint16_t used_event)
{
    struct bench *bench = bench_new(SIZE, RIG_F_EVENT_IDX);

    bench->queue->next_used = from;
    bench->queue->signalled_used = from;
    for (uint32_t i = 0; i < pushes; i++) {
        vh_queue_push(bench->queue, 0, 0);
    }
    CHECK_EQ(bench->ring->used[1], pushes > 0 ? (uint16_t)(from + pushes) : 0);
    bench->ring->avail[2 + SIZE] = used_event;
    bool result = vh_queue_wants_interrupt(bench->queue);
    CHECK(!vh_queue_wants_interrupt(bench->queue));
    bench_free(bench);
    return result;
}

TEST(virtqueue_interrupts_by_event_index)
{
    static const uint16_t starts[] = {0, 1, 0x7fff, 0x8000, 0xfffd, 0xffff};

    for (uint32_t i = 0; i < VH_COUNT(starts); i++) {
        uint16_t at = starts[i];

        CHECK(!wanted(at, 0, at));
        CHECK(wanted(at, 1, at));
        CHECK(!wanted(at, 1, (uint16_t)(at + 1))); /* for the next, not for this one */
        CHECK(!wanted(at, 1, (uint16_t)(at - 1))); /* was told already */
        CHECK(wanted(at, 3, at));
        CHECK(wanted(at, 3, (uint16_t)(at + 2)));
        CHECK(!wanted(at, 3, (uint16_t)(at + 3)));
        CHECK(!wanted(at, 3, (uint16_t)(at + 0x8000)));
        CHECK(wanted(at, 0xffff, (uint16_t)(at + 0xfffe)));
        CHECK(!wanted(at, 0xffff, (uint16_t)(at + 0xffff)));
    }
    /* Once round, and a bit: better one too many. */
    CHECK(wanted(5, 0x10000, 4));
    CHECK(wanted(5, 0x10000, 6));
    CHECK(wanted(5, 0x10001, 100));
}

TEST(virtqueue_indices_wrap)
{
    for (uint32_t round = 0; round < 4; round++) {
        uint64_t features = (round & 1) != 0 ? RIG_F_EVENT_IDX : 0;
        struct bench *bench = bench_new((round & 2) != 0 ? 1 : 256, features);
        uint32_t bad = 0;

        for (uint32_t i = 0; i < 70000; i++) {
            int head = add_one(bench, 1 + i % 1000);
            uint32_t id = 0;
            uint32_t written = 0;

            bad += !virtio_rig_kick(bench->rig, 0);
            bad += pop(bench) != 1 || bench->chain.head != head ||
                   bench->chain.out_bytes != 1 + i % 1000;
            give_back(bench, i);
            vh_virtio_notify(&bench->device, 0);
            bad += virtio_rig_interrupts(bench->rig, 0) != 1;
            bad += vh_queue_pop(bench->queue, &bench->chain) != 0;
            bad += !virtio_rig_used(bench->rig, 0, &id, &written) || written != i ||
                   id != (uint32_t)head;
        }
        CHECK_EQ(bad, 0);
        bench_free(bench);
    }
}

/* ------------------------------------------------------------------ two threads */

#define ROUNDS 60000u

struct race {
    struct bench *bench;
    atomic_uint seen;
    atomic_bool failed;
};

static bool wait_for(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t count = 0;

    return poll(&p, 1, 10000) == 1 && read(fd, &count, sizeof(count)) == sizeof(count);
}

/* The device: works until nothing is left, then sleeps until it is kicked. */
static void *serve(void *arg)
{
    struct race *race = arg;
    struct vh_virtqueue *queue = race->bench->queue;
    struct vh_chain chain;
    uint32_t seen = 0;

    while (seen < ROUNDS && !atomic_load(&race->failed)) {
        int found = vh_queue_pop(queue, &chain);

        if (found < 0 || (found == 0 && !wait_for(queue->kick_fd))) {
            atomic_store(&race->failed, true);
        } else if (found > 0) {
            vh_queue_push(queue, chain.head, seen++);
            atomic_store(&race->seen, seen);
        }
    }
    return NULL;
}

static bool needs_kick(const struct race *race, uint16_t before, uint16_t now)
{
    const struct rig_ring *ring = race->bench->ring;

    atomic_thread_fence(memory_order_seq_cst);
    if (!race->bench->rig->event_idx) {
        return (__atomic_load_n(&ring->used[0], __ATOMIC_RELAXED) & 1) == 0;
    }
    uint16_t event = __atomic_load_n(&ring->used[2 + 4 * ring->size], __ATOMIC_RELAXED);
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

/* No kick gets lost: a device that slept through one would sleep for ever. */
static void race(uint64_t features)
{
    struct race race = {.bench = bench_new(SIZE, features)};
    struct rig_ring *ring = race.bench->ring;
    uint32_t kicks = 0;
    pthread_t thread;

    for (uint32_t i = 0; i < SIZE; i++) {
        ring->desc[i] = (struct rig_desc){race.bench->data, 1, 0, 0};
    }
    CHECK_EQ(pthread_create(&thread, NULL, serve, &race), 0);
    for (uint32_t i = 0; i < ROUNDS && !atomic_load(&race.failed); i++) {
        while (__atomic_load_n(&ring->used[1], __ATOMIC_ACQUIRE) == (uint16_t)(i - SIZE) &&
               i >= SIZE && !atomic_load(&race.failed)) {
            (void)sched_yield();
        }
        virtio_rig_make_available(race.bench->rig, 0, (uint16_t)(i % SIZE));
        if (needs_kick(&race, (uint16_t)i, (uint16_t)(i + 1))) {
            uint64_t one = 1;

            kicks++;
            CHECK_EQ(write(race.bench->queue->kick_fd, &one, sizeof(one)), sizeof(one));
        }
    }
    (void)pthread_join(thread, NULL);
    CHECK(!race.failed);
    CHECK_EQ(race.seen, ROUNDS);
    CHECK(kicks > 0 && kicks <= ROUNDS);
    bench_free(race.bench);
}

TEST(virtqueue_no_kick_is_lost)
{
    race(0);
    race(RIG_F_EVENT_IDX);
}
