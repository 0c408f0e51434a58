/* SPDX-License-Identifier: Apache-2.0 */
/* The engine for stores that io_uring cannot work on: one thread, one request after the other. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/blk_file.h"

struct list {
    struct vh_blk_request *first;
    struct vh_blk_request *last;
};

struct worker {
    struct vh_blk_engine engine; /* first */
    struct vh_blk_store *store;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    pthread_cond_t idle;
    struct list waiting;
    struct list finished;
    bool busy;
    bool ending;
};

static void append(struct list *list, struct vh_blk_request *request)
{
    request->next = NULL;
    if (list->first == NULL) {
        list->first = request;
    } else {
        list->last->next = request;
    }
    list->last = request;
}

static struct vh_blk_request *take(struct list *list)
{
    struct vh_blk_request *request = list->first;
    if (request != NULL) {
        list->first = request->next;
    }
    return request;
}

/* ------------------------------------------------------------------ the thread */

static int carry_out(struct vh_blk_store *store, const struct vh_blk_request *request)
{
    int failed = 0;
    switch (request->op) {
    case VH_BLK_READ:
        return store->ops->read(store, request->buffers, request->offset);
    case VH_BLK_WRITE:
        failed = store->ops->write(store, request->buffers, request->offset);
        break;
    case VH_BLK_FLUSH:
        return store->ops->flush(store);
    case VH_BLK_DISCARD:
        failed = store->ops->discard(store, request->offset, request->bytes);
        break;
    case VH_BLK_ZERO:
        failed = store->ops->zero(store, request->offset, request->bytes, request->unmap);
        break;
    }
    return failed == 0 && request->stable ? store->ops->flush(store) : failed;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    (void)pthread_mutex_lock(&worker->lock);
    for (;;) {
        struct vh_blk_request *request = take(&worker->waiting);
        if (request != NULL) {
            worker->busy = true;
            (void)pthread_mutex_unlock(&worker->lock);
            request->failed = carry_out(worker->store, request);
            (void)pthread_mutex_lock(&worker->lock);
            worker->busy = false;
            /* The reader takes the whole list: tell it once. */
            if (worker->finished.first == NULL) {
                (void)eventfd_write(worker->engine.event_fd, 1);
            }
            append(&worker->finished, request);
        } else if (worker->ending) {
            break;
        } else {
            (void)pthread_cond_signal(&worker->idle);
            (void)pthread_cond_wait(&worker->work, &worker->lock);
        }
    }
    (void)pthread_mutex_unlock(&worker->lock);
    return NULL;
}

/* ------------------------------------------------------------------ the device's side */

static void submit(struct vh_blk_engine *engine, struct vh_blk_request *request)
{
    struct worker *worker = (struct worker *)engine;
    engine->under_way++;
    (void)pthread_mutex_lock(&worker->lock);
    append(&worker->waiting, request);
    (void)pthread_mutex_unlock(&worker->lock);
}

static void run(struct vh_blk_engine *engine)
{
    struct worker *worker = (struct worker *)engine;
    if (engine->under_way > 0) {
        (void)pthread_cond_signal(&worker->work);
    }
}

static void deliver(struct vh_blk_engine *engine, struct list list)
{
    struct vh_blk_request *request = NULL;
    while ((request = take(&list)) != NULL) {
        engine->under_way--;
        request->done(request, request->failed);
    }
}

static void reap(struct vh_blk_engine *engine)
{
    struct worker *worker = (struct worker *)engine;
    (void)pthread_mutex_lock(&worker->lock);
    struct list finished = worker->finished;
    worker->finished.first = NULL;
    (void)pthread_mutex_unlock(&worker->lock);
    deliver(engine, finished);
}

static void drain(struct vh_blk_engine *engine)
{
    struct worker *worker = (struct worker *)engine;
    (void)pthread_mutex_lock(&worker->lock);
    struct list dropped = worker->waiting;
    worker->waiting.first = NULL;
    while (worker->busy) {
        (void)pthread_cond_wait(&worker->idle, &worker->lock);
    }
    (void)pthread_mutex_unlock(&worker->lock);
    for (struct vh_blk_request *request = dropped.first; request != NULL; request = request->next) {
        request->failed = ECANCELED;
    }
    reap(engine);
    deliver(engine, dropped);
}

static void release(struct worker *worker)
{
    (void)pthread_cond_destroy(&worker->idle);
    (void)pthread_cond_destroy(&worker->work);
    (void)pthread_mutex_destroy(&worker->lock);
    if (worker->engine.event_fd >= 0) {
        (void)close(worker->engine.event_fd);
    }
    free(worker);
}

static void close_worker(struct vh_blk_engine *engine)
{
    struct worker *worker = (struct worker *)engine;
    (void)pthread_mutex_lock(&worker->lock);
    worker->ending = true;
    (void)pthread_cond_signal(&worker->work);
    (void)pthread_mutex_unlock(&worker->lock);
    (void)pthread_join(worker->thread, NULL);
    release(worker);
}

static const struct vh_blk_engine_ops thread_ops = {submit, run, reap, drain, close_worker};

int32_t vh_blk_thread_open(struct vh_blk_store *store, const struct vh_thread_source *threads,
                           struct vh_blk_engine **engine, struct vmmhpc_error *err)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a disk");
    }
    worker->engine.ops = &thread_ops;
    worker->store = store;
    /* With default attributes none of these can fail on Linux. */
    (void)pthread_mutex_init(&worker->lock, NULL);
    (void)pthread_cond_init(&worker->work, NULL);
    (void)pthread_cond_init(&worker->idle, NULL);
    worker->engine.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int32_t status = VMMHPC_OK;
    if (worker->engine.event_fd < 0) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create an eventfd");
    } else {
        status = vh_thread_start(threads, VH_THREAD_DISK, &worker->thread, worker_main, worker,
                                 "vmmhpc-blk", err);
    }
    if (status != VMMHPC_OK) {
        release(worker);
        return status;
    }
    *engine = &worker->engine;
    return VMMHPC_OK;
}
