/* SPDX-License-Identifier: Apache-2.0 */
/* What a process can ask about itself and its machine, and set. It is the only one there is. */
#include <asm/resource.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/times.h>
#include <linux/utsname.h>

#include "mm.h"
#include "pct.h"

#define NAME_BYTES 16u
#define NAMES 64u
#define FILES 1024u
#define THREADS 1024u

static struct rlimit64 limits[RLIM_NLIMITS];
static bool limits_known;

/* Names of threads, by prctl(). A thread whose place another has taken has the name of the program
 * again. */
static struct {
    uint32_t tid;
    char name[NAME_BYTES];
} names[NAMES];

static void fill_limits(void)
{
    const struct rlimit64 none = {RLIM64_INFINITY, RLIM64_INFINITY};

    for (uint32_t i = 0; i < RLIM_NLIMITS; i++) {
        limits[i] = none;
    }
    limits[RLIMIT_STACK].rlim_cur = pct.loaded.stack_bytes;
    limits[RLIMIT_CORE] = (struct rlimit64){0, 0};
    limits[RLIMIT_NOFILE] = (struct rlimit64){FILES, FILES};
    limits[RLIMIT_NPROC] = (struct rlimit64){THREADS, THREADS};
    limits[RLIMIT_NICE] = (struct rlimit64){0, 0};
    limits[RLIMIT_RTPRIO] = (struct rlimit64){0, 0};
    limits_known = true;
}

static int64_t limit(uint64_t which, uint64_t new_va, uint64_t old_va)
{
    struct rlimit64 wanted = {0, 0};

    if (!limits_known) {
        fill_limits();
    }
    which = (uint32_t)which;
    if (which >= RLIM_NLIMITS) {
        return -EINVAL;
    }
    const struct rlimit64 old = limits[which];
    if (new_va != 0) {
        if (!user_read(&wanted, new_va, sizeof(wanted))) {
            return -EFAULT;
        }
        if (wanted.rlim_cur > wanted.rlim_max) {
            return -EINVAL;
        }
        if (wanted.rlim_max > old.rlim_max) {
            return -EPERM;
        }
    }
    if (old_va != 0 && !user_write(old_va, &old, sizeof(old))) {
        return -EFAULT;
    }
    if (new_va != 0) {
        limits[which] = wanted;
    }
    return 0;
}

static bool is_self(uint64_t pid)
{
    return (uint32_t)pid == 0 || (uint32_t)pid == pct.launch.header->pid;
}

static int64_t call_getrlimit(const struct pct_event *event)
{
    return event->args[1] == 0 ? -EFAULT : limit(event->args[0], 0, event->args[1]);
}

static int64_t call_setrlimit(const struct pct_event *event)
{
    return event->args[1] == 0 ? -EFAULT : limit(event->args[0], event->args[1], 0);
}

static int64_t call_prlimit64(const struct pct_event *event)
{
    const uint64_t *args = event->args;

    return is_self(args[0]) ? limit(args[1], args[2], args[3]) : -ESRCH;
}

static void copy_name(char *to, const char *from, uint64_t room)
{
    uint64_t i = 0;

    for (; i + 1 < room && from[i] != '\0'; i++) {
        to[i] = from[i];
    }
    to[i] = '\0';
}

static int64_t call_uname(const struct pct_event *event)
{
    struct new_utsname name = {.sysname = "Linux",
                               .release = YOD_OSRELEASE,
                               .version = YOD_OSVERSION,
                               .machine = "x86_64",
                               .domainname = "(none)"};

    copy_name(name.nodename, pct.launch.header->nodename,
              least(sizeof(name.nodename), sizeof(pct.launch.header->nodename)));
    return user_write(event->args[0], &name, sizeof(name)) ? 0 : -EFAULT;
}

static int64_t call_sysinfo(const struct pct_event *event)
{
    struct sysinfo info = {
        .uptime = (__kernel_long_t)((tsc() - pct.info->tsc_entry) / most(1, pct.info->tsc_hz)),
        .totalram = pct.info->ram_bytes,
        .freeram = mm.phys.bytes,
        .procs = (uint16_t)pct.info->threads,
        .mem_unit = 1};

    return user_write(event->args[0], &info, sizeof(info)) ? 0 : -EFAULT;
}

static int64_t call_getuid(const struct pct_event *event)
{
    const struct yod_launch *header = pct.launch.header;

    switch (event->call) {
    case __NR_getuid:
        return header->uid;
    case __NR_geteuid:
        return header->euid;
    case __NR_getgid:
        return header->gid;
    default:
        return header->egid;
    }
}

/* getresuid(), getresgid(). */
static int64_t call_getres(const struct pct_event *event)
{
    const struct yod_launch *header = pct.launch.header;
    bool users = event->call == __NR_getresuid;
    uint32_t real = users ? header->uid : header->gid;
    uint32_t effective = users ? header->euid : header->egid;

    return user_write(event->args[0], &real, 4) && user_write(event->args[1], &effective, 4) &&
                   user_write(event->args[2], &effective, 4)
               ? 0
               : -EFAULT;
}

