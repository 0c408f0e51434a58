/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a running machine (pause, reset, stop) and how they are carried out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

void vh_set_state(struct vmmhpc *vm, uint32_t state)
{
    atomic_store(&vm->state, state);
    (void)pthread_cond_broadcast(&vm->changed);
    vh_debug_notify(vm);
    vh_send_event(vm, VMMHPC_EVENT_STATE, state);
}

void vh_update_attention(struct vmmhpc *vm)
{
    bool attention = vm->stop_requested || vm->reset_requested || vm->pause_requested ||
                     vm->grace_waiters > 0 || vm->retired != NULL || vh_debug_holds_any(vm);
    atomic_store(&vm->attention, attention);
    if (attention) {
        vh_kick_all(vm);
    }
}

bool vh_on_vcpu_thread(struct vmmhpc *vm)
{
    pthread_t self = pthread_self();
    bool found = false;
    (void)pthread_mutex_lock(&vm->lock);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        found = found || (vm->vcpus[i].active && pthread_equal(vm->vcpus[i].runner, self) != 0);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return found;
}

void vh_request(struct vmmhpc *vm, enum vh_want want, uint32_t stop_reason, const char *text)
{
    (void)pthread_mutex_lock(&vm->lock);
    uint32_t state = atomic_load(&vm->state);
    if (want == VH_WANT_RESET && (vm->flags & VMMHPC_FLAG_STOP_ON_RESET) != 0) {
        want = VH_WANT_STOP;
    }
    if (state == VMMHPC_STATE_STOPPED || state == VMMHPC_STATE_CRASHED || vm->stop_requested) {
        (void)pthread_mutex_unlock(&vm->lock);
        return;
    }
    if (want == VH_WANT_RESET) {
        vm->reset_requested = true;
    } else {
        vm->stop_requested = true;
        if (vm->stop.reason == VMMHPC_STOP_NONE) {
            vm->stop.reason = stop_reason;
            (void)snprintf(vm->stop.text, sizeof(vm->stop.text), "%s", text);
        }
        if (!vm->has_io_thread) { /* never started: nothing has to be waited for */
            vh_set_state(vm, VMMHPC_STATE_STOPPED);
        }
    }
    vh_update_attention(vm);
    (void)pthread_cond_broadcast(&vm->changed);
    vh_io_wake(vm);
    (void)pthread_mutex_unlock(&vm->lock);
}

int32_t vh_grace_period(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0,
                       "this call waits for the vCPUs, so it may not come from a device handler");
    }
    (void)pthread_mutex_lock(&vm->lock);
    uint64_t epoch = ++vm->epoch;
    vm->grace_waiters++;
    vh_update_attention(vm);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        const struct vh_vcpu *vcpu = &vm->vcpus[i];
        while (vcpu->active && !vcpu->parked && vcpu->seen_epoch < epoch) {
            (void)pthread_cond_wait(&vm->changed, &vm->lock);
        }
    }
    vm->grace_waiters--;
    vh_update_attention(vm);
    (void)pthread_mutex_unlock(&vm->lock);
    return VMMHPC_OK;
}

void vh_reap(struct vmmhpc *vm)
{
    uint64_t seen = UINT64_MAX;
    for (uint32_t i = 0; i < vm->cpus; i++) {
        const struct vh_vcpu *vcpu = &vm->vcpus[i];
        if (vcpu->active && !vcpu->parked && vcpu->seen_epoch < seen) {
            seen = vcpu->seen_epoch;
        }
    }
    struct vh_table **at = &vm->retired;
    while (*at != NULL) {
        struct vh_table *table = *at;
        if (table->retired_at <= seen) {
            *at = table->next_retired;
            free(table);
        } else {
            at = &table->next_retired;
        }
    }
}

void vh_retire(struct vmmhpc *vm, struct vh_table *table)
{
    if (table == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&vm->lock);
    table->retired_at = ++vm->epoch;
    table->next_retired = vm->retired;
    vm->retired = table;
    vh_reap(vm);
    vh_update_attention(vm);
    (void)pthread_mutex_unlock(&vm->lock);
}

