/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to leave the roots, or to change what may only be read. */
#include "yod_rig.h"

#include <sys/sysmacros.h>

static void escape(struct yod_rig *rig, const char *path)
{
    int64_t results[] = {
        CALL(open, S(path), V(O_RDONLY)),
        CALL(open, S(path), V(O_WRONLY | O_CREAT | O_TRUNC), V(0666)),
        CALL(open, S(path), V(O_PATH)),
        CALL(stat, S(path), M(0, 144)),
        CALL(truncate, S(path), V(0)),
        CALL(chmod, S(path), V(0777)),
        CALL(statfs, S(path), M(0, 120)),
        CALL(access, S(path), V(F_OK)),
        CALL(utimensat, V(AT_FDCWD), S(path), NONE, V(0)),
        CALL(linkat, V(AT_FDCWD), S(path), V(AT_FDCWD), S("stolen"), V(AT_SYMLINK_FOLLOW)),
    };
    for (size_t i = 0; i < VH_COUNT(results); i++) {
        /* A directory that yod makes is there, but nobody can make anything in it. */
        bool refused = results[i] == -ENOENT || (i == 1 && results[i] == -EROFS);
        if (!CHECK(refused)) {
            printf("# %s, attempt %zu\n", path, i);
        }
    }
    CHECK(yod_holds(rig, "out/secret", "secret\n"));
}

TEST(yod_escape_by_name)
{
    struct yod_rig *rig = yod_rig_new();
    char path[1024];
    escape(rig, yod_path(rig, "out/secret"));
    escape(rig, yod_path(rig, "rw/../out/secret"));
    escape(rig, yod_path(rig, "rw/sub/../../out/secret"));
    escape(rig, yod_path(rig, "rw//..///out/./secret"));
    escape(rig, "../out/secret");
    escape(rig, "sub/../../out/secret");
    escape(rig, "../../../../../../../../../../../../etc/passwd");
    escape(rig, "/etc/passwd");
    escape(rig, "//etc/passwd");
    escape(rig, "/proc/self/root/etc/passwd");
    escape(rig, "/proc/1/root/etc/passwd");
    escape(rig, "/proc/self/cwd/secret");
    escape(rig, "/proc/self/fd/0");
    escape(rig, "/proc/self/mem");
    escape(rig, "/proc/self/environ");
    escape(rig, "/dev/mem");
    escape(rig, "/dev/kvm");
    escape(rig, "/sys/kernel/notes");
    escape(rig, "/dev/fd/0");
    /* A name that begins as a root's is not beneath it. */
    CHECK(mkdir(yod_path(rig, "rwx"), 0755) == 0);
    yod_make(rig, "rwx/secret", "secret\n");
    escape(rig, yod_path(rig, "rwx/secret"));
    CHECK_EQ(CALL(chdir, P("rw/..")), 0); /* on the way to the roots, with nothing else in it */
    escape(rig, "out/secret");
    CHECK_EQ(CALL(open, S("ro/file"), V(O_RDONLY)), 0);
    int64_t fd = CALL(open, S("."), V(O_RDONLY | O_DIRECTORY));
    int64_t bytes = CALL(getdents64, V(fd), M(0, 4096), V(4096));
    CHECK_EQ(bytes, 4 * 24); /* ".", "..", "ro", "rw" */
    CHECK_EQ(CALL(openat, V(fd), S("out/secret"), V(O_RDONLY)), -ENOENT);
    CHECK_EQ(CALL(mkdirat, V(fd), S("new"), V(0777)), -EROFS);
    CHECK_EQ(CALL(mkdirat, V(fd), S("rw"), V(0777)), -EEXIST);
    CHECK_EQ(CALL(unlinkat, V(fd), S("rw"), V(AT_REMOVEDIR)), -EBUSY);
    CHECK_EQ(CALL(openat, V(fd), S("new"), V(O_CREAT | O_WRONLY), V(0666)), -EROFS);
    /* Long names. */
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    CHECK_EQ(CALL(chdir, P("rw")), 0);
    CHECK_EQ(CALL(open, S(path), V(O_RDONLY)), -ENAMETOOLONG);
    yod_rig_free(rig);
}

