/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include <signal.h>

int32_t vh_thread_start(const struct vh_thread_source *source, enum vh_thread_kind kind,
                        pthread_t *thread, void *(*work)(void *), void *arg, const char *name,
                        struct vmmhpc_error *err)
{
    if (source != NULL && source->start != NULL) {
        return source->start(source->opaque, kind, thread, work, arg, err);
    }
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int failed = pthread_attr_init(&attr);
    if (failed == 0) {
        (void)pthread_attr_setstacksize(&attr, VH_STACK_BYTES);
        /* The process's signals belong to its own threads. */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(thread, &attr, work, arg);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        (void)pthread_attr_destroy(&attr);
    }
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, failed, 0, "cannot create thread %s", name);
    }
    (void)pthread_setname_np(*thread, name);
    return VMMHPC_OK;
}
