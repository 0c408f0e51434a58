/* SPDX-License-Identifier: Apache-2.0 */
/* Creation and destruction of a machine, and what can be read of it. */
#include "machine.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "guest_cpuid.h"
#include "host.h"

#define FLAGS_KNOWN                                                                                \
    (VMMHPC_FLAG_EXTERNAL_VCPUS | VMMHPC_FLAG_STOP_ON_RESET | VMMHPC_FLAG_NO_UART |                \
     VMMHPC_FLAG_HIDE_XSAVE | VMMHPC_FLAG_BARE | VMMHPC_FLAG_POWER_BUTTON)

static int32_t check_config(const struct vmmhpc_config *config, struct vmmhpc_error *err)
{
    if ((config->flags & ~FLAGS_KNOWN) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->flags, "unknown configuration flags");
    }
    if (config->cpus == 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a machine needs at least one vCPU");
    }
    if (config->threads_per_core > 0x100 || config->cores_per_socket > 0x1000) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->cores_per_socket,
                       "at most 4096 cores per socket and 256 threads per core");
    }
    if ((config->pin == NULL) != (config->pin_count == 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->pin_count,
                       "pin and pin_count do not go together");
    }
    uint32_t threads = config->threads_per_core == 0 ? 1 : config->threads_per_core;
    uint64_t per_socket = (uint64_t)threads * config->cores_per_socket;
    if (config->cpus % threads != 0 || (per_socket != 0 && config->cpus % per_socket != 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->cpus,
                       "%u vCPUs do not fill sockets of %u cores with %u threads", config->cpus,
                       config->cores_per_socket, threads);
    }
    return VMMHPC_OK;
}

static int32_t check_limits(const struct vmmhpc *vm, const struct vmmhpc_config *config,
                            struct vmmhpc_error *err)
{
    int limit = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    if (limit <= 0) {
        limit = 4; /* as the KVM API documentation has it */
    }
    if (config->cpus > (uint32_t)limit) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, config->cpus,
                       "%u vCPUs are more than this host's KVM allows (%d)", config->cpus, limit);
    }
    /* Overcommitting many machines is fine; one that can never fit is a mistake. */
    struct sysinfo info;
    uint64_t total = 0;
    for (uint32_t i = 0; config->memory != NULL && i < config->memory_count; i++) {
        if (!vh_add(total, config->memory[i].bytes, &total)) {
            total = UINT64_MAX;
        }
        if (i + 1 == VMMHPC_MEMORY_MAX) {
            break;
        }
    }
    if (sysinfo(&info) == 0) {
        uint64_t host = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
        if (total > host) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, total,
                           "%llu MiB of guest memory is more than this host has (%llu MiB)",
                           (unsigned long long)(total >> 20), (unsigned long long)(host >> 20));
        }
    }
    return VMMHPC_OK;
}

static int32_t make_tables(struct vmmhpc *vm, const struct vmmhpc_config *config,
                           struct vmmhpc_error *err)
{
    vm->vcpus = calloc(config->cpus, sizeof(*vm->vcpus));
    vm->apic_ids = calloc(config->cpus, sizeof(*vm->apic_ids));
    if (config->pin_count > 0) {
        vm->pin = calloc(config->pin_count, sizeof(*vm->pin));
    }
    if (vm->vcpus == NULL || vm->apic_ids == NULL || (config->pin_count > 0 && vm->pin == NULL)) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, config->cpus, "no memory for %u vCPUs",
                       config->cpus);
    }
    vm->cpus = config->cpus; /* only now: everything that walks the vCPUs needs the tables */
    if (vm->pin != NULL) {
        memcpy(vm->pin, config->pin, config->pin_count * sizeof(*vm->pin));
        vm->pin_count = config->pin_count;
    }
    const struct vh_topology topology = {vm->cpus, vm->cores_per_socket, vm->threads_per_core};
    for (uint32_t i = 0; i < vm->cpus; i++) {
        vm->apic_ids[i] = vh_apic_id(&topology, i);
        vm->vcpus[i].vm = vm;
        vm->vcpus[i].index = i;
        vm->vcpus[i].apic_id = vm->apic_ids[i];
        vm->vcpus[i].fd = -1;
        vm->vcpus[i].stats_fd = -1;
    }
    return VMMHPC_OK;
}

