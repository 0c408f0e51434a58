/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads with host CPUs and priorities of their own. They are set from outside, as a thread of a
 * confined monitor may not set its own; until that is done it waits, and where it fails it ends
 * without having done anything, so that whoever asked for it has no thread.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "place.h"

/* What a new thread waits for, on the stack of the one that starts it. */
struct errand {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum { WAIT, GO, LEAVE } word;
    bool heard;
    void *(*work)(void *);
    void *arg;
};

static void *run_errand(void *opaque)
{
    struct errand *errand = opaque;
    (void)pthread_mutex_lock(&errand->lock);
    while (errand->word == WAIT) {
        (void)pthread_cond_wait(&errand->changed, &errand->lock);
    }
    void *(*work)(void *) = errand->word == GO ? errand->work : NULL;
    void *arg = errand->arg;
    errand->heard = true;
    (void)pthread_cond_signal(&errand->changed);
    (void)pthread_mutex_unlock(&errand->lock); /* the errand is gone from here on */
    return work == NULL ? NULL : work(arg);
}

static void tell(struct errand *errand, bool go)
{
    (void)pthread_mutex_lock(&errand->lock);
    errand->word = go ? GO : LEAVE;
    (void)pthread_cond_signal(&errand->changed);
    while (!errand->heard) {
        (void)pthread_cond_wait(&errand->changed, &errand->lock);
    }
    (void)pthread_mutex_unlock(&errand->lock);
}

static int32_t set_cpus(pthread_t thread, const struct vh_place *place, struct vmmhpc_error *err)
{
    int32_t last = 0;
    for (uint32_t i = 0; i < place->io_pin_count; i++) {
        last = place->io_pin[i] > last ? place->io_pin[i] : last;
    }
    const size_t bytes = CPU_ALLOC_SIZE((size_t)last + 1);
    cpu_set_t *set = CPU_ALLOC((size_t)last + 1);
    if (set == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, (uint64_t)last, "no memory for a CPU set");
    }
    int failed = 0;
    int32_t cpu = 0;
    /* Each by itself first: the kernel passes over those of a set that are not there. */
    for (uint32_t i = 0; failed == 0 && i < place->io_pin_count; i++) {
        cpu = place->io_pin[i];
        CPU_ZERO_S(bytes, set);
        CPU_SET_S((size_t)cpu, bytes, set);
        failed = pthread_setaffinity_np(thread, bytes, set);
    }
    for (uint32_t i = 0; failed == 0 && i < place->io_pin_count; i++) {
        CPU_SET_S((size_t)place->io_pin[i], bytes, set);
    }
    if (failed == 0) {
        failed = pthread_setaffinity_np(thread, bytes, set);
    }
    CPU_FREE(set);
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_INVALID, failed, (uint64_t)cpu,
                                 "cannot pin an I/O thread to host CPU %d", cpu);
}

/* Its number for the kernel, which has it in the name of the thread's CPU clock
 * (MAKE_THREAD_CPUCLOCK in Linux' posix-timers): no system call, and the same with any C library.
 */
static pid_t kernel_thread(pthread_t thread)
{
    clockid_t clock = 0;
    return pthread_getcpuclockid(thread, &clock) == 0 ? (pid_t) ~(clock >> 3) : -1;
}

/* Not by pthread_setschedparam(): that of musl needs a system call more. */
static int32_t set_priority(pthread_t thread, uint32_t priority, struct vmmhpc_error *err)
{
    const struct sched_param parameters = {.sched_priority = (int)priority};
    const pid_t tid = kernel_thread(thread);
    const int failed =
        syscall(SYS_sched_setscheduler, tid, SCHED_FIFO, &parameters) == 0 ? 0 : errno;
    if (failed == EPERM) {
        return vh_fail(err, VMMHPC_E_PERMISSION, failed, priority,
                       "no right to real-time priority %u: it takes CAP_SYS_NICE, or RLIMIT_RTPRIO "
                       "of %u (and, in a control group of its own, a share of real time)",
                       priority, priority);
    }
    return failed == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_SYSCALL, failed, priority,
                                 "cannot give a thread real-time priority %u: %s", priority,
                                 vh_errno_text(failed));
}

static int32_t place_thread(pthread_t thread, const struct vh_place *place,
                            enum vh_thread_kind kind, struct vmmhpc_error *err)
{
    const bool vcpu = kind == VH_THREAD_VCPU; /* pinned by libvmmhpc itself */
    const uint32_t priority = vcpu ? place->vcpu_priority : place->io_priority;
    int32_t status = VMMHPC_OK;
    if (!vcpu && place->io_pin_count > 0) {
        status = set_cpus(thread, place, err);
    }
    return status == VMMHPC_OK && priority != 0 ? set_priority(thread, priority, err) : status;
}

static void name_thread(char *name, size_t bytes, enum vh_thread_kind kind, const void *arg)
{
    if (kind == VH_THREAD_VCPU) {
        (void)snprintf(name, bytes, "vcpu%u", ((const struct vh_vcpu *)arg)->index);
    } else {
        (void)snprintf(name, bytes, kind == VH_THREAD_IO ? "vmmhpc-io" : "vmmhpc-blk");
    }
}

static int32_t start_thread(void *opaque, enum vh_thread_kind kind, pthread_t *thread,
                            void *(*work)(void *), void *arg, struct vmmhpc_error *err)
{
    const struct vh_place *place = opaque;
    struct errand errand = {.work = work, .arg = arg};
    char name[16];
    name_thread(name, sizeof(name), kind, arg);
    /* With default attributes these cannot fail on Linux. */
    (void)pthread_mutex_init(&errand.lock, NULL);
    (void)pthread_cond_init(&errand.changed, NULL);
    int32_t status =
        place->core->thread_start(&place->threads, kind, thread, run_errand, &errand, name, err);
    if (status == VMMHPC_OK) {
        status = place_thread(*thread, place, kind, err);
        tell(&errand, status == VMMHPC_OK);
        if (status != VMMHPC_OK) {
            (void)pthread_join(*thread, NULL);
        }
    }
    (void)pthread_cond_destroy(&errand.changed);
    (void)pthread_mutex_destroy(&errand.lock);
    return status;
}

void vh_place_threads(struct vmmhpc *vm, struct vh_place *place)
{
    place->threads = vm->threads;
    vm->threads = (struct vh_thread_source){start_thread, place};
}