/* The setuid() and setgid() family: to what it is already, and to nothing else. */
static int64_t call_setid(const struct pct_event *event)
{
    const struct yod_launch *header = pct.launch.header;
    bool users =
        event->call == __NR_setuid || event->call == __NR_setreuid || event->call == __NR_setresuid;
    bool one = event->call == __NR_setuid || event->call == __NR_setgid;
    bool three = event->call == __NR_setresuid || event->call == __NR_setresgid;
    uint32_t real = users ? header->uid : header->gid;
    uint32_t effective = users ? header->euid : header->egid;

    for (uint32_t i = 0; i < (one ? 1u : three ? 3u : 2u); i++) {
        uint32_t id = (uint32_t)event->args[i];
        if (id != real && id != effective && (one || id != UINT32_MAX)) {
            return -EPERM;
        }
    }
    return real == effective ? 0 : -EPERM;
}

/* Its own group and session, whose leader it is. */
static int64_t call_group(const struct pct_event *event)
{
    bool self = is_self(event->args[0]);

    switch (event->call) {
    case __NR_getpgrp:
        return pct.launch.header->pid;
    case __NR_getppid:
        return 0; /* outside of what can be seen, as for the first process of a namespace */
    case __NR_setsid:
        return -EPERM;
    case __NR_setpgid:
        return self && is_self(event->args[1]) ? 0 : -EPERM;
    default:
        return self ? (int64_t)pct.launch.header->pid : -ESRCH;
    }
}

static int64_t call_none(const struct pct_event *event)
{
    (void)event;
    return 0;
}

static int64_t call_not_permitted(const struct pct_event *event)
{
    (void)event;
    return -EPERM;
}

/* One niceness for all: the call gives 20 less it. */
static int64_t call_getpriority(const struct pct_event *event)
{
    (void)event;
    return 20;
}

static int64_t call_personality(const struct pct_event *event)
{
    uint32_t wanted = (uint32_t)event->args[0];

    return wanted == 0 || wanted == UINT32_MAX ? 0 : -EINVAL;
}

static int64_t set_name(uint32_t tid, uint64_t va)
{
    char name[NAME_BYTES];
    int64_t length = user_string(name, va, sizeof(name));

    if (length == -EFAULT) {
        return length;
    }
    name[NAME_BYTES - 1] = '\0';
    names[tid % NAMES].tid = tid;
    copy_name(names[tid % NAMES].name, name, NAME_BYTES);
    return 0;
}

static int64_t get_name(uint32_t tid, uint64_t va)
{
    char name[NAME_BYTES] = {0};

    if (names[tid % NAMES].tid == tid) {
        copy_name(name, names[tid % NAMES].name, NAME_BYTES);
    } else {
        const char *base = pct.launch.execfn;
        for (const char *at = base; *at != '\0'; at++) {
            base = *at == '/' ? at + 1 : base;
        }
        copy_name(name, base, NAME_BYTES);
    }
    return user_write(va, name, sizeof(name)) ? 0 : -EFAULT;
}

static int64_t call_prctl(const struct pct_event *event)
{
    switch ((uint32_t)event->args[0]) {
    case PR_SET_NAME:
        return set_name(event->tid, event->args[1]);
    case PR_GET_NAME:
        return get_name(event->tid, event->args[1]);
    case PR_GET_DUMPABLE:
    case PR_GET_KEEPCAPS:
        return 0;
    case PR_SET_NO_NEW_PRIVS:
    case PR_GET_NO_NEW_PRIVS:
        return 1 - (event->args[0] == PR_SET_NO_NEW_PRIVS); /* there are none to get */
    default:
        return -EINVAL;
    }
}

static const call_function calls[] = {
    [__NR_uname] = call_uname,
    [__NR_sysinfo] = call_sysinfo,
    [__NR_getrlimit] = call_getrlimit,
    [__NR_setrlimit] = call_setrlimit,
    [__NR_prlimit64] = call_prlimit64,
    [__NR_getuid] = call_getuid,
    [__NR_geteuid] = call_getuid,
    [__NR_getgid] = call_getuid,
    [__NR_getegid] = call_getuid,
    [__NR_getresuid] = call_getres,
    [__NR_getresgid] = call_getres,
    [__NR_setuid] = call_setid,
    [__NR_setgid] = call_setid,
    [__NR_setreuid] = call_setid,
    [__NR_setregid] = call_setid,
    [__NR_setresuid] = call_setid,
    [__NR_setresgid] = call_setid,
    [__NR_getgroups] = call_none,
    [__NR_setgroups] = call_not_permitted,
    [__NR_getpgrp] = call_group,
    [__NR_getpgid] = call_group,
    [__NR_getsid] = call_group,
    [__NR_getppid] = call_group,
    [__NR_setsid] = call_group,
    [__NR_setpgid] = call_group,
    [__NR_getpriority] = call_getpriority,
    [__NR_setpriority] = call_not_permitted,
    [__NR_personality] = call_personality,
    [__NR_prctl] = call_prctl,
};

call_function process_call(uint64_t call)
{
    return call < sizeof(calls) / sizeof(calls[0]) ? calls[call] : NULL;
}
