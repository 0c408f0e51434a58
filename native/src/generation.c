/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation ID: 16 bytes in the reserved area below 1 MiB, and an event when they change.
 * A clone's name is behind it, so that one write brings both. */
#include <string.h>

#include "layout.h"
#include "machine.h"
#include "vmmhpc_devices.h"

int32_t vh_generation_write(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    return vh_memory_write(&vm->memory, VH_GENERATION_GPA, &vm->generation, sizeof(vm->generation),
                           "generation ID", err);
}

int32_t vmmhpc_add_generation_id(struct vmmhpc *vm, const uint8_t id[16], struct vmmhpc_error *err)
{
    uint32_t state = atomic_load(&vm->state);
    if (id == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a generation ID has 16 bytes");
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->generation(vm, false, id, err);
    }
    if (state != VMMHPC_STATE_CREATED || vm->recipe.present) {
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "devices are added before a guest is loaded");
    }
    if ((vm->flags & VMMHPC_FLAG_BARE) != 0) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "a bare machine has no ACPI to announce it");
    }
    memcpy(vm->generation.id, id, sizeof(vm->generation.id));
    vm->has_generation_id = true;
    return VMMHPC_OK;
}

int32_t vmmhpc_set_generation_id(struct vmmhpc *vm, const uint8_t id[16], struct vmmhpc_error *err)
{
    if (id != NULL && vm->remote != NULL) {
        return vm->remote->ops->generation(vm, true, id, err);
    }
    if (id == NULL || !vm->has_generation_id) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "the machine has no generation ID");
    }
    (void)pthread_mutex_lock(&vm->lock);
    memcpy(vm->generation.id, id, sizeof(vm->generation.id));
    int32_t status = vm->recipe.present ? vh_generation_write(vm, err) : VMMHPC_OK;
    (void)pthread_mutex_unlock(&vm->lock);
    if (status == VMMHPC_OK) { /* an edge */
        status = vmmhpc_irq_set(vm, VH_GED_GSI, 1, err);
        (void)vmmhpc_irq_set(vm, VH_GED_GSI, 0, NULL);
    }
    return status;
}
