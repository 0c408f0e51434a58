/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adaptation modules: device models, hypercalls and exit hooks that are put into a machine and
 * taken out of it again, also while its guest runs (docs/reference/modules.md).
 *
 * The first half is for who writes a module: a shared object that exports the descriptor
 * VMMHPC_MODULE_SYMBOL and links against nothing. The second is for who loads one.
 */
#ifndef VMMHPC_MODULE_H
#define VMMHPC_MODULE_H

#include "vmmhpc.h"
#include "vmmhpc_hypercall.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ the interface of a module */

/** Version of this interface. A module is refused where its major number is another one, or where
 *  its minor number is higher than the library's. */
#define VMMHPC_MODULE_ABI_MAJOR 1u
#define VMMHPC_MODULE_ABI_MINOR 0u

#define VMMHPC_MODULE_MAGIC 0x454c55444f4d4d56ull /* "VMMODULE" */
#define VMMHPC_MODULE_SYMBOL "vmmhpc_module_descriptor"
#define VMMHPC_MODULE_MAX 64u /* in a machine, failed ones included */

/*
 * What a module registers is called in the thread of the vCPU that caused it, while that vCPU is
 * stopped; with several vCPUs, by several threads at once. Each returns 0 (a hook: one of
 * VMMHPC_HOOK_*), or a negative number: then the module has failed. It is not called any more and
 * is unloaded as soon as no vCPU is in it; the machine goes on.
 */

/** An access to a device's range. */
struct vmmhpc_module_access {
    uint32_t size; /* sizeof(struct vmmhpc_module_access) */
    uint32_t vcpu;
    uint64_t offset;    /* from the start of the range */
    uint64_t value;     /* what is written; of a read the answer, all ones unless it is set */
    uint32_t bytes;     /* 1, 2, 4 or 8 */
    uint32_t direction; /* VMMHPC_ACCESS_* */
};
typedef int32_t (*vmmhpc_module_device)(void *opaque, struct vmmhpc_module_access *access);

/** A hypercall (vmmhpc_hypercall.h). */
struct vmmhpc_module_call {
    uint32_t size; /* sizeof(struct vmmhpc_module_call) */
    uint32_t vcpu;
    uint32_t number;
    uint32_t reserved;
    uint64_t args[6];
    uint64_t result; /* 0 unless it is set */
};
typedef int32_t (*vmmhpc_module_hypercall)(void *opaque, struct vmmhpc_module_call *call);

/** An exit from KVM_RUN that comes to user space, before the machine handles it. */
struct vmmhpc_module_exit {
    uint32_t size; /* sizeof(struct vmmhpc_module_exit) */
    uint32_t vcpu;
    uint32_t reason;    /* KVM_EXIT_* */
    uint32_t direction; /* of an access (KVM_EXIT_IO, KVM_EXIT_MMIO): VMMHPC_ACCESS_* */
    uint64_t address;   /* of an access: port or GPA */
    uint64_t value;     /* of an access of one element: what is written; of a read the answer of who
                         * consumes it, all ones unless it is set */
    uint32_t bytes;     /* of an access: 1 to 8, of one element */
    uint32_t count;     /* of an access: elements; more than 1 for string instructions */
    void *data;         /* of an access: its elements, for the time of the call */
    uint64_t detail;    /* KVM's suberror, hardware reason or event type, where there is one */
};
typedef int32_t (*vmmhpc_module_hook)(void *opaque, struct vmmhpc_module_exit *exit);

enum vmmhpc_hook_action {
    VMMHPC_HOOK_PASS = 0,    /* the next hook, and at last the machine, handles it */
    VMMHPC_HOOK_CONSUME = 1, /* handled: the guest goes on behind it */
    VMMHPC_HOOK_STOP = 2,    /* handled, and the machine stops */
};

/**
 * What the machine does for a module. The first argument is always `context`. Functions that return
 * int32_t return VMMHPC_OK or VMMHPC_E_*; why, is in the module's text (vmmhpc_module_list()).
 */
struct vmmhpc_module_host {
    uint32_t size; /* sizeof(struct vmmhpc_module_host) of the library */
    uint16_t abi_major;
    uint16_t abi_minor;
    void *context;
    uint32_t cpus; /* vCPUs of the machine */
    uint32_t reserved;
    /* Register a part; *part (may be NULL) names it. Not from a vCPU's thread. What is left when
     * the module goes is taken back by itself. */
    int32_t (*add_device)(void *context, uint32_t space, uint64_t base, uint64_t bytes,
                          vmmhpc_module_device device, void *opaque, uint32_t *part);
    int32_t (*add_hypercall)(void *context, uint32_t number, vmmhpc_module_hypercall hypercall,
                             void *opaque, uint32_t *part);
    /* reasons: bit n wants KVM_EXIT_ n, 0 wants all. Hooks are called in the order of adding. */
    int32_t (*add_exit_hook)(void *context, uint64_t reasons, vmmhpc_module_hook hook, void *opaque,
                             uint32_t *part);
    /* Take a part back; afterwards it is not being called. Not from a vCPU's thread. */
    int32_t (*remove_part)(void *context, uint32_t part);
    /* Set the level of an IOAPIC pin, 0 to 23. */
    int32_t (*set_irq)(void *context, uint32_t gsi, uint32_t level);
    /* Guest RAM [gpa, gpa + bytes), or NULL: ask for every address that a guest gave, each time. */
    void *(*memory)(void *context, uint64_t gpa, uint64_t bytes);
    /* Ask the machine to stop; text says why. */
    void (*stop)(void *context, const char *text);
    /* Keep a line, instead of the last one, to be read by vmmhpc_module_list(). */
    void (*log)(void *context, const char *text);
    /* The module has failed: as if one of its functions had returned a negative number. */
    void (*fail)(void *context, const char *text);
};

