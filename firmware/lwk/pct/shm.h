/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/v3m-shm: a channel of shared memory as a file (docs/reference/shm.md), after Linux's UIO.
 * mmap() at 0 is the registers, from 4096 on the window; read() waits for an interrupt. yod keeps
 * the descriptor, as one of its /dev/null; what is done with it is done here.
 */
#ifndef PCT_SHM_H
#define PCT_SHM_H

#include "mm.h"
#include "pct.h"
#include "ship.h"

/** Whether the path is the channel's, and there is one; then it becomes the path for yod, which is
 * not longer. */
bool shm_path(char *path);

/** A call that yod has served: descriptors come and go. */
void shm_follow(const struct job *job, int64_t result);

/** Whether this is a descriptor of the channel's. */
bool shm_has(uint64_t fd);

/** A call with such a descriptor: its result, PENDING if it waits; SHIP if it is yod's all the
 * same. */
#define SHIP (INT64_MIN + 1)
int64_t shm_call(const struct pct_event *event);

/** An interrupt came. */
void shm_interrupt(void);

/** The thread's call should end soon; false if it does not wait here. */
bool shm_cancel(uint32_t tid, bool time_over);

#endif
