/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on files, as a well-behaved program makes them: results as Linux's. */
#include <dirent.h>
#include <sys/vfs.h>

#include "yod_rig.h"

TEST(yod_open_read_write)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t fd = OPEN("ro/file", O_RDONLY);
    CHECK_EQ(fd, 0); /* the lowest free number */
    CHECK_EQ(CALL(read, V(fd), M(0, 100), V(100)), 10);
    CHECK(memcmp(BUFFER, "read only\n", 10) == 0);
    CHECK_EQ(CALL(read, V(fd), M(0, 100), V(100)), 0);
    CHECK_EQ(CALL(pread64, V(fd), M(0, 4), V(4), V(5)), 4);
    CHECK(memcmp(BUFFER, "only", 4) == 0);
    CHECK_EQ(CALL(lseek, V(fd), V(-3), V(SEEK_END)), 7);
    CHECK_EQ(CALL(write, V(fd), M(0, 4), V(4)), -EBADF);
    CHECK_EQ(CALL(close, V(fd)), 0);
    CHECK_EQ(CALL(close, V(fd)), -EBADF);
    fd = OPEN("rw/new", O_RDWR | O_CREAT | O_EXCL);
    CHECK_EQ(fd, 0);
    CHECK_EQ(OPEN("rw/new", O_RDWR | O_CREAT | O_EXCL), -EEXIST);
    memcpy(BUFFER, "0123456789", 10);
    CHECK_EQ(CALL(write, V(fd), M(0, 10), V(10)), 10);
    CHECK_EQ(CALL(pwrite64, V(fd), M(0, 2), V(2), V(4)), 2);
    CHECK(yod_holds(rig, "rw/new", "0123016789"));
    CHECK_EQ(CALL(ftruncate, V(fd), V(3)), 0);
    CHECK_EQ(CALL(truncate, P("rw/new"), V(2)), 0);
    CHECK(yod_holds(rig, "rw/new", "01"));
    CHECK_EQ(CALL(fallocate, V(fd), V(0), V(0), V(8)), 0);
    CHECK_EQ(CALL(fsync, V(fd)), 0);
    CHECK_EQ(CALL(fdatasync, V(fd)), 0);
    CHECK_EQ(CALL(sync), 0);
    CHECK_EQ(OPEN("rw/new", O_WRONLY | O_APPEND), 1);
    CHECK_EQ(CALL(write, V(1), M(8, 1), V(1)), 1);
    CHECK_EQ(CALL(lseek, V(1), V(0), V(SEEK_CUR)), 9);
    CHECK_EQ(CALL(creat, P("rw/new"), V(0600)), 2);
    CHECK(yod_holds(rig, "rw/new", ""));
    CHECK_EQ(OPEN("rw/absent", O_RDONLY), -ENOENT);
    CHECK_EQ(OPEN("rw/file/x", O_RDONLY), -ENOTDIR);
    CHECK_EQ(OPEN("rw", O_RDWR), -EISDIR);
    CHECK_EQ(OPEN("rw", O_RDONLY | O_CREAT), -EISDIR);
    CHECK_EQ(OPEN("rw/file", O_RDONLY | O_DIRECTORY), -ENOTDIR);
    CHECK_EQ(CALL(open, S(""), V(O_RDONLY)), -ENOENT);
    CHECK_EQ(CALL(openat, V(AT_FDCWD), S("file"), V(O_RDONLY)), 3); /* from the cwd */
    CHECK_EQ(CALL(openat, V(3), S("file"), V(O_RDONLY)), -ENOTDIR);
    CHECK_EQ(CALL(openat, V(99), S("file"), V(O_RDONLY)), -EBADF);
    struct vmmhpc_yod_stats stats = {.size = sizeof(stats)};
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK_EQ(stats.bytes_read, 14);
    CHECK_EQ(stats.bytes_written, 13);
    CHECK_EQ(stats.waited, 0);
    yod_rig_free(rig);
}

