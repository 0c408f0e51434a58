/* SPDX-License-Identifier: Apache-2.0 */
/* How vCPUs enter, wait in and leave the run loop. */
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

static bool must_wait(const struct vh_vcpu *vcpu)
{
    return vcpu->vm->pause_requested || vcpu->vm->reset_requested || vh_debug_holds(vcpu);
}

bool vh_vcpu_enter(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    (void)pthread_mutex_lock(&vm->lock);
    if (vcpu->active) {
        (void)pthread_mutex_unlock(&vm->lock);
        return false;
    }
    /* Counts as parked until the start, so that a machine is not destroyed under this thread. */
    vcpu->active = true;
    vcpu->parked = true;
    vcpu->pid = getpid();
    vcpu->tid = (pid_t)syscall(SYS_gettid);
    vcpu->runner = pthread_self();
    while (atomic_load(&vm->state) == VMMHPC_STATE_CREATED && !vm->stop_requested) {
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    bool go = !vm->stop_requested;
    vcpu->parked = false;
    if (go) {
        vcpu->seen_epoch = vm->epoch;
        /* The loop starts with KVM_RUN: come back from it at once where it should not have. */
        __atomic_store_n(&vcpu->run->immediate_exit, must_wait(vcpu) ? 1 : 0, __ATOMIC_SEQ_CST);
        if (vm->stats->first_run_ns == 0) {
            __atomic_store_n(&vm->stats->first_run_ns, vh_now_ns(), __ATOMIC_RELAXED);
        }
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (!go) {
        vh_vcpu_leave(vcpu);
    }
    return go;
}

bool vh_vcpu_park(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    (void)pthread_mutex_lock(&vm->lock);
    vcpu->seen_epoch = vm->epoch;
    if (vm->grace_waiters > 0) {
        (void)pthread_cond_broadcast(&vm->changed);
    }
    if (vm->retired != NULL) {
        vh_reap(vm);
        if (vm->retired == NULL) { /* else others are still to come; no kick for oneself */
            vh_update_attention(vm);
        }
    }
    while (must_wait(vcpu) && !vm->stop_requested) {
        if (!vcpu->parked) {
            vcpu->parked = true;
            (void)pthread_cond_broadcast(&vm->changed);
            vh_io_wake(vm); /* it may be waiting to reset */
        }
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
        vcpu->seen_epoch = vm->epoch;
    }
    vcpu->parked = false;
    bool go = !vm->stop_requested;
    (void)pthread_mutex_unlock(&vm->lock);
    return go;
}

void vh_vcpu_leave(struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    (void)pthread_mutex_lock(&vm->lock);
    vcpu->active = false;
    vcpu->tid = 0;
    vh_reap(vm);
    (void)pthread_cond_broadcast(&vm->changed);
    vh_io_wake(vm);
    (void)pthread_mutex_unlock(&vm->lock);
}

bool vh_all_parked(const struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (vm->vcpus[i].active && !vm->vcpus[i].parked) {
            return false;
        }
    }
    return true;
}

bool vh_none_active(const struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (vm->vcpus[i].active) {
            return false;
        }
    }
    return true;
}
