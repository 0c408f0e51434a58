/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a module: registering them, taking them back, and the services that modules get. */
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"

uint64_t vh_part_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value)
{
    struct vh_part *part = opaque;
    struct vmmhpc_module_access access = {
        .size = sizeof(access),
        .vcpu = vcpu,
        .offset = offset,
        .value = direction == VMMHPC_ACCESS_WRITE ? value : UINT64_MAX,
        .bytes = bytes,
        .direction = direction,
    };
    if (!vh_module_alive(part->module)) {
        return UINT64_MAX;
    }
    vh_module_count(&part->module->device_calls);
    if (part->call.device(part->opaque, &access) < 0) {
        vh_module_fail(part->module, "a device of it failed");
        return UINT64_MAX;
    }
    return access.value;
}

static int32_t publish(struct vh_part *part, struct vh_range *range, uint64_t bytes,
                       struct vmmhpc_error *err)
{
    struct vmmhpc *vm = part->module->vm;
    if (part->space <= VMMHPC_SPACE_MMIO) {
        return vh_device_add(vm, part->space, range, bytes, &part->id, err);
    }
    range->last = range->base;
    return vh_range_publish(vm, part->space, range, UINT64_MAX, &part->id, err);
}

/* A part like the model, in its table and in the list of its module. */
static int32_t add(struct vh_module *module, const struct vh_part *model, uint64_t base,
                   uint64_t bytes, uint32_t *id, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = module->vm;
    if (model->call.device == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a module's part needs a function");
    }
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "a vCPU's thread cannot add a module's part");
    }
    struct vh_part *part = malloc(sizeof(*part));
    if (part == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for a module's part");
    }
    *part = *model;
    part->module = module;
    struct vh_range range = {.base = base, .handler = vh_part_access, .opaque = part};
    (void)pthread_mutex_lock(&vm->modules.lock);
    int32_t status = VMMHPC_OK;
    if (module->state > VMMHPC_MODULE_RUNNING || !vh_module_alive(module)) {
        status = vh_fail(err, VMMHPC_E_STATE, 0, module->id, "module %s is being unloaded",
                         module->code.name);
    } else {
        if (part->space == VH_SPACE_HOOK) {
            range.base = vm->modules.next_hook++;
        }
        status = publish(part, &range, bytes, err);
    }
    if (status == VMMHPC_OK) {
        if (id != NULL) {
            *id = part->id;
        }
        part->next = module->parts;
        module->parts = part;
        module->part_count++;
        part = NULL;
    }
    (void)pthread_mutex_unlock(&vm->modules.lock);
    free(part);
    return status; // NOLINT(clang-analyzer-unix.Malloc): the module owns it now
}

int32_t vh_part_add_device(struct vh_module *module, uint32_t space, uint64_t base, uint64_t bytes,
                           vmmhpc_module_device device, void *opaque, uint32_t *id,
                           struct vmmhpc_error *err)
{
    if (space > VMMHPC_SPACE_MMIO) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, space, "there is no address space %u", space);
    }
    const struct vh_part part = {.space = space, .opaque = opaque, .call.device = device};
    return add(module, &part, base, bytes, id, err);
}

int32_t vh_part_add_hypercall(struct vh_module *module, uint32_t number,
                              vmmhpc_module_hypercall hypercall, void *opaque, uint32_t *id,
                              struct vmmhpc_error *err)
{
    if (number < VMMHPC_HYPERCALL_FIRST || number > VMMHPC_HYPERCALL_LAST) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, number,
                       "hypercalls of modules have numbers from 0x%x to 0x%x, not 0x%x",
                       VMMHPC_HYPERCALL_FIRST, VMMHPC_HYPERCALL_LAST, number);
    }
    const struct vh_part part = {
        .space = VH_SPACE_HYPERCALL, .opaque = opaque, .call.hypercall = hypercall};
    return add(module, &part, number, 1, id, err);
}

int32_t vh_part_add_hook(struct vh_module *module, uint64_t reasons, vmmhpc_module_hook hook,
                         void *opaque, uint32_t *id, struct vmmhpc_error *err)
{
    const struct vh_part part = {
        .space = VH_SPACE_HOOK, .reasons = reasons, .opaque = opaque, .call.hook = hook};
    return add(module, &part, 0, 1, id, err);
}

/* Unlink a part that nobody finds any more. A range that its user took away himself (with
 * vmmhpc_device_remove()) is gone already. */
static int32_t take_back(struct vh_module *module, struct vh_part **at, struct vmmhpc_error *err)
{
    void *owned = NULL;
    struct vh_part *part = *at;
    int32_t status = vh_range_unpublish(module->vm, part->space, part->id, &owned, err);
    if (status != VMMHPC_OK && status != VMMHPC_E_INVALID) {
        return status;
    }
    *at = part->next;
    module->part_count--;
    return VMMHPC_OK;
}