#define AT(lock) ((uint32_t)offsetof(struct vmmhpc, lock))

static const uint32_t locks_at[] = {
    AT(lock),       AT(kvm_lock),     AT(device_lock),     AT(console_lock),
    AT(event_lock), AT(io_loop.lock), AT(modules.control), AT(modules.lock),
};

static pthread_mutex_t *lock_of(struct vmmhpc *vm, size_t i)
{
    return (pthread_mutex_t *)((uintptr_t)vm + locks_at[i]);
}

static int32_t init_locks(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    pthread_condattr_t attr;
    int failed = pthread_condattr_init(&attr);
    if (failed == 0) {
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        failed = pthread_cond_init(&vm->changed, &attr);
        (void)pthread_condattr_destroy(&attr);
    }
    for (size_t i = 0; failed == 0 && i < VH_COUNT(locks_at); i++) {
        failed = pthread_mutex_init(lock_of(vm, i), NULL);
    }
    /* glibc and musl allocate nothing for these, so a failure half-way leaves nothing behind. */
    return failed == 0 ? VMMHPC_OK : vh_fail(err, VMMHPC_E_NO_MEMORY, failed, 0, "no locks");
}

/* Guest TSC frequency; it also converts our own time stamps. */
static void measure_tsc(struct vmmhpc *vm)
{
    int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
    if (khz <= 0) {
        khz = (int)vh_measure_tsc_khz();
    }
    vm->ns_per_tick = (1000000ull << 32) / (uint64_t)khz;
}

static int32_t create(struct vmmhpc *vm, const struct vmmhpc_config *config,
                      struct vmmhpc_error *err)
{
    int32_t status = vh_kvm_open(vm->files, config->kvm_path, &vm->kvm_fd, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = check_limits(vm, config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    int run_bytes = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0, "KVM_GET_VCPU_MMAP_SIZE failed");
    }
    vm->run_bytes = (size_t)run_bytes;
    vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->wake_fd < 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create an eventfd");
    }
    status = make_tables(vm, config, err);
    if (status == VMMHPC_OK) {
        status = vh_memory_create(&vm->memory, config->memory, config->memory_count, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_stats_create(vm, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_kvm_build(vm, err);
    }
    if (status == VMMHPC_OK) {
        measure_tsc(vm);
        status = vh_builtin_devices(vm, err);
    }
    return status;
}

int32_t vmmhpc_create(const struct vmmhpc_config *config, struct vmmhpc **out,
                      struct vmmhpc_error *err)
{
    return vh_create(config, NULL, NULL, out, err);
}

int32_t vh_create(const struct vmmhpc_config *config, const struct vh_files *files,
                  const struct vh_event_hook *hook, struct vmmhpc **out, struct vmmhpc_error *err)
{
    if (config == NULL || out == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->size,
                       "the configuration is missing or of another version");
    }
    int32_t status = check_config(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vmmhpc *vm = calloc(1, sizeof(*vm));
    if (vm == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*vm), "no memory for a machine");
    }
    vm->threads_per_core = config->threads_per_core == 0 ? 1 : config->threads_per_core;
    vm->cores_per_socket = config->cores_per_socket == 0 ? config->cpus / vm->threads_per_core
                                                         : config->cores_per_socket;
    vm->flags = config->flags;
    vm->hide_xsave = (config->flags & VMMHPC_FLAG_HIDE_XSAVE) != 0 || vh_xsave_is_broken();
    vm->kvm_fd = -1;
    vm->vm_fd = -1;
    vm->wake_fd = -1;
    vm->stats_fd = -1;
    vh_events_init(vm);
    vm->files = files;
    if (hook != NULL) {
        vm->event_hook = *hook;
    }
    vm->io_loop.epoll_fd = -1;
    vm->next_device_id = 1;
    vh_console_init(vm);
    status = vh_uart_init(&vm->uart, err);
    if (status == VMMHPC_OK) {
        status = init_locks(vm, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_pci_init(vm, err);
    }
    if (status != VMMHPC_OK) {
        free(vm);
        return status;
    }
    status = create(vm, config, err);
    vm->files = NULL;
    if (status != VMMHPC_OK) {
        vmmhpc_destroy(vm);
        return status;
    }
    *out = vm;
    return VMMHPC_OK;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void vmmhpc_destroy(struct vmmhpc *vm)
{
    if (vm == NULL) {
        return;
    }
    if (vm->remote != NULL) {
        vm->remote->ops->destroy(vm);
        return;
    }
    (void)vmmhpc_stop(vm, NULL);
    (void)pthread_mutex_lock(&vm->lock);
    vm->destroying = true;
    /* External vCPUs are in the caller's threads: let them leave before the ground goes away. */
    while (!vh_none_active(vm)) {
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    for (uint32_t i = 0; vm->vcpus != NULL && i < vm->cpus; i++) {
        if (vm->vcpus[i].has_thread) {
            (void)pthread_join(vm->vcpus[i].thread, NULL);
        }
    }
    if (vm->has_io_thread) {
        vh_io_wake(vm);
        (void)pthread_join(vm->io_thread, NULL);
    }
    vh_modules_destroy(vm);
    vh_pci_destroy(vm); /* nothing is at work in RAM after this */
    if (vm->vcpus != NULL) {
        vh_kvm_teardown(vm);
    }
    close_fd(&vm->io_loop.epoll_fd);
    vh_console_close(vm);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        close_fd(&vm->streams[i].fd);
    }
    vh_uart_destroy(&vm->uart);
    vh_devices_free(vm);
    vh_recipe_free(&vm->recipe);
    vh_stats_destroy(vm);
    vh_memory_destroy(&vm->memory);
    close_fd(&vm->wake_fd);
    close_fd(&vm->kvm_fd);
    for (size_t i = 0; i < VH_COUNT(locks_at); i++) {
        (void)pthread_mutex_destroy(lock_of(vm, i));
    }
    (void)pthread_cond_destroy(&vm->changed);
    free(vm->stat_base);
    free(vm->msi.routes);
    free(vm->placing);
    free(vm->pin);
    free(vm->apic_ids);
    free(vm->vcpus);
    free(vm);
}

uint32_t vmmhpc_get_state(const struct vmmhpc *vm)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->state(vm);
    }
    return atomic_load(&vm->state);
}

