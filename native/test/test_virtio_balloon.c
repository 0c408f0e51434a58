/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon (virtio 1.2, 5.5): what is given back reads as zero and takes no memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "virtio/small.h"
#include "virtio_rig.h"

enum { INFLATE, DEFLATE, REPORTING_LINUX, REPORTING = 4 };
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING (1ull << 5)
#define AREA (8 * VH_MIB) /* far from what the rig uses */

static struct virtio_rig *balloon_new(uint32_t backing)
{
    static const uint64_t mib[] = {12, 4};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtio *device = NULL;

    CHECK_OK(vh_balloon_new(&device, &err), &err);
    struct virtio_rig *rig = virtio_rig_new_memory(device, mib, 2, backing);
    CHECK_OK(virtio_rig_start(rig, F_DEFLATE_ON_OOM | F_REPORTING | RIG_F_EVENT_IDX), &rig->err);
    return rig;
}

/* How many pages from gpa on take memory. */
static uint32_t resident(struct virtio_rig *rig, uint64_t gpa, uint32_t pages)
{
    uint8_t *vector = calloc(pages, 1);
    uint32_t count = 0;

    CHECK_EQ(mincore(virtio_rig_at(rig, gpa, pages * VH_PAGE), pages * VH_PAGE, vector), 0);
    for (uint32_t i = 0; i < pages; i++) {
        count += vector[i] & 1;
    }
    free(vector);
    return count;
}

static void dirty(struct virtio_rig *rig, uint64_t gpa, uint32_t pages)
{
    memset(virtio_rig_at(rig, gpa, pages * VH_PAGE), 0x5a, pages * VH_PAGE);
    CHECK_EQ(resident(rig, gpa, pages), pages);
}

static bool send(struct virtio_rig *rig, uint32_t queue, const uint32_t *pfns, uint32_t count)
{
    struct rig_buffer buffer = {virtio_rig_put(rig, pfns, 4ull * count), 4 * count, false};

    CHECK(virtio_rig_add(rig, queue, &buffer, 1) >= 0);
    virtio_rig_kick(rig, queue);
    return virtio_rig_used(rig, queue, NULL, NULL);
}

static void inflates(uint32_t backing)
{
    struct virtio_rig *rig = balloon_new(backing);
    const uint32_t first = AREA / VH_PAGE;
    uint32_t pfns[1000];

    dirty(rig, AREA, 1000);
    /* In no order, some twice, and page 5 kept. */
    for (uint32_t i = 0; i < 1000; i++) {
        pfns[i] = first + i * 7 % 1000;
        pfns[i] += pfns[i] == first + 5 ? 1 : 0;
    }
    CHECK(send(rig, INFLATE, pfns, 1000));
    CHECK_EQ(virtio_rig_interrupts(rig, INFLATE), 1);
    CHECK_EQ(resident(rig, AREA, 1000), 1);
    const uint8_t *at = virtio_rig_at(rig, AREA, 1000 * VH_PAGE);
    CHECK_EQ(at[0], 0);
    CHECK_EQ(at[5 * VH_PAGE], 0x5a);
    CHECK_EQ(at[999 * VH_PAGE + 4095], 0);
    /* It comes back by itself. */
    CHECK(send(rig, DEFLATE, pfns, 1000));
    dirty(rig, AREA, 1000);
    /* Neighbours in two slots. */
    dirty(rig, 12 * VH_MIB - VH_PAGE, 1);
    dirty(rig, 12 * VH_MIB, 2);
    pfns[0] = 12 * VH_MIB / VH_PAGE - 1;
    pfns[1] = pfns[0] + 1;
    CHECK(send(rig, INFLATE, pfns, 2));
    CHECK_EQ(resident(rig, 12 * VH_MIB - VH_PAGE, 1), 0);
    CHECK_EQ(resident(rig, 12 * VH_MIB, 2), 1);
    CHECK(!rig->device->broken);
    virtio_rig_free(rig);
}

TEST(virtio_balloon_inflates)
{
    inflates(VMMHPC_BACKING_ANON);
    inflates(VMMHPC_BACKING_MEMFD);
}

TEST(virtio_balloon_memfd_shrinks)
{
    struct virtio_rig *rig = balloon_new(VMMHPC_BACKING_MEMFD);
    struct stat before;
    struct stat after;
    uint32_t pfns[256];

    dirty(rig, AREA, 256);
    for (uint32_t i = 0; i < 256; i++) {
        pfns[i] = AREA / VH_PAGE + i;
    }
    CHECK_EQ(fstat(rig->memory.slots[0].fd, &before), 0);
    CHECK(send(rig, INFLATE, pfns, 256));
    CHECK_EQ(fstat(rig->memory.slots[0].fd, &after), 0);
    CHECK_EQ(after.st_size, before.st_size);
    CHECK((uint64_t)(before.st_blocks - after.st_blocks) * 512 >= 256 * VH_PAGE - 16 * VH_PAGE);
    virtio_rig_free(rig);
}

