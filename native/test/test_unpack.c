/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking a bzImage: every format, damage anywhere, and limits. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/boot.h"
#include "packed.h"
#include "tap.h"
#include "vmmhpc_unpack.h"

#define LIMIT (64u << 20)

static const uint32_t formats[] = {VMMHPC_PAYLOAD_ELF, VMMHPC_PAYLOAD_LZ4, VMMHPC_PAYLOAD_GZIP,
                                   VMMHPC_PAYLOAD_XZ, VMMHPC_PAYLOAD_ZSTD};

static struct vmmhpc_error err;

static int32_t unpack(const struct image *image, uint64_t limit, int *fd)
{
    /* A copy of just the right size, so that ASan sees a read past its end. */
    uint8_t *exact = malloc(image->bytes);
    int file = memfd_create("vmlinux", MFD_CLOEXEC);
    int32_t status;

    memset(&err, 0, sizeof(err));
    err.size = sizeof(err);
    memcpy(exact, image->data, image->bytes);
    status = vmmhpc_unpack(exact, image->bytes, file, limit, NULL, &err);
    free(exact);
    if (fd != NULL) {
        *fd = file;
    } else {
        (void)close(file);
    }
    return status;
}

static void check_format(uint32_t format, uint64_t extra)
{
    struct image *image = malloc(sizeof(*image));
    uint8_t *kernel = malloc(extra + 0x4000);
    uint64_t bytes = packed_kernel(kernel, extra + 0x4000, extra);
    struct vmmhpc_payload_info info = {.size = sizeof(info)};
    struct stat about;
    void *mapped;
    int fd;

    CHECK(packed_image(image, format, extra));
    CHECK_OK(vmmhpc_unpack_probe(image->data, image->bytes, &info, &err), &err);
    CHECK_EQ(info.format, format);
    CHECK_EQ(info.bytes, bytes);
    CHECK_OK(unpack(image, LIMIT, &fd), &err);
    CHECK_EQ(fstat(fd, &about), 0);
    if (CHECK_EQ(about.st_size, bytes)) {
        mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        CHECK(memcmp(mapped, kernel, bytes) == 0);
        (void)munmap(mapped, bytes);
    }
    (void)close(fd);
    free(kernel);
    free(image);
}

TEST(unpack_formats)
{
    for (size_t i = 0; i < VH_COUNT(formats); i++) {
        check_format(formats[i], 0);
        check_format(formats[i], formats[i] == VMMHPC_PAYLOAD_ELF ? 0x8000 : 0x40000);
    }
}

/* More than one block of LZ4's 8 MiB, more than a chunk of the others. */
TEST(unpack_large)
{
    check_format(VMMHPC_PAYLOAD_LZ4, 9u << 20);
    check_format(VMMHPC_PAYLOAD_GZIP, 9u << 20);
    check_format(VMMHPC_PAYLOAD_ZSTD, 9u << 20);
}

TEST(unpack_result_boots)
{
    struct vmmhpc_memory spec = {.size = sizeof(spec), .bytes = 64 * VH_MIB, .numa_node = -1};
    struct image *image = malloc(sizeof(*image));
    struct vh_memory memory;
    struct vh_boot_source source = {.cmdline = ""};
    struct vh_entry entry;
    void *mapped;
    int fd;

    CHECK(packed_image(image, VMMHPC_PAYLOAD_LZ4, 0));
    CHECK_OK(unpack(image, LIMIT, &fd), &err);
    mapped = mmap(NULL, 0x2100, PROT_READ, MAP_PRIVATE, fd, 0);
    source.kernel = (struct vh_blob){mapped, 0x2100};
    CHECK_OK(vh_memory_create(&memory, &spec, 1, &err), &err);
    CHECK_OK(vh_boot_load(&memory, &source, &entry, &err), &err);
    CHECK_EQ(entry.kind, VMMHPC_IMAGE_ELF_LINUX);
    vh_memory_destroy(&memory);
    (void)munmap(mapped, 0x2100);
    (void)close(fd);
    free(image);
}

static const struct {
    const char *payload;
    uint32_t bytes;
    int32_t status;
    const char *text;
} payloads[] = {
    {"\x5d\x00\x00\x80\x00 and more", 14, VMMHPC_E_UNSUPPORTED, "packed with LZMA"},
    {"BZh91AY&SY and more", 19, VMMHPC_E_UNSUPPORTED, "packed with bzip2"},
    {"\x89LZO\0\r\n\x1a\n and more", 18, VMMHPC_E_UNSUPPORTED, "packed with LZO"},
    {"nothing that is known", 21, VMMHPC_E_BAD_IMAGE, "no known compression"},
    {"\x02\x21\x4c\x18", 4, VMMHPC_E_BAD_IMAGE, "no known compression"}, /* too short */
    {"\x02\x21\x4c\x18\x00\x00\x00\x00 more", 13, VMMHPC_E_BAD_IMAGE,
     "LZ4 data in the bzImage are"},
    {"\x02\x21\x4c\x18\xff\xff\xff\xff more", 13, VMMHPC_E_BAD_IMAGE,
     "LZ4 data in the bzImage are"},
    {"\x02\x21\x4c\x18\x06\x00\x00\x00 more", 13, VMMHPC_E_TRUNCATED,
     "LZ4 data in the bzImage end"},
    {"\x02\x21\x4c\x18\x02\x21\x4c\x18 mo", 11, VMMHPC_E_TRUNCATED, "LZ4 data in the bzImage end"},
    {"\x02\x21\x4c\x18\x06\x00\x00\x00\x50hello", 14, VMMHPC_E_BAD_IMAGE, "not an ELF file"},
};

