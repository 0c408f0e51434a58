/* SPDX-License-Identifier: Apache-2.0 */
/* A debugger's hold on a machine: how vCPUs stop for it and go on. */
#include "debug.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine.h"

bool vh_debug_holds(const struct vh_vcpu *vcpu)
{
    const struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    return debug != NULL && debug->vcpus[vcpu->index].action == VMMHPC_DEBUG_HOLD;
}

bool vh_debug_holds_any(const struct vmmhpc *vm)
{
    bool any = false;
    for (uint32_t i = 0; atomic_load(&vm->debug) != NULL && i < vm->cpus; i++) {
        any = any || vh_debug_holds(&vm->vcpus[i]);
    }
    return any;
}

static bool holds_all(const struct vmmhpc *vm)
{
    bool all = atomic_load(&vm->debug) != NULL;
    for (uint32_t i = 0; all && i < vm->cpus; i++) {
        all = vh_debug_holds(&vm->vcpus[i]);
    }
    return all;
}

void vh_time_hold(struct vmmhpc *vm)
{
    if (!vm->time_stopped) {
        vh_time_stop(vm);
        vm->time_stopped = true;
    }
}

void vh_time_release(struct vmmhpc *vm)
{
    if (vm->time_stopped && !vm->pause_requested && !holds_all(vm)) {
        vh_time_continue(vm);
        vm->time_stopped = false;
    }
}

void vh_debug_notify(struct vmmhpc *vm)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    if (debug != NULL) {
        (void)eventfd_write(debug->event_fd, 1);
    }
}

static bool ended(const struct vmmhpc *vm)
{
    return vm->stop_requested || atomic_load(&vm->state) >= VMMHPC_STATE_STOPPED;
}

int32_t vh_debug_enter(struct vmmhpc *vm, uint32_t vcpu, struct vmmhpc_error *err)
{
    if (vcpu >= vm->cpus) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, vcpu, "there is no vCPU %u", vcpu);
    }
    (void)pthread_mutex_lock(&vm->lock);
    if (!holds_all(vm) || !vh_all_parked(vm) || ended(vm) || vm->vcpus[vcpu].fd < 0) {
        (void)pthread_mutex_unlock(&vm->lock);
        return vh_fail(err, VMMHPC_E_STATE, 0, vcpu, "the machine is not held by a debugger");
    }
    return VMMHPC_OK;
}

void vh_debug_leave(struct vmmhpc *vm)
{
    (void)pthread_mutex_unlock(&vm->lock);
}

void vh_debug_set_actions(struct vmmhpc *vm, const uint8_t *actions)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        debug->vcpus[i].action = actions == NULL ? VMMHPC_DEBUG_HOLD : actions[i];
    }
    vh_update_attention(vm);
    (void)pthread_cond_broadcast(&vm->changed);
}

/* Until all are parked and no reset is under way; false when the machine ends instead. */
static bool wait_parked(struct vmmhpc *vm)
{
    while ((!vh_all_parked(vm) || vm->reset_requested) && !ended(vm)) {
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    if (ended(vm)) {
        return false;
    }
    vh_time_hold(vm);
    return true;
}

/* ------------------------------------------------------------------ in the debugger's thread */

int32_t vmmhpc_debug_open(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t local = vh_local_only(vm, "a debugger", err);
    if (local != VMMHPC_OK) {
        return local;
    }
    size_t bytes = sizeof(struct vh_debug) + vm->cpus * (sizeof(struct vh_debug_vcpu) + 1);
    struct vh_debug *debug = calloc(1, bytes);
    if (debug == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for a debugger");
    }
    debug->resumed = (uint8_t *)&debug->vcpus[vm->cpus];
    debug->features = vh_debug_probe(vm->kvm_fd);
    debug->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int32_t status = VMMHPC_OK;
    if (debug->event_fd < 0) {
        status = vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create an eventfd");
    } else if ((debug->features & VMMHPC_DEBUG_STEP) == 0) {
        status = vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, debug->features,
                         "this host's KVM cannot single-step a guest");
    }
    (void)pthread_mutex_lock(&vm->lock);
    if (status == VMMHPC_OK && atomic_load(&vm->debug) != NULL) {
        status = vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has a debugger already");
    }
    if (status == VMMHPC_OK) {
        for (uint32_t i = 0; i < vm->cpus; i++) {
            debug->vcpus[i].action = debug->resumed[i] = VMMHPC_DEBUG_RUN;
        }
        atomic_store(&vm->debug, debug);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (status != VMMHPC_OK) {
        if (debug->event_fd >= 0) {
            (void)close(debug->event_fd);
        }
        free(debug);
    }
    return status;
}

void vmmhpc_debug_close(struct vmmhpc *vm)
{
    if (atomic_load(&vm->debug) == NULL) {
        return;
    }
    bool held = vmmhpc_debug_hold(vm, NULL) == VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->lock);
    struct vh_debug *debug = atomic_load(&vm->debug);
    while (!held && !vh_none_active(vm)) { /* it is ending: until nobody looks any more */
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    if (held) {
        vh_debug_clear(vm);
        for (uint32_t i = 0; i < vm->cpus; i++) {
            struct kvm_guest_debug none = {0};
            (void)ioctl(vm->vcpus[i].fd, KVM_SET_GUEST_DEBUG, &none);
        }
    }
    atomic_store(&vm->debug, NULL);
    vh_time_release(vm);
    vh_update_attention(vm);
    (void)pthread_cond_broadcast(&vm->changed);
    (void)pthread_mutex_unlock(&vm->lock);
    (void)close(debug->event_fd);
    free(debug);
}

uint32_t vmmhpc_debug_features(const struct vmmhpc *vm)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    return debug == NULL ? 0 : debug->features & ~VH_DEBUG_FALSE_STEPS;
}