/** What a module exports as VMMHPC_MODULE_SYMBOL. */
struct vmmhpc_module {
    uint64_t magic; /* VMMHPC_MODULE_MAGIC */
    uint32_t size;  /* sizeof(struct vmmhpc_module) */
    uint16_t abi_major;
    uint16_t abi_minor;
    char name[32];    /* 1 to 31 printable ASCII characters, no blank */
    char version[16]; /* the module's own; may be "" */
    /**
     * Register parts and set *opaque, which the other two get. host stays valid until fini() has
     * returned; args is what the loader was given, "" for nothing, valid during the call. Negative:
     * not loaded; what was registered is taken back, then fini() is called if *opaque was set.
     */
    int32_t (*init)(const struct vmmhpc_module_host *host, const char *args, void **opaque);
    /** The last call: all parts are gone, no vCPU is in the module. End own threads here. */
    void (*fini)(void *opaque);
    /** Or NULL: the guest is being reset; all vCPUs stand still, RAM still is what it was. */
    void (*reset)(void *opaque);
};

/* ------------------------------------------------------------------ loading modules
 *
 * None of these may be called from a vCPU's thread; a module must not call them for its own
 * machine. A module runs with all rights of the process, and its crash is the process's.
 */

/**
 * Load the shared object at path (a file, never looked for in a search path) and start it. Allowed
 * before the start, while the guest runs, and in a pause. *id names it in this machine.
 * E_IO: no such file; E_BAD_IMAGE: no module, or a damaged one; E_UNSUPPORTED: another ABI;
 * E_LIMIT; E_STATE: its init() failed.
 */
VMMHPC_API int32_t vmmhpc_module_load(struct vmmhpc *vm, const char *path, const char *args,
                                      uint32_t *id, struct vmmhpc_error *err);

/** The same with a descriptor that is in the process already; its code must stay until removal. */
VMMHPC_API int32_t vmmhpc_module_attach(struct vmmhpc *vm, const struct vmmhpc_module *descriptor,
                                        const char *args, uint32_t *id, struct vmmhpc_error *err);

/** A module without code of its own: the caller adds its parts, by vmmhpc_module_add_*(). */
VMMHPC_API int32_t vmmhpc_module_open(struct vmmhpc *vm, const char *name, uint32_t *id,
                                      struct vmmhpc_error *err);
VMMHPC_API int32_t vmmhpc_module_add_device(struct vmmhpc *vm, uint32_t id, uint32_t space,
                                            uint64_t base, uint64_t bytes,
                                            vmmhpc_module_device device, void *opaque,
                                            struct vmmhpc_error *err);
VMMHPC_API int32_t vmmhpc_module_add_hypercall(struct vmmhpc *vm, uint32_t id, uint32_t number,
                                               vmmhpc_module_hypercall hypercall, void *opaque,
                                               struct vmmhpc_error *err);
VMMHPC_API int32_t vmmhpc_module_add_exit_hook(struct vmmhpc *vm, uint32_t id, uint64_t reasons,
                                               vmmhpc_module_hook hook, void *opaque,
                                               struct vmmhpc_error *err);

/** Declare a module failed: it is not called any more, and unloaded by the machine's I/O thread.
 *  This one may be called from a vCPU's thread. */
VMMHPC_API int32_t vmmhpc_module_fail(struct vmmhpc *vm, uint32_t id, const char *text,
                                      struct vmmhpc_error *err);

/**
 * Take a module out: its parts are taken back, and when no vCPU is in it any more fini() is called
 * and its code unmapped. Waits for the vCPUs. One that failed is forgotten. E_INVALID: no such one.
 */
VMMHPC_API int32_t vmmhpc_module_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err);

enum vmmhpc_module_state {
    VMMHPC_MODULE_STARTING = 0,
    VMMHPC_MODULE_RUNNING = 1,
    VMMHPC_MODULE_FAILING = 2, /* failed, not called any more, not unloaded yet */
    VMMHPC_MODULE_FAILED = 3,  /* failed and unloaded; text says why */
    VMMHPC_MODULE_REMOVING = 4,
};

struct vmmhpc_module_info {
    uint32_t size; /* sizeof(struct vmmhpc_module_info) */
    uint32_t id;
    uint32_t state; /* enum vmmhpc_module_state */
    uint32_t parts; /* registered now */
    uint64_t device_calls;
    uint64_t hypercalls;
    uint64_t hook_calls;
    char name[32];
    char version[16];
    char text[184]; /* why it failed, or what it said last */
};

/** The modules of a machine into out[0 ... capacity), in the order of loading. *count is how many
 *  there are, also when that is more than capacity. */
VMMHPC_API int32_t vmmhpc_module_list(struct vmmhpc *vm, struct vmmhpc_module_info *out,
                                      uint32_t capacity, uint32_t *count, struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif /* VMMHPC_MODULE_H */
