/* SPDX-License-Identifier: Apache-2.0 */
/* Another user, and namespaces: what the process can see and name. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/jail_parts.h"

#define NOBODY 65534u
/* Any directory that every host has: the new root is mounted there before it becomes the root. */
#define MOUNT_POINT "/proc"

int32_t vh_jail_become(const struct vh_jail_config *config, struct vmmhpc_error *err)
{
    if (geteuid() != 0) {
        return VMMHPC_OK;
    }
    uid_t uid = config->uid != 0 ? config->uid : NOBODY;
    gid_t gid = config->gid != 0 ? config->gid : NOBODY;
    /* Capabilities are needed for a moment still. */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 ||
        setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        return vh_fail(err, VMMHPC_E_PERMISSION, errno, uid,
                       "jail: root cannot become user %u, group %u: %s", uid, gid,
                       vh_errno_name(errno));
    }
    int32_t status = vh_jail_keep_capabilities(err);
    /* Or its files in /proc would be root's. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return status;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int failed = errno;
    (void)close(fd);
    errno = failed;
    return done;
}

/* Who may write them: a process maps itself; only one outside, with capabilities there, maps more.
 */
static bool write_maps(pid_t pid, uint32_t owner, unsigned uid, unsigned gid)
{
    char path[64];
    char map[64];
    int length = snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
    if (owner != uid) {
        (void)snprintf(map + length, sizeof(map) - (size_t)length, "%u %u 1\n", owner, owner);
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
    bool done = write_file(path, map);
    (void)snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
    done = done && write_file(path, "deny");
    (void)snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
    (void)snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
    return done && write_file(path, map);
}

/* Its end says how it went; the pipe's, that the namespace is there. */
static pid_t fork_writer(uint32_t owner, unsigned uid, unsigned gid, const int pipe[2])
{
    pid_t inside = getpid();
    pid_t writer = fork();
    if (writer == 0) {
        char byte = 0;
        (void)close(pipe[1]);
        bool there = read(pipe[0], &byte, 1) == 0;
        _exit(there && write_maps(inside, owner, uid, gid) ? 0 : errno);
    }
    return writer;
}

/* Root becomes another user, and yet the jail has to know root: who asks a monitor is who started
 * it (SO_PEERCRED), and users without a number here all look the same. */
static int32_t user_ns(uint32_t owner, struct vmmhpc_error *err)
{
    unsigned uid = geteuid();
    unsigned gid = getegid();
    int pipe[2] = {-1, -1};
    pid_t writer = -1;
    if (owner != uid) {
        if (pipe2(pipe, O_CLOEXEC) != 0 || (writer = fork_writer(owner, uid, gid, pipe)) < 0) {
            return vh_jail_fail(VH_JAIL_USER_NS, "fork", err);
        }
        (void)close(pipe[0]);
    }
    int failed = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
    if (writer > 0) {
        int result = 0;
        (void)close(pipe[1]);
        (void)waitpid(writer, &result, 0);
        if (failed == 0 && result != 0) {
            errno = WIFEXITED(result) ? WEXITSTATUS(result) : EIO;
            return vh_jail_fail(VH_JAIL_USER_NS, "uid_map", err);
        }
    } else if (failed == 0 && !write_maps(getpid(), owner, uid, gid)) {
        return vh_jail_fail(VH_JAIL_USER_NS, "uid_map", err);
    }
    if (failed != 0) {
        errno = failed;
        return vh_jail_fail(VH_JAIL_USER_NS, "unshare", err);
    }
    /* None within it, where /proc/sys can be written to: seccomp forbids them as well. */
    (void)write_file("/proc/sys/user/max_user_namespaces", "0");
    return VMMHPC_OK;
}

/* One page and one inode, which is the root's; nobody may even look into it. */
static int32_t empty_root(struct vmmhpc_error *err)
{
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    const char *failed = NULL;
    if (unshare(CLONE_NEWNS) != 0) {
        failed = "unshare";
    } else if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        failed = "making mounts private";
    } else if (mount("none", MOUNT_POINT, "tmpfs", flags, "size=4k,nr_inodes=1,mode=0") != 0) {
        failed = "mount of tmpfs";
    } else if (chdir(MOUNT_POINT) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) {
        failed = "pivot_root";
    } else if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
        failed = "umount of the old root";
    }
    return failed == NULL ? VMMHPC_OK : vh_jail_fail(VH_JAIL_ROOT, failed, err);
}

int32_t vh_jail_namespaces(const struct vh_jail_config *config, uint32_t owner,
                           struct vmmhpc_error *err)
{
    static const struct {
        uint32_t part;
        int flag;
    } plain[] = {
        {VH_JAIL_NET_NS, CLONE_NEWNET}, {VH_JAIL_IPC_NS, CLONE_NEWIPC},
        {VH_JAIL_UTS_NS, CLONE_NEWUTS}, {VH_JAIL_CGROUP_NS, CLONE_NEWCGROUP},
        {VH_JAIL_PID_NS, CLONE_NEWPID},
    };
    int32_t status = VMMHPC_OK;
    if ((config->without & VH_JAIL_USER_NS) == 0) {
        status = user_ns(owner, err);
    }
    for (size_t i = 0; i < VH_COUNT(plain) && status == VMMHPC_OK; i++) {
        if ((config->without & plain[i].part) == 0 && unshare(plain[i].flag) != 0) {
            status = vh_jail_fail(plain[i].part, "unshare", err);
        }
    }
    if ((config->without & VH_JAIL_ROOT) == 0 && status == VMMHPC_OK) {
        status = empty_root(err);
    }
    return status;
}