TEST(yod_escape_by_link)
{
    struct yod_rig *rig = yod_rig_new();
    static const char *const links[] = {"rw/absolute", "rw/relative", "rw/dir", "rw/loop",
                                        "rw/procroot", "rw/proc",     "rw/up",  "rw/chain",
                                        "rw/there",    "rw/device",   "rw/self"};
    char target[512];
    (void)snprintf(target, sizeof(target), "%s/out/secret", rig->tree);
    const char *targets[] = {
        target,   "../out/secret", "../out",   "loop", "/proc/self/root", "/proc/self/fd", "..",
        "up/out", target,          "/dev/kvm", "."};
    for (size_t i = 0; i < VH_COUNT(links); i++) {
        CHECK_EQ(CALL(symlink, S(targets[i]), P(links[i])), 0); /* making one is no escape */
    }
    escape(rig, yod_path(rig, "rw/absolute"));
    escape(rig, yod_path(rig, "rw/relative"));
    escape(rig, yod_path(rig, "rw/dir/secret"));
    escape(rig, yod_path(rig, "rw/chain/secret"));
    escape(rig, yod_path(rig, "rw/up/out/secret"));
    escape(rig, yod_path(rig, "rw/self/self/self/up/out/secret"));
    escape(rig, yod_path(rig, "rw/procroot/etc/passwd"));
    escape(rig, yod_path(rig, "rw/device"));
    escape(rig, "relative");
    CHECK_EQ(OPEN("rw/loop", O_RDONLY), -ELOOP);
    CHECK_EQ(OPEN("rw/proc/0", O_RDONLY), -ENOENT);
    CHECK_EQ(OPEN("rw/relative", O_RDONLY | O_NOFOLLOW), -ELOOP);
    /* New names through a link to a directory outside. */
    CHECK_EQ(CALL(mkdir, P("rw/dir/new"), V(0777)), -ENOENT);
    CHECK_EQ(CALL(symlink, S("x"), P("rw/dir/new")), -ENOENT);
    CHECK_EQ(CALL(link, P("rw/file"), P("rw/dir/new")), -ENOENT);
    CHECK_EQ(CALL(rename, P("rw/file"), P("rw/dir/new")), -ENOENT);
    CHECK_EQ(CALL(rename, P("rw/dir/secret"), P("rw/mine")), -ENOENT);
    CHECK_EQ(CALL(unlink, P("rw/dir/secret")), -ENOENT);
    CHECK_EQ(CALL(rmdir, P("rw/dir/")), -ENOTDIR); /* of the link, as on Linux */
    CHECK_EQ(CALL(mkdir, P("rw/there/"), V(0777)), -EEXIST);
    CHECK_EQ(OPEN("rw/dir/new", O_CREAT | O_WRONLY), -ENOENT);
    CHECK(access(yod_path(rig, "out/new"), F_OK) != 0);
    /* The link itself is the guest's. */
    CHECK_EQ(CALL(lchown, P("rw/relative"), V(-1), V(-1)), 0);
    CHECK_EQ(CALL(unlink, P("rw/relative")), 0);
    CHECK(yod_holds(rig, "out/secret", "secret\n"));
    /* Absolute links that stay in, from one root to the other. */
    CHECK_EQ(CALL(symlink, P("ro/file"), P("rw/inside")), 0);
    CHECK_EQ(OPEN("rw/inside", O_RDONLY), 0);
    CHECK_EQ(OPEN("rw/inside", O_RDWR), -EROFS); /* it counts where the file is */
    CHECK_EQ(CALL(symlink, P("rw/later"), P("rw/ahead")), 0);
    CHECK_EQ(OPEN("rw/ahead", O_RDWR | O_CREAT), 1);
    CHECK(yod_holds(rig, "rw/later", ""));
    CHECK_EQ(CALL(symlink, P("ro/later"), P("rw/ahead2")), 0);
    CHECK_EQ(OPEN("rw/ahead2", O_RDWR | O_CREAT), -EROFS);
    CHECK_EQ(CALL(symlink, P("out/later"), P("rw/ahead3")), 0);
    CHECK_EQ(OPEN("rw/ahead3", O_RDWR | O_CREAT), -ENOENT);
    CHECK(access(yod_path(rig, "out/later"), F_OK) != 0);
    yod_rig_free(rig);
}