TEST(yod_large_transfers)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t fd = OPEN("rw/large", O_RDWR | O_CREAT);
    for (uint32_t i = 0; i < 1u << 20; i++) {
        BUFFER[i] = (char)(i * 7 + (i >> 12));
    }
    CHECK_EQ(CALL(write, V(fd), M(0, 1u << 20), V(1u << 20)), 1 << 20);
    memset(BUFFER, 0, 1u << 20);
    CHECK_EQ(CALL(pread64, V(fd), M(0, 1u << 20), V(1u << 20), V(0)), 1 << 20);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 1u << 20; i++) {
        wrong += BUFFER[i] != (char)(i * 7 + (i >> 12)) ? 1 : 0;
    }
    CHECK_EQ(wrong, 0);
    /* No more than the buffer takes, whatever the count says. */
    CHECK_EQ(CALL(pread64, V(fd), M(0, 100), V(1u << 30), V(0)), 100);
    CHECK_EQ(CALL(pread64, V(fd), M(0, 100), V(100), V(INT64_MAX - 10)), -EINVAL);
    CHECK_EQ(CALL(pread64, V(fd), M(0, 100), V(100), V(-1)), -EINVAL);
    CHECK_EQ(CALL(read, V(fd), NONE, V(10)), -EFAULT);
    CHECK_EQ(CALL(read, V(fd), NONE, V(0)), 0);
    yod_rig_free(rig);
}

TEST(yod_stat_family)
{
    struct yod_rig *rig = yod_rig_new();
    struct stat want;
    struct stat got;
    struct statx wide;
    struct statfs system;
    CHECK(symlink("file", yod_path(rig, "rw/link")) == 0);
    CHECK(stat(yod_path(rig, "rw/file"), &want) == 0);
    CHECK_EQ(CALL(stat, P("rw/link"), M(0, 144)), 0);
    memcpy(&got, BUFFER, sizeof(got));
    CHECK(memcmp(&got, &want, sizeof(got)) == 0);
    CHECK_EQ(CALL(lstat, P("rw/link"), M(0, 144)), 0);
    memcpy(&got, BUFFER, sizeof(got));
    CHECK(S_ISLNK(got.st_mode));
    CHECK_EQ(CALL(lstat, P("rw/link/"), M(0, 144)), -ENOTDIR);
    CHECK_EQ(CALL(lstat, P("rw/link/."), M(0, 144)), -ENOTDIR);
    CHECK_EQ(CALL(stat, P("rw/file/."), M(0, 144)), -ENOTDIR);
    CHECK_EQ(CALL(stat, P("rw/sub/."), M(0, 144)), 0);
    CHECK_EQ(CALL(stat, P("rw/link"), M(0, 143)), -EFAULT);
    CHECK_EQ(CALL(newfstatat, V(AT_FDCWD), S("link"), M(0, 144), V(AT_SYMLINK_NOFOLLOW)), 0);
    memcpy(&got, BUFFER, sizeof(got));
    CHECK(S_ISLNK(got.st_mode));
    int64_t fd = OPEN("rw/file", O_RDONLY);
    CHECK_EQ(CALL(fstat, V(fd), M(0, 144)), 0);
    memcpy(&got, BUFFER, sizeof(got));
    CHECK_EQ(got.st_ino, want.st_ino);
    CHECK_EQ(CALL(newfstatat, V(fd), S(""), M(0, 144), V(AT_EMPTY_PATH)), 0);
    CHECK_EQ(CALL(newfstatat, V(fd), S(""), M(0, 144), V(0)), -ENOENT);
    CHECK_EQ(CALL(newfstatat, V(fd), S(""), M(0, 144), V(0x8000000)), -EINVAL);
    CHECK_EQ(CALL(statx, V(AT_FDCWD), S("file"), V(0), V(0x7ff), M(0, 256)), 0);
    memcpy(&wide, BUFFER, sizeof(wide));
    CHECK_EQ(wide.stx_ino, want.st_ino);
    CHECK_EQ(wide.stx_size, 9);
    CHECK_EQ(CALL(statx, V(fd), NONE, V(AT_EMPTY_PATH), V(0x7ff), M(0, 256)), 0);
    CHECK_EQ(CALL(statfs, P("rw/file"), M(0, 120)), 0);
    memcpy(&system, BUFFER, sizeof(system));
    CHECK(system.f_bsize > 0 && system.f_namelen > 0);
    CHECK_EQ(CALL(fstatfs, V(fd), M(0, 120)), 0);
    CHECK_EQ(CALL(access, P("rw/file"), V(R_OK | W_OK)), 0);
    CHECK_EQ(CALL(access, P("ro/file"), V(R_OK)), 0);
    CHECK_EQ(CALL(access, P("ro/file"), V(W_OK)), -EROFS);
    CHECK_EQ(CALL(faccessat, V(AT_FDCWD), S("absent"), V(F_OK)), -ENOENT);
    CHECK_EQ(CALL(faccessat2, V(fd), S(""), V(R_OK), V(AT_EMPTY_PATH)), 0);
    CHECK_EQ(CALL(access, P("rw/file"), V(8)), -EINVAL);
    CHECK_EQ(CALL(readlink, P("rw/link"), M(0, 100), V(100)), 4);
    CHECK(memcmp(BUFFER, "file", 4) == 0);
    CHECK_EQ(CALL(readlink, P("rw/link"), M(0, 2), V(2)), 2);
    CHECK_EQ(CALL(readlink, P("rw/link"), M(0, 2), V(0)), -EINVAL);
    CHECK_EQ(CALL(readlink, P("rw/file"), M(0, 100), V(100)), -EINVAL);
    CHECK_EQ(CALL(readlinkat, V(AT_FDCWD), S("absent"), M(0, 100), V(100)), -ENOENT);
    yod_rig_free(rig);
}

