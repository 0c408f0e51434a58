/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2, 5.4). */
#include <string.h>
#include <sys/eventfd.h>

#include "virtio/small.h"
#include "virtio_rig.h"

#define MAX_FILL 65536u /* of one chain */

static struct virtio_rig *rng_new(uint64_t features)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtio *device = NULL;

    CHECK_OK(vh_rng_new(&device, &err), &err);
    struct virtio_rig *rig = virtio_rig_new(device);
    CHECK_OK(virtio_rig_start(rig, features), &rig->err);
    return rig;
}

static bool all_zero(struct virtio_rig *rig, uint64_t gpa, uint32_t bytes)
{
    const uint8_t *at = virtio_rig_at(rig, gpa, bytes);

    for (uint32_t i = 0; i < bytes; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

TEST(virtio_rng_fills_buffers)
{
    struct virtio_rig *rig = rng_new(RIG_F_EVENT_IDX);
    uint64_t gpa = virtio_rig_alloc(rig, 8192);
    struct rig_buffer buffers[] = {{gpa, 64, true}, {gpa + 4096, 100, true}};
    uint32_t written = 0;

    CHECK_EQ(rig->device->id, 4);
    CHECK(virtio_rig_add(rig, 0, buffers, 2) >= 0);
    CHECK(virtio_rig_kick(rig, 0));
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, 164);
    CHECK(!all_zero(rig, gpa, 64));
    CHECK(!all_zero(rig, gpa + 4096, 100));
    CHECK(all_zero(rig, gpa + 64, 4096 - 64)); /* and nothing else */
    CHECK(all_zero(rig, gpa + 4096 + 100, 3996));
    CHECK_EQ(virtio_rig_interrupts(rig, 0), 1);
    /* Twice the same would be a strange chance. */
    uint8_t first[64];
    memcpy(first, virtio_rig_at(rig, gpa, 64), 64);
    CHECK(virtio_rig_add_indirect(rig, 0, buffers, 1) >= 0);
    CHECK(virtio_rig_kick(rig, 0));
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, 64);
    CHECK(memcmp(first, virtio_rig_at(rig, gpa, 64), 64) != 0);
    virtio_rig_free(rig);
}

TEST(virtio_rng_odd_chains)
{
    struct virtio_rig *rig = rng_new(0);
    uint64_t gpa = virtio_rig_alloc(rig, 4 * MAX_FILL);
    struct rig_buffer readable = {gpa, 16, false};
    struct rig_buffer nothing = {gpa, 0, true};
    struct rig_buffer large = {gpa, 2 * MAX_FILL, true};
    uint32_t written = 99;

    virtio_rig_add(rig, 0, &readable, 1);
    virtio_rig_kick(rig, 0);
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, 0);
    CHECK(all_zero(rig, gpa, 16));
    virtio_rig_add(rig, 0, &nothing, 1);
    virtio_rig_kick(rig, 0);
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, 0);
    virtio_rig_add(rig, 0, &large, 1);
    virtio_rig_kick(rig, 0);
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, MAX_FILL); /* "at least one byte" is all that was promised */
    CHECK(all_zero(rig, gpa + MAX_FILL, MAX_FILL));
    virtio_rig_free(rig);
}

/* A guest that wants much gets it, but not all in one turn of the I/O thread. */
TEST(virtio_rng_takes_turns)
{
    struct virtio_rig *rig = rng_new(RIG_F_EVENT_IDX);
    struct rig_buffer buffer = {virtio_rig_alloc(rig, MAX_FILL), MAX_FILL, true};
    uint32_t collected = 0;
    uint32_t turns = 0;

    for (uint32_t i = 0; i < 64; i++) {
        CHECK(virtio_rig_add(rig, 0, &buffer, 1) >= 0);
    }
    CHECK(virtio_rig_kick(rig, 0));
    for (;;) {
        eventfd_t again = 0;
        uint32_t before = collected;

        while (virtio_rig_used(rig, 0, NULL, NULL)) {
            collected++;
        }
        turns++;
        CHECK(collected > before && collected - before <= 8);
        if (eventfd_read(rig->device->queues[0].kick_fd, &again) != 0) {
            break;
        }
        if (collected < 64) {
            vh_virtio_kicked(rig->device, 0);
        } else {
            break;
        }
    }
    CHECK_EQ(collected, 64);
    CHECK(turns >= 8);
    virtio_rig_free(rig);
}

TEST(virtio_rng_reset)
{
    struct virtio_rig *rig = rng_new(0);
    struct rig_buffer buffer = {virtio_rig_alloc(rig, 64), 64, true};

    rig->rings[0].avail[1] = 1000; /* nonsense */
    virtio_rig_force_kick(rig, 0);
    CHECK(rig->device->broken);
    CHECK_EQ(rig->config_interrupts, 1);
    virtio_rig_force_kick(rig, 0);
    virtio_rig_reset(rig);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    virtio_rig_add(rig, 0, &buffer, 1);
    CHECK(virtio_rig_kick(rig, 0));
    CHECK(virtio_rig_used(rig, 0, NULL, NULL));
    virtio_rig_free(rig);
}