TEST(yod_read_only)
{
    struct yod_rig *rig = yod_rig_new();
    struct stat before;
    struct stat after;
    CHECK(stat(yod_path(rig, "ro/file"), &before) == 0);
    int64_t fd = OPEN("ro/file", O_RDONLY);
    int64_t path_fd = OPEN("ro/file", O_PATH);
    int64_t dir = OPEN("ro", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(OPEN("ro/file", O_WRONLY), -EROFS);
    CHECK_EQ(OPEN("ro/file", O_RDWR), -EROFS);
    CHECK_EQ(OPEN("ro/file", O_RDONLY | O_TRUNC), -EROFS);
    CHECK_EQ(OPEN("ro/file", O_RDONLY | O_CREAT | O_EXCL), -EEXIST);
    CHECK_EQ(OPEN("ro/new", O_RDONLY | O_CREAT), -EROFS);
    CHECK_EQ(OPEN("ro", O_RDWR | O_TMPFILE), -EROFS);
    CHECK_EQ(CALL(open, P("ro/file"), V(3)), -EROFS); /* neither read nor write: for ioctl */
    CHECK_EQ(CALL(truncate, P("ro/file"), V(0)), -EROFS);
    CHECK_EQ(CALL(ftruncate, V(fd), V(0)), -EROFS);
    CHECK_EQ(CALL(fallocate, V(fd), V(0), V(0), V(1)), -EROFS);
    CHECK_EQ(CALL(chmod, P("ro/file"), V(0777)), -EROFS);
    CHECK_EQ(CALL(fchmod, V(fd), V(0777)), -EROFS);
    CHECK_EQ(CALL(fchmod, V(path_fd), V(0777)), -EBADF);
    CHECK_EQ(CALL(fchmodat, V(dir), S("file"), V(0777)), -EROFS);
    CHECK_EQ(CALL(chown, P("ro/file"), V(-1), V(-1)), -EROFS);
    CHECK_EQ(CALL(lchown, P("ro/file"), V(-1), V(-1)), -EROFS);
    CHECK_EQ(CALL(fchown, V(fd), V(-1), V(-1)), -EROFS);
    CHECK_EQ(CALL(fchownat, V(path_fd), S(""), V(-1), V(-1), V(AT_EMPTY_PATH)), -EROFS);
    CHECK_EQ(CALL(utimensat, V(dir), S("file"), NONE, V(0)), -EROFS);
    CHECK_EQ(CALL(utimensat, V(fd), NONE, NONE, V(0)), -EROFS);
    CHECK_EQ(CALL(utimes, P("ro/file"), NONE), -EROFS);
    CHECK_EQ(CALL(utime, P("ro/file"), NONE), -EROFS);
    CHECK_EQ(CALL(futimesat, V(fd), NONE, NONE), -EROFS);
    CHECK_EQ(CALL(unlink, P("ro/file")), -EROFS);
    CHECK_EQ(CALL(unlink, P("ro/absent")), -ENOENT);
    CHECK_EQ(CALL(rmdir, P("ro/sub")), -EROFS);
    CHECK_EQ(CALL(mkdir, P("ro/new"), V(0777)), -EROFS);
    CHECK_EQ(CALL(mkdir, P("ro/sub"), V(0777)), -EEXIST);
    CHECK_EQ(CALL(symlink, S("x"), P("ro/new")), -EROFS);
    CHECK_EQ(CALL(rename, P("ro/file"), P("rw/mine")), -EROFS);
    CHECK_EQ(CALL(rename, P("rw/file"), P("ro/mine")), -EROFS);
    CHECK_EQ(CALL(renameat2, V(AT_FDCWD), P("rw/file"), V(AT_FDCWD), P("ro/file"), V(2)), -EROFS);
    CHECK_EQ(CALL(link, P("ro/file"), P("rw/mine")), -EROFS); /* else it could be written there */
    CHECK_EQ(CALL(link, P("rw/file"), P("ro/mine")), -EROFS);
    CHECK_EQ(CALL(linkat, V(fd), S(""), V(AT_FDCWD), S("mine"), V(AT_EMPTY_PATH)), -EINVAL);
    CHECK_EQ(CALL(open, S("/proc/self/fd/0"), V(O_RDWR)), -ENOENT); /* no second way in */
    CHECK_EQ(CALL(truncate, S("/proc/self/fd/0"), V(0)), -ENOENT);
    CHECK(stat(yod_path(rig, "ro/file"), &after) == 0);
    CHECK(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) == 0);
    CHECK(memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) == 0);
    CHECK(yod_holds(rig, "ro/file", "read only\n"));
    yod_rig_free(rig);
}

