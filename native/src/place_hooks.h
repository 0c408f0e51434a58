/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between libvmmhpc and libvmmhpc-place, which decides where and how struct vmmhpc itself
 * runs. What it has to call is in one table, so that programs without it carry no more. */
#ifndef VH_PLACE_HOOKS_H
#define VH_PLACE_HOOKS_H

#include "machine.h"

struct vh_place_hooks {
    size_t machine_bytes; /* sizeof(struct vmmhpc): both libraries have to be of one build */
    /** Each as the function of its name. */
    int32_t (*kvm_build)(struct vmmhpc *vm, struct vmmhpc_error *err);
    void (*kvm_teardown)(struct vmmhpc *vm);
    int32_t (*thread_start)(const struct vh_thread_source *source, enum vh_thread_kind kind,
                            pthread_t *thread, void *(*work)(void *), void *arg, const char *name,
                            struct vmmhpc_error *err);
};

VMMHPC_API const struct vh_place_hooks *vmmhpc_place_hooks(void);

#endif
