/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An adaptation module, in C: put into a running machine and taken out again.
 * docs/how-to/add-a-device.md explains it step by step; tally.ts is the same in TypeScript.
 *
 *   device     two 32-bit ports: BASE counts what is written to it (read: the sum), BASE + 4 reads
 *              how many port accesses the guest has made since the module came
 *   hypercall  0x100: adds its first two arguments
 *   exit hook  counts port accesses, and lets them pass
 *
 * Its argument is port=N (default 0x510). After `make build`:
 *   npx v2m run --kernel … --module native/build/release/tally.so,port=0x520
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmmhpc_module.h"

#define DEFAULT_PORT 0x510u
#define HYPERCALL_ADD 0x100u
#define EXIT_IO 2 /* KVM_EXIT_IO of linux/kvm.h */

enum { SUM = 0, ACCESSES = 4 };

/* Several vCPUs may be here at once. Nothing is static: a module may be in many machines. */
struct tally {
    const struct vmmhpc_module_host *host;
    _Atomic uint32_t sum;
    _Atomic uint32_t accesses;
};

/* A guest may send anything: what is no register keeps its answer, all ones. */
static int32_t device(void *opaque, struct vmmhpc_module_access *access)
{
    struct tally *tally = opaque;
    if (access->bytes != 4 || (access->offset != SUM && access->offset != ACCESSES)) {
        return 0;
    }
    if (access->direction == VMMHPC_ACCESS_READ) {
        access->value = atomic_load(access->offset == SUM ? &tally->sum : &tally->accesses);
    } else if (access->offset == SUM) {
        atomic_fetch_add(&tally->sum, (uint32_t)access->value);
    }
    return 0;
}

static int32_t add(void *opaque, struct vmmhpc_module_call *call)
{
    (void)opaque;
    call->result = call->args[0] + call->args[1];
    return 0;
}

static int32_t hook(void *opaque, struct vmmhpc_module_exit *exit)
{
    struct tally *tally = opaque;
    atomic_fetch_add(&tally->accesses, exit->count);
    return VMMHPC_HOOK_PASS;
}

/* The guest starts anew, and so does the count. */
static void reset(void *opaque)
{
    struct tally *tally = opaque;
    atomic_store(&tally->sum, 0);
    atomic_store(&tally->accesses, 0);
}

static int32_t parse(const struct vmmhpc_module_host *host, const char *args, uint64_t *port)
{
    char *end = NULL;
    *port = DEFAULT_PORT;
    if (*args == '\0') {
        return 0;
    }
    if (strncmp(args, "port=", 5) == 0) {
        *port = strtoul(args + 5, &end, 0);
    }
    if (end == NULL || end == args + 5 || *end != '\0') {
        host->log(host->context, "the only argument is port=N");
        return -1;
    }
    return 0;
}

static int32_t init(const struct vmmhpc_module_host *host, const char *args, void **opaque)
{
    uint64_t port = 0;
    void *context = host->context;
    struct tally *tally = NULL;
    if (parse(host, args, &port) != 0) {
        return -1;
    }
    tally = calloc(1, sizeof(*tally));
    if (tally == NULL) {
        return -1;
    }
    tally->host = host;
    *opaque = tally;
    /* Whatever is registered is taken back by itself, also where this fails: fini() comes then. */
    if (host->add_device(context, VMMHPC_SPACE_PIO, port, 8, device, tally, NULL) != 0 ||
        host->add_hypercall(context, HYPERCALL_ADD, add, tally, NULL) != 0 ||
        host->add_exit_hook(context, 1ull << EXIT_IO, hook, tally, NULL) != 0) {
        return -1;
    }
    host->log(context, "counting");
    return 0;
}

/* No vCPU is in the functions above any more. */
static void fini(void *opaque)
{
    free(opaque);
}

__attribute__((visibility("default"))) const struct vmmhpc_module vmmhpc_module_descriptor = {
    .magic = VMMHPC_MODULE_MAGIC,
    .size = sizeof(struct vmmhpc_module),
    .abi_major = VMMHPC_MODULE_ABI_MAJOR,
    .abi_minor = VMMHPC_MODULE_ABI_MINOR,
    .name = "tally",
    .version = "1.0",
    .init = init,
    .fini = fini,
    .reset = reset,
};
