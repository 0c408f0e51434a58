/* SPDX-License-Identifier: Apache-2.0 */
/* Adding and removing devices, also while the guest runs. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "layout.h"
#include "machine.h"

/* Publish a table; the one before it is freed once no vCPU can still be looking at it. */
static void replace_table(struct vmmhpc *vm, uint32_t space, struct vh_table *after)
{
    struct vh_table *before = atomic_exchange(&vm->tables[space], after);
    (void)pthread_mutex_unlock(&vm->device_lock); /* a handler may want it */
    vh_retire(vm, before);
}

static int32_t check_range(struct vmmhpc *vm, uint32_t space, const struct vh_range *range,
                           struct vmmhpc_error *err)
{
    if (space > VMMHPC_SPACE_MMIO) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, space, "there is no address space %u", space);
    }
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, range->base, "a device handler cannot add a device");
    }
    if (space == VMMHPC_SPACE_PIO) {
        return VMMHPC_OK;
    }
    /* KVM answers RAM accesses by itself, so a device there would never be called. */
    for (uint32_t i = 0; i < vm->memory.slot_count; i++) {
        const struct vmmhpc_slot *slot = &vm->memory.slots[i];
        if (range->base < slot->gpa + slot->bytes && range->last >= slot->gpa) {
            return vh_fail(err, VMMHPC_E_OVERLAP, 0, range->base,
                           "the device range at 0x%llx overlaps RAM",
                           (unsigned long long)range->base);
        }
    }
    return VMMHPC_OK;
}

int32_t vh_range_publish(struct vmmhpc *vm, uint32_t space, struct vh_range *range, uint64_t limit,
                         uint32_t *id, struct vmmhpc_error *err)
{
    (void)pthread_mutex_lock(&vm->device_lock);
    struct vh_table *after = NULL;
    range->id = vm->next_device_id;
    int32_t status = vh_table_with(atomic_load(&vm->tables[space]), range, limit, &after, err);
    if (status != VMMHPC_OK) {
        (void)pthread_mutex_unlock(&vm->device_lock);
        return status;
    }
    vm->next_device_id++;
    if (id != NULL) {
        *id = range->id;
    }
    /* Nothing is waited for: a vCPU may be in a handler that waits for this very thread. */
    replace_table(vm, space, after);
    return VMMHPC_OK;
}

int32_t vh_device_add(struct vmmhpc *vm, uint32_t space, struct vh_range *range, uint64_t bytes,
                      uint32_t *id, struct vmmhpc_error *err)
{
    if (bytes == 0 || !vh_add(range->base, bytes - 1, &range->last)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, range->base,
                       "a device range has at least one byte and does not wrap round");
    }
    int32_t status = check_range(vm, space, range, err);
    return status != VMMHPC_OK
               ? status
               : vh_range_publish(vm, space, range, space == VMMHPC_SPACE_PIO ? 0xffff : UINT64_MAX,
                                  id, err);
}

int32_t vmmhpc_device_add(struct vmmhpc *vm, uint32_t space, uint64_t base, uint64_t bytes,
                          vmmhpc_handler handler, void *opaque, uint32_t *id,
                          struct vmmhpc_error *err)
{
    int32_t here = vh_local_only(vm, "a device in the caller's process", err);
    if (here != VMMHPC_OK) {
        return here;
    }
    struct vh_range range = {.base = base, .handler = handler, .opaque = opaque};
    return vh_device_add(vm, space, &range, bytes, id, err);
}

struct fan_out {
    void *opaque;
    vmmhpc_handler handlers[];
};

static uint64_t fan_out_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                               uint32_t direction, uint64_t value)
{
    const struct fan_out *fan = opaque;
    return fan->handlers[vcpu](fan->opaque, vcpu, offset, bytes, direction, value);
}

