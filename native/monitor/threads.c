/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/threads.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum slot_state { STARTING, READY, FAILED, TAKEN, ENDING };

struct slot {
    struct vh_threads *threads;
    pthread_t thread;
    enum vh_thread_kind kind;
    uint32_t index; /* of its kind */
    enum slot_state state;
    void *(*work)(void *);
    void *arg;
};

struct vh_threads {
    struct vh_threads_config config;
    pthread_mutex_t lock; /* guards what follows, and the slots' states and work */
    pthread_cond_t changed;
    struct vmmhpc_error failure; /* of the first thread that could not be confined */
    uint32_t count;              /* of threads made */
    bool closed;
    struct slot slots[];
};

static enum vh_seccomp_kind confinement(enum vh_thread_kind kind)
{
    static const enum vh_seccomp_kind kinds[] = {
        [VH_THREAD_VCPU] = VH_SECCOMP_VCPU,
        [VH_THREAD_IO] = VH_SECCOMP_IO,
        [VH_THREAD_DISK] = VH_SECCOMP_DISK,
    };
    return kinds[kind];
}

/* What needs calls that are on no list. */
static void prepare(const struct slot *slot)
{
    static const char *const formats[] = {"vcpu%u", "vmmhpc-io", "vmmhpc-blk%u"};
    static const int own[] = {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    char name[16];
    (void)snprintf(name, sizeof(name), formats[slot->kind], slot->index);
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
    sigset_t mask;
    (void)sigfillset(&mask);
    for (size_t i = 0; i < VH_COUNT(own); i++) {
        (void)sigdelset(&mask, own[i]);
    }
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* True: there is work to do. */
static bool wait_for_work(struct slot *slot, int32_t status, const struct vmmhpc_error *err)
{
    struct vh_threads *threads = slot->threads;
    (void)pthread_mutex_lock(&threads->lock);
    if (slot->state == STARTING) { /* else it is to end already */
        slot->state = status == VMMHPC_OK ? READY : FAILED;
    }
    if (status != VMMHPC_OK && threads->failure.code == VMMHPC_OK) {
        threads->failure = *err;
    }
    (void)pthread_cond_broadcast(&threads->changed);
    while (slot->state == READY) {
        (void)pthread_cond_wait(&threads->changed, &threads->lock);
    }
    bool taken = slot->state == TAKEN;
    (void)pthread_mutex_unlock(&threads->lock);
    return taken;
}

static void *thread_main(void *arg)
{
    struct slot *slot = arg;
    const struct vh_threads_config *config = &slot->threads->config;
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t status = VMMHPC_OK;
    prepare(slot);
    if (config->enter != NULL) {
        config->enter(config->opaque, slot->kind);
    }
    if (config->confine) {
        status = vh_seccomp_install(confinement(slot->kind), &err);
    }
    return wait_for_work(slot, status, &err) ? slot->work(slot->arg) : NULL;
}

static int make_thread(struct slot *slot)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int failed = pthread_attr_init(&attr);
    if (failed == 0) {
        (void)pthread_attr_setstacksize(&attr, VH_STACK_BYTES);
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(&slot->thread, &attr, thread_main, slot);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        (void)pthread_attr_destroy(&attr);
    }
    return failed;
}

static int32_t make_all(struct vh_threads *threads, uint32_t total, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < total; i++) {
        struct slot *slot = &threads->slots[i];
        slot->threads = threads;
        slot->kind = i < threads->config.vcpus    ? VH_THREAD_VCPU
                     : i == threads->config.vcpus ? VH_THREAD_IO
                                                  : VH_THREAD_DISK;
        slot->index = i > threads->config.vcpus ? i - threads->config.vcpus - 1 : i;
        int failed = make_thread(slot);
        if (failed != 0) {
            return vh_fail(err, VMMHPC_E_SYSCALL, failed, i, "cannot create thread %u of %u", i + 1,
                           total);
        }
        threads->count++;
    }
    return VMMHPC_OK;
}