TEST(virtio_balloon_refuses_what_is_not_ram)
{
    static const uint32_t bad[] = {16 * VH_MIB / VH_PAGE, 0xffffffff, 0x80000000};

    for (uint32_t i = 0; i < VH_COUNT(bad); i++) {
        struct virtio_rig *rig = balloon_new(VMMHPC_BACKING_ANON);

        CHECK(!send(rig, INFLATE, &bad[i], 1));
        CHECK(rig->device->broken);
        CHECK_EQ(rig->config_interrupts, 1);
        virtio_rig_free(rig);
    }
    struct virtio_rig *rig = balloon_new(VMMHPC_BACKING_ANON);
    struct rig_buffer endless = {0, 12 * VH_MIB, false};
    virtio_rig_add(rig, INFLATE, &endless, 1);
    virtio_rig_kick(rig, INFLATE);
    CHECK(rig->device->broken);
    virtio_rig_free(rig);
    /* A bit of a page number is none; deflating says nothing that matters. */
    rig = balloon_new(VMMHPC_BACKING_ANON);
    struct rig_buffer part = {virtio_rig_put(rig, bad, 3), 3, false};
    virtio_rig_add(rig, INFLATE, &part, 1);
    virtio_rig_kick(rig, INFLATE);
    CHECK(send(rig, DEFLATE, bad, 3));
    CHECK(!rig->device->broken);
    virtio_rig_free(rig);
}

static void reports(uint32_t backing, uint32_t queue)
{
    struct virtio_rig *rig = balloon_new(backing);
    struct rig_buffer buffers[] = {{AREA, 64 * VH_PAGE, true},
                                   /* not whole pages: only what is inside */
                                   {AREA + 100 * VH_PAGE + 1, 3 * VH_PAGE, true},
                                   {AREA + 200 * VH_PAGE + 100, 4000, true},
                                   {12 * VH_MIB - 2 * VH_PAGE, 4 * VH_PAGE, true}};
    struct vmmhpc_balloon_state state = {.size = sizeof(state)};

    dirty(rig, AREA, 300);
    dirty(rig, 12 * VH_MIB - 4 * VH_PAGE, 4);
    dirty(rig, 12 * VH_MIB, 4);
    CHECK(virtio_rig_add_indirect(rig, queue, buffers, 4) >= 0);
    virtio_rig_kick(rig, queue);
    CHECK(virtio_rig_used(rig, queue, NULL, NULL));
    CHECK_EQ(resident(rig, AREA, 64), 0);
    CHECK_EQ(resident(rig, AREA + 64 * VH_PAGE, 36), 36);
    CHECK_EQ(resident(rig, AREA + 100 * VH_PAGE, 4), 2);
    CHECK_EQ(resident(rig, AREA + 200 * VH_PAGE, 2), 2);
    CHECK_EQ(resident(rig, 12 * VH_MIB - 4 * VH_PAGE, 4), 2);
    CHECK_EQ(resident(rig, 12 * VH_MIB, 4), 2);
    vh_balloon_state(rig->device, &state);
    CHECK_EQ(state.reported_bytes, (64 + 2 + 4) * VH_PAGE);
    virtio_rig_free(rig);
}

TEST(virtio_balloon_free_page_reporting)
{
    reports(VMMHPC_BACKING_ANON, REPORTING);
    reports(VMMHPC_BACKING_MEMFD, REPORTING);
    reports(VMMHPC_BACKING_ANON, REPORTING_LINUX);
}

TEST(virtio_balloon_reporting_must_be_negotiated)
{
    struct virtio_rig *rig = balloon_new(VMMHPC_BACKING_ANON);
    struct rig_buffer buffer = {AREA, 64 * VH_PAGE, true};

    virtio_rig_reset(rig);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    dirty(rig, AREA, 64);
    virtio_rig_add(rig, REPORTING, &buffer, 1);
    virtio_rig_kick(rig, REPORTING);
    CHECK(virtio_rig_used(rig, REPORTING, NULL, NULL));
    CHECK_EQ(resident(rig, AREA, 64), 64);
    virtio_rig_free(rig);
}

TEST(virtio_balloon_config)
{
    struct virtio_rig *rig = balloon_new(VMMHPC_BACKING_ANON);
    struct vmmhpc_balloon_state state = {.size = sizeof(state)};

    CHECK_EQ(virtio_rig_config(rig, 0, 8), 0);
    vh_balloon_set_target(rig->device, 5 * VH_PAGE + 1234);
    CHECK_EQ(rig->config_interrupts, 1);
    CHECK_EQ(virtio_rig_config(rig, 0, 4), 5);
    virtio_rig_config_write(rig, 4, 4, 3);
    CHECK_EQ(virtio_rig_config(rig, 4, 4), 3);
    virtio_rig_config_write(rig, 0, 4, 77); /* not the driver's */
    virtio_rig_config_write(rig, 0, 8, 77);
    virtio_rig_config_write(rig, 3, 4, 77);
    virtio_rig_config_write(rig, 5, 4, 77);
    virtio_rig_config_write(rig, 8, 4, 77);
    virtio_rig_config_write(rig, 0xffffffff, 4, 77);
    CHECK_EQ(virtio_rig_config(rig, 0, 8), 0x300000005);
    vh_balloon_state(rig->device, &state);
    CHECK_EQ(state.target_bytes, 5 * VH_PAGE);
    CHECK_EQ(state.actual_bytes, 3 * VH_PAGE);
    CHECK_EQ(state.reported_bytes, 0);
    /* A guest that starts again has all its memory, and is asked again. */
    virtio_rig_reset(rig);
    CHECK_EQ(virtio_rig_config(rig, 0, 8), 5);
    virtio_rig_free(rig);
}