int32_t vmmhpc_device_add_each(struct vmmhpc *vm, uint32_t space, uint64_t base, uint64_t bytes,
                               const vmmhpc_handler *handlers, uint32_t count, void *opaque,
                               uint32_t *id, struct vmmhpc_error *err)
{
    int32_t here = vh_local_only(vm, "a device in the caller's process", err);
    if (here != VMMHPC_OK) {
        return here;
    }
    if (handlers == NULL || count != vm->cpus) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, count, "one handler for each of %u vCPUs",
                       vm->cpus);
    }
    struct fan_out *fan = calloc(1, sizeof(*fan) + count * sizeof(handlers[0]));
    if (fan == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, count, "no memory for a device");
    }
    fan->opaque = opaque;
    for (uint32_t i = 0; i < count; i++) {
        fan->handlers[i] = handlers[i];
        if (handlers[i] == NULL) {
            free(fan);
            return vh_fail(err, VMMHPC_E_INVALID, 0, i, "vCPU %u has no handler", i);
        }
    }
    struct vh_range range = {.base = base, .handler = fan_out_access, .opaque = fan, .owned = fan};
    int32_t status = vh_device_add(vm, space, &range, bytes, id, err);
    if (status != VMMHPC_OK) {
        free(fan);
    }
    return status; // NOLINT(clang-analyzer-unix.Malloc): the device table owns it now
}

static void *owned_by(const struct vh_table *table, uint32_t id)
{
    for (uint32_t i = 0; table != NULL && i < table->count; i++) {
        if (table->ranges[i].id == id) {
            return table->ranges[i].owned;
        }
    }
    return NULL;
}

int32_t vh_range_unpublish(struct vmmhpc *vm, uint32_t space, uint32_t id, void **owned,
                           struct vmmhpc_error *err)
{
    (void)pthread_mutex_lock(&vm->device_lock);
    const struct vh_table *before = atomic_load(&vm->tables[space]);
    struct vh_table *after = NULL;
    *owned = owned_by(before, id);
    int32_t status = vh_table_without(before, id, &after, err);
    if (status != VMMHPC_OK) {
        (void)pthread_mutex_unlock(&vm->device_lock);
        return status;
    }
    replace_table(vm, space, after);
    return VMMHPC_OK;
}

int32_t vmmhpc_device_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err)
{
    int32_t here = vh_local_only(vm, "a device in the caller's process", err);
    if (here != VMMHPC_OK) {
        return here;
    }
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, id, "a device handler cannot remove a device");
    }
    int32_t status = VMMHPC_E_INVALID;
    for (uint32_t space = VMMHPC_SPACE_PIO; space <= VMMHPC_SPACE_MMIO; space++) {
        void *owned = NULL;
        status = vh_range_unpublish(vm, space, id, &owned, err);
        if (status == VMMHPC_OK) {
            status = vh_grace_period(vm, err);
            free(owned);
            return status;
        }
    }
    return status;
}

void vh_devices_free(struct vmmhpc *vm)
{
    for (uint32_t space = 0; space < VH_SPACES; space++) {
        struct vh_table *table = atomic_exchange(&vm->tables[space], NULL);
        for (uint32_t i = 0; table != NULL && i < table->count; i++) {
            free(table->ranges[i].owned);
        }
        free(table);
    }
    vh_reap(vm);
}

int32_t vmmhpc_irq_set(struct vmmhpc *vm, uint32_t gsi, uint32_t level, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->irq_set(vm, gsi, level, err);
    }
    if (gsi >= VH_IOAPIC_PINS) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, gsi, "the IOAPIC has pins 0 to 23, not %u", gsi);
    }
    struct kvm_irq_level irq = {.irq = gsi, .level = level != 0 ? 1 : 0};
    (void)pthread_mutex_lock(&vm->kvm_lock);
    int result = vm->vm_fd < 0 ? 0 : ioctl(vm->vm_fd, KVM_IRQ_LINE, &irq);
    int failed = errno;
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return result == 0 ? VMMHPC_OK
                       : vh_fail(err, VMMHPC_E_SYSCALL, failed, gsi, "KVM_IRQ_LINE failed");
}
