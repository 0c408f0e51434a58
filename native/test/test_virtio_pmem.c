/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem (virtio 1.2, 5.19): the mapping, and flushes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/small.h"
#include "virtio_rig.h"

#define BYTES (4 * VH_MIB)

static struct vmmhpc_error err = {.size = sizeof(err)};

struct file {
    char path[64];
    int fd;
};

static struct file file_new(uint64_t bytes)
{
    struct file file = {.path = "/tmp/pmem-test-XXXXXX"};

    file.fd = mkstemp(file.path);
    CHECK(file.fd >= 0);
    CHECK_EQ(ftruncate(file.fd, (off_t)bytes), 0);
    return file;
}

static void file_free(const struct file *file)
{
    (void)unlink(file->path);
    (void)close(file->fd);
}

static int32_t pmem_new(const char *path, uint32_t flags, struct vh_virtio **device)
{
    struct vmmhpc_pmem config = {.size = sizeof(config), .flags = flags, .path = path};

    return vh_pmem_new(NULL, &config, device, &err);
}

/* The answer to a request of that type and length; its status, or -1 where nothing was written. */
static int64_t ask(struct virtio_rig *rig, uint32_t type, uint32_t bytes, uint32_t room)
{
    uint32_t answer = 0x77777777;
    uint64_t out = virtio_rig_put(rig, &answer, sizeof(answer));
    struct rig_buffer buffers[] = {{virtio_rig_put(rig, &type, 4), bytes, false},
                                   {out, room, true}};
    uint32_t written = 99;

    CHECK(virtio_rig_add(rig, 0, buffers, 2) >= 0);
    virtio_rig_kick(rig, 0);
    CHECK(virtio_rig_used(rig, 0, NULL, &written));
    CHECK_EQ(written, room < 4 ? room : 4);
    memcpy(&answer, virtio_rig_at(rig, out, 4), 4);
    return written == 4 ? (int64_t)answer : -1;
}

TEST(virtio_pmem_shared)
{
    struct file file = file_new(BYTES);
    struct vh_virtio *device = NULL;
    uint64_t bytes = 0;
    char text[8] = {0};

    CHECK_EQ(pwrite(file.fd, "before", 6, 100), 6);
    CHECK_OK(pmem_new(file.path, 0, &device), &err);
    uint8_t *base = vh_pmem_mapping(device, &bytes);
    CHECK_EQ(bytes, BYTES);
    CHECK_EQ((uintptr_t)base % (2 * VH_MIB), 0);
    CHECK(memcmp(base + 100, "before", 6) == 0);
    memcpy(base + BYTES - 5, "after", 5);
    struct virtio_rig *rig = virtio_rig_new(device);
    vh_pmem_place(device, 0x123400000000);
    CHECK_EQ(virtio_rig_config(rig, 0, 8), 0x123400000000);
    CHECK_EQ(virtio_rig_config(rig, 8, 8), BYTES);
    CHECK_OK(virtio_rig_start(rig, RIG_F_EVENT_IDX), &rig->err);
    CHECK_EQ(ask(rig, 0, 4, 4), 0);
    CHECK_EQ(pread(file.fd, text, 5, BYTES - 5), 5);
    CHECK(strcmp(text, "after") == 0);
    virtio_rig_free(rig);
    file_free(&file);
}

TEST(virtio_pmem_odd_requests)
{
    struct file file = file_new(BYTES);
    struct vh_virtio *device = NULL;

    CHECK_OK(pmem_new(file.path, 0, &device), &err);
    struct virtio_rig *rig = virtio_rig_new(device);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    CHECK_EQ(ask(rig, 1, 4, 4), 0xffffffff);
    CHECK_EQ(ask(rig, 0, 3, 4), 0xffffffff);
    CHECK_EQ(ask(rig, 0, 0, 8), 0xffffffff);
    CHECK_EQ(ask(rig, 0, 4, 3), -1);
    CHECK_EQ(ask(rig, 0, 4, 0), -1);
    CHECK_EQ(ask(rig, 0, 4, 4), 0);
    virtio_rig_free(rig);
    file_free(&file);
}