static int32_t wait_until_ready(struct vh_threads *threads, struct vmmhpc_error *err)
{
    (void)pthread_mutex_lock(&threads->lock);
    for (uint32_t i = 0; i < threads->count; i++) {
        while (threads->slots[i].state == STARTING) {
            (void)pthread_cond_wait(&threads->changed, &threads->lock);
        }
    }
    const struct vmmhpc_error failure = threads->failure;
    (void)pthread_mutex_unlock(&threads->lock);
    return failure.code == VMMHPC_OK
               ? VMMHPC_OK
               : vh_fail(err, failure.code, failure.sys_errno, failure.value, "%s", failure.text);
}

int32_t vh_threads_create(const struct vh_threads_config *config, struct vh_threads **threads,
                          struct vmmhpc_error *err)
{
    uint64_t total = (uint64_t)config->vcpus + config->disks + 1;
    struct vh_threads *made = calloc(1, sizeof(*made) + total * sizeof(struct slot));
    if (made == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, total, "no memory for %llu threads",
                       (unsigned long long)total);
    }
    /* More heaps would be made and grow by calls that are on no list. */
#ifdef __GLIBC__ /* musl has one heap */
    (void)mallopt(M_ARENA_MAX, 1);
#endif
    made->config = *config;
    /* With default attributes these cannot fail on Linux. */
    (void)pthread_mutex_init(&made->lock, NULL);
    (void)pthread_cond_init(&made->changed, NULL);
    int32_t status = make_all(made, (uint32_t)total, err);
    if (status == VMMHPC_OK) {
        status = wait_until_ready(made, err);
    }
    if (status != VMMHPC_OK) {
        vh_threads_destroy(made);
        return status;
    }
    *threads = made;
    return VMMHPC_OK;
}

static int32_t take(void *opaque, enum vh_thread_kind kind, pthread_t *thread,
                    void *(*work)(void *), void *arg, struct vmmhpc_error *err)
{
    struct vh_threads *threads = opaque;
    struct slot *found = NULL;
    (void)pthread_mutex_lock(&threads->lock);
    for (uint32_t i = 0; i < threads->count && found == NULL && !threads->closed; i++) {
        if (threads->slots[i].kind == kind && threads->slots[i].state == READY) {
            found = &threads->slots[i];
        }
    }
    if (found != NULL) {
        found->work = work;
        found->arg = arg;
        found->state = TAKEN;
        *thread = found->thread;
        (void)pthread_cond_broadcast(&threads->changed);
    }
    (void)pthread_mutex_unlock(&threads->lock);
    return found != NULL ? VMMHPC_OK
                         : vh_fail(err, VMMHPC_E_LIMIT, 0, kind,
                                   "no thread is left for this: a monitor makes none once its "
                                   "machine is being built");
}

struct vh_thread_source vh_threads_source(struct vh_threads *threads)
{
    return (struct vh_thread_source){take, threads};
}

void vh_threads_close(struct vh_threads *threads)
{
    (void)pthread_mutex_lock(&threads->lock);
    bool first = !threads->closed;
    threads->closed = true;
    for (uint32_t i = 0; first && i < threads->count; i++) {
        if (threads->slots[i].state != TAKEN && threads->slots[i].state != FAILED) {
            threads->slots[i].state = ENDING;
        }
    }
    (void)pthread_cond_broadcast(&threads->changed);
    (void)pthread_mutex_unlock(&threads->lock);
    for (uint32_t i = 0; first && i < threads->count; i++) {
        if (threads->slots[i].state != TAKEN) { /* nobody can take it now */
            (void)pthread_join(threads->slots[i].thread, NULL);
        }
    }
}

void vh_threads_destroy(struct vh_threads *threads)
{
    if (threads != NULL) {
        vh_threads_close(threads);
        (void)pthread_cond_destroy(&threads->changed);
        (void)pthread_mutex_destroy(&threads->lock);
        free(threads);
    }
}