int32_t vmmhpc_get_stop_info(const struct vmmhpc *vm, struct vmmhpc_stop_info *info)
{
    if (info == NULL || info->size != sizeof(*info)) {
        return VMMHPC_E_INVALID;
    }
    if (vm->remote != NULL) {
        vm->remote->ops->stop_info(vm, info);
        return VMMHPC_OK;
    }
    struct vmmhpc *self = (struct vmmhpc *)(uintptr_t)vm; /* only the lock changes */
    (void)pthread_mutex_lock(&self->lock);
    *info = vm->stop;
    (void)pthread_mutex_unlock(&self->lock);
    info->size = sizeof(*info);
    info->state = atomic_load(&vm->state);
    return VMMHPC_OK;
}

void *vmmhpc_memory_at(const struct vmmhpc *vm, uint64_t gpa, uint64_t bytes)
{
    return vh_memory_at(&vm->memory, gpa, bytes);
}

uint32_t vmmhpc_slot_count(const struct vmmhpc *vm)
{
    return vm->memory.slot_count;
}

int32_t vmmhpc_get_slot(const struct vmmhpc *vm, uint32_t index, struct vmmhpc_slot *slot)
{
    if (slot == NULL || index >= vm->memory.slot_count) {
        return VMMHPC_E_INVALID;
    }
    *slot = vm->memory.slots[index];
    return VMMHPC_OK;
}

uint32_t vmmhpc_is_remote(const struct vmmhpc *vm)
{
    return vm->remote != NULL ? 1 : 0;
}

int32_t vh_local_only(const struct vmmhpc *vm, const char *what, struct vmmhpc_error *err)
{
    return vm->remote == NULL ? VMMHPC_OK
                              : vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                                        "%s: not for a machine in a monitor process", what);
}
