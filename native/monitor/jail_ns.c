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
                       strerrorname_np(errno));
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

static int32_t user_ns(struct vmmhpc_error *err)
{
    char map[64];
    unsigned uid = geteuid();
    unsigned gid = getegid();
    if (unshare(CLONE_NEWUSER) != 0) {
        return vh_jail_fail(VH_JAIL_USER_NS, "unshare", err);
    }
    (void)snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
    if (!write_file("/proc/self/uid_map", map)) {
        return vh_jail_fail(VH_JAIL_USER_NS, "/proc/self/uid_map", err);
    }
    (void)snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
    if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/gid_map", map)) {
        return vh_jail_fail(VH_JAIL_USER_NS, "/proc/self/gid_map", err);
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

int32_t vh_jail_namespaces(const struct vh_jail_config *config, struct vmmhpc_error *err)
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
        status = user_ns(err);
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
