/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking a bzImage; what comes out is handed to the ELF loader, as it is in a machine. */
#include "harness.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmmhpc_unpack.h"

#define LIMIT (1u << 20u)

static uint8_t unpacked[LIMIT];

static void load_result(int fd, uint64_t bytes)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory spec = {.size = sizeof(spec), .bytes = 32 * VH_MIB, .numa_node = -1};
    struct vh_boot_source source = {.cmdline = "", .kernel = {unpacked, bytes}};
    struct vh_memory memory;
    struct vh_entry entry;

    MUST(pread(fd, unpacked, bytes, 0) == (ssize_t)bytes);
    MUST(memcmp(unpacked,
                "\x7f"
                "ELF",
                4) == 0);
    MUST(vh_memory_create(&memory, &spec, 1, &err) == VMMHPC_OK);
    (void)vh_boot_load(&memory, &source, &entry, &err);
    vh_memory_destroy(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static int fd = -1;
    struct vmmhpc_payload_info info = {.size = sizeof(info)};
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t status;

    if (fd < 0) {
        fd = memfd_create("vmlinux", MFD_CLOEXEC);
    }
    MUST(ftruncate(fd, 0) == 0);
    status = vmmhpc_unpack(data, bytes, fd, LIMIT, &info, &err);
    /* No more than announced and allowed, whatever happens. */
    MUST(lseek(fd, 0, SEEK_END) <= (off_t)LIMIT);
    if (status == VMMHPC_OK) {
        MUST(lseek(fd, 0, SEEK_END) == (off_t)info.bytes);
        load_result(fd, info.bytes);
    } else {
        MUST(err.code == status && err.text[0] != '\0');
    }
    fuzz_count(status == VMMHPC_OK);
    return 0;
}
