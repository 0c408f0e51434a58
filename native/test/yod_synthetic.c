/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's own /proc, /sys and /dev. */
#include "yod_rig.h"

static const char *text_of(struct yod_rig *rig, const char *path)
{
    int64_t fd = CALL(open, S(path), V(O_RDONLY));
    if (!CHECK(fd >= 0)) {
        printf("# %s: %lld\n", path, (long long)fd);
        return "";
    }
    int64_t bytes = CALL(read, V(fd), M(0, 60000), V(60000));
    CHECK(bytes >= 0 && bytes < 60000);
    BUFFER[bytes < 0 ? 0 : bytes] = '\0';
    CHECK_EQ(CALL(fstat, V(fd), M(0x20000, 144)), 0);
    struct stat st;
    struct stat by_path;
    memcpy(&st, BUFFER + 0x20000, sizeof(st));
    CHECK_EQ(st.st_mode, S_IFREG | 0444);
    CHECK_EQ(st.st_size, bytes);
    CHECK_EQ(CALL(stat, S(path), M(0x20000, 144)), 0);
    memcpy(&by_path, BUFFER + 0x20000, sizeof(st));
    CHECK_EQ(by_path.st_ino, st.st_ino);
    CHECK_EQ(CALL(statx, V(fd), S(""), V(AT_EMPTY_PATH), V(0x7ff), M(0x20000, 256)), 0);
    struct statx wide;
    memcpy(&wide, BUFFER + 0x20000, sizeof(wide));
    CHECK_EQ(wide.stx_ino, st.st_ino);
    CHECK_EQ(CALL(write, V(fd), M(0x20000, 1), V(1)), -EBADF);
    CHECK_EQ(CALL(ftruncate, V(fd), V(0)), -EROFS);
    CHECK_EQ(CALL(fchmod, V(fd), V(0777)), -EROFS);
    CHECK_EQ(CALL(close, V(fd)), 0);
    CHECK_EQ(CALL(open, S(path), V(O_RDWR)), -EROFS);
    CHECK_EQ(CALL(access, S(path), V(W_OK)), -EROFS);
    CHECK_EQ(CALL(access, S(path), V(R_OK)), 0);
    CHECK_EQ(CALL(unlink, S(path)), -EBUSY);
    return BUFFER;
}

TEST(yod_proc_and_sys)
{
    struct yod_rig *rig = yod_rig_tree();
    rig->config.cpus = 3;
    rig->config.hostname = "node7";
    rig->config.pid = 99;
    yod_rig_start(rig);
    const char *text = text_of(rig, "/proc/cpuinfo");
    CHECK_CONTAINS(text, "processor\t: 2\n");
    CHECK(strstr(text, "processor\t: 3") == NULL);
    CHECK_CONTAINS(text, "siblings\t: 3\n");
    CHECK_CONTAINS(text, " sse2 ");
    CHECK(strstr(text, "avx") == NULL);
    CHECK_CONTAINS(text_of(rig, "/proc/meminfo"), "MemTotal:         131072 kB\n");
    CHECK_CONTAINS(text_of(rig, "/proc/stat"), "cpu2 ");
    CHECK_CONTAINS(text_of(rig, "/proc/uptime"), "0.");
    CHECK_CONTAINS(text_of(rig, "/proc/loadavg"), "0.00 0.00 0.00");
    CHECK_CONTAINS(text_of(rig, "/proc/version"), "Linux version " YOD_OSRELEASE);
    CHECK_CONTAINS(text_of(rig, "/proc/self/status"), "\nPid:\t99\n");
    CHECK_CONTAINS(text_of(rig, "/proc/self/status"), "Cpus_allowed_list:\t0-2\n");
    CHECK(strcmp(text_of(rig, "/proc/self/maps"), "") == 0);
    CHECK(strcmp(text_of(rig, "/proc/sys/kernel/osrelease"), YOD_OSRELEASE "\n") == 0);
    CHECK(strcmp(text_of(rig, "/proc/sys/kernel/hostname"), "node7\n") == 0);
    CHECK(strcmp(text_of(rig, "/proc/sys/kernel/pid_max"), "32768\n") == 0);
    CHECK(strcmp(text_of(rig, "/proc/sys/vm/overcommit_memory"), "2\n") == 0);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/cpu/online"), "0-2\n") == 0);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/cpu/possible"), "0-2\n") == 0);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/node/online"), "0\n") == 0);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/node/node0/cpumap"), "00000007\n") == 0);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/cpu/cpu2/topology/core_id"), "2\n") == 0);
    CHECK(strcmp(text_of(rig, "/proc//self/./cmdline"), "app") == 0);
    CHECK_EQ(CALL(open, S("/sys/fs/cgroup/cpu.max"), V(O_RDONLY)), -ENOENT);
    CHECK_EQ(CALL(open, S("/etc/passwd"), V(O_RDONLY)), -ENOENT);
    CHECK_EQ(CALL(open, S("/proc/cpuinfo/"), V(O_RDONLY)), -ENOTDIR);
    CHECK_EQ(CALL(readlink, S("/proc/cpuinfo"), M(0, 100), V(100)), -EINVAL);
    CHECK_EQ(CALL(statfs, S("/proc/cpuinfo"), M(0, 120)), 0);
    CHECK_EQ(CALL(open, S("/proc/self/exe"), V(O_RDONLY)), -ENOENT); /* not configured */
    yod_rig_free(rig);
}

