/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the arguments of each shipped call are (their section 2 man pages; sizes are those of the
 * kernel's structures on x86-64). Calls that are read and written by transfer.c, poll.c and
 * filemap.c are not here.
 */
#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/time_types.h>

#include "shm.h"

/* Kinds of arguments: flags, and a size or the number of the argument that has the size. */
#define VALUE 0x8000u
#define PATH 0x4000u
#define COUNTED                                                                                    \
    0x0800u /* the size is in another argument, and the result says how much of it counts */
#define OPTIONAL 0x0400u /* null means something */
#define SIZE 0x03ffu

#define GET(type) (FROM_YOD | (uint32_t)sizeof(type))
#define PUT(type) (TO_YOD | (uint32_t)sizeof(type))
#define FILL(argument) (FROM_YOD | COUNTED | (argument))
#define MAYBE_PATH (PATH | OPTIONAL)
#define MAYBE_TIMES (PUT(struct __kernel_timespec[2]) | OPTIONAL)
#define PATH_BYTES 4096u

struct shape {
    uint16_t argument[6];
};

static const struct shape shapes[] = {
    [__NR_open] = {{PATH, VALUE, VALUE}},
    [__NR_close] = {{VALUE}},
    [__NR_stat] = {{PATH, GET(struct stat)}},
    [__NR_fstat] = {{VALUE, GET(struct stat)}},
    [__NR_lstat] = {{PATH, GET(struct stat)}},
    [__NR_lseek] = {{VALUE, VALUE, VALUE}},
    [__NR_ioctl] = {{VALUE, VALUE, VALUE}}, /* and by the request */
    [__NR_access] = {{PATH, VALUE}},
    [__NR_pipe] = {{GET(int[2])}},
    [__NR_dup] = {{VALUE}},
    [__NR_dup2] = {{VALUE, VALUE}},
    [__NR_fcntl] = {{VALUE, VALUE, VALUE}}, /* and by the command */
    [__NR_flock] = {{VALUE, VALUE}},
    [__NR_fsync] = {{VALUE}},
    [__NR_fdatasync] = {{VALUE}},
    [__NR_truncate] = {{PATH, VALUE}},
    [__NR_ftruncate] = {{VALUE, VALUE}},
    [__NR_getdents] = {{VALUE, FILL(2), VALUE}},
    [__NR_getcwd] = {{FILL(1), VALUE}},
    [__NR_chdir] = {{PATH}},
    [__NR_fchdir] = {{VALUE}},
    [__NR_rename] = {{PATH, PATH}},
    [__NR_mkdir] = {{PATH, VALUE}},
    [__NR_rmdir] = {{PATH}},
    [__NR_creat] = {{PATH, VALUE}},
    [__NR_link] = {{PATH, PATH}},
    [__NR_unlink] = {{PATH}},
    [__NR_symlink] = {{PATH, PATH}},
    [__NR_readlink] = {{PATH, FILL(2), VALUE}},
    [__NR_chmod] = {{PATH, VALUE}},
    [__NR_fchmod] = {{VALUE, VALUE}},
    [__NR_chown] = {{PATH, VALUE, VALUE}},
    [__NR_fchown] = {{VALUE, VALUE, VALUE}},
    [__NR_lchown] = {{PATH, VALUE, VALUE}},
    [__NR_umask] = {{VALUE}},
    [__NR_statfs] = {{PATH, GET(struct statfs)}},
    [__NR_fstatfs] = {{VALUE, GET(struct statfs)}},
    [__NR_sync] = {{VALUE}},
    [__NR_getdents64] = {{VALUE, FILL(2), VALUE}},
    [__NR_openat] = {{VALUE, PATH, VALUE, VALUE}},
    [__NR_mkdirat] = {{VALUE, PATH, VALUE}},
    [__NR_fchownat] = {{VALUE, PATH, VALUE, VALUE, VALUE}},
    [__NR_newfstatat] = {{VALUE, PATH, GET(struct stat), VALUE}},
    [__NR_unlinkat] = {{VALUE, PATH, VALUE}},
    [__NR_renameat] = {{VALUE, PATH, VALUE, PATH}},
    [__NR_linkat] = {{VALUE, PATH, VALUE, PATH, VALUE}},
    [__NR_symlinkat] = {{PATH, VALUE, PATH}},
    [__NR_readlinkat] = {{VALUE, PATH, FILL(3), VALUE}},
    [__NR_fchmodat] = {{VALUE, PATH, VALUE}},
    [__NR_faccessat] = {{VALUE, PATH, VALUE}},
    [__NR_utimensat] = {{VALUE, MAYBE_PATH, MAYBE_TIMES, VALUE}},
    [__NR_fallocate] = {{VALUE, VALUE, VALUE, VALUE}},
    [__NR_dup3] = {{VALUE, VALUE, VALUE}},
    [__NR_pipe2] = {{GET(int[2]), VALUE}},
    [__NR_syncfs] = {{VALUE}},
    [__NR_renameat2] = {{VALUE, PATH, VALUE, PATH, VALUE}},
    [__NR_statx] = {{VALUE, PATH, VALUE, VALUE, GET(struct statx)}},
    [__NR_faccessat2] = {{VALUE, PATH, VALUE, VALUE}},
    /* Elsewhere; here so that they are known. */
    [__NR_read] = {{VALUE}},
    [__NR_write] = {{VALUE}},
    [__NR_pread64] = {{VALUE}},
    [__NR_pwrite64] = {{VALUE}},
    [__NR_readv] = {{VALUE}},
    [__NR_writev] = {{VALUE}},
    [__NR_preadv] = {{VALUE}},
    [__NR_pwritev] = {{VALUE}},
    [__NR_preadv2] = {{VALUE}},
    [__NR_pwritev2] = {{VALUE}},
    [__NR_poll] = {{VALUE}},
    [__NR_ppoll] = {{VALUE}},
    [__NR_select] = {{VALUE}},
    [__NR_pselect6] = {{VALUE}},
    [__NR_mmap] = {{VALUE}},
};

bool shape_known(uint64_t call)
{
    return call < sizeof(shapes) / sizeof(shapes[0]) && shapes[call].argument[0] != 0;
}

/* Space in the bounce buffer; its offset, or BOUNCE_BYTES if there is not so much. */
static uint32_t bounce(struct job *job, uint64_t bytes)
{
    uint32_t at = job->bounced;

    if (bytes > BOUNCE_BYTES - at) {
        return BOUNCE_BYTES;
    }
    job->bounced = (uint32_t)round_up(at + bytes, 8);
    return at;
}

int64_t job_buffer(struct job *job, uint32_t index, uint64_t va, uint64_t bytes, uint32_t ways)
{
    uint32_t prot = (ways & FROM_YOD) != 0 ? PROT_WRITE : PROT_READ;
    uint64_t got;

    if (bytes == 0) {
        job_memory(job, index, YOD_NO_ADDRESS, 0);
        return 0;
    }
    uint64_t pa = user_piece(va, bytes, prot, &got);
    if (pa == NO_MEMORY) {
        return -EFAULT;
    }
    if (got == bytes) {
        job_memory(job, index, pa, bytes);
        return 0;
    }
    uint32_t at = bounce(job, bytes);
    if (at == BOUNCE_BYTES) {
        return -ENOMEM;
    }
    if ((ways & TO_YOD) != 0 && !user_read(job_bounce(job) + at, va, bytes)) {
        return -EFAULT;
    }
    if ((ways & FROM_YOD) != 0) {
        job->carry[job->carries++] = (struct carry){va, bytes, at, (ways & COUNTED) != 0};
    }
    job_memory(job, index, job_bounce_pa(job) + at, bytes);
    return 0;
}

int64_t job_carry(struct job *job, int64_t result)
{
    for (uint32_t i = 0; i < job->carries && result >= 0; i++) {
        const struct carry *carry = &job->carry[i];
        uint64_t bytes = carry->by_result ? least(carry->bytes, (uint64_t)result) : carry->bytes;
        if (!user_write(carry->va, job_bounce(job) + carry->at, bytes)) {
            return -EFAULT;
        }
    }
    return result;
}

static int64_t path(struct job *job, uint32_t index, uint64_t va)
{
    uint32_t at = job->bounced;
    char *to = (char *)job_bounce(job) + at;
    int64_t length = user_string(to, va, least(PATH_BYTES, BOUNCE_BYTES - at));

    if (length < 0) {
        return length;
    }
    if (shm_path(to)) {
        job->shm = true;
        length = (int64_t)strlen(to);
    }
    job_memory(job, index, job_bounce_pa(job) + at, (uint64_t)length + 1);
    job->bounced = (uint32_t)round_up(at + (uint64_t)length + 1, 8);
    return 0;
}

static int64_t pointer(struct job *job, uint32_t index, uint32_t kind, const uint64_t args[6])
{
    uint64_t va = args[index];
    uint64_t bytes = kind & SIZE;

    if ((kind & OPTIONAL) != 0 && va == 0) {
        job_memory(job, index, YOD_NO_ADDRESS, 0);
        return 0;
    }
    if ((kind & PATH) != 0) {
        return path(job, index, va);
    }
    if ((kind & COUNTED) == 0) {
        return job_buffer(job, index, va, bytes, kind);
    }
    /* As much as is contiguous, or as can be bounced: a shorter buffer is as good. */
    uint32_t counter = kind & SIZE;
    uint64_t got;
    bytes = args[counter];
    if (user_piece(va, bytes, PROT_WRITE, &got) == NO_MEMORY && bytes > 0) {
        return -EFAULT;
    }
    if (got < bytes) {
        bytes = most(got, least(bytes, BOUNCE_BYTES - job->bounced));
    }
    job_value(job, counter, bytes);
    return job_buffer(job, index, va, bytes, kind);
}

/* ioctl() and fcntl(): what the last argument is. */
static uint32_t third(uint64_t call, uint64_t command)
{
    if (call == __NR_fcntl) {
        switch (command) {
        case F_GETLK:
        case F_OFD_GETLK:
            return TO_YOD | GET(struct flock);
        case F_SETLK:
        case F_SETLKW:
        case F_OFD_SETLK:
        case F_OFD_SETLKW:
            return PUT(struct flock);
        case F_DUPFD:
        case F_DUPFD_CLOEXEC:
        case F_GETFD:
        case F_SETFD:
        case F_GETFL:
        case F_SETFL:
        case F_GETPIPE_SZ:
        case F_SETPIPE_SZ:
            return VALUE;
        default:
            return 0;
        }
    }
    switch ((uint32_t)command) {
    case TCGETS:
        return GET(struct termios);
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return PUT(struct termios);
    case TIOCGWINSZ:
        return GET(struct winsize);
    case FIONREAD:
        return GET(int);
    case FIONBIO:
        return PUT(int);
    default:
        return 0;
    }
}

int64_t shape_prepare(struct job *job, const struct pct_event *event)
{
    struct shape shape = shapes[event->call];

    if (event->call == __NR_fcntl || event->call == __NR_ioctl) {
        shape.argument[2] = (uint16_t)third(event->call, event->args[1]);
        if (shape.argument[2] == 0) {
            return event->call == __NR_fcntl ? -EINVAL : -ENOTTY;
        }
    }
    for (uint32_t i = 0; i < 6; i++) {
        if ((shape.argument[i] & VALUE) != 0) {
            job_value(job, i, event->args[i]);
        }
    }
    for (uint32_t i = 0; i < 6; i++) {
        if (shape.argument[i] != 0 && (shape.argument[i] & VALUE) == 0) {
            int64_t failed = pointer(job, i, shape.argument[i], event->args);
            if (failed != 0) {
                return failed;
            }
        }
    }
    return PENDING;
}