/* A read-only root in a writable one, and a writable one in that. */
TEST(yod_nested_roots)
{
    struct yod_rig *rig = yod_rig_tree();
    CHECK(mkdir(yod_path(rig, "rw/way"), 0755) == 0);
    CHECK(mkdir(yod_path(rig, "rw/way/kept"), 0755) == 0);
    CHECK(mkdir(yod_path(rig, "rw/way/kept/free"), 0755) == 0);
    yod_make(rig, "rw/way/kept/file", "kept\n");
    rig->roots[2] = (struct vmmhpc_yod_root){.path = strdup(yod_path(rig, "rw/way/kept"))};
    rig->roots[3] =
        (struct vmmhpc_yod_root){.path = strdup(yod_path(rig, "rw/way/kept/free")), .writable = 1};
    rig->config.root_count = 4;
    yod_rig_start(rig);
    CHECK_EQ(OPEN("rw/way/kept/file", O_RDWR), -EROFS);
    CHECK_EQ(CALL(open, S("way/kept/file"), V(O_RDWR)), -EROFS);
    CHECK_EQ(CALL(open, S("sub/../way/kept/file"), V(O_RDWR)), -EROFS);
    CHECK_EQ(CALL(symlink, S("way"), P("rw/l")), 0);
    CHECK_EQ(CALL(open, S("l/kept/file"), V(O_RDWR)), -EROFS);
    CHECK_EQ(CALL(unlink, S("l/kept/file")), -EROFS);
    int64_t dir = OPEN("rw/way", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(CALL(openat, V(dir), S("kept/file"), V(O_RDWR)), -EROFS);
    CHECK_EQ(CALL(openat, V(dir), S("kept/new"), V(O_RDWR | O_CREAT), V(0666)), -EROFS);
    CHECK_EQ(CALL(openat, V(dir), S("kept/free/new"), V(O_RDWR | O_CREAT), V(0666)), 1);
    CHECK_EQ(CALL(openat, V(dir), S("new"), V(O_RDWR | O_CREAT), V(0666)), 2);
    /* What holds a root stays where it is, as a mount point does. */
    CHECK_EQ(CALL(rename, P("rw/way"), P("rw/elsewhere")), -EBUSY);
    CHECK_EQ(CALL(rename, P("rw/way/kept"), P("rw/elsewhere")), -EBUSY);
    CHECK_EQ(CALL(rename, P("rw/way/kept/"), P("rw/elsewhere")), -EBUSY);
    CHECK_EQ(CALL(renameat2, V(AT_FDCWD), S("sub"), V(AT_FDCWD), S("way"), V(2)), -EBUSY);
    CHECK_EQ(CALL(rmdir, P("rw/way/kept/free")), -EROFS);
    CHECK_EQ(CALL(rename, P("rw/sub"), P("rw/elsewhere")), 0);
    CHECK(yod_holds(rig, "rw/way/kept/file", "kept\n"));
    yod_rig_free(rig);
}

/* With the whole tree as a root, the host's /proc, /sys and devices are still not to be had. */
TEST(yod_root_of_everything)
{
    struct yod_rig *rig = yod_rig_tree();
    free((void *)(uintptr_t)rig->roots[0].path);
    rig->roots[0].path = strdup("/");
    yod_rig_start(rig);
    CHECK_EQ(CALL(chdir, S("/")), 0);
    static const char *const paths[] = {"/proc/self/environ",
                                        "/proc/self/mem",
                                        "/proc/version_signature",
                                        "/tmp/../proc/self/environ",
                                        "proc/self/environ",
                                        "proc/self/root/etc/passwd",
                                        "/usr/../proc/self/root/etc/passwd",
                                        "/proc/self/root/etc/passwd",
                                        "/proc/self/maps/x",
                                        "/sys/kernel/notes",
                                        "dev/kvm",
                                        "/usr/../dev/kvm"};
    for (size_t i = 0; i < VH_COUNT(paths); i++) {
        if (!CHECK_EQ(CALL(open, S(paths[i]), V(O_RDONLY)), -ENOENT)) {
            printf("# %s\n", paths[i]);
        }
    }
    CHECK_EQ(CALL(open, S("/etc/passwd"), V(O_RDONLY)), 0);
    CHECK_EQ(CALL(open, S("/usr/../etc/passwd"), V(O_RDONLY)), 1);
    CHECK_EQ(CALL(open, S("/etc/passwd"), V(O_RDWR)), -EROFS);
    /* The machine's own instead, by whatever way. */
    static const char *const own[] = {"/proc/self/cmdline", "proc/self/cmdline",
                                      "/usr/../proc/self/cmdline"};
    for (size_t i = 0; i < VH_COUNT(own); i++) {
        int64_t fd = CALL(open, S(own[i]), V(O_RDONLY));
        CHECK_EQ(CALL(read, V(fd), M(0, 100), V(100)), 8);
        CHECK(memcmp(BUFFER, "app\0one\0", 8) == 0);
    }
    CHECK_EQ(CALL(readlink, S("/proc/self/fd/0"), M(0, 100), V(100)), 11);
    CHECK(memcmp(BUFFER, "/etc/passwd", 11) == 0);
    CHECK_EQ(OPEN("rw/file", O_RDWR), 5); /* the longer root counts */
    CHECK_EQ(OPEN("out/secret", O_RDWR), -EROFS);
    yod_rig_free(rig);
}

TEST(yod_special_files)
{
    struct yod_rig *rig = yod_rig_tree();
    bool device = mknod(yod_path(rig, "rw/device"), S_IFCHR | 0666, makedev(1, 3)) == 0;
    CHECK(mkfifo(yod_path(rig, "rw/fifo"), 0666) == 0);
    CHECK(mkfifo(yod_path(rig, "ro/fifo"), 0666) == 0);
    yod_rig_start(rig);
    if (device) { /* where we may make one */
        CHECK_EQ(OPEN("rw/device", O_RDWR), -ENOENT);
        CHECK_EQ(CALL(stat, P("rw/device"), M(0, 144)), -ENOENT);
        CHECK_EQ(CALL(rename, P("rw/device"), P("rw/d")), 0);
        CHECK_EQ(CALL(unlink, P("rw/d")), 0);
    }
    CHECK_EQ(OPEN("ro/fifo", O_RDWR), -EROFS);
    CHECK_EQ(OPEN("rw/fifo", O_RDONLY), 0); /* does not wait in the vCPU's thread */
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    int64_t fd = OPEN("rw/fifo", O_WRONLY);
    CHECK_EQ(fd, 1);
    memcpy(BUFFER + 200, "through", 7);
    CHECK_EQ(CALL(write, V(fd), M(200, 7), V(7)), 7);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 7);
    CHECK(memcmp(BUFFER, "through", 7) == 0);
    CHECK_EQ(CALL(close, V(0)), 0);
    CHECK_EQ(CALL(close, V(fd)), 0);
    /* A writer waits for a reader; without waiting it is told that there is none. */
    CHECK_EQ(OPEN("rw/fifo", O_WRONLY | O_NONBLOCK), -ENXIO);
    CHECK(!POST(1, open, P("rw/fifo"), V(O_WRONLY)));
    CHECK(!yod_await(rig, 1, 30));
    CHECK_EQ(OPEN("rw/fifo", O_RDONLY), 0);
    CHECK(yod_await(rig, 1, 5000));
    CHECK_EQ(RESULT(1), 1);
    yod_rig_free(rig);
}

