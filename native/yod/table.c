/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that yod serves; every other one is ENOSYS. */
#include <sys/syscall.h>

#include "yod_internal.h"

#define ENTRY(name) [SYS_##name] = yd_call_##name

static const yd_handler handlers[] = {
    ENTRY(open),     ENTRY(openat),     ENTRY(creat),      ENTRY(close),      ENTRY(read),
    ENTRY(write),    ENTRY(pread64),    ENTRY(pwrite64),   ENTRY(lseek),      ENTRY(stat),
    ENTRY(lstat),    ENTRY(fstat),      ENTRY(newfstatat), ENTRY(statx),      ENTRY(statfs),
    ENTRY(fstatfs),  ENTRY(access),     ENTRY(faccessat),  ENTRY(faccessat2), ENTRY(readlink),
    ENTRY(getdents), ENTRY(readlinkat), ENTRY(getdents64), ENTRY(dup),        ENTRY(dup2),
    ENTRY(dup3),     ENTRY(pipe),       ENTRY(pipe2),      ENTRY(fcntl),      ENTRY(ioctl),
    ENTRY(truncate), ENTRY(ftruncate),  ENTRY(fallocate),  ENTRY(fsync),      ENTRY(fdatasync),
    ENTRY(sync),     ENTRY(flock),      ENTRY(rename),     ENTRY(renameat),   ENTRY(renameat2),
    ENTRY(mkdir),    ENTRY(mkdirat),    ENTRY(rmdir),      ENTRY(unlink),     ENTRY(unlinkat),
    ENTRY(link),     ENTRY(linkat),     ENTRY(symlink),    ENTRY(symlinkat),  ENTRY(chmod),
    ENTRY(fchmod),   ENTRY(fchmodat),   ENTRY(chown),      ENTRY(lchown),     ENTRY(fchown),
    ENTRY(fchownat), ENTRY(utime),      ENTRY(utimes),     ENTRY(futimesat),  ENTRY(utimensat),
    ENTRY(chdir),    ENTRY(fchdir),     ENTRY(getcwd),     ENTRY(umask),      ENTRY(poll),
    ENTRY(ppoll),
};

yd_handler yd_handler_of(uint32_t call)
{
    return call < VH_COUNT(handlers) ? handlers[call] : NULL;
}
