/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A yod without a machine: memory of our own, a real directory tree, and calls made as a guest
 * makes them, through slots and the doorbell.
 *
 *   TREE/ro/...  a read-only root    TREE/rw/...  a writable one    TREE/out/...  outside of both
 */
#ifndef YOD_RIG_H
#define YOD_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"
#include "yod_internal.h"

#define RIG_RAM (4u << 20)
#define RIG_QUEUE 0x10000u
#define RIG_STRINGS 0x100000u
#define RIG_BUFFER 0x200000u
#define RIG_SLOT 63u /* that of the calls one waits for */

struct yod_rig {
    struct vmmhpc_yod *yod;
    struct yod_queue *queue;
    uint8_t *ram;
    uint32_t strings;
    atomic_uint pulses;
    uint32_t level;
    char tree[256];
    struct vmmhpc_yod_config config;
    struct vmmhpc_yod_root roots[8];
    char text[8192]; /* for yod_path() */
};

/** An argument of a call. */
struct yod_arg {
    uint64_t value;
    uint64_t extent;
};

/** A tree with its roots, a yod on it, and the guest's queue announced. */
struct yod_rig *yod_rig_new(void);
/** The same in two steps, to change config between them. */
struct yod_rig *yod_rig_tree(void);
void yod_rig_start(struct yod_rig *rig);
void yod_rig_free(struct yod_rig *rig);

/** TREE/name; valid until the eighth call after it. */
const char *yod_path(struct yod_rig *rig, const char *name);
/** Make a file of the host with a text. */
void yod_make(struct yod_rig *rig, const char *name, const char *text);
/** Whether a file of the host holds just this text. */
bool yod_holds(struct yod_rig *rig, const char *name, const char *text);

/** Post without waiting; true if it was done on return from the doorbell. */
bool yod_post(struct yod_rig *rig, uint32_t slot, uint32_t call, const struct yod_arg args[6]);
/** Wait at most so long for a slot to be done. */
bool yod_await(struct yod_rig *rig, uint32_t slot, uint32_t ms);
/** Post, wait, result. */
int64_t yod_call(struct yod_rig *rig, uint32_t call, const struct yod_arg args[6]);
void yod_out(struct yod_rig *rig, uint64_t reg, uint64_t value);

struct yod_arg yod_string(struct yod_rig *rig, const char *text);

#define V(number) ((struct yod_arg){(uint64_t)(number), 0})
#define S(text) yod_string(rig, (text))
#define P(name) yod_string(rig, yod_path(rig, (name)))
#define M(offset, bytes) ((struct yod_arg){RIG_BUFFER + (offset), (bytes)})
#define NONE ((struct yod_arg){YOD_NO_ADDRESS, 0})
#define CALL(name, ...) yod_call(rig, SYS_##name, (const struct yod_arg[6]){__VA_ARGS__})
#define POST(slot, name, ...)                                                                      \
    yod_post(rig, slot, SYS_##name, (const struct yod_arg[6]){__VA_ARGS__})
#define RESULT(number) (rig->queue->slot[number].result)
#define BUFFER ((char *)rig->ram + RIG_BUFFER)

#define OPEN(name, flags) CALL(open, P(name), V(flags), V(0666))

#endif