/* ------------------------------------------------------------------------------- races */

struct racer {
    struct yod_rig *rig;
    char a[512], b[512], link[512];
    atomic_bool stop;
    uint32_t turns;
};

/* As another process of the same user: a directory and a link to the outside change places. */
static void *exchange(void *arg)
{
    struct racer *r = arg;
    while (!atomic_load(&r->stop)) {
        (void)renameat2(AT_FDCWD, r->a, AT_FDCWD, r->link, RENAME_EXCHANGE);
        r->turns++;
    }
    return NULL;
}

/* A directory moves up and down under lookups with "..". */
static void *move(void *arg)
{
    struct racer *r = arg;
    while (!atomic_load(&r->stop)) {
        (void)rename(r->a, r->b);
        (void)rename(r->b, r->a);
        r->turns++;
    }
    return NULL;
}

static void race(void *(*other)(void *), struct racer *r, const char *path, uint32_t rounds)
{
    struct yod_rig *rig = r->rig;
    pthread_t thread;
    uint32_t hits = 0;
    CHECK(pthread_create(&thread, NULL, other, r) == 0);
    for (uint32_t i = 0; i < rounds; i++) {
        int64_t fd = CALL(open, S(path), V(O_RDONLY));
        if (fd >= 0) {
            CHECK_EQ(CALL(read, V(fd), M(0, 100), V(100)), 7);
            CHECK(memcmp(BUFFER, "inside\n", 7) == 0); /* never what is outside */
            CHECK_EQ(CALL(close, V(fd)), 0);
            hits++;
        } else {
            CHECK(fd == -ENOENT || fd == -ELOOP || fd == -EAGAIN || fd == -ENOTDIR);
        }
        int64_t made = CALL(open, S(path), V(O_WRONLY | O_CREAT | O_APPEND), V(0666));
        if (made >= 0) {
            CHECK_EQ(CALL(close, V(made)), 0);
        }
        /* (a file that one of them made is not the outside's) */
    }
    atomic_store(&r->stop, true);
    (void)pthread_join(thread, NULL);
    printf("# race: %u of %u opened, %u turns of the other\n", hits, rounds, r->turns);
}