TEST(yod_one_cpu)
{
    struct yod_rig *rig = yod_rig_tree();
    rig->config.cpus = 1;
    yod_rig_start(rig);
    CHECK(strcmp(text_of(rig, "/sys/devices/system/cpu/online"), "0\n") == 0);
    yod_rig_free(rig);
}

TEST(yod_many_opens_little_memory)
{
    struct yod_rig *rig = yod_rig_tree();
    rig->config.cpus = 1024;
    yod_rig_start(rig);
    int64_t first = CALL(open, S("/proc/cpuinfo"), V(O_RDONLY));
    int64_t second = CALL(open, S("/proc/cpuinfo"), V(O_RDONLY));
    struct stat a;
    struct stat b;
    CHECK(fstat(rig->yod->fds[first].file->fd, &a) == 0);
    CHECK(fstat(rig->yod->fds[second].file->fd, &b) == 0);
    CHECK_EQ(a.st_ino, b.st_ino); /* one text for both, */
    CHECK_EQ(CALL(read, V(first), M(0, 100), V(100)), 100);
    CHECK_EQ(CALL(lseek, V(second), V(0), V(SEEK_CUR)), 0); /* each with its own position */
    yod_rig_free(rig);
}

TEST(yod_listings)
{
    struct yod_rig *rig = yod_rig_new();
    char seen[4096] = "/";
    int64_t fd = CALL(open, S("/sys/devices/system/cpu"), V(O_RDONLY | O_DIRECTORY));
    int64_t bytes = 0;
    uint32_t rounds = 0;
    while ((bytes = CALL(getdents64, V(fd), M(0, 64), V(64))) > 0) { /* in small pieces */
        rounds++;
        for (int64_t at = 0; at < bytes;) {
            uint16_t length;
            memcpy(&length, BUFFER + at + 16, sizeof(length));
            size_t used = strlen(seen);
            (void)snprintf(seen + used, sizeof(seen) - used, "%s/", BUFFER + at + 19);
            at += length;
        }
    }
    CHECK_EQ(bytes, 0);
    CHECK(rounds > 2);
    CHECK(strcmp(seen, "/./../cpu0/cpu1/online/possible/present/") == 0);
    CHECK_EQ(CALL(getdents64, V(fd), M(0, 8), V(8)), 0);
    CHECK_EQ(CALL(lseek, V(fd), V(0), V(SEEK_SET)), 0);
    CHECK_EQ(CALL(getdents64, V(fd), M(0, 8), V(8)), -EINVAL);
    CHECK_EQ(CALL(getdents, V(fd), M(0, 24), V(24)), 24);
    CHECK_EQ(CALL(lseek, V(fd), V(-1), V(SEEK_SET)), -EINVAL);
    CHECK_EQ(CALL(lseek, V(fd), V(INT64_MAX), V(SEEK_CUR)), -EINVAL);
    CHECK_EQ(CALL(lseek, V(fd), V(INT64_MAX), V(SEEK_SET)), INT64_MAX);
    CHECK_EQ(CALL(getdents64, V(fd), M(0, 64), V(64)), 0);
    CHECK_EQ(CALL(openat, V(fd), S("cpu1/topology/core_id"), V(O_RDONLY)), 1);
    CHECK_EQ(CALL(openat, V(fd), S("../node/online"), V(O_RDONLY)), 2);
    CHECK_EQ(CALL(openat, V(fd), S("cpu2"), V(O_RDONLY)), -ENOENT);
    CHECK_EQ(CALL(read, V(fd), M(0, 10), V(10)), -EISDIR);
    CHECK_EQ(CALL(fchdir, V(fd)), 0);
    CHECK_EQ(CALL(getcwd, M(0, 100), V(100)), 24);
    CHECK_EQ(CALL(open, S("online"), V(O_RDONLY)), 3);
    CHECK_EQ(CALL(chdir, S("../../../../..")), 0);
    CHECK_EQ(CALL(getcwd, M(0, 100), V(100)), 2);
    CHECK_EQ(CALL(rmdir, S("proc")), -EBUSY);
    CHECK_EQ(CALL(mkdir, S("/"), V(0777)), -EEXIST);
    CHECK_EQ(CALL(fstat, V(fd), M(0, 144)), 0);
    CHECK_EQ(CALL(fsync, V(fd)), -EINVAL);
    CHECK_EQ(CALL(fchmod, V(fd), V(0)), -EROFS);
    CHECK_EQ(CALL(flock, V(fd), V(2)), -EBADF);
    CHECK_EQ(CALL(ioctl, V(fd), V(0x5401), M(0, 36)), -ENOTTY);
    CHECK_EQ(CALL(fstatfs, V(fd), M(0, 120)), 0);
    yod_rig_free(rig);
}

