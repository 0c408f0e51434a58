/* SPDX-License-Identifier: Apache-2.0 */
#include "machine_rig.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dispatch.h"

struct vmmhpc *machine_rig_new(uint64_t mib)
{
    struct vmmhpc *vm = calloc(1, sizeof(*vm));
    const struct vmmhpc_memory memory = {
        .size = sizeof(memory), .bytes = mib << 20, .numa_node = -1};
    if (vm == NULL || vh_memory_create(&vm->memory, &memory, 1, NULL) != VMMHPC_OK) {
        abort();
    }
    vm->kvm_fd = -1;
    vm->vm_fd = -1;
    vm->wake_fd = -1;
    vh_events_init(vm);
    vm->io_loop.epoll_fd = -1;
    vm->next_device_id = 1;
    pthread_mutex_t *locks[] = {&vm->lock,         &vm->kvm_lock,        &vm->device_lock,
                                &vm->io_loop.lock, &vm->modules.control, &vm->modules.lock,
                                &vm->event_lock};
    for (size_t i = 0; i < VH_COUNT(locks); i++) {
        (void)pthread_mutex_init(locks[i], NULL);
    }
    if (vh_pci_init(vm, NULL) != VMMHPC_OK) {
        abort();
    }
    return vm;
}

void machine_rig_free(struct vmmhpc *vm)
{
    vh_modules_destroy(vm);
    vh_pci_destroy(vm);
    vh_devices_free(vm);
    if (vm->io_loop.epoll_fd >= 0) {
        (void)close(vm->io_loop.epoll_fd);
    }
    free(vm->placing);
    free(vm->msi.routes);
    vh_memory_destroy(&vm->memory);
    free(vm);
}

uint64_t machine_rig_mmio(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint32_t direction,
                          uint64_t value)
{
    uint64_t result = 0;
    const struct vh_access access = {
        .bytes = bytes, .direction = direction, .address = gpa, .value = value};
    (void)vh_dispatch(atomic_load(&vm->tables[VMMHPC_SPACE_MMIO]), &access, &result);
    return result;
}

uint64_t machine_rig_load(const uint8_t *from, uint32_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

const uint8_t *machine_rig_table(const struct vmmhpc *vm, uint64_t rsdp, const char *signature)
{
    const uint8_t *root = vh_memory_at(&vm->memory, rsdp, 36);
    const uint8_t *xsdt =
        root == NULL ? NULL : vh_memory_at(&vm->memory, machine_rig_load(root + 24, 8), 36);
    for (uint64_t at = 36; xsdt != NULL && at + 8 <= machine_rig_load(xsdt + 4, 4); at += 8) {
        const uint8_t *table = vh_memory_at(&vm->memory, machine_rig_load(xsdt + at, 8), 36);
        if (table != NULL && memcmp(table, signature, 4) == 0) {
            return table;
        }
    }
    return NULL;
}

void machine_rig_serve(struct vmmhpc *vm)
{
    atomic_store(&vm->state, VMMHPC_STATE_RUNNING);
    vh_io_dispatch(vm);
}

static void echo_stop(struct vh_virtio *device)
{
    (void)device;
}

static void echo_kick(struct vh_virtio *device, uint32_t index)
{
    struct vh_chain chain;
    uint8_t data[256];
    while (vh_virtio_pop(device, index, &chain) > 0) {
        size_t bytes = vh_chain_read(&chain, 0, data, sizeof(data));
        vh_virtio_push(device, index, &chain, (uint32_t)vh_chain_write(&chain, 0, data, bytes));
    }
    vh_virtio_notify(device, index);
}

static void echo_write(struct vh_virtio *device, uint32_t offset, const uint8_t *data,
                       uint32_t bytes)
{
    memcpy(device->config + offset, data, bytes);
}

static void echo_destroy(struct vh_virtio *device)
{
    free(device);
}

struct vh_virtio *machine_rig_echo(struct vmmhpc *vm)
{
    static const struct vh_virtio_ops ops = {
        .stop = echo_stop,
        .kick = echo_kick,
        .config_write = echo_write,
        .destroy = echo_destroy,
    };
    struct vh_virtio *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        abort();
    }
    device->ops = &ops;
    device->name = "echo";
    device->id = VH_VIRTIO_RNG;
    device->queue_count = 1;
    device->queue_size[0] = 16;
    device->features = 1;
    device->config_bytes = 8;
    return vh_virtio_add(vm, device, NULL, NULL) == VMMHPC_OK ? device : NULL;
}