TEST(yod_names)
{
    struct yod_rig *rig = yod_rig_new();
    CHECK_EQ(CALL(mkdir, P("rw/dir"), V(0755)), 0);
    CHECK_EQ(CALL(mkdir, P("rw/dir/"), V(0755)), -EEXIST);
    CHECK_EQ(CALL(mkdirat, V(AT_FDCWD), S("dir/inner/"), V(0700)), 0);
    CHECK_EQ(CALL(rmdir, P("rw/dir")), -ENOTEMPTY);
    CHECK_EQ(CALL(unlink, P("rw/dir")), -EISDIR);
    CHECK_EQ(CALL(rename, P("rw/file"), P("rw/dir/moved")), 0);
    CHECK(yod_holds(rig, "rw/dir/moved", "writable\n"));
    CHECK_EQ(CALL(link, P("rw/dir/moved"), P("rw/second")), 0);
    CHECK(yod_holds(rig, "rw/second", "writable\n"));
    CHECK_EQ(CALL(symlink, S("second"), P("rw/third")), 0);
    CHECK_EQ(CALL(linkat, V(AT_FDCWD), S("third"), V(AT_FDCWD), S("fourth"), V(AT_SYMLINK_FOLLOW)),
             0);
    CHECK(yod_holds(rig, "rw/fourth", "writable\n"));
    CHECK_EQ(CALL(symlinkat, S("x"), V(AT_FDCWD), S("third")), -EEXIST);
    CHECK_EQ(CALL(renameat2, V(AT_FDCWD), S("second"), V(AT_FDCWD), S("third"), V(1)), -EEXIST);
    CHECK_EQ(CALL(renameat2, V(AT_FDCWD), S("second"), V(AT_FDCWD), S("third"), V(2)), 0);
    CHECK_EQ(CALL(renameat, V(AT_FDCWD), S("third"), V(AT_FDCWD), S("dir/inner/t")), 0);
    CHECK_EQ(CALL(unlinkat, V(AT_FDCWD), S("dir/inner/t"), V(0)), 0);
    CHECK_EQ(CALL(unlinkat, V(AT_FDCWD), S("dir/inner"), V(AT_REMOVEDIR)), 0);
    CHECK_EQ(CALL(unlink, P("rw/fourth")), 0);
    CHECK_EQ(CALL(unlink, P("rw/fourth")), -ENOENT);
    CHECK_EQ(CALL(rmdir, P("rw/dir/.")), -EINVAL);
    CHECK_EQ(CALL(rmdir, P("rw/dir/..")), -ENOTEMPTY);
    /* Through a link that leads nowhere yet. */
    CHECK_EQ(CALL(symlink, S("made"), P("rw/ahead")), 0);
    CHECK_EQ(OPEN("rw/ahead", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
    CHECK_EQ(OPEN("rw/ahead", O_WRONLY | O_CREAT), 0);
    CHECK(yod_holds(rig, "rw/made", ""));
    yod_rig_free(rig);
}

TEST(yod_metadata)
{
    struct yod_rig *rig = yod_rig_new();
    struct stat st;
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    CHECK_EQ(CALL(umask, V(027)), rig->yod->host_umask);
    CHECK_EQ(CALL(umask, V(0)), 027);
    int64_t fd = CALL(open, P("rw/open"), V(O_RDWR | O_CREAT), V(0666));
    CHECK(stat(yod_path(rig, "rw/open"), &st) == 0);
    CHECK_EQ(st.st_mode & 07777, 0666); /* the host's umask does not show */
    CHECK_EQ(CALL(mkdir, P("rw/wide"), V(0777)), 0);
    CHECK(stat(yod_path(rig, "rw/wide"), &st) == 0);
    CHECK_EQ(st.st_mode & 07777, 0777);
    CHECK_EQ(CALL(chmod, P("rw/open"), V(0640)), 0);
    CHECK(stat(yod_path(rig, "rw/open"), &st) == 0);
    CHECK_EQ(st.st_mode & 07777, 0640);
    CHECK_EQ(CALL(fchmod, V(fd), V(0600)), 0);
    CHECK_EQ(CALL(fchmodat, V(AT_FDCWD), S("open"), V(0604)), 0);
    CHECK(stat(yod_path(rig, "rw/open"), &st) == 0);
    CHECK_EQ(st.st_mode & 07777, 0604);
    CHECK_EQ(CALL(chown, P("rw/open"), V(getuid()), V(getgid())), 0);
    CHECK_EQ(CALL(lchown, P("rw/open"), V(-1), V(-1)), 0);
    CHECK_EQ(CALL(fchown, V(fd), V(-1), V(-1)), 0);
    CHECK_EQ(CALL(fchownat, V(fd), S(""), V(-1), V(-1), V(AT_EMPTY_PATH)), 0);
    memcpy(BUFFER, times, sizeof(times));
    CHECK_EQ(CALL(utimensat, V(AT_FDCWD), S("open"), M(0, 32), V(0)), 0);
    CHECK(stat(yod_path(rig, "rw/open"), &st) == 0);
    CHECK_EQ(st.st_atim.tv_sec, 1000);
    CHECK_EQ(st.st_mtim.tv_nsec, 7);
    CHECK_EQ(CALL(utimensat, V(fd), NONE, NONE, V(0)), 0); /* futimens: now */
    CHECK(stat(yod_path(rig, "rw/open"), &st) == 0);
    CHECK(st.st_mtim.tv_sec > 100000);
    CHECK_EQ(CALL(utimes, P("rw/open"), M(0, 32)), 0);
    CHECK_EQ(CALL(utime, P("rw/open"), NONE), 0);
    CHECK_EQ(CALL(symlink, S("open"), P("rw/l")), 0);
    CHECK_EQ(CALL(utimensat, V(AT_FDCWD), S("l"), M(0, 32), V(AT_SYMLINK_NOFOLLOW)), 0);
    CHECK(lstat(yod_path(rig, "rw/l"), &st) == 0);
    CHECK_EQ(st.st_mtim.tv_sec, 2000);
    yod_rig_free(rig);
}

/* Names in what getdents64 or getdents gave, each followed by a slash. */
static void names_in(const struct yod_rig *rig, int64_t bytes, bool wide, char *out, size_t room)
{
    const char *at = (const char *)rig->ram + RIG_BUFFER;
    const char *end = at + bytes;
    out[0] = '\0';
    while (at < end) {
        uint16_t length;
        memcpy(&length, at + 16, sizeof(length));
        size_t used = strlen(out);
        (void)snprintf(out + used, room - used, "%s/", at + (wide ? 19 : 18));
        at += length;
    }
}

TEST(yod_directories)
{
    struct yod_rig *rig = yod_rig_new();
    char names[1024];
    int64_t fd = OPEN("ro", O_RDONLY | O_DIRECTORY);
    int64_t bytes = CALL(getdents64, V(fd), M(0, 4096), V(4096));
    names_in(rig, bytes, true, names, sizeof(names));
    CHECK_CONTAINS(names, "file/");
    CHECK_CONTAINS(names, "sub/");
    CHECK_EQ(CALL(getdents64, V(fd), M(0, 4096), V(4096)), 0);
    CHECK_EQ(CALL(lseek, V(fd), V(0), V(SEEK_SET)), 0);
    bytes = CALL(getdents, V(fd), M(0, 4096), V(4096));
    names_in(rig, bytes, false, names, sizeof(names));
    CHECK_CONTAINS(names, "file/");
    CHECK_EQ(CALL(openat, V(fd), S("sub/deep"), V(O_RDONLY)), 1);
    CHECK_EQ(CALL(getcwd, M(0, 4096), V(4096)), (int64_t)strlen(yod_path(rig, "rw")) + 1);
    CHECK(strcmp(BUFFER, yod_path(rig, "rw")) == 0);
    CHECK_EQ(CALL(getcwd, M(0, 4096), V(3)), -ERANGE);
    CHECK_EQ(CALL(chdir, S("sub")), 0);
    CHECK_EQ(CALL(getcwd, M(0, 4096), V(4096)), (int64_t)strlen(yod_path(rig, "rw/sub")) + 1);
    CHECK_EQ(CALL(open, S("../file"), V(O_RDONLY)), 2);
    CHECK_EQ(CALL(open, S("../../ro/file"), V(O_RDONLY)), 3); /* from root to root */
    CHECK_EQ(CALL(fchdir, V(fd)), 0);
    CHECK_EQ(CALL(open, S("sub/deep"), V(O_RDONLY)), 4);
    CHECK_EQ(CALL(fchdir, V(2)), -ENOTDIR);
    CHECK_EQ(CALL(chdir, P("ro/file")), -ENOTDIR);
    CHECK_EQ(CALL(chdir, P("out")), -ENOENT);
    yod_rig_free(rig);
}

TEST(yod_descriptors)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t fd = OPEN("ro/file", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_GETFD)), FD_CLOEXEC);
    CHECK_EQ(CALL(dup, V(fd)), 1);
    CHECK_EQ(CALL(fcntl, V(1), V(F_GETFD)), 0);
    CHECK_EQ(CALL(fcntl, V(1), V(F_SETFD), V(FD_CLOEXEC)), 0);
    CHECK_EQ(CALL(fcntl, V(1), V(F_GETFD)), FD_CLOEXEC);
    CHECK_EQ(CALL(lseek, V(1), V(3), V(SEEK_SET)), 3);
    CHECK_EQ(CALL(lseek, V(fd), V(0), V(SEEK_CUR)), 3); /* one description */
    CHECK_EQ(CALL(dup2, V(fd), V(100)), 100);
    CHECK_EQ(CALL(dup2, V(fd), V(fd)), fd);
    CHECK_EQ(CALL(dup2, V(55), V(55)), -EBADF);
    CHECK_EQ(CALL(dup3, V(fd), V(fd), V(0)), -EINVAL);
    CHECK_EQ(CALL(dup3, V(fd), V(7), V(O_CLOEXEC)), 7);
    CHECK_EQ(CALL(dup2, V(fd), V(YD_FDS)), -EBADF);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_DUPFD), V(50)), 50);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_DUPFD_CLOEXEC), V(50)), 51);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_DUPFD), V(1 << 20)), -EINVAL);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_SETLK), M(0, 32)), -EINVAL);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_GETFL)) & O_ACCMODE, O_RDONLY);
    fd = OPEN("rw/file", O_RDWR);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_SETFL), V(O_APPEND | O_NONBLOCK)), 0);
    CHECK_EQ(CALL(fcntl, V(fd), V(F_GETFL)) & (O_APPEND | O_NONBLOCK | O_ACCMODE),
             O_APPEND | O_NONBLOCK | O_RDWR);
    CHECK_EQ(CALL(write, V(fd), M(0, 1), V(1)), 1);
    CHECK_EQ(CALL(lseek, V(fd), V(0), V(SEEK_CUR)), 10); /* appended */
    CHECK_EQ(CALL(ioctl, V(fd), V(0x5401), M(0, 36)), -ENOTTY);
    CHECK_EQ(CALL(ioctl, V(fd), V(0x1234), M(0, 36)), -ENOTTY);
    memset(BUFFER, 0, 4);
    CHECK_EQ(CALL(ioctl, V(fd), V(0x5421), M(0, 4)), 0); /* FIONBIO off */
    CHECK_EQ(CALL(fcntl, V(fd), V(F_GETFL)) & O_NONBLOCK, 0);
    yod_rig_free(rig);
}

