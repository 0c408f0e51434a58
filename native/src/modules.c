/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptation modules: loading, removing, failing and listing them. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* What it says stays when it has failed; lock is held. */
static bool say(struct vh_module *module, const char *text)
{
    if (!vh_module_alive(module)) {
        return false;
    }
    (void)snprintf(module->text, sizeof(module->text), "%s", text == NULL ? "" : text);
    return true;
}

static void fail(struct vh_module *module, const char *text)
{
    if (say(module, text)) {
        atomic_store(&module->failed, true);
        atomic_store(&module->vm->modules.failing, true);
        vh_io_wake(module->vm);
    }
}

void vh_module_log(struct vh_module *module, const char *text)
{
    (void)pthread_mutex_lock(&module->vm->modules.lock);
    (void)say(module, text);
    (void)pthread_mutex_unlock(&module->vm->modules.lock);
}

void vh_module_fail(struct vh_module *module, const char *text)
{
    (void)pthread_mutex_lock(&module->vm->modules.lock);
    fail(module, text);
    (void)pthread_mutex_unlock(&module->vm->modules.lock);
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

/* A copy of a descriptor into zeros: they are what an older header lacks. */
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
    memcpy(code, from, from->size);
    if (!is_name(code->name, sizeof(code->name)) || code->init == NULL || code->fini == NULL ||
        memchr(code->version, 0, sizeof(code->version)) == NULL) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "damaged module: it lacks a name, an end of its version, init or fini");
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ coming and going
 * With control held, but for find(), for which lock is enough. */

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
    struct vh_module *next = NULL;
    for (struct vh_module *module = modules->list; module != NULL; module = next) {
        next = module->next;
        if (module->state == VMMHPC_MODULE_RUNNING) {
            (void)unload(module, true, NULL);
        }
        /* Its ranges may be left where memory ran out: they go with the tables, unused. */
        free(module);
    }
    modules->list = NULL;
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
    int32_t here = vh_local_only(vm, "a module in the caller's process", err);
    if (here != VMMHPC_OK) {
        return here;
    }
    struct vmmhpc_module code = {0};
    int32_t status = read_descriptor(descriptor, &code, err);
    return status == VMMHPC_OK ? start_locked(vm, &code, NULL, args, id, err) : status;
}

int32_t vmmhpc_module_load(struct vmmhpc *vm, const char *path, const char *args, uint32_t *id,
                           struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->module_load(vm, path, args, id, err);
    }
    struct vmmhpc_module code = {0};
    char *absolute =
        realpath(path == NULL ? "" : path, NULL); /* dlopen() would search for a name */
    if (absolute == NULL) {
        int failed = errno;
        return vh_fail(err, VMMHPC_E_IO, failed, 0, "cannot open module %s: %s",
                       path == NULL ? "" : path, vh_errno_text(failed));
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
    int32_t here = vh_local_only(vm, "a module in the caller's process", err);
    if (here != VMMHPC_OK) {
        return here;
    }
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

/* Take control, and find a module; without one control is given back. */
static int32_t enter_for(struct vmmhpc *vm, uint32_t id, struct vh_module **module,
                         struct vmmhpc_error *err)
{
    int32_t status = enter(vm, err);
    if (status == VMMHPC_OK) {
        *module = *find(vm, id);
        if (*module == NULL) {
            status = no_module(id, err);
            (void)pthread_mutex_unlock(&vm->modules.control);
        }
    }
    return status;
}

int32_t vmmhpc_module_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->module_remove(vm, id, err);
    }
    struct vh_module *module = NULL;
    int32_t status = enter_for(vm, id, &module, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (module->state != VMMHPC_MODULE_FAILED) {
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
    struct vh_module *module = NULL;
    int32_t status = enter_for(vm, id, &module, err);
    if (status == VMMHPC_OK) {
        status = vh_part_add_device(module, space, base, bytes, device, opaque, NULL, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    }
    return status;
}

int32_t vmmhpc_module_add_hypercall(struct vmmhpc *vm, uint32_t id, uint32_t number,
                                    vmmhpc_module_hypercall hypercall, void *opaque,
                                    struct vmmhpc_error *err)
{
    struct vh_module *module = NULL;
    int32_t status = enter_for(vm, id, &module, err);
    if (status == VMMHPC_OK) {
        status = vh_part_add_hypercall(module, number, hypercall, opaque, NULL, err);
        (void)pthread_mutex_unlock(&vm->modules.control);
    }
    return status;
}

int32_t vmmhpc_module_add_exit_hook(struct vmmhpc *vm, uint32_t id, uint64_t reasons,
                                    vmmhpc_module_hook hook, void *opaque, struct vmmhpc_error *err)
{
    struct vh_module *module = NULL;
    int32_t status = enter_for(vm, id, &module, err);
    if (status == VMMHPC_OK) {
        status = vh_part_add_hook(module, reasons, hook, opaque, NULL, err);
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
    if (running) {
        fail(module, text);
    }
    (void)pthread_mutex_unlock(&vm->modules.lock);
    return running ? VMMHPC_OK : no_module(id, err);
}
