/* SPDX-License-Identifier: Apache-2.0 */
/* What can be read of a machine's modules. */
#include <string.h>

#include "machine.h"

static uint32_t shown_state(const struct vh_module *module)
{
    bool failing = module->state == VMMHPC_MODULE_RUNNING && !vh_module_alive(module);
    return failing ? VMMHPC_MODULE_FAILING : module->state;
}

int32_t vmmhpc_module_list(struct vmmhpc *vm, struct vmmhpc_module_info *out, uint32_t capacity,
                           uint32_t *count, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->module_list(vm, out, capacity, count, err);
    }
    if (count == NULL || (out == NULL && capacity > 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "nowhere to list modules to");
    }
    uint32_t at = 0;
    (void)pthread_mutex_lock(&vm->modules.lock);
    for (struct vh_module *module = vm->modules.list; module != NULL; module = module->next, at++) {
        if (at >= capacity) {
            continue;
        }
        out[at] = (struct vmmhpc_module_info){
            .size = sizeof(*out),
            .id = module->id,
            .state = shown_state(module),
            .parts = module->part_count,
            .device_calls = atomic_load(&module->device_calls),
            .hypercalls = atomic_load(&module->hypercalls),
            .hook_calls = atomic_load(&module->hook_calls),
        };
        memcpy(out[at].name, module->code.name, sizeof(out[at].name));
        memcpy(out[at].version, module->code.version, sizeof(out[at].version));
        memcpy(out[at].text, module->text, sizeof(out[at].text));
    }
    *count = at;
    (void)pthread_mutex_unlock(&vm->modules.lock);
    return VMMHPC_OK;
}
