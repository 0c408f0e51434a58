/* SPDX-License-Identifier: Apache-2.0 */
/* Real kernels, whose path V3M_TEST_KERNEL gives: as bzImage, as vmlinux, by PVH, and cut short. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"
#include "vmmhpc_unpack.h"

static bool map_file(int fd, struct vh_blob *blob)
{
    struct stat about;

    if (fd < 0 || fstat(fd, &about) != 0) {
        return false;
    }
    blob->bytes = (uint64_t)about.st_size;
    blob->data = mmap(NULL, blob->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    return blob->data != MAP_FAILED;
}

static bool map_kernel(struct vh_blob *bzimage)
{
    const char *path = getenv("V3M_TEST_KERNEL");
    int fd;
    bool mapped;

    if (path == NULL) {
        tap_skip("V3M_TEST_KERNEL is not set");
        return false;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    mapped = map_file(fd, bzimage);
    (void)close(fd);
    return CHECK(mapped);
}

static void unmap(struct vh_blob *blob)
{
    (void)munmap((void *)(uintptr_t)blob->data, blob->bytes);
}

TEST(boot_kernel_bzimage)
{
    struct vh_blob bzimage = {0};
    struct rig *rig;

    if (!map_kernel(&bzimage)) {
        return;
    }
    rig = rig_new(128);
    rig->source.kernel = bzimage;
    CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
    CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_BZIMAGE);
    CHECK_EQ(rig->entry.rip, 0x1000200);
    CHECK_EQ(rig_read(rig, VH_BOOT_PARAMS_GPA + 0x258, 8), 0x1000000);
    rig->source.kernel.bytes -= 0x200000;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_TRUNCATED, "truncated");
    rig_free(rig);
    rig = rig_new(32);
    rig->source.kernel = bzimage;
    CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_NO_ROOM, "more memory");
    rig_free(rig);
    unmap(&bzimage);
}

TEST(boot_kernel_vmlinux)
{
    struct vmmhpc_payload_info info = {.size = sizeof(info)};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_blob bzimage = {0};
    struct vh_blob vmlinux = {0};
    struct rig *rig;
    int fd = memfd_create("vmlinux", MFD_CLOEXEC);

    if (!map_kernel(&bzimage)) {
        (void)close(fd);
        return;
    }
    CHECK_OK(vmmhpc_unpack(bzimage.data, bzimage.bytes, fd, VH_GIB, &info, &err), &err);
    if (CHECK(map_file(fd, &vmlinux))) {
        CHECK_EQ(vmlinux.bytes, info.bytes);
        rig = rig_new(128);
        rig->source.kernel = vmlinux;
        CHECK_OK(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err);
        CHECK_EQ(rig->entry.kind, VMMHPC_IMAGE_ELF_LINUX);
        CHECK_EQ(rig->entry.mode, VH_MODE_LONG64);
        CHECK_EQ(rig->entry.rip, 0x1000000);
        rig_free(rig);
        rig = rig_new(128);
        rig->source.kernel = vmlinux;
        CHECK_OK(rig_load(rig, VMMHPC_IMAGE_ELF_PVH), &rig->err);
        CHECK_EQ(rig->entry.mode, VH_MODE_PROT32);
        CHECK(rig->entry.rip > 0x1000000 && rig->entry.rip < 0x8000000);
        rig->source.kernel.bytes /= 2;
        CHECK_ERROR(rig_load(rig, VMMHPC_IMAGE_AUTO), &rig->err, VMMHPC_E_TRUNCATED,
                    "lies beyond the end of the file");
        rig_free(rig);
        unmap(&vmlinux);
    }
    (void)close(fd);
    unmap(&bzimage);
}
