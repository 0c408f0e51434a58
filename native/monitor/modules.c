/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptation modules of a machine in a monitor. In the jail nothing can be opened, so the shared
 * objects are there before; loading is starting one, and removing ends it. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "monitor/monitor.h"

#define LIST_MAX 64u

int32_t vh_monitor_open_modules(struct vh_monitor *monitor, char *const *paths, uint32_t count,
                                struct vmmhpc_error *err)
{
    if (count > VMMHPC_MONITOR_MODULES) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, count, "at most %u modules", VMMHPC_MONITOR_MODULES);
    }
    for (uint32_t i = 0; i < count; i++) {
        void *library = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL); /* stays until the end */
        const struct vmmhpc_module *descriptor =
            library == NULL ? NULL : dlsym(library, VMMHPC_MODULE_SYMBOL);
        if (descriptor == NULL) {
            const char *why = dlerror();
            return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, i, "cannot load the module: %s",
                           why == NULL ? paths[i] : why);
        }
        monitor->modules[i] = (struct vh_monitor_module){paths[i], descriptor};
        monitor->module_count++;
    }
    return VMMHPC_OK;
}

static int32_t add(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                   struct vmmhpc_error *err)
{
    uint32_t id = 0;
    const char *path = vh_get_text(in);
    const char *args = vh_get_text(in);
    if (!vh_wire_done(in) || path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, EBADMSG, 0, "the request makes no sense");
    }
    for (uint32_t i = 0; i < monitor->module_count; i++) {
        if (strcmp(monitor->modules[i].path, path) == 0) {
            int32_t status =
                vmmhpc_module_attach(monitor->vm, monitor->modules[i].descriptor, args, &id, err);
            vh_put_u32(out, id);
            return status;
        }
    }
    return vh_fail(
        err, VMMHPC_E_PERMISSION, 0, 0,
        "module %.150s was not named when the machine was made, and its jail has no files", path);
}

static int32_t take_out(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err)
{
    uint32_t id = vh_get_u32(in);
    return vh_wire_done(in)
               ? vmmhpc_module_remove(monitor->vm, id, err)
               : vh_fail(err, VMMHPC_E_INVALID, EBADMSG, 0, "the request makes no sense");
}

static int32_t list(struct vh_monitor *monitor, struct vh_wire *out, struct vmmhpc_error *err)
{
    uint32_t count = 0;
    struct vmmhpc_module_info *infos = calloc(LIST_MAX, sizeof(*infos));
    if (infos == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for a list");
    }
    int32_t status = vmmhpc_module_list(monitor->vm, infos, LIST_MAX, &count, err);
    if (status == VMMHPC_OK) {
        count = count < LIST_MAX ? count : LIST_MAX;
        vh_put_u32(out, count);
        vh_put_bytes(out, infos, count * (uint32_t)sizeof(*infos));
    }
    free(infos);
    return status;
}

int32_t vh_monitor_module_request(struct vh_monitor *monitor, struct vh_wire *in,
                                  struct vh_wire *out, struct vmmhpc_error *err)
{
    switch (in->head.type) {
    case VH_REQUEST_MODULE_ADD:
        return add(monitor, in, out, err);
    case VH_REQUEST_MODULE_REMOVE:
        return take_out(monitor, in, err);
    default:
        return list(monitor, out, err);
    }
}
