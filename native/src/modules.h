/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptation modules: what a machine keeps of them, and the calls between their files. */
#ifndef VH_MODULES_H
#define VH_MODULES_H

#include <pthread.h>
#include <stdatomic.h>

#include "dispatch.h"
#include "vmmhpc_module.h"

/* Tables of struct vmmhpc beside those of enum vmmhpc_space. They are looked up, published and
 * retired the same way: by hypercall number, and hooks by age. */
#define VH_SPACE_HYPERCALL 2u
#define VH_SPACE_HOOK 3u
#define VH_SPACES 4u

struct vh_vcpu;

/** Something that a module registered: a range in one of the tables. Freed with the module. */
struct vh_part {
    struct vh_part *next;
    struct vh_module *module;
    uint32_t id;
    uint32_t space;
    uint64_t reasons; /* of a hook */
    void *opaque;
    union {
        vmmhpc_module_device device;
        vmmhpc_module_hypercall hypercall;
        vmmhpc_module_hook hook;
    } call;
};

struct vh_module {
    struct vh_module *next;
    struct vmmhpc *vm;
    void *library; /* of dlopen(), or NULL */
    void *opaque;
    struct vmmhpc_module code; /* a copy; init is NULL where a program adds the parts */
    struct vmmhpc_module_host host;
    struct vh_part *parts; /* guarded by the modules' lock, as all below but the counters */
    uint32_t part_count;
    uint32_t id;
    uint32_t state;
    atomic_bool failed; /* set under the lock, read by vCPUs without it: they call it no more */
    char text[sizeof(((struct vmmhpc_module_info *)NULL)->text)];
    _Atomic uint64_t device_calls;
    _Atomic uint64_t hypercalls;
    _Atomic uint64_t hook_calls;
};

/**
 * control is held while modules come, go and are told of a reset, over calls of their code and over
 * grace periods; never by a vCPU's thread. lock guards the fields. Lock order: control, lock,
 * device_lock, the machine's lock.
 */
struct vh_modules {
    pthread_mutex_t control;
    pthread_mutex_t lock;
    struct vh_module *list; /* changed with both held */
    uint32_t count;
    uint32_t last_id;
    uint64_t next_hook;  /* hooks are in the order of these */
    atomic_bool failing; /* some module has failed and is to be unloaded */
    bool reset_told;     /* guarded by the machine's lock: modules know of the reset at hand */
};

/* modules.c */
/** Unload what has failed; called by the I/O thread at every turn. */
void vh_modules_step(struct vmmhpc *vm);
/** All vCPUs are parked for a reset; no lock is held. */
void vh_modules_reset(struct vmmhpc *vm);
/** No vCPU is active any more. */
void vh_modules_destroy(struct vmmhpc *vm);
void vh_module_fail(struct vh_module *module, const char *text);
void vh_module_log(struct vh_module *module, const char *text);

/* module_parts.c */
/** The services for this module. */
void vh_module_host_init(struct vh_module *module);
int32_t vh_part_add_device(struct vh_module *module, uint32_t space, uint64_t base, uint64_t bytes,
                           vmmhpc_module_device device, void *opaque, uint32_t *id,
                           struct vmmhpc_error *err);
int32_t vh_part_add_hypercall(struct vh_module *module, uint32_t number,
                              vmmhpc_module_hypercall hypercall, void *opaque, uint32_t *id,
                              struct vmmhpc_error *err);
int32_t vh_part_add_hook(struct vh_module *module, uint64_t reasons, vmmhpc_module_hook hook,
                         void *opaque, uint32_t *id, struct vmmhpc_error *err);
/** Take back all parts, and wait until no vCPU is in one. On failure (no memory) some are left. */
int32_t vh_parts_remove(struct vh_module *module, struct vmmhpc_error *err);

/* hypercall.c: the gate. */
int32_t vh_hypercall_gate(struct vmmhpc *vm, struct vmmhpc_error *err);

/* exit_hooks.c */
/** Call the hooks for the exit at hand. True: it is handled. */
bool vh_exit_hooks(struct vh_vcpu *vcpu);

/* module_parts.c: what the tables' ranges lead to; opaque is the part. */
uint64_t vh_part_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                        uint32_t direction, uint64_t value);
/** Is the module still to be called? */
static inline bool vh_module_alive(const struct vh_module *module)
{
    return !atomic_load_explicit(&module->failed, memory_order_acquire);
}
static inline void vh_module_count(_Atomic uint64_t *counter)
{
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

#endif