TEST(yod_race_link_for_directory)
{
    struct yod_rig *rig = yod_rig_new();
    struct racer r = {.rig = rig};
    CHECK(mkdir(yod_path(rig, "rw/place"), 0755) == 0);
    yod_make(rig, "rw/place/secret", "inside\n");
    CHECK(symlink("../out", yod_path(rig, "rw/lure")) == 0);
    (void)snprintf(r.a, sizeof(r.a), "%s/rw/place", rig->tree);
    (void)snprintf(r.link, sizeof(r.link), "%s/rw/lure", rig->tree);
    race(exchange, &r, yod_path(rig, "rw/place/secret"), 3000);
    CHECK(yod_holds(rig, "out/secret", "secret\n"));
    yod_rig_free(rig);
}

TEST(yod_race_moved_directory)
{
    struct yod_rig *rig = yod_rig_new();
    struct racer r = {.rig = rig};
    CHECK(mkdir(yod_path(rig, "rw/sub/low"), 0755) == 0);
    CHECK(mkdir(yod_path(rig, "rw/out"), 0755) == 0);
    yod_make(rig, "rw/out/secret", "inside\n");
    /* While it is up, "../../out" is TREE/out. */
    (void)snprintf(r.a, sizeof(r.a), "%s/rw/sub/low", rig->tree);
    (void)snprintf(r.b, sizeof(r.b), "%s/rw/low", rig->tree);
    race(move, &r, yod_path(rig, "rw/sub/low/../../out/secret"), 3000);
    CHECK(yod_holds(rig, "out/secret", "secret\n"));
    yod_rig_free(rig);
}
