/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of the monitor's machine, made and confined before the machine is.
 *
 * A thread inherits the filter of the one that makes it, so threads made later could do no more
 * than the control thread, whose list would have to hold everybody's. Made first, each has the list
 * of its kind only, and after that no thread of the process can make threads or processes at all.
 *
 *     vh_jail_enter(…);
 *     vh_seccomp_on_trap(…);
 *     …                                   learn how many vCPUs and disks there will be
 *     vh_threads_create(&config, &threads, &err);
 *     vh_seccomp_install(VH_SECCOMP_SETUP, &err);
 *     vmmhpc_create(…, &vm, &err);
 *     vm->threads = vh_threads_source(threads);
 *     …                                   devices, vmmhpc_load(), vmmhpc_start()
 *     vh_threads_close(threads);          what was not needed ends
 *     vh_seccomp_install(VH_SECCOMP_CONTROL, &err);
 */
#ifndef VH_THREADS_H
#define VH_THREADS_H

#include "monitor/seccomp.h"
#include "thread.h"

struct vh_threads;

struct vh_threads_config {
    uint32_t vcpus;
    uint32_t disks; /* at most one thread each; a disk with io_uring needs none */
    bool confine;   /* with seccomp: each thread puts up the filter of its kind */
    /** Called in each thread before it is confined, to prepare what it cannot do later (for a test:
     *  to be told of its kind); may be NULL. */
    void (*enter)(void *opaque, enum vh_thread_kind kind);
    void *opaque;
};

/**
 * Make the threads: vCPUs, one for I/O, disks. Each is named, has all signals blocked but those of
 * its own faults and SIGSYS, and waits. If one cannot be made or confined all end, and the error
 * says why. The calling thread must not be confined yet. From here on all threads of the process
 * share one heap (M_ARENA_MAX), whose growth needs no call that is not listed, and less memory.
 */
int32_t vh_threads_create(const struct vh_threads_config *config, struct vh_threads **threads,
                          struct vmmhpc_error *err);

/** What a machine takes its threads from; E_LIMIT where no more of a kind is there. */
struct vh_thread_source vh_threads_source(struct vh_threads *threads);

/** End the threads that nobody took, and wait for them; none can be taken any more. */
void vh_threads_close(struct vh_threads *threads);

/** After the machine's end: vh_threads_close(), and release. NULL is allowed. */
void vh_threads_destroy(struct vh_threads *threads);

#endif
