/* SPDX-License-Identifier: Apache-2.0 */
/* The ports and the slots: in the threads of the vCPUs. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "yod_internal.h"

struct yod_queue *yd_queue(struct vmmhpc_yod *yod)
{
    uint64_t gpa = atomic_load(&yod->queue);
    if (gpa == UINT64_MAX) {
        return NULL;
    }
    return yod->machine.memory_at(yod->machine.opaque, gpa, sizeof(struct yod_queue));
}

void yd_pulse(struct vmmhpc_yod *yod)
{
    /* Two pulses in each other would be one edge, and the guest may have looked in between. */
    (void)pthread_mutex_lock(&yod->irq_lock);
    yod->machine.interrupt(yod->machine.opaque, 1);
    yod->machine.interrupt(yod->machine.opaque, 0);
    (void)pthread_mutex_unlock(&yod->irq_lock);
}

/* Writing to a pipe without a reader, or beyond the limit of file sizes, sends this thread a
 * signal. It is blocked meanwhile; take it off, so that it does not come when the mask is put back.
 */
static void take_signal(int number)
{
    sigset_t set;
    struct timespec now = {0, 0};
    (void)sigemptyset(&set);
    (void)sigaddset(&set, number);
    while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR) {
    }
}

int64_t yd_try(struct yd_op *op)
{
    yd_handler handler = yd_handler_of(op->call);
    if (handler == NULL) {
        return -ENOSYS;
    }
    sigset_t set;
    sigset_t before;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGPIPE);
    (void)sigaddset(&set, SIGXFSZ);
    (void)pthread_sigmask(SIG_BLOCK, &set, &before);
    int64_t result = handler(op);
    if (op->raised != 0) {
        take_signal(op->raised);
        op->raised = 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    op->resumed = true;
    return result;
}

static void release(struct yd_op *op)
{
    for (uint32_t i = 0; i < op->set_count; i++) {
        yd_file_unref(op->set_files[i]);
    }
    free(op->set);
    free(op->set_files);
    yd_file_unref(op->file);
    op->set = NULL;
    op->set_files = NULL;
    op->set_count = 0;
    op->file = NULL;
}

void yd_finish(struct yd_op *op, int64_t result)
{
    struct vmmhpc_yod *yod = op->yod;
    uint32_t index = (uint32_t)(op - yod->ops);
    release(op);
    (void)atomic_fetch_add_explicit(&yod->served, 1, memory_order_relaxed);
    /* Idle first: the guest may ring again as soon as it sees that the slot is done. */
    (void)pthread_mutex_lock(&yod->lock);
    op->state = YD_OP_IDLE;
    (void)pthread_mutex_unlock(&yod->lock);
    struct yod_queue *queue = yd_queue(yod);
    if (queue != NULL) {
        queue->slot[index].result = result;
        __atomic_store_n(&queue->slot[index].state, YOD_SLOT_DONE, __ATOMIC_RELEASE);
    }
}

static int64_t cancel(struct vmmhpc_yod *yod, uint64_t index)
{
    if (index >= YOD_SLOTS) {
        return -EINVAL;
    }
    (void)pthread_mutex_lock(&yod->lock);
    bool runs = yod->ops[index].state != YD_OP_IDLE;
    yod->ops[index].cancelled = runs;
    (void)pthread_mutex_unlock(&yod->lock);
    if (runs) {
        yd_service_wake(yod);
    }
    return 0;
}