uint32_t vmmhpc_debug_cpus(const struct vmmhpc *vm)
{
    return vm->cpus;
}

int32_t vmmhpc_debug_event_fd(const struct vmmhpc *vm)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    return debug == NULL ? -1 : debug->event_fd;
}

uint32_t vmmhpc_debug_needs_tick(const struct vmmhpc *vm)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    return debug != NULL && debug->comparing ? 1 : 0;
}

int32_t vmmhpc_debug_hold(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "a device handler cannot hold its own vCPU");
    }
    (void)pthread_mutex_lock(&vm->lock);
    bool held = false;
    if (atomic_load(&vm->debug) != NULL && !ended(vm)) {
        atomic_load(&vm->debug)->asked = true;
        vh_debug_set_actions(vm, NULL);
        held = wait_parked(vm);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return held ? VMMHPC_OK
                : vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has ended, or has no debugger");
}

/* One instruction of a vCPU with no trap in memory, the others held. */
static void step_over(struct vmmhpc *vm, uint32_t index)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    struct vh_debug_vcpu *mine = &debug->vcpus[index];
    vh_debug_patch(vm, false);
    mine->hooked = false;
    mine->stop.reason = VMMHPC_DEBUG_NONE;
    mine->action = VMMHPC_DEBUG_STEP_ONE;
    debug->stepping_over = true;
    vh_time_release(vm);
    vh_update_attention(vm);
    (void)pthread_cond_broadcast(&vm->changed);
    while (mine->action != VMMHPC_DEBUG_HOLD && !ended(vm)) {
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    (void)wait_parked(vm);
    debug->stepping_over = false;
    if (debug->resumed[index] != VMMHPC_DEBUG_STEP_ONE) { /* else it was what was asked for */
        mine->stop.reason = VMMHPC_DEBUG_NONE;
    }
    vh_debug_patch(vm, true);
}

/* At a hook on the way to the guest's own handler, or behind a first byte of two: a breakpoint was
 * put there after a step over an instruction of one byte. */
static bool stands_in_trap(const struct vh_vcpu *vcpu)
{
    const struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    if ((debug->features & VMMHPC_DEBUG_INT3) != 0 || vcpu->vm->stop_requested) {
        return false;
    }
    if (debug->vcpus[vcpu->index].hooked) {
        return true;
    }
    if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) != 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) != 0) {
        return false;
    }
    uint64_t base = (sregs.efer & 0x400) != 0 ? 0 : sregs.cs.base;
    return vh_debug_in_trap(debug, regs.rip + base);
}

/* lock is held, and so is the machine. */
static void go(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (debug->resumed[i] != VMMHPC_DEBUG_HOLD && stands_in_trap(&vm->vcpus[i])) {
            step_over(vm, i);
        }
        if (debug->vcpus[i].stop.reason != VMMHPC_DEBUG_NONE) {
            return; /* told by the next poll */
        }
    }
    if (ended(vm)) {
        return;
    }
    vh_debug_compare_from_here(vm);
    vh_debug_set_actions(vm, debug->resumed);
    vh_time_release(vm);
}

