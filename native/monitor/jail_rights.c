/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities, privileges to be had, and limits: what the process may do. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "monitor/jail_parts.h"

#ifndef PR_SET_MDWE /* Linux 6.3 */
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define DESCRIPTORS 1024u
#define SECURE                                                                                     \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                               \
     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |       \
     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

static bool get(struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    return syscall(SYS_capget, &header, data) == 0;
}

static bool set(const struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    return syscall(SYS_capset, &header, data) == 0;
}

int32_t vh_jail_keep_capabilities(struct vmmhpc_error *err)
{
    struct __user_cap_data_struct data[2];
    bool done = get(data);
    for (uint32_t i = 0; i < 2 && done; i++) {
        data[i].effective = data[i].permitted;
    }
    return done && set(data) ? VMMHPC_OK : vh_jail_fail(VH_JAIL_CAPABILITIES, "capset", err);
}

int32_t vh_jail_capabilities(struct vmmhpc_error *err)
{
    static const struct __user_cap_data_struct none[2] = {{0}};
    /* The bounding set: until the kernel knows no more. */
    int has = 0;
    for (int capability = 0; (has = prctl(PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0;
         capability++) {
        if (has == 1 && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            return vh_jail_fail(VH_JAIL_CAPABILITIES, "PR_CAPBSET_DROP", err);
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
        return vh_jail_fail(VH_JAIL_CAPABILITIES, "PR_CAP_AMBIENT", err);
    }
    if (prctl(PR_SET_SECUREBITS, SECURE, 0, 0, 0) != 0) {
        return vh_jail_fail(VH_JAIL_CAPABILITIES, "PR_SET_SECUREBITS", err);
    }
    return set(none) ? VMMHPC_OK : vh_jail_fail(VH_JAIL_CAPABILITIES, "capset", err);
}

int32_t vh_jail_no_new_privs(struct vmmhpc_error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return vh_jail_fail(VH_JAIL_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", err);
    }
    /* From Linux 6.3 on also code: what is not executable stays so. Seccomp does it on all. */
    (void)prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
    return VMMHPC_OK;
}

static bool limit(int resource, uint64_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) {
        return false;
    }
    /* A lower one that is there already stays. */
    if (value > now.rlim_max) {
        value = now.rlim_max;
    }
    const struct rlimit both = {value, value};
    return setrlimit(resource, &both) == 0;
}

int32_t vh_jail_rlimits(const struct vh_jail_config *config, struct vmmhpc_error *err)
{
    uint32_t descriptors = config->descriptors != 0 ? config->descriptors : DESCRIPTORS;
    const char *failed = NULL;
    if (!limit(RLIMIT_NOFILE, descriptors)) {
        failed = "RLIMIT_NOFILE";
    } else if (!limit(RLIMIT_CORE, 0)) {
        failed = "RLIMIT_CORE";
    } else if (!limit(RLIMIT_MSGQUEUE, 0)) {
        failed = "RLIMIT_MSGQUEUE";
    } else if (config->file_bytes != 0 && !limit(RLIMIT_FSIZE, config->file_bytes)) {
        failed = "RLIMIT_FSIZE";
    } else if (config->address_bytes != 0 && !limit(RLIMIT_AS, config->address_bytes)) {
        failed = "RLIMIT_AS";
    }
    return failed == NULL ? VMMHPC_OK : vh_jail_fail(VH_JAIL_RLIMITS, failed, err);
}
