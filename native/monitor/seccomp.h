/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls by allow-list, one list for each kind of thread of the monitor. A thread's filter is
 * its own and for ever; the control thread has two, one after the other. Whatever is not on the
 * list raises SIGSYS; calls of other ABIs (i386, x32) end the process.
 */
#ifndef VH_SECCOMP_H
#define VH_SECCOMP_H

#include "internal.h"

enum vh_seccomp_kind {
    VH_SECCOMP_SETUP,   /* the control thread until the machine is started */
    VH_SECCOMP_CONTROL, /* the control thread from then on: a part of the above */
    VH_SECCOMP_VCPU,
    VH_SECCOMP_IO,
    VH_SECCOMP_DISK,
    VH_SECCOMP_KINDS,
};

/** Most system calls that a kind may have. */
#define VH_SECCOMP_MAX 40u

/* How a call's arguments are looked at, beyond its number. */
enum vh_seccomp_check {
    VH_CHECK_NONE,
    VH_CHECK_REQUEST, /* ioctl: the request is on the kind's list */
    VH_CHECK_NO_EXEC, /* mmap: memory that cannot be executed */
    VH_CHECK_DESCRIPTOR /* newfstatat: of a descriptor, AT_EMPTY_PATH */,
    VH_CHECK_FCNTL,  /* duplicates, flags, locks of open file descriptions */
    VH_CHECK_UNIX,   /* socketpair: AF_UNIX */
    VH_CHECK_KICK,   /* tgkill: the signal that brings a vCPU out of KVM_RUN, to this process */
    VH_CHECK_FILTER, /* prctl: PR_SET_SECCOMP, which can only take away more */
};

struct vh_seccomp_call {
    const char *name;
    uint32_t number;
    uint32_t kinds; /* bit 1 << kind */
    enum vh_seccomp_check check;
};

struct vh_seccomp_request {
    const char *name;
    uint32_t number;
    uint32_t kinds;
};

/** "setup", "control", "vcpu", "io", "disk". */
const char *vh_seccomp_kind_name(enum vh_seccomp_kind kind);
/** All calls that any kind may make. */
const struct vh_seccomp_call *vh_seccomp_calls(size_t *count);
/** All requests of ioctl() that any kind may make. */
const struct vh_seccomp_request *vh_seccomp_requests(size_t *count);
/** How many system calls a kind may make. */
uint32_t vh_seccomp_count(enum vh_seccomp_kind kind);
/** What a check lets pass, in words; "" for VH_CHECK_NONE. */
const char *vh_seccomp_check_text(enum vh_seccomp_check check);
/** Name of a system call for messages: of those on the lists and of well-known others; else "". */
const char *vh_seccomp_name(uint32_t number);

/**
 * Confine the calling thread for the rest of its life; threads that it makes inherit the filter.
 * Needs no_new_privs or CAP_SYS_ADMIN. SIGSYS must not be blocked, or a call that is not allowed
 * ends the process without its handler. E_UNSUPPORTED, E_PERMISSION or E_SYSCALL with errno: the
 * thread is not confined.
 */
int32_t vh_seccomp_install(enum vh_seccomp_kind kind, struct vmmhpc_error *err);

/** Called in the thread that made a forbidden call, inside of a signal handler: async-signal-safe
 *  functions only, and only calls that are on the lists of all kinds (write, exit_group). kind is
 *  VH_SECCOMP_KINDS where the thread was not confined by vh_seccomp_install(). */
typedef void (*vh_seccomp_trap)(enum vh_seccomp_kind kind, uint32_t number);

/** Who hears of forbidden calls: for all threads. When it returns, the process ends with status
 *  VH_SECCOMP_STATUS. NULL: nobody. Call it before the first filter. */
int32_t vh_seccomp_on_trap(vh_seccomp_trap trap, struct vmmhpc_error *err);
#define VH_SECCOMP_STATUS 159 /* as a shell shows SIGSYS */

/** For tests: to be called by a vh_seccomp_trap that leaves by siglongjmp() without a signal mask.
 */
void vh_seccomp_survive(void);

#endif