int32_t vmmhpc_debug_resume(struct vmmhpc *vm, const uint8_t *actions, struct vmmhpc_error *err)
{
    int32_t status = vh_debug_enter(vm, 0, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_debug *debug = atomic_load(&vm->debug);
    memcpy(debug->resumed, actions, vm->cpus);
    debug->asked = false;
    bool pending = false;
    for (uint32_t i = 0; i < vm->cpus; i++) {
        pending = pending || debug->vcpus[i].stop.reason == VMMHPC_DEBUG_WATCH;
    }
    if (pending) { /* met together with what was told last: told now */
        vh_debug_notify(vm);
    } else {
        go(vm);
    }
    vh_debug_leave(vm);
    return VMMHPC_OK;
}

/* Which of those that stopped to tell. Breakpoints that are not told are met again: their vCPUs
 * stand at them; watchpoints would be lost, and stay. */
static bool choose(struct vmmhpc *vm, struct vmmhpc_debug_stop *stop)
{
    static const uint32_t order[] = {VMMHPC_DEBUG_WATCH, VMMHPC_DEBUG_HWBREAK,
                                     VMMHPC_DEBUG_BREAKPOINT, VMMHPC_DEBUG_STEPPED};
    struct vh_debug *debug = atomic_load(&vm->debug);
    struct vh_debug_vcpu *chosen = NULL;
    for (uint32_t k = 0; k < VH_COUNT(order) && chosen == NULL; k++) {
        for (uint32_t i = 0; i < vm->cpus && chosen == NULL; i++) {
            chosen = debug->vcpus[i].stop.reason == order[k] ? &debug->vcpus[i] : NULL;
        }
    }
    if (chosen == NULL) {
        return false;
    }
    *stop = chosen->stop;
    chosen->stop.reason = VMMHPC_DEBUG_NONE;
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (debug->vcpus[i].stop.reason != VMMHPC_DEBUG_WATCH) {
            debug->vcpus[i].stop.reason = VMMHPC_DEBUG_NONE;
        }
    }
    return true;
}

static bool any_hooked(const struct vmmhpc *vm)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (debug->vcpus[i].hooked) {
            return true;
        }
    }
    return false;
}

/* Code that a step leads out of (an interrupt's handler that switches tasks) is stepped no more:
 * make every vCPU come round and be armed again, and look for ourselves meanwhile. */
static void tick(struct vmmhpc *vm)
{
    (void)vh_grace_period(vm, NULL);
    (void)pthread_mutex_lock(&vm->lock);
    const struct vh_break *changed = ended(vm) || holds_all(vm) ? NULL : vh_debug_changed(vm);
    if (changed != NULL) {
        vh_debug_stop_for(&vm->vcpus[0], VMMHPC_DEBUG_WATCH, changed);
    }
    (void)pthread_mutex_unlock(&vm->lock);
}

int32_t vmmhpc_debug_poll(struct vmmhpc *vm, struct vmmhpc_debug_stop *stop,
                          struct vmmhpc_error *err)
{
    const struct vh_debug *debug = atomic_load(&vm->debug);
    if (debug == NULL || stop == NULL || stop->size != sizeof(*stop)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no debugger, or bad structure size");
    }
    eventfd_t count = 0;
    if (eventfd_read(debug->event_fd, &count) != 0 && debug->comparing) {
        tick(vm);
    }
    *stop = (struct vmmhpc_debug_stop){.size = sizeof(*stop)};
    (void)pthread_mutex_lock(&vm->lock);
    if (ended(vm)) {
        stop->reason = VMMHPC_DEBUG_ENDED;
    } else if (holds_all(vm)) {
        if (!wait_parked(vm)) {
            stop->reason = VMMHPC_DEBUG_ENDED;
        } else if (!choose(vm, stop) && !debug->asked && any_hooked(vm)) {
            go(vm);
        }
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return VMMHPC_OK;
}

void vh_debug_after_reset(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    if (vm->time_stopped) { /* by the clocks of the VM that is gone */
        vh_time_stop(vm);
    }
    if (debug == NULL) {
        return;
    }
    vh_debug_patch_anew(vm);
    for (uint32_t i = 0; i < vm->cpus; i++) {
        debug->vcpus[i].hooked = false;
        debug->vcpus[i].stray = false;
        debug->vcpus[i].stop.reason = VMMHPC_DEBUG_NONE;
    }
    vh_debug_compare_from_here(vm);
}
