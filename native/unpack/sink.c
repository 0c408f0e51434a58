/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded sink: pages of zeros become holes in the file. */
#include "unpack.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static int32_t write_all(int fd, const uint8_t *data, uint64_t bytes, uint64_t offset,
                         struct vmmhpc_error *err)
{
    while (bytes > 0) {
        ssize_t count = pwrite(fd, data, bytes, (off_t)offset);

        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return vh_fail(err, VMMHPC_E_IO, count < 0 ? errno : ENOSPC, offset,
                           "cannot write the unpacked kernel at byte %" PRIu64, offset);
        }
        data += count;
        bytes -= (uint64_t)count;
        offset += (uint64_t)count;
    }
    return VMMHPC_OK;
}

/* Bytes up to the next page boundary of the file, at most `bytes`. */
static uint64_t to_boundary(uint64_t offset, uint64_t bytes)
{
    uint64_t left = VH_PAGE - (offset & (VH_PAGE - 1));

    return left < bytes ? left : bytes;
}

/* Whether these bytes, at this offset, can be those of an ELF file. */
static bool continues_elf(uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    static const uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};

    for (uint64_t i = 0; i < bytes && offset + i < sizeof(magic); i++) {
        if (data[i] != magic[offset + i]) {
            return false;
        }
    }
    return true;
}

int32_t vu_sink_write(struct vu_sink *sink, const uint8_t *data, uint64_t bytes,
                      struct vmmhpc_error *err)
{
    static const uint8_t zeros[VH_PAGE];

    if (bytes > sink->expected - sink->done) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, sink->done + bytes,
                       "the kernel unpacks to more than the %" PRIu64 " bytes that it announces",
                       sink->expected);
    }
    if (!continues_elf(sink->done, data, bytes)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "what the bzImage holds is not an ELF file once it is unpacked");
    }
    while (bytes > 0) {
        uint64_t run = 0;

        /* The longest run of pages that hold something. */
        while (run < bytes) {
            uint64_t piece = to_boundary(sink->done + run, bytes - run);

            if (memcmp(data + run, zeros, piece) == 0) {
                break;
            }
            run += piece;
        }
        if (run == 0) {
            run = to_boundary(sink->done, bytes); /* zeros: leave a hole */
        } else {
            int32_t status = write_all(sink->fd, data, run, sink->done, err);

            if (status != VMMHPC_OK) {
                return status;
            }
        }
        sink->done += run;
        data += run;
        bytes -= run;
    }
    return VMMHPC_OK;
}

int32_t vu_fail_damaged(const struct vu_sink *sink, const char *format, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, sink->done,
                   "the %s data in the bzImage are damaged (after %" PRIu64 " unpacked bytes)",
                   format, sink->done);
}

int32_t vu_fail_truncated(const struct vu_sink *sink, const char *format, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_TRUNCATED, 0, sink->done,
                   "the %s data in the bzImage end early: %" PRIu64 " of %" PRIu64
                   " unpacked bytes",
                   format, sink->done, sink->expected);
}

int32_t vu_fail_memory(const char *format, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory to unpack %s data", format);
}