TEST(unpack_bad_payloads)
{
    struct image *image = malloc(sizeof(*image));

    for (size_t i = 0; i < VH_COUNT(payloads); i++) {
        packed_store(image, (const uint8_t *)payloads[i].payload, payloads[i].bytes, 0x1000,
                     payloads[i].bytes > 4);
        CHECK_ERROR(unpack(image, LIMIT, NULL), &err, payloads[i].status, payloads[i].text);
    }
    free(image);
}

TEST(unpack_bad_headers)
{
    struct image *image = malloc(sizeof(*image));

    CHECK(packed_image(image, VMMHPC_PAYLOAD_GZIP, 0));
    image_set(image, 0x24c, 0xffffffff, 4);
    CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_TRUNCATED, "its payload ends at byte");
    CHECK(packed_image(image, VMMHPC_PAYLOAD_GZIP, 0));
    image_set(image, 0x248, 0xffffffff, 4);
    CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_TRUNCATED, "is truncated");
    CHECK(packed_image(image, VMMHPC_PAYLOAD_GZIP, 0));
    image_set(image, 0x206, 0x207, 2);
    CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_BAD_IMAGE, "older than 2.08");
    image->bytes = 0x24f;
    CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_BAD_IMAGE, "not a bzImage");
    CHECK_ERROR(vmmhpc_unpack(NULL, 0, -1, 0, NULL, &err), &err, VMMHPC_E_INVALID, "missing");
    free(image);
}

TEST(unpack_limits)
{
    struct image *image = malloc(sizeof(*image));

    for (size_t i = 1; i < VH_COUNT(formats); i++) {
        uint32_t at;

        CHECK(packed_image(image, formats[i], 0x10000));
        at = IMAGE_CODE_OFFSET + 0x300 + *(uint32_t *)(void *)(image->data + 0x24c) - 4;
        CHECK_ERROR(unpack(image, 0x120ff, NULL), &err, VMMHPC_E_LIMIT, "announces 73984 bytes");
        CHECK_EQ(err.value, 0x12100);
        image_set(image, at, 0xffffffff, 4);
        CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_LIMIT, "announces 4294967295");
        /* More than announced (a bomb), less than announced, and next to nothing. */
        image_set(image, at, 0x120ff, 4);
        CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_BAD_IMAGE, "");
        image_set(image, at, 0x12101, 4);
        CHECK(unpack(image, LIMIT, NULL) < 0);
        image_set(image, at, 63, 4);
        CHECK_ERROR(unpack(image, LIMIT, NULL), &err, VMMHPC_E_BAD_IMAGE, "announces 63 bytes");
    }
    free(image);
}

/* Payloads cut short and with single bytes changed: an error or a right result, never a crash. */
TEST(unpack_damage_everywhere)
{
    struct image *good = malloc(sizeof(*good));
    struct image *bad = malloc(sizeof(*bad));

    for (size_t i = 1; i < VH_COUNT(formats); i++) {
        uint32_t start = IMAGE_CODE_OFFSET + 0x300;
        uint32_t bytes;
        uint32_t refused = 0;
        uint32_t cut = 0;

        CHECK(packed_image(good, formats[i], 0));
        memcpy(&bytes, good->data + 0x24c, 4);
        for (uint32_t at = 8; at + 4 < bytes; at++) {
            memcpy(bad, good, sizeof(*bad));
            bad->data[start + at] ^= 0x41;
            refused += unpack(bad, LIMIT, NULL) != VMMHPC_OK ? 1 : 0;
            memcpy(bad, good, sizeof(*bad));
            image_set(bad, 0x24c, at + 4, 4);
            memcpy(bad->data + start + at, good->data + start + bytes - 4, 4);
            cut += unpack(bad, LIMIT, NULL) != VMMHPC_OK ? 1 : 0;
        }
        CHECK(refused > 0);
        CHECK(cut + 16 > bytes - 12); /* all but those that only cut a trailer */
    }
    free(good);
    free(bad);
}

TEST(unpack_cannot_write)
{
    struct image *image = malloc(sizeof(*image));

    CHECK(packed_image(image, VMMHPC_PAYLOAD_ZSTD, 0));
    err.size = sizeof(err);
    CHECK_ERROR(vmmhpc_unpack(image->data, image->bytes, -1, LIMIT, NULL, &err), &err, VMMHPC_E_IO,
                "cannot write the unpacked kernel");
    free(image);
}