static void free_parts(struct vh_part *part)
{
    while (part != NULL) {
        struct vh_part *next = part->next;
        free(part);
        part = next;
    }
}

int32_t vh_parts_remove(struct vh_module *module, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = module->vm;
    struct vh_part *gone = NULL;
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->modules.lock);
    while (module->parts != NULL && status == VMMHPC_OK) {
        struct vh_part *part = module->parts;
        status = take_back(module, &module->parts, err);
        if (status == VMMHPC_OK) {
            part->next = gone;
            gone = part;
        }
    }
    (void)pthread_mutex_unlock(&vm->modules.lock);
    int32_t waited = vh_grace_period(vm, err); /* cannot fail: no vCPU's thread comes here */
    free_parts(gone);
    return status == VMMHPC_OK ? waited : status;
}

/* ------------------------------------------------------------------ services */

/* Modules get a code; the words are kept where whoever loads them finds them. */
static int32_t explained(struct vh_module *module, int32_t status, const struct vmmhpc_error *err)
{
    if (status != VMMHPC_OK) {
        vh_module_log(module, err->text);
    }
    return status;
}

static int32_t host_add_device(void *context, uint32_t space, uint64_t base, uint64_t bytes,
                               vmmhpc_module_device device, void *opaque, uint32_t *part)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    return explained(
        context, vh_part_add_device(context, space, base, bytes, device, opaque, part, &err), &err);
}

static int32_t host_add_hypercall(void *context, uint32_t number, vmmhpc_module_hypercall hypercall,
                                  void *opaque, uint32_t *part)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    return explained(context, vh_part_add_hypercall(context, number, hypercall, opaque, part, &err),
                     &err);
}

static int32_t host_add_exit_hook(void *context, uint64_t reasons, vmmhpc_module_hook hook,
                                  void *opaque, uint32_t *part)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    return explained(context, vh_part_add_hook(context, reasons, hook, opaque, part, &err), &err);
}

static int32_t remove_part(struct vh_module *module, uint32_t id, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = module->vm;
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, id, "a vCPU's thread cannot remove a part");
    }
    (void)pthread_mutex_lock(&vm->modules.lock);
    struct vh_part **at = &module->parts;
    while (*at != NULL && (*at)->id != id) {
        at = &(*at)->next;
    }
    struct vh_part *part = *at;
    int32_t status = part == NULL ? vh_fail(err, VMMHPC_E_INVALID, 0, id, "there is no part %u", id)
                                  : take_back(module, at, err);
    (void)pthread_mutex_unlock(&vm->modules.lock);
    if (status == VMMHPC_OK) {
        status = vh_grace_period(vm, err);
        free(part);
    }
    return status;
}

static int32_t host_remove_part(void *context, uint32_t part)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    return explained(context, remove_part(context, part, &err), &err);
}

static int32_t host_set_irq(void *context, uint32_t gsi, uint32_t level)
{
    struct vh_module *module = context;
    struct vmmhpc_error err = {.size = sizeof(err)};
    return explained(module, vmmhpc_irq_set(module->vm, gsi, level, &err), &err);
}

static void *host_memory(void *context, uint64_t gpa, uint64_t bytes)
{
    const struct vh_module *module = context;
    return vh_memory_at(&module->vm->memory, gpa, bytes);
}

static void host_stop(void *context, const char *text)
{
    struct vh_module *module = context;
    char line[sizeof(module->text) + sizeof(module->code.name) + 2];
    (void)snprintf(line, sizeof(line), "%s: %.*s", module->code.name, (int)sizeof(module->text) - 1,
                   text == NULL ? "" : text);
    vh_request(module->vm, VH_WANT_STOP, VMMHPC_STOP_REQUEST, line);
}

static void host_log(void *context, const char *text)
{
    vh_module_log(context, text);
}

static void host_fail(void *context, const char *text)
{
    vh_module_fail(context, text);
}

void vh_module_host_init(struct vh_module *module)
{
    module->host = (struct vmmhpc_module_host){
        .size = sizeof(module->host),
        .abi_major = VMMHPC_MODULE_ABI_MAJOR,
        .abi_minor = VMMHPC_MODULE_ABI_MINOR,
        .context = module,
        .cpus = module->vm->cpus,
        .add_device = host_add_device,
        .add_hypercall = host_add_hypercall,
        .add_exit_hook = host_add_exit_hook,
        .remove_part = host_remove_part,
        .set_irq = host_set_irq,
        .memory = host_memory,
        .stop = host_stop,
        .log = host_log,
        .fail = host_fail,
    };
}