static void serve(struct vmmhpc_yod *yod, uint32_t index)
{
    struct yod_queue *queue = yd_queue(yod);
    if (index >= YOD_SLOTS || queue == NULL) {
        return;
    }
    struct yod_slot *shared = &queue->slot[index];
    if (__atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) != YOD_SLOT_POSTED) {
        return;
    }
    struct yod_slot slot = *shared; /* once: the guest may go on writing to it */
    struct yd_op *op = &yod->ops[index];
    (void)pthread_mutex_lock(&yod->lock);
    bool taken = op->state == YD_OP_IDLE && !atomic_load(&yod->closing);
    if (taken) {
        *op = (struct yd_op){
            .yod = yod, .state = YD_OP_BUSY, .call = slot.call, .deadline_ns = YD_FOREVER};
        memcpy(op->args, slot.args, sizeof(op->args));
        memcpy(op->extent, slot.extent, sizeof(op->extent));
    }
    (void)pthread_mutex_unlock(&yod->lock);
    if (!taken) {
        return; /* a guest that rings twice gets one answer */
    }
    int64_t result = op->call == YOD_CALL_CANCEL ? cancel(yod, op->args[0]) : yd_try(op);
    if (result == YD_LATER) {
        if (yd_service_take(op)) {
            return;
        }
        result = -EAGAIN;
    }
    yd_finish(op, result);
}

static void take_report(struct vmmhpc_yod *yod)
{
    const struct yod_queue *queue = yd_queue(yod);
    if (queue == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&yod->lock);
    yod->report = queue->report;
    yod->reported = true;
    (void)pthread_mutex_unlock(&yod->lock);
}

static void set_queue(struct vmmhpc_yod *yod, uint64_t page)
{
    uint64_t gpa = page * VH_PAGE;
    uint64_t none = UINT64_MAX;
    const struct yod_queue *queue =
        yod->machine.memory_at(yod->machine.opaque, gpa, sizeof(struct yod_queue));
    if (queue != NULL && queue->version == YOD_LAUNCH_VERSION && queue->slots == YOD_SLOTS) {
        (void)atomic_compare_exchange_strong(&yod->queue, &none, gpa); /* once */
    }
}

static void trace(struct vmmhpc_yod *yod, uint64_t value)
{
    uint_least64_t none = 0;
    if (value == YOD_TRACE_ENTRY) {
        (void)atomic_compare_exchange_strong(&yod->entry_ns, &none, vh_now_ns());
    } else if (value == YOD_TRACE_APP &&
               atomic_compare_exchange_strong(&yod->app_ns, &none, vh_now_ns())) {
        atomic_store(&yod->app_exits, yod->machine.exits(yod->machine.opaque));
    }
}

uint64_t yd_port(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes, uint32_t direction,
                 uint64_t value)
{
    struct vmmhpc_yod *yod = opaque;
    (void)vcpu;
    if (bytes != 4) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_READ) {
        return offset == YOD_REG_MAGIC ? YOD_MAGIC : UINT64_MAX;
    }
    if (offset == YOD_REG_QUEUE) {
        set_queue(yod, value);
    } else if (offset == YOD_REG_DOORBELL && value == YOD_DOORBELL_REPORT) {
        take_report(yod);
    } else if (offset == YOD_REG_DOORBELL) {
        serve(yod, (uint32_t)value);
    } else if (offset == YOD_REG_TRACE) {
        trace(yod, value);
    }
    return 0;
}

uint64_t vmmhpc_yod_queue(const struct vmmhpc_yod *yod)
{
    return atomic_load(&yod->queue);
}

int32_t vmmhpc_yod_adopt(struct vmmhpc_yod *yod, uint64_t gpa, struct vmmhpc_error *err)
{
    if (atomic_load(&yod->queue) != UINT64_MAX) {
        return vh_fail(err, VMMHPC_E_STATE, 0, gpa, "the guest's queue is known already");
    }
    set_queue(yod, gpa / VH_PAGE);
    if (gpa % VH_PAGE != 0 || atomic_load(&yod->queue) != gpa) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, gpa, "there is no queue of the guest's at 0x%llx",
                       (unsigned long long)gpa);
    }
    /* What the server before this one had not answered. */
    for (uint32_t i = 0; i < YOD_SLOTS; i++) {
        serve(yod, i);
    }
    yd_pulse(yod);
    return VMMHPC_OK;
}
