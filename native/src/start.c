/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a machine, running its vCPUs in threads of ours or of the caller, and waiting for it. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "machine.h"

static int32_t pin_thread(pthread_t thread, int32_t cpu, uint32_t vcpu, struct vmmhpc_error *err)
{
    size_t bytes = CPU_ALLOC_SIZE((size_t)cpu + 1);
    cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
    if (set == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, (uint64_t)cpu, "no memory for a CPU set");
    }
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)cpu, bytes, set);
    int failed = pthread_setaffinity_np(thread, bytes, set);
    CPU_FREE(set);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, failed, (uint64_t)cpu,
                       "cannot pin vCPU %u to host CPU %d", vcpu, cpu);
    }
    return VMMHPC_OK;
}

static int32_t pin_vcpu(const struct vmmhpc *vm, pthread_t thread, uint32_t vcpu,
                        struct vmmhpc_error *err)
{
    int32_t cpu = vm->pin_count == 0 ? -1 : vm->pin[vcpu % vm->pin_count];
    return cpu < 0 ? VMMHPC_OK : pin_thread(thread, cpu, vcpu, err);
}

static void *vcpu_main(void *arg)
{
    vh_vcpu_loop(arg);
    return NULL;
}

static int32_t start_vcpus(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        struct vh_vcpu *vcpu = &vm->vcpus[i];
        char name[16];
        (void)snprintf(name, sizeof(name), "vcpu%u", i);
        int32_t status = vh_thread_start(&vm->threads, VH_THREAD_VCPU, &vcpu->thread, vcpu_main,
                                         vcpu, name, err);
        if (status == VMMHPC_OK) {
            vcpu->has_thread = true;
            status = pin_vcpu(vm, vcpu->thread, i, err);
        }
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_start(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->start(vm, err);
    }
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_CREATED || vm->has_io_thread) {
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "a machine can be started once");
    }
    if (!vm->recipe.present) {
        return vh_fail(err, VMMHPC_E_STATE, 0, state,
                       "nothing is loaded: call vmmhpc_load() first");
    }
    (void)pthread_mutex_lock(&vm->lock);
    bool started = vm->has_io_thread;
    vm->has_io_thread = true;
    (void)pthread_mutex_unlock(&vm->lock);
    if (started) { /* by another thread just now */
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "a machine can be started once");
    }
    int32_t status = vh_io_thread_start(vm, err);
    if (status != VMMHPC_OK) {
        (void)pthread_mutex_lock(&vm->lock);
        vm->has_io_thread = false;
        (void)pthread_mutex_unlock(&vm->lock);
        return status;
    }
    __atomic_store_n(&vm->stats->start_ns, vh_now_ns(), __ATOMIC_RELAXED);
    /* The threads wait for the state to change, so a failure half-way runs no guest code. */
    if ((vm->flags & VMMHPC_FLAG_EXTERNAL_VCPUS) == 0) {
        status = start_vcpus(vm, err);
        if (status != VMMHPC_OK) {
            vh_request(vm, VH_WANT_STOP, VMMHPC_STOP_REQUEST, "a vCPU thread could not be started");
            return status;
        }
    }
    (void)pthread_mutex_lock(&vm->lock);
    if (!vm->stop_requested) {
        vh_time_release(vm);
        vh_set_state(vm, VMMHPC_STATE_RUNNING);
        vh_io_wake(vm); /* devices are served from now on */
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return VMMHPC_OK;
}

int32_t vmmhpc_vcpu_run(struct vmmhpc *vm, uint32_t vcpu, struct vmmhpc_error *err)
{
    if ((vm->flags & VMMHPC_FLAG_EXTERNAL_VCPUS) == 0) {
        return vh_fail(err, VMMHPC_E_STATE, 0, vcpu, "this machine runs its vCPUs by itself");
    }
    if (vcpu >= vm->cpus) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, vcpu, "there is no vCPU %u", vcpu);
    }
    (void)pthread_mutex_lock(&vm->lock);
    bool busy = vm->vcpus[vcpu].active;
    (void)pthread_mutex_unlock(&vm->lock);
    if (busy) {
        return vh_fail(err, VMMHPC_E_STATE, 0, vcpu, "vCPU %u is being run already", vcpu);
    }
    int32_t status = pin_vcpu(vm, pthread_self(), vcpu, err);
    if (status == VMMHPC_OK) {
        vh_vcpu_loop(&vm->vcpus[vcpu]);
    }
    return status;
}

int32_t vmmhpc_wait(struct vmmhpc *vm, int64_t timeout_ms, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->wait(vm, timeout_ms, err);
    }
    struct timespec until = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms >= 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    int result = 0;
    (void)pthread_mutex_lock(&vm->lock);
    while (result == 0 && atomic_load(&vm->state) < VMMHPC_STATE_STOPPED) {
        result = timeout_ms < 0 ? pthread_cond_wait(&vm->changed, &vm->lock)
                                : pthread_cond_timedwait(&vm->changed, &vm->lock, &until);
    }
    bool over = atomic_load(&vm->state) >= VMMHPC_STATE_STOPPED;
    (void)pthread_mutex_unlock(&vm->lock);
    return over ? VMMHPC_OK
                : vh_fail(err, VMMHPC_E_TIMEOUT, 0, (uint64_t)timeout_ms,
                          "the machine still runs after %lld ms", (long long)timeout_ms);
}
