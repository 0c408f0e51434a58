/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptation modules: loading, removing, failing and listing them. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

void vh_module_log(struct vh_module *module, const char *text)
{
    struct vh_modules *modules = &module->vm->modules;
    (void)pthread_mutex_lock(&modules->lock);
    if (vh_module_alive(module)) { /* else it says why not */
        (void)snprintf(module->text, sizeof(module->text), "%s", text == NULL ? "" : text);
    }
    (void)pthread_mutex_unlock(&modules->lock);
}

void vh_module_fail(struct vh_module *module, const char *text)
{
    struct vmmhpc *vm = module->vm;
    vh_module_log(module, text);
    if (!atomic_exchange(&module->failed, true)) {
        atomic_store(&vm->modules.failing, true);
        vh_io_wake(vm);
    }
}

static bool is_name(const char *name, size_t room)
{
    size_t length = strnlen(name, room);
    for (size_t i = 0; i < length; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return length > 0 && length < room;
}

/* A copy of a descriptor, with zeros for what an older header lacks. */
static int32_t read_descriptor(const struct vmmhpc_module *from, struct vmmhpc_module *code,
                               struct vmmhpc_error *err)
{
    const uint32_t least = offsetof(struct vmmhpc_module, reset);
    if (from == NULL || from->magic != VMMHPC_MODULE_MAGIC) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, from == NULL ? 0 : from->magic,
                       "not the descriptor of a module");
    }
    if (from->abi_major != VMMHPC_MODULE_ABI_MAJOR || from->abi_minor > VMMHPC_MODULE_ABI_MINOR) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, from->abi_major,
                       "the module is made for interface %u.%u, this library has %u.%u",
                       from->abi_major, from->abi_minor, VMMHPC_MODULE_ABI_MAJOR,
                       VMMHPC_MODULE_ABI_MINOR);
    }
    if (from->size < least || from->size > sizeof(*code)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, from->size,
                       "damaged module: a descriptor of %u bytes", from->size);
    }
    memset(code, 0, sizeof(*code));
    memcpy(code, from, from->size);
    if (!is_name(code->name, sizeof(code->name)) || code->init == NULL || code->fini == NULL ||
        memchr(code->version, 0, sizeof(code->version)) == NULL) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "damaged module: it lacks a name, an end of its version, init or fini");
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ coming and going
 * All of these are called with control held. */

static void set_state(struct vh_module *module, uint32_t state)
{
    (void)pthread_mutex_lock(&module->vm->modules.lock);
    module->state = state;
    (void)pthread_mutex_unlock(&module->vm->modules.lock);
}

static struct vh_module **find(struct vmmhpc *vm, uint32_t id)
{
    struct vh_module **at = &vm->modules.list;
    while (*at != NULL && (*at)->id != id) {
        at = &(*at)->next;
    }
    return at;
}

static void link_module(struct vh_module *module)
{
    struct vh_modules *modules = &module->vm->modules;
    (void)pthread_mutex_lock(&modules->lock);
    module->id = ++modules->last_id;
    modules->count++;
    struct vh_module **at = &modules->list;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = module;
    (void)pthread_mutex_unlock(&modules->lock);
}

static void forget(struct vh_module *module)
{
    struct vh_modules *modules = &module->vm->modules;
    (void)pthread_mutex_lock(&modules->lock);
    *find(module->vm, module->id) = module->next;
    modules->count--;
    (void)pthread_mutex_unlock(&modules->lock);
    free(module);
}

/* Parts, then the module's own end, then its code. On failure (no memory) it stays, in its state.
 */
static int32_t unload(struct vh_module *module, bool call_fini, struct vmmhpc_error *err)
{
    uint32_t before = module->state;
    set_state(module, VMMHPC_MODULE_REMOVING);
    int32_t status = vh_parts_remove(module, err);
    if (status != VMMHPC_OK) {
        set_state(module, before);
        return status;
    }
    if (call_fini && module->code.fini != NULL) {
        module->code.fini(module->opaque);
    }
    if (module->library != NULL) {
        (void)dlclose(module->library);
        module->library = NULL;
    }
    set_state(module, VMMHPC_MODULE_FAILED);
    return VMMHPC_OK;
}

