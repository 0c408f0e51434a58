/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in for yod on a machine without one: a console that is written to, and no files. */
#include <asm/poll.h>
#include <asm/stat.h>
#include <linux/fcntl.h>

#include "ship.h"

#define NO_SERVICE (-ENOSYS)

static int64_t write_console(const struct yod_slot *slot)
{
    if (slot->args[0] != 1 && slot->args[0] != 2) {
        return -EBADF;
    }
    if (slot->extent[1] > 0) {
        qk_console(ram(slot->args[1]), slot->extent[1]);
    }
    return (int64_t)slot->extent[1];
}

static int64_t describe(uint64_t pa)
{
    const struct stat info = {.st_mode = 0020620, /* a character device, crw--w---- */
                              .st_nlink = 1,
                              .st_rdev = 5 << 8 | 1, /* /dev/console */
                              .st_blksize = 1024};

    memcpy(ram(pa), &info, sizeof(info));
    return 0;
}

static int64_t poll_console(const struct yod_slot *slot)
{
    struct pollfd *fds = slot->extent[0] == 0 ? NULL : ram(slot->args[0]);
    int64_t ready = 0;

    for (uint32_t i = 0; fds != NULL && i < slot->args[1]; i++) {
        uint32_t could = fds[i].fd > 2 ? POLLNVAL : fds[i].fd == 0 ? POLLIN : POLLOUT;
        uint32_t asked = (uint32_t)fds[i].events | POLLNVAL;
        fds[i].revents = (short)(fds[i].fd < 0 ? 0 : could & asked);
        ready += fds[i].revents != 0;
    }
    return ready;
}

/* fstat() of glibc: an empty path, relative to the descriptor. */
static int64_t stat_at(const struct yod_slot *slot)
{
    const char *path = ram(slot->args[1]);

    return path[0] == '\0' && slot->args[0] <= 2 && (slot->args[3] & AT_EMPTY_PATH) != 0
               ? describe(slot->args[2])
               : -ENOENT;
}

int64_t console_serve(struct yod_slot *slot)
{
    bool standard = (uint32_t)slot->args[0] <= 2;

    switch (slot->call) {
    case __NR_write:
        return write_console(slot);
    case __NR_read:
    case __NR_close:
        return standard ? 0 : -EBADF;
    case __NR_fstat:
        return standard ? describe(slot->args[1]) : -EBADF;
    case __NR_newfstatat:
        return stat_at(slot);
    case __NR_lseek:
    case __NR_pread64:
    case __NR_pwrite64:
        return standard ? -ESPIPE : -EBADF;
    case __NR_ioctl:
        return standard ? -ENOTTY : -EBADF;
    case __NR_fcntl:
        if (!standard) {
            return -EBADF;
        }
        return slot->args[1] == F_GETFL ? O_RDWR : slot->args[1] == F_DUPFD ? -EMFILE : 0;
    case __NR_poll:
        return poll_console(slot);
    case __NR_umask:
        return 022;
    case __NR_open:
    case __NR_openat:
    case __NR_stat:
    case __NR_lstat:
    case __NR_statx:
    case __NR_access:
    case __NR_faccessat:
    case __NR_faccessat2:
    case __NR_readlink:
    case __NR_readlinkat:
    case __NR_chdir:
    case __NR_getcwd:
        return -ENOENT;
    default:
        return NO_SERVICE;
    }
}