TEST(yod_descriptors_run_out)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t fd = 0;
    uint32_t opened = 0;
    while (opened < 2 * YD_FDS && (fd = OPEN("ro/file", O_RDONLY)) >= 0) {
        CHECK_EQ(fd, opened);
        opened++;
    }
    CHECK_EQ(fd, -EMFILE);
    CHECK_EQ(opened, rig->yod->fd_limit);
    CHECK_EQ(CALL(dup, V(0)), -EMFILE);
    CHECK_EQ(CALL(pipe2, M(0, 8), V(0)), -EMFILE);
    CHECK_EQ(CALL(close, V(5)), 0);
    CHECK_EQ(CALL(pipe2, M(0, 8), V(0)), -EMFILE); /* one is not enough, and stays free */
    CHECK_EQ(OPEN("ro/file", O_RDONLY), 5);
    yod_rig_free(rig);
}

TEST(yod_not_provided)
{
    struct yod_rig *rig = yod_rig_new();
    static const uint32_t calls[] = {
        SYS_socket,   SYS_fork, SYS_mmap, SYS_ptrace, SYS_mount,  SYS_mknod,          SYS_chroot,
        SYS_setxattr, 450,      511,      512,        UINT32_MAX, YOD_CALL_CANCEL + 1};
    for (size_t i = 0; i < VH_COUNT(calls); i++) {
        CHECK_EQ(yod_call(rig, calls[i], (const struct yod_arg[6]){V(0)}), -ENOSYS);
    }
    yod_rig_free(rig);
}
