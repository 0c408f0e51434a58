/* SPDX-License-Identifier: Apache-2.0 */
/* The way into the jail. */
#include "monitor/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/jail_parts.h"

static const struct {
    const char *name;
    const char *remedy;
} parts[VH_JAIL_PARTS] = {
    {"user-ns", "raise user.max_user_namespaces, allow unprivileged user namespaces"},
    {"root", "it takes user-ns or CAP_SYS_ADMIN, and a /proc to mount on"},
    {"pid-ns", "it takes user-ns or CAP_SYS_ADMIN; user.max_pid_namespaces limits it"},
    {"net-ns", "it takes user-ns or CAP_SYS_ADMIN; user.max_net_namespaces limits it"},
    {"ipc-ns", "it takes user-ns or CAP_SYS_ADMIN; user.max_ipc_namespaces limits it"},
    {"uts-ns", "it takes user-ns or CAP_SYS_ADMIN; user.max_uts_namespaces limits it"},
    {"cgroup-ns", "it takes user-ns or CAP_SYS_ADMIN; user.max_cgroup_namespaces limits it"},
    {"capabilities", "it takes user-ns or CAP_SETPCAP"},
    {"no-new-privs", "the kernel is older than 3.5"},
    {"rlimits", "the hard limits of whoever starts it stand in the way"},
    {"seccomp", "the kernel needs CONFIG_SECCOMP_FILTER and Linux 4.14"},
};

const char *vh_jail_part_name(uint32_t part)
{
    for (uint32_t i = 0; i < VH_JAIL_PARTS; i++) {
        if (part == 1u << i) {
            return parts[i].name;
        }
    }
    return "";
}

int32_t vh_jail_parse(const char *list, uint32_t *result, struct vmmhpc_error *err)
{
    uint32_t found = 0;
    for (const char *at = list; *at != 0;) {
        size_t length = strcspn(at, ",");
        uint32_t i = 0;
        while (i < VH_JAIL_PARTS &&
               (strlen(parts[i].name) != length || memcmp(parts[i].name, at, length) != 0)) {
            i++;
        }
        if (i == VH_JAIL_PARTS) {
            return vh_fail(
                err, VMMHPC_E_INVALID, 0, (uint64_t)(at - list),
                "\"%.*s\" is no part of the jail: user-ns, root, pid-ns, net-ns, ipc-ns, "
                "uts-ns, cgroup-ns, capabilities, no-new-privs, rlimits, seccomp",
                (int)(length < 32 ? length : 32), at);
        }
        found |= 1u << i;
        at += length;
        at += *at == ',' ? 1 : 0;
    }
    *result = found;
    return VMMHPC_OK;
}

int32_t vh_jail_fail(uint32_t part, const char *what, struct vmmhpc_error *err)
{
    int failed = errno;
    int32_t code = VMMHPC_E_SYSCALL;
    switch (failed) {
    case EPERM:
    case EACCES:
        code = VMMHPC_E_PERMISSION;
        break;
    case EINVAL:
    case ENOSYS:
    case ENODEV:
    case EOPNOTSUPP:
        code = VMMHPC_E_UNSUPPORTED;
        break;
    case ENOSPC:
    case EUSERS:
    case EAGAIN:
        code = VMMHPC_E_LIMIT;
        break;
    default:
        break;
    }
    uint32_t index = (uint32_t)__builtin_ctz(part);
    return vh_fail(err, code, failed, part, "jail: cannot set up %s (%s: %s): %s; or go without %s",
                   parts[index].name, what, vh_errno_name(failed), parts[index].remedy,
                   parts[index].name);
}

static int32_t check_config(const struct vh_jail_config *config, struct vmmhpc_error *err)
{
    if (config->without >> VH_JAIL_PARTS != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->without, "jail: unknown parts");
    }
    if ((config->without & (VH_JAIL_NO_NEW_PRIVS | VH_JAIL_SECCOMP)) == VH_JAIL_NO_NEW_PRIVS) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->without,
                       "jail: seccomp needs no-new-privs: go without both, or neither");
    }
    const uint32_t trap = SECCOMP_RET_TRAP;
    if ((config->without & VH_JAIL_SECCOMP) == 0 &&
        syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap) != 0) {
        return vh_jail_fail(VH_JAIL_SECCOMP, "seccomp", err);
    }
    return VMMHPC_OK;
}

/* In the child: everything that takes rights away, in the order in which it can be done. */
static int32_t give_up_rights(const struct vh_jail_config *config, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    (void)setsid(); /* cannot fail: a child leads no group */
    if ((config->without & VH_JAIL_RLIMITS) == 0) {
        status = vh_jail_rlimits(config, err);
    }
    if (status == VMMHPC_OK && (config->without & VH_JAIL_CAPABILITIES) == 0) {
        status = vh_jail_capabilities(err);
    }
    if (status == VMMHPC_OK && (config->without & VH_JAIL_NO_NEW_PRIVS) == 0) {
        status = vh_jail_no_new_privs(err);
    }
    /* No debugger of the same user, no core file; its files in /proc are root's. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return status;
}

/* The outer process lasts until the other one is in place, or is known not to be. */
_Noreturn static void see_it_in(const struct vh_jail_config *config, int told, pid_t pid)
{
    char byte = 0;
    ssize_t got = 0;
    do {
        got = read(told, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1) { /* it says why, or has died */
        _exit(1);
    }
    if (config->in_place != NULL) {
        config->in_place(config->opaque, pid);
    }
    _exit(0);
}

int32_t vh_jail_enter(const struct vh_jail_config *config, struct vmmhpc_error *err)
{
    int tell[2];
    const uint32_t owner = (uint32_t)geteuid();
    int32_t status = check_config(config, err);
    if (status == VMMHPC_OK) {
        status = vh_jail_tidy(err);
    }
    if (status == VMMHPC_OK) {
        status = vh_jail_become(config, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_jail_namespaces(config, owner, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    if (pipe2(tell, O_CLOEXEC) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "jail: cannot create a pipe");
    }
    pid_t pid = fork(); /* only children are in a new pid namespace */
    if (pid < 0) {
        return vh_jail_fail(VH_JAIL_PID_NS, "fork", err);
    }
    if (pid > 0) {
        (void)close(tell[1]);
        see_it_in(config, tell[0], pid);
    }
    (void)close(tell[0]);
    status = give_up_rights(config, err);
    if (status == VMMHPC_OK && write(tell[1], "", 1) != 1) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "jail: the outer process is gone");
    }
    (void)close(tell[1]);
    return status;
}