TEST(yod_devices)
{
    struct yod_rig *rig = yod_rig_new();
    int64_t null = CALL(open, S("/dev/null"), V(O_RDWR | O_CREAT | O_TRUNC), V(0666));
    CHECK_EQ(null, 0);
    CHECK_EQ(CALL(write, V(null), M(0, 100), V(100)), 100);
    CHECK_EQ(CALL(read, V(null), M(0, 100), V(100)), 0);
    CHECK_EQ(CALL(fchmod, V(null), V(0)), -EROFS);
    CHECK_EQ(CALL(chmod, S("/dev/null"), V(0)), -EROFS);
    memset(BUFFER, 1, 8192);
    int64_t zero = CALL(open, S("/dev/zero"), V(O_RDONLY));
    CHECK_EQ(CALL(read, V(zero), M(0, 8192), V(8192)), 8192);
    CHECK_EQ(BUFFER[0] | BUFFER[8191], 0);
    int64_t random = CALL(open, S("/dev/urandom"), V(O_RDONLY));
    CHECK_EQ(CALL(read, V(random), M(0, 8192), V(8192)), 8192);
    CHECK_EQ(CALL(open, S("/dev/full"), V(O_WRONLY)), 3);
    CHECK_EQ(CALL(write, V(3), M(0, 1), V(1)), -ENOSPC);
    CHECK_EQ(CALL(open, S("/dev/null"), V(O_RDONLY | O_CREAT | O_EXCL), V(0666)), -EEXIST);
    CHECK_EQ(CALL(stat, S("/dev/null"), M(0, 144)), 0);
    struct stat st;
    memcpy(&st, BUFFER, sizeof(st));
    CHECK(S_ISCHR(st.st_mode));
    CHECK_EQ(CALL(access, S("/dev/null"), V(R_OK | W_OK)), 0);
    CHECK_EQ(CALL(open, S("/dev/random"), V(O_RDONLY | O_DIRECTORY)), -ENOTDIR);
    CHECK_EQ(CALL(open, S("/dev/tty"), V(O_RDWR)), -ENXIO);
    CHECK_EQ(CALL(open, S("/dev/stdin"), V(O_RDONLY)), 4); /* whatever is 0 now */
    yod_rig_free(rig);
}

TEST(yod_executable)
{
    struct yod_rig *rig = yod_rig_tree();
    char exe[512];
    struct stat st;
    yod_make(rig, "out/app", "the executable\n");
    (void)snprintf(exe, sizeof(exe), "%s/out/app", rig->tree);
    rig->config.exe = exe;
    yod_rig_start(rig);
    CHECK_EQ(CALL(readlink, S("/proc/self/exe"), M(0, 512), V(512)), (int64_t)strlen(exe));
    CHECK(memcmp(BUFFER, exe, strlen(exe)) == 0);
    CHECK_EQ(CALL(open, S("/proc/self/exe"), V(O_RDONLY)), 0);
    CHECK_EQ(CALL(read, V(0), M(0, 100), V(100)), 15);
    CHECK_EQ(CALL(open, S(exe), V(O_RDONLY)), 1);
    CHECK_EQ(CALL(open, S(exe), V(O_RDWR)), -ETXTBSY);
    CHECK_EQ(CALL(open, S("/proc/self/exe"), V(O_RDONLY | O_NOFOLLOW)), -ELOOP);
    CHECK_EQ(CALL(stat, S("/proc/self/exe"), M(0, 144)), 0);
    memcpy(&st, BUFFER, sizeof(st));
    CHECK(S_ISREG(st.st_mode));
    CHECK_EQ(st.st_size, 15);
    CHECK_EQ(CALL(lstat, S("/proc/self/exe"), M(0, 144)), 0);
    memcpy(&st, BUFFER, sizeof(st));
    CHECK(S_ISLNK(st.st_mode));
    CHECK_EQ(CALL(fchmod, V(0), V(0777)), -EROFS);
    CHECK_EQ(CALL(chmod, S(exe), V(0777)), -EROFS);
    CHECK_EQ(CALL(unlink, S(exe)), -EBUSY);
    CHECK_EQ(CALL(access, S(exe), V(X_OK)), 0);
    CHECK_EQ(CALL(statfs, S(exe), M(0, 120)), 0);
    /* Its neighbours stay out of sight. */
    CHECK_EQ(OPEN("out/secret", O_RDONLY), -ENOENT);
    CHECK_EQ(CALL(readlink, S("/proc/self/fd/1"), M(0, 512), V(512)), (int64_t)strlen(exe));
    CHECK_EQ(CALL(readlink, S("/proc/self/fd/77"), M(0, 512), V(512)), -ENOENT);
    CHECK_EQ(CALL(readlink, S("/proc/self/fd/1x"), M(0, 512), V(512)), -ENOENT);
    yod_rig_free(rig);
}
