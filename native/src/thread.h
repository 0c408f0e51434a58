/* SPDX-License-Identifier: Apache-2.0 */
/* Where the threads of a machine come from. */
#ifndef VH_THREAD_H
#define VH_THREAD_H

#include <pthread.h>

#include "internal.h"

/* Stack of a thread. Room for a TypeScript or C handler's own needs; untouched pages cost nothing.
 */
#define VH_STACK_BYTES ((size_t)256 * 1024)

/* What a thread of a machine is for: a confined process allows each kind other system calls. */
enum vh_thread_kind { VH_THREAD_VCPU, VH_THREAD_IO, VH_THREAD_DISK };

/**
 * A machine's threads are made by pthread_create() unless its owner brings them: a confined process
 * makes and confines them beforehand. start() hands one of that kind the work; the caller joins it.
 * Where it fails the machine does not start.
 */
struct vh_thread_source {
    int32_t (*start)(void *opaque, enum vh_thread_kind kind, pthread_t *thread,
                     void *(*work)(void *), void *arg, struct vmmhpc_error *err);
    void *opaque;
};

/**
 * Start a thread with all signals blocked, named for debuggers.
 * @param source where it comes from; NULL, or one without start(): pthread_create()
 * @param name at most 15 bytes; those of a source have names of their own
 */
int32_t vh_thread_start(const struct vh_thread_source *source, enum vh_thread_kind kind,
                        pthread_t *thread, void *(*work)(void *), void *arg, const char *name,
                        struct vmmhpc_error *err);

#endif
