/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to get out of the jail, for tests: no part of the monitor. */
#ifndef VH_BREAKOUT_H
#define VH_BREAKOUT_H

#include <sys/types.h>

#include "internal.h"

/* What stands in an attempt's way beside seccomp. */
enum vh_breakout_layer {
    VH_LAYER_SECCOMP, /* nothing: it is no way out by itself, but one fewer thing to attack */
    VH_LAYER_ROOT,
    VH_LAYER_PID_NS,
    VH_LAYER_NET_NS,
    VH_LAYER_IPC_NS,
    VH_LAYER_USER_NS,
    VH_LAYER_CAPABILITIES,
    VH_LAYER_RLIMITS,
    VH_LAYER_RING, /* the restrictions of a disk's ring */
    VH_LAYER_NOTHING_THERE,
};

/* What lies outside, made before the jail is entered. */
struct vh_breakout_world {
    pid_t process;        /* one outside, of the same user where that is possible */
    const char *abstract; /* abstract name of a stream socket that listens outside */
    int segment;          /* System V shared memory that everybody may attach */
    int ring;             /* as a disk's, by vh_breakout_make_ring() */
    pid_t thread;         /* another one of this process; a test makes it that of the caller */
};

enum vh_breakout_outcome {
    VH_BREAKOUT_STOPPED, /* by a layer: error is what the kernel said */
    VH_BREAKOUT_TRAPPED, /* by seccomp */
    VH_BREAKOUT_OUT,     /* not stopped */
};

struct vh_breakout_result {
    enum vh_breakout_outcome outcome;
    int error;       /* STOPPED: errno */
    uint32_t number; /* TRAPPED: the system call */
};

uint32_t vh_breakout_count(void);
const char *vh_breakout_name(uint32_t attempt);
enum vh_breakout_layer vh_breakout_layer(uint32_t attempt);
const char *vh_breakout_layer_name(enum vh_breakout_layer layer);
/** Whether seccomp answers by killing the process, so that each needs one of its own. */
bool vh_breakout_is_fatal(uint32_t attempt);

/** A ring like a disk's, before confinement; -1 where that cannot be had. */
int vh_breakout_make_ring(void);

/** Try, in this thread. Installs itself with vh_seccomp_on_trap() before the first filter: call
 *  vh_breakout_prepare() then. */
int32_t vh_breakout_prepare(struct vmmhpc_error *err);
void vh_breakout_run(uint32_t attempt, const struct vh_breakout_world *world,
                     struct vh_breakout_result *result);

/* Between the files: each returns 0 when it got out, else errno. */
typedef int (*vh_attempt)(const struct vh_breakout_world *world);
struct vh_breakout_attempt {
    const char *name;
    vh_attempt run;
    enum vh_breakout_layer layer;
    bool fatal;
};
extern const struct vh_breakout_attempt vh_breakout_files[];
extern const uint32_t vh_breakout_files_count;
extern const struct vh_breakout_attempt vh_breakout_processes[];
extern const uint32_t vh_breakout_processes_count;
extern const struct vh_breakout_attempt vh_breakout_kernel[];
extern const uint32_t vh_breakout_kernel_count;
extern const struct vh_breakout_attempt vh_breakout_rings[];
extern const uint32_t vh_breakout_rings_count;
struct sockaddr_un;
/** The address of world->abstract; returns its length. */
uint32_t vh_breakout_abstract(const struct vh_breakout_world *world, struct sockaddr_un *to);

#endif