/* Everything but host memory, files and the console starts anew. lock is held, all are parked. */
static int32_t reset_machine(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    vh_pci_reset(vm); /* before RAM is cleared: devices may be at work in it */
    (void)pthread_mutex_lock(&vm->kvm_lock);
    vh_kvm_stats_save(vm);
    vh_kvm_teardown(vm);
    int32_t status = vh_memory_clear(&vm->memory, err);
    if (status == VMMHPC_OK) {
        status = vh_kvm_build(vm, err);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    if (status != VMMHPC_OK) {
        return status;
    }
    vh_uart_reset(&vm->uart);
    return vh_recipe_apply(vm, err);
}

static void do_reset(struct vmmhpc *vm)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int32_t status = reset_machine(vm, &err);
    vm->reset_requested = false;
    vm->modules.reset_told = false;
    if (status == VMMHPC_OK) {
        uint64_t resets = vm->stats->resets + 1;
        __atomic_store_n(&vm->stats->resets, resets, __ATOMIC_RELAXED);
        vh_send_event(vm, VMMHPC_EVENT_RESET, resets);
        vh_debug_after_reset(vm);
    } else {
        vm->stop_requested = true;
        vm->stop.reason = VMMHPC_STOP_RESET_FAILED;
        vm->stop.sys_errno = err.sys_errno;
        (void)snprintf(vm->stop.text, sizeof(vm->stop.text), "reset failed: %.180s", err.text);
    }
    vh_update_attention(vm);
    (void)pthread_cond_broadcast(&vm->changed);
}

static bool reset_is_due(const struct vmmhpc *vm)
{
    return vm->reset_requested && !vm->stop_requested && vh_all_parked(vm);
}

bool vh_lifecycle_step(struct vmmhpc *vm)
{
    (void)pthread_mutex_lock(&vm->lock);
    if (reset_is_due(vm) && !vm->modules.reset_told) {
        vm->modules.reset_told = true;
        (void)pthread_mutex_unlock(&vm->lock); /* modules may take it; vCPUs stay parked */
        vh_modules_reset(vm);
        (void)pthread_mutex_lock(&vm->lock);
    }
    if (reset_is_due(vm)) {
        do_reset(vm);
    }
    if (vm->stop_requested && !vm->finished && vh_none_active(vm)) {
        bool crashed = vm->stop.reason != VMMHPC_STOP_POWEROFF &&
                       vm->stop.reason != VMMHPC_STOP_REQUEST &&
                       vm->stop.reason != VMMHPC_STOP_RESET;
        vm->finished = true;
        vh_console_account(vm); /* whoever sees the end sees final figures */
        vm->stop.state = crashed ? VMMHPC_STATE_CRASHED : VMMHPC_STATE_STOPPED;
        vh_set_state(vm, vm->stop.state);
    }
    bool finished = vm->finished;
    (void)pthread_mutex_unlock(&vm->lock);
    return finished;
}

int32_t vmmhpc_pause(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->verb(vm, VH_REMOTE_PAUSE, err);
    }
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "a device handler cannot pause its own vCPU");
    }
    (void)pthread_mutex_lock(&vm->lock);
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_RUNNING || vm->stop_requested || vm->pause_requested) {
        (void)pthread_mutex_unlock(&vm->lock);
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "only a running machine can be paused");
    }
    vm->pause_requested = true;
    vh_update_attention(vm);
    /* A reset that is under way is finished first: its vCPUs are parked as well. */
    while ((!vh_all_parked(vm) || vm->reset_requested) && !vm->stop_requested) {
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    int32_t status = VMMHPC_OK;
    if (vm->stop_requested) {
        vm->pause_requested = false;
        status = vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine stopped before it was paused");
    } else {
        vh_time_hold(vm);
        vh_set_state(vm, VMMHPC_STATE_PAUSED);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (status == VMMHPC_OK) {
        vh_io_quiesce(vm);
    }
    return status;
}

int32_t vmmhpc_resume(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->verb(vm, VH_REMOTE_RESUME, err);
    }
    (void)pthread_mutex_lock(&vm->lock);
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_PAUSED || vm->stop_requested) {
        (void)pthread_mutex_unlock(&vm->lock);
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "only a paused machine can be resumed");
    }
    vm->pause_requested = false;
    vh_time_release(vm);
    vh_update_attention(vm);
    vh_set_state(vm, VMMHPC_STATE_RUNNING);
    vh_io_wake(vm); /* devices have work again */
    (void)pthread_mutex_unlock(&vm->lock);
    return VMMHPC_OK;
}

int32_t vmmhpc_reset(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->verb(vm, VH_REMOTE_RESET, err);
    }
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_RUNNING) {
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "only a running machine can be reset");
    }
    vh_request(vm, VH_WANT_RESET, VMMHPC_STOP_RESET, "the machine was reset");
    return VMMHPC_OK;
}

int32_t vmmhpc_stop(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->verb(vm, VH_REMOTE_STOP, err);
    }
    (void)err;
    vh_request(vm, VH_WANT_STOP, VMMHPC_STOP_REQUEST, "stopped by request");
    return VMMHPC_OK;
}