/* Owns library from now on. */
static int32_t start(struct vmmhpc *vm, const struct vmmhpc_module *code, void *library,
                     const char *args, uint32_t *id, struct vmmhpc_error *err)
{
    struct vh_module *module =
        vm->modules.count < VMMHPC_MODULE_MAX ? calloc(1, sizeof(*module)) : NULL;
    if (module == NULL) {
        if (library != NULL) {
            (void)dlclose(library);
        }
        return vh_fail(err, VMMHPC_E_LIMIT, 0, vm->modules.count,
                       "no more modules: a machine has at most %u", VMMHPC_MODULE_MAX);
    }
    module->vm = vm;
    module->library = library;
    module->code = *code;
    vh_module_host_init(module);
    link_module(module);
    int32_t status = 0;
    if (code->init != NULL) {
        status = code->init(&module->host, args == NULL ? "" : args, &module->opaque);
    }
    if (status < 0 || !vh_module_alive(module)) {
        (void)vh_fail(err, VMMHPC_E_STATE, 0, (uint64_t)(int64_t)status,
                      "module %s did not start: %s", code->name, module->text);
        struct vmmhpc_error later = {.size = sizeof(later)};
        if (unload(module, status >= 0 || module->opaque != NULL, &later) == VMMHPC_OK) {
            forget(module);
        }
        return VMMHPC_E_STATE;
    }
    *id = module->id;
    set_state(module, VMMHPC_MODULE_RUNNING);
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ the machine's calls */

void vh_modules_step(struct vmmhpc *vm)
{
    struct vh_modules *modules = &vm->modules;
    if (!atomic_load_explicit(&modules->failing, memory_order_relaxed)) {
        return;
    }
    (void)pthread_mutex_lock(&modules->control);
    atomic_store(&modules->failing, false);
    for (struct vh_module *module = modules->list; module != NULL; module = module->next) {
        if (module->state == VMMHPC_MODULE_RUNNING && !vh_module_alive(module) &&
            unload(module, true, NULL) == VMMHPC_OK) {
            vh_send_event(vm, VMMHPC_EVENT_MODULE_FAILED, module->id);
        }
    }
    (void)pthread_mutex_unlock(&modules->control);
}

void vh_modules_reset(struct vmmhpc *vm)
{
    struct vh_modules *modules = &vm->modules;
    (void)pthread_mutex_lock(&modules->control);
    for (struct vh_module *module = modules->list; module != NULL; module = module->next) {
        if (module->state == VMMHPC_MODULE_RUNNING && vh_module_alive(module) &&
            module->code.reset != NULL) {
            module->code.reset(module->opaque);
        }
    }
    (void)pthread_mutex_unlock(&modules->control);
}

void vh_modules_destroy(struct vmmhpc *vm)
{
    struct vh_modules *modules = &vm->modules;
    (void)pthread_mutex_lock(&modules->control);
    while (modules->list != NULL) {
        struct vh_module *module = modules->list;
        if (module->state == VMMHPC_MODULE_RUNNING) {
            (void)unload(module, true, NULL);
        }
        /* Its ranges may be left where memory ran out: they go with the tables, unused. */
        forget(module);
    }
    (void)pthread_mutex_unlock(&modules->control);
}

/* ------------------------------------------------------------------ public */

static int32_t enter(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vh_on_vcpu_thread(vm)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0,
                       "a vCPU's thread can neither load nor remove a module");
    }
    (void)pthread_mutex_lock(&vm->modules.control);
    return VMMHPC_OK;
}

static int32_t start_locked(struct vmmhpc *vm, const struct vmmhpc_module *code, void *library,
                            const char *args, uint32_t *id, struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status == VMMHPC_OK) {
        status = start(vm, code, library, args, id, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    } else if (library != NULL) {
        (void)dlclose(library);
    }
    return status;
}

int32_t vmmhpc_module_attach(struct vmmhpc *vm, const struct vmmhpc_module *descriptor,
                             const char *args, uint32_t *id, struct vmmhpc_error *err)
{
    struct vmmhpc_module code;
    int32_t status = read_descriptor(descriptor, &code, err);
    return status == VMMHPC_OK ? start_locked(vm, &code, NULL, args, id, err) : status;
}

