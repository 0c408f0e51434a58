/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that yod serves. A job is one call of one thread, and has a slot of the queue and a
 * bounce buffer for as long as it lasts; it may ship several calls, one after another.
 */
#ifndef PCT_SHIP_H
#define PCT_SHIP_H

#include "mm.h"
#include "pct.h"

#define BOUNCE_BYTES 8192u
#define JOBS (YOD_SLOTS - 1) /* the last slot cancels others */

/* A read or write of one or several buffers; see transfer.c. */
struct transfer {
    uint64_t iov; /* address of the next element, and how many there are */
    uint64_t iovs;
    uint64_t va; /* what is left of the present buffer */
    uint64_t left;
    uint64_t room;   /* what Linux would still move in this call */
    uint64_t offset; /* STREAM: where the file stands */
    uint64_t piece;  /* shipped now */
    uint64_t sum;
    uint32_t fd;
    bool write;
    bool polling;
};

/* select(): the sets, by address, and their size. */
struct selection {
    uint64_t sets[3];
    uint32_t count;
};

/* mmap() of a file. */
struct file_map {
    uint64_t va;
    uint64_t bytes;
    uint64_t done;
    uint64_t offset;
    uint32_t fd;
    uint32_t prot;
};

/* Bytes of the bounce buffer that go back to the application. */
struct carry {
    uint64_t va;
    uint64_t bytes;
    uint32_t at;
    bool by_result; /* as many as the result says */
};

struct job {
    uint32_t tid; /* 0: the job is free */
    uint32_t call;
    uint32_t index;
    bool cancelled;
    bool shm; /* the path is the channel's (shm.c) */
    /* What to do with a result: the call's result, or PENDING after a further call was put into the
     * slot. */
    int64_t (*step)(struct job *job, int64_t result);
    uint32_t bounced;
    uint32_t carries;
    struct carry carry[2];
    union {
        struct transfer transfer;
        struct selection selection;
        struct file_map map;
    };
};

bool ship_init(void);

/** Start a call, at once or when a slot is free; -ENOSYS if yod does not serve it. */
int64_t ship_start(const struct pct_event *event);

/** yod's interrupt: finish what is done, pass signals on. */
void ship_interrupt(void);

/** The thread's call should end soon. */
void ship_cancel(uint32_t tid);

/** Start calls that waited for slots; after every event. */
void ship_waiting(void);

/* ------------------------------------------------------------- for jobs */

struct yod_slot *job_slot(const struct job *job);
uint8_t *job_bounce(const struct job *job);
uint64_t job_bounce_pa(const struct job *job);

/** A new call in the job's slot; all arguments 0. */
void job_call(struct job *job, uint32_t call);

static inline void job_value(struct job *job, uint32_t index, uint64_t value)
{
    job_slot(job)->args[index] = value;
}

static inline void job_memory(struct job *job, uint32_t index, uint64_t pa, uint64_t bytes)
{
    job_slot(job)->args[index] = pa;
    job_slot(job)->extent[index] = bytes;
}

/** Carry bounced bytes back, and give the result of the call. */
int64_t job_carry(struct job *job, int64_t result);

/* Prepare a job: PENDING, or the result of a call that need not be shipped. */
bool shape_known(uint64_t call);
int64_t shape_prepare(struct job *job, const struct pct_event *event);
int64_t transfer_prepare(struct job *job, const struct pct_event *event);
int64_t poll_prepare(struct job *job, const struct pct_event *event);
int64_t file_map_prepare(struct job *job, const struct pct_event *event);

#define TO_YOD 0x2000u
#define FROM_YOD 0x1000u

/** Argument `index` is memory of the application: as it lies, or through the bounce buffer. */
int64_t job_buffer(struct job *job, uint32_t index, uint64_t va, uint64_t bytes, uint32_t ways);

/** In place of yod on a machine without one (console.c). */
int64_t console_serve(struct yod_slot *slot);

#endif
