/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of a monitor process: entered once, while the process has one thread and nothing open
 * but descriptors 0, 1, 2 and the socket to whoever started it. docs/reference/jail.md has the
 * reasons.
 */
#ifndef VH_JAIL_H
#define VH_JAIL_H

#include <sys/types.h>

#include "internal.h"
#include "vmmhpc_monitor.h"

/* The parts, each of which can be gone without. */
enum vh_jail_part {
    VH_JAIL_USER_NS =
        VMMHPC_JAIL_USER_NS,         /* capabilities, where there are any, are none on the host */
    VH_JAIL_ROOT = VMMHPC_JAIL_ROOT, /* a mount namespace whose root is empty and read-only */
    VH_JAIL_PID_NS = VMMHPC_JAIL_PID_NS,       /* sees no process but itself, being 1 */
    VH_JAIL_NET_NS = VMMHPC_JAIL_NET_NS,       /* no interface but a loopback that is down */
    VH_JAIL_IPC_NS = VMMHPC_JAIL_IPC_NS,       /* System V IPC and message queues of its own */
    VH_JAIL_UTS_NS = VMMHPC_JAIL_UTS_NS,       /* a host name of its own */
    VH_JAIL_CGROUP_NS = VMMHPC_JAIL_CGROUP_NS, /* does not see which control group it is in */
    VH_JAIL_CAPABILITIES = VMMHPC_JAIL_CAPABILITIES, /* none, in no set, and none to be had */
    /* Set-uid programs gain nothing; no memory becomes executable. */
    VH_JAIL_NO_NEW_PRIVS = VMMHPC_JAIL_NO_NEW_PRIVS,
    VH_JAIL_RLIMITS = VMMHPC_JAIL_RLIMITS, /* descriptors, core files, and what the caller sets */
    VH_JAIL_SECCOMP = VMMHPC_JAIL_SECCOMP, /* seccomp.h: checked here, put up by each thread */
};
#define VH_JAIL_PARTS 11u
/** The descriptor that stays open beside 0, 1 and 2. */
#define VH_JAIL_FD 3

struct vh_jail_config {
    uint32_t without; /* parts to go without: VH_JAIL_* */
    /* Started by root: whom to become. 0: nobody, 65534. Others stay who they are. */
    uint32_t uid;
    uint32_t gid;
    uint32_t descriptors;   /* most descriptors that may be open; 0: 1024 */
    uint64_t file_bytes;    /* how long files may be made; 0: as it is */
    uint64_t address_bytes; /* address space; 0: as it is */
    /** Called in the outer process once the jailed one is in place, with its process id there; the
     *  outer process ends with status 0 when it returns. May be NULL. */
    void (*in_place)(void *opaque, pid_t pid);
    void *opaque;
};

/** Name of a part ("user-ns", "root", "pid-ns", …); "" for what is none or several. */
const char *vh_jail_part_name(uint32_t part);

/** Parts of a list with commas, "net-ns,root"; "" is none. E_INVALID names what is no part. */
int32_t vh_jail_parse(const char *list, uint32_t *parts, struct vmmhpc_error *err);

/**
 * Enter the jail: returns in the jailed process only, a child of the calling one, which ends by
 * itself: with status 0 when the child is in place, 1 when it is not. An error comes back in the
 * process that met it, which still has VH_JAIL_FD to tell; it should then exit.
 *
 * The jailed process leads a session of its own, has umask 077, an empty environment, no
 * descriptors beside 0 to 3, default signal handling but for SIGPIPE (ignored), and SIGTERM and
 * SIGINT, which end it with status 128 + signal (the kernel would drop them: it is process 1).
 *
 * On E_PERMISSION, E_UNSUPPORTED, E_LIMIT or E_SYSCALL the part in err->value could not be set up,
 * for the reason sys_errno; the text names it and what to do.
 */
int32_t vh_jail_enter(const struct vh_jail_config *config, struct vmmhpc_error *err);

#endif