int32_t vmmhpc_module_load(struct vmmhpc *vm, const char *path, const char *args, uint32_t *id,
                           struct vmmhpc_error *err)
{
    struct vmmhpc_module code;
    char *absolute =
        realpath(path == NULL ? "" : path, NULL); /* dlopen() would search for a name */
    if (absolute == NULL) {
        int failed = errno;
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot open module %s: %s",
                       path == NULL ? "" : path, strerrordesc_np(failed));
    }
    void *library = dlopen(absolute, RTLD_NOW | RTLD_LOCAL);
    free(absolute);
    if (library == NULL) {
        const char *why = dlerror();
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "cannot load the module: %s",
                       why == NULL ? path : why);
    }
    int32_t status = read_descriptor(dlsym(library, VMMHPC_MODULE_SYMBOL), &code, err);
    if (status != VMMHPC_OK) {
        (void)dlclose(library);
        return status;
    }
    return start_locked(vm, &code, library, args, id, err);
}

int32_t vmmhpc_module_open(struct vmmhpc *vm, const char *name, uint32_t *id,
                           struct vmmhpc_error *err)
{
    struct vmmhpc_module code = {0};
    if (name == NULL || !is_name(name, sizeof(code.name))) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "a module's name has 1 to 31 printable ASCII characters and no blank");
    }
    (void)snprintf(code.name, sizeof(code.name), "%s", name);
    return start_locked(vm, &code, NULL, "", id, err);
}

static int32_t no_module(uint32_t id, struct vmmhpc_error *err)
{
    return vh_fail(err, VMMHPC_E_INVALID, 0, id, "there is no module %u", id);
}

int32_t vmmhpc_module_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_module *module = *find(vm, id);
    if (module == NULL) {
        status = no_module(id, err);
    } else if (module->state != VMMHPC_MODULE_FAILED) {
        status = unload(module, true, err);
    }
    if (status == VMMHPC_OK) {
        forget(module);
    }
    (void)pthread_mutex_unlock(&vm->modules.control);
    return status;
}

int32_t vmmhpc_module_add_device(struct vmmhpc *vm, uint32_t id, uint32_t space, uint64_t base,
                                 uint64_t bytes, vmmhpc_module_device device, void *opaque,
                                 struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status == VMMHPC_OK) {
        struct vh_module *module = *find(vm, id);
        status = module == NULL
                     ? no_module(id, err)
                     : vh_part_add_device(module, space, base, bytes, device, opaque, NULL, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    }
    return status;
}

int32_t vmmhpc_module_add_hypercall(struct vmmhpc *vm, uint32_t id, uint32_t number,
                                    vmmhpc_module_hypercall hypercall, void *opaque,
                                    struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status == VMMHPC_OK) {
        struct vh_module *module = *find(vm, id);
        status = module == NULL
                     ? no_module(id, err)
                     : vh_part_add_hypercall(module, number, hypercall, opaque, NULL, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    }
    return status;
}

int32_t vmmhpc_module_add_exit_hook(struct vmmhpc *vm, uint32_t id, uint64_t reasons,
                                    vmmhpc_module_hook hook, void *opaque, struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status == VMMHPC_OK) {
        struct vh_module *module = *find(vm, id);
        status = module == NULL ? no_module(id, err)
                                : vh_part_add_hook(module, reasons, hook, opaque, NULL, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    }
    return status;
}

int32_t vmmhpc_module_fail(struct vmmhpc *vm, uint32_t id, const char *text,
                           struct vmmhpc_error *err)
{
    (void)pthread_mutex_lock(&vm->modules.lock);
    struct vh_module *module = *find(vm, id);
    bool running = module != NULL && module->state == VMMHPC_MODULE_RUNNING;
    if (running && vh_module_alive(module)) {
        (void)snprintf(module->text, sizeof(module->text), "%s", text == NULL ? "" : text);
        atomic_store(&module->failed, true);
        atomic_store(&vm->modules.failing, true);
        vh_io_wake(vm);
    }
    (void)pthread_mutex_unlock(&vm->modules.lock);
    return running ? VMMHPC_OK : no_module(id, err);
}

static uint32_t shown_state(const struct vh_module *module)
{
    bool failing = module->state == VMMHPC_MODULE_RUNNING && !vh_module_alive(module);
    return failing ? VMMHPC_MODULE_FAILING : module->state;
}

int32_t vmmhpc_module_list(struct vmmhpc *vm, struct vmmhpc_module_info *out, uint32_t capacity,
                           uint32_t *count, struct vmmhpc_error *err)
{
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