TEST(virtio_pmem_many_flushes)
{
    struct file file = file_new(BYTES);
    struct vh_virtio *device = NULL;
    uint32_t collected = 0;

    CHECK_OK(pmem_new(file.path, 0, &device), &err);
    struct virtio_rig *rig = virtio_rig_new(device);
    CHECK_OK(virtio_rig_start(rig, RIG_F_EVENT_IDX), &rig->err);
    struct rig_buffer buffers[] = {{virtio_rig_alloc(rig, 16), 4, false},
                                   {virtio_rig_alloc(rig, 16), 4, true}};
    for (uint32_t i = 0; i < 30; i++) {
        CHECK(virtio_rig_add(rig, 0, buffers, 2) >= 0);
    }
    CHECK(virtio_rig_kick(rig, 0));
    for (eventfd_t again = 0; eventfd_read(device->queues[0].kick_fd, &again) == 0;) {
        vh_virtio_kicked(device, 0);
    }
    while (virtio_rig_used(rig, 0, NULL, NULL)) {
        collected++;
    }
    CHECK_EQ(collected, 30);
    virtio_rig_free(rig);
    file_free(&file);
}

/* Two machines on one file: what one writes is its own, and lost with it. */
TEST(virtio_pmem_read_only)
{
    struct file file = file_new(BYTES);
    struct vh_virtio *devices[2] = {NULL, NULL};
    uint8_t *bases[2];
    uint64_t bytes = 0;
    char text[8] = {0};

    CHECK_EQ(pwrite(file.fd, "shared", 6, 0), 6);
    CHECK_EQ(fchmod(file.fd, 0400), 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_OK(pmem_new(file.path, VMMHPC_PMEM_READ_ONLY, &devices[i]), &err);
        bases[i] = vh_pmem_mapping(devices[i], &bytes);
    }
    memcpy(bases[0], "own", 3);
    CHECK(memcmp(bases[0], "ownred", 6) == 0);
    CHECK(memcmp(bases[1], "shared", 6) == 0);
    struct virtio_rig *rig = virtio_rig_new(devices[0]);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    CHECK_EQ(ask(rig, 0, 4, 4), 0);
    virtio_rig_free(rig);
    devices[1]->ops->destroy(devices[1]);
    CHECK_EQ(pread(file.fd, text, 6, 0), 6);
    CHECK(strcmp(text, "shared") == 0);
    file_free(&file);
}

TEST(virtio_pmem_refuses)
{
    struct file file = file_new(BYTES + VH_PAGE);
    struct vh_virtio *device = NULL;

    CHECK_ERROR(pmem_new(file.path, 0, &device), &err, VMMHPC_E_INVALID, "multiple of 2 MiB");
    CHECK_EQ(ftruncate(file.fd, 0), 0);
    CHECK_ERROR(pmem_new(file.path, 0, &device), &err, VMMHPC_E_INVALID, "multiple of 2 MiB");
    CHECK_ERROR(pmem_new(file.path, 2, &device), &err, VMMHPC_E_INVALID, "flags");
    CHECK_ERROR(pmem_new(NULL, 0, &device), &err, VMMHPC_E_INVALID, "no path");
    CHECK_ERROR(pmem_new("/nowhere/at/all", 0, &device), &err, VMMHPC_E_IO, "/nowhere/at/all");
    CHECK_ERROR(pmem_new("/dev/null", 0, &device), &err, VMMHPC_E_INVALID, "regular");
    struct vmmhpc_pmem config = {.size = 3, .path = file.path};
    CHECK_ERROR(vh_pmem_new(NULL, &config, &device, &err), &err, VMMHPC_E_INVALID, "size");
    file_free(&file);
}
